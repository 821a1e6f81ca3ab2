#!/usr/bin/env bash
# Given a start, HiGHS up to 1.15.1 can call it optimal where a better point exists, and 1.16.0 can return it with the
# objective of the better one.
#
# Seven variables, four or five rows. The first variable, whole, costs 0.01 and is in no row at all, so it is 0 in every
# optimum (0.0002). Given a feasible start in which it is 1, status is Optimal at a relative gap of 0; with five rows the
# objective until 1.15.1 is 0.0102, 51 times too dear. With four rows 1.16.0 says 0.0002, yet the point that it returns
# is the start, which costs 0.0102. Without the start, or without presolve, all find 0.0002 and its point.
#
# Seen 2026-11-30 with highspy from PyPI on Python 3.11, Linux x86_64 (objective of the information / cost of the point):
#   1.12.0  five rows 0.0102/0.0102   four 0.0002/0.0002   unstarted 0.0002/0.0002   no presolve 0.0002/0.0002
#   1.15.1  five rows 0.0102/0.0102   four 0.0002/0.0002   unstarted 0.0002/0.0002   no presolve 0.0002/0.0002
#   1.16.0  five rows 0.0002/0.0002   four 0.0002/0.0102   unstarted 0.0002/0.0002   no presolve 0.0002/0.0002
# Exits with 1 if any of this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/start.py" <<'PY'
import highspy
import numpy as np

ROWS = [
    ({3: 1.0, 5: 1.0}, 1.0, 1.0),
    ({4: 1.0, 6: 1.0}, 1.0, 1.0),
    ({1: -1.0, 3: 1.4, 4: 0.5}, -np.inf, 0.0),
    ({2: -1.0, 5: 0.2, 6: 2.6}, -np.inf, 0.0),
    ({1: 1.0, 2: 1.0}, -np.inf, 2.0),
]
COST = [0.01, 0.0001, 0.0001, 0.0, 0.0, 0.0, 0.0]
START = [1.0, 1.0, 1.0, 0.47, 0.66, 0.53, 0.34]


def solved(start=True, rows=5, presolve="choose"):
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("mip_rel_gap", 0.0)
    highs.setOptionValue("presolve", presolve)
    for column, cost in enumerate(COST):
        highs.addVar(0.0, highspy.kHighsInf)
        highs.changeColCost(column, cost)
    for column in range(3):
        highs.changeColIntegrality(column, highspy.HighsVarType.kInteger)
    for terms, lower, upper in ROWS[:rows]:
        highs.addRow(lower, upper, len(terms), np.array(list(terms), np.int32), np.array(list(terms.values())))
    if start:
        point = highspy.HighsSolution()
        point.col_value = START
        highs.setSolution(point)
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    cost = float(np.dot(COST, highs.getSolution().col_value))
    return f"{highs.getInfo().objective_function_value:.4f}/{cost:.4f}"


print(f"five rows {solved()}   four {solved(rows=4)}   unstarted {solved(False)}   no presolve {solved(presolve='off')}")
PY
changed=0
for release in "1.12.0 0.0102/0.0102 0.0002/0.0002" "1.15.1 0.0102/0.0102 0.0002/0.0002" "1.16.0 0.0002/0.0002 0.0002/0.0102"; do
    read -r version five four <<<"$release"
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet --disable-pip-version-check "highspy==$version" "numpy<3"
    found="$("$work/$version/bin/python" "$work/start.py" | tail -n 1)"
    echo "$version  $found"
    [[ "$found" == "five rows $five   four $four   unstarted 0.0002/0.0002   no presolve 0.0002/0.0002" ]] || changed=1
done
exit "$changed"
