#!/usr/bin/env bash
# HiGHS up to 1.15.1 can call the point that a MILP was given to start from optimal where a better one exists.
#
# Seven variables, five rows. The first variable, whole, costs 0.01 and is in no row at all, so it is 0 in every optimum
# (0.0002). Given a feasible start in which it is 1, the releases below end with status Optimal and objective 0.0102 at a
# relative gap of 0: 51 times too dear. Without the start, without presolve, or from 1.16.0 on they find 0.0002.
#
# Seen 2026-11-30 with highspy from PyPI on Python 3.11, Linux x86_64:
#   1.12.0  started 0.0102 optimal   unstarted 0.0002 optimal   no presolve 0.0002 optimal
#   1.15.1  started 0.0102 optimal   unstarted 0.0002 optimal   no presolve 0.0002 optimal
#   1.16.0  started 0.0002 optimal   unstarted 0.0002 optimal   no presolve 0.0002 optimal
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


def solved(start, presolve="choose"):
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("mip_rel_gap", 0.0)
    highs.setOptionValue("presolve", presolve)
    for column, cost in enumerate(COST):
        highs.addVar(0.0, highspy.kHighsInf)
        highs.changeColCost(column, cost)
    for column in range(3):
        highs.changeColIntegrality(column, highspy.HighsVarType.kInteger)
    for terms, lower, upper in ROWS:
        highs.addRow(lower, upper, len(terms), np.array(list(terms), np.int32), np.array(list(terms.values())))
    if start:
        point = highspy.HighsSolution()
        point.col_value = START
        highs.setSolution(point)
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return f"{highs.getInfo().objective_function_value:.4f} optimal"


print(f"started {solved(True)}   unstarted {solved(False)}   no presolve {solved(True, 'off')}")
PY
changed=0
for release in "1.12.0 0.0102" "1.15.1 0.0102" "1.16.0 0.0002"; do
    read -r version expected <<<"$release"
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet --disable-pip-version-check "highspy==$version" "numpy<3"
    found="$("$work/$version/bin/python" "$work/start.py" | tail -n 1)"
    echo "$version  $found"
    [[ "$found" == "started $expected optimal   unstarted 0.0002 optimal   no presolve 0.0002 optimal" ]] || changed=1
done
exit "$changed"
