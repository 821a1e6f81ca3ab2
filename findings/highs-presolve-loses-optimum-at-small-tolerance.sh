#!/usr/bin/env bash
# With its feasibility tolerances at 1e-9, HiGHS 1.16.0 calls 3 optimal where 2 keeps every row exactly; 1.15.1 does not.
#
# Minimise a + b, a whole, all at least 0: eight variables and nine rows. At a = 0, b = 2, p2 = q2 = 1, else 0, all rows
# hold in exact arithmetic (the last with 1e-8 to spare) and the cost is 2. With mip_feasibility_tolerance and
# primal_feasibility_tolerance at 1e-9, which HiGHS allows (1e-10 is its least), 1.16.0 answers Optimal, gap 0, with
# 2.999999996. At the default tolerances, without presolve, or with 1.15.1, the answer is 2.
#
# Seen 2026-11-30 with highspy from PyPI on Python 3.11, Linux x86_64:
#   1.15.1  at 1e-9 2.000   at 1e-6 2.000   at 1e-9 without presolve 2.000
#   1.16.0  at 1e-9 3.000   at 1e-6 2.000   at 1e-9 without presolve 2.000
# Exits with 1 if any of this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/small.py" <<'PY'
import highspy
import numpy as np

INF = highspy.kHighsInf
A, B, N, K, P1, Q1, P2, Q2 = range(8)
ROWS = [
    ({P1: 1, P2: 1}, 1, 1),
    ({Q1: 1, Q2: 1}, 1, 1),
    ({N: -1, P1: 1, Q1: 0.5}, -INF, 0),
    ({B: -1, P2: 2}, -INF, 0),
    ({B: -1, P2: 2}, -INF, 0),
    ({B: -1, Q2: 2}, -INF, 0),
    ({N: 1, K: -8}, -INF, 0),
    ({A: -1, K: 1}, -INF, 0),
    ({P1: 1, Q1: 5, Q2: 0.99999999}, -INF, 1),
]


def optimum(tolerance, presolve="on"):
    highs = highspy.Highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("presolve", presolve)
    highs.setOptionValue("mip_feasibility_tolerance", tolerance)
    highs.setOptionValue("primal_feasibility_tolerance", tolerance)
    for column in range(8):
        highs.addVar(0.0, INF)
    highs.changeColCost(A, 1.0)
    highs.changeColCost(B, 1.0)
    highs.changeColIntegrality(A, highspy.HighsVarType.kInteger)
    for terms, lower, upper in ROWS:
        highs.addRow(lower, upper, len(terms), np.array(list(terms), np.int32), np.array(list(terms.values()), float))
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return f"{highs.getInfo().objective_function_value:.3f}"


print(f"at 1e-9 {optimum(1e-9)}   at 1e-6 {optimum(1e-6)}   at 1e-9 without presolve {optimum(1e-9, 'off')}")
PY
changed=0
for release in "1.15.1 2.000" "1.16.0 3.000"; do
    read -r version small <<<"$release"
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet --disable-pip-version-check "highspy==$version" "numpy<3"
    found="$("$work/$version/bin/python" "$work/small.py" | tail -n 1)"
    echo "$version  $found"
    [[ "$found" == "at 1e-9 $small   at 1e-6 2.000   at 1e-9 without presolve 2.000" ]] || changed=1
done
exit "$changed"
