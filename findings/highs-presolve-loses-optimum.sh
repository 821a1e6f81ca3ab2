#!/usr/bin/env bash
# HiGHS 1.16.0 with its presolve calls dearer points of two small MILPs optimal, gap 0; 1.15.1 does not.
#
# fleet: 18 variables, 19 rows, default options but a gap of 0. In exact arithmetic the point that is written below keeps
# every row at a cost of 6 (and 2e-7, for the coefficient of 7e-8); 1.16.0 answers Optimal with 7.42.
# small: eight variables, nine rows, a + b to minimise. a = 0, b = 2, p2 = q2 = 1, else 0, keeps all rows; with both
# feasibility tolerances at 1e-9, which HiGHS allows, 1.16.0 answers Optimal with 3, at the default ones with 2.
# Without presolve both releases find both optima.
#
# Seen 2026-12-01 with highspy from PyPI on Python 3.11, Linux x86_64:
#   1.15.1  fleet 6.00   without presolve 6.00   small at 1e-9 2.00   at 1e-6 2.00   at 1e-9 without presolve 2.00
#   1.16.0  fleet 7.42   without presolve 6.00   small at 1e-9 3.00   at 1e-6 2.00   at 1e-9 without presolve 2.00
# Exits with 1 if any of this changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
cat > "$work/optima.py" <<'PY'
from fractions import Fraction

import highspy
import numpy as np

INF = highspy.kHighsInf
# Rows: (coefficients by variable, least, most). Variables are at least 0.
FLEET = [
    ({5: 1, 6: 1}, 1, 1),
    ({7: 1, 8: 1}, 1, 1),
    ({5: 2, 9: -1}, -INF, 0),
    ({6: 1, 10: -1}, -INF, 0),
    ({7: 2.31, 11: -1}, -INF, 0),
    ({8: 1, 12: -1}, -INF, 0),
    ({9: 1, 13: -2}, -INF, 0),
    ({10: 4, 14: -2}, -INF, 0),
    ({11: 1, 15: -2}, -INF, 0),
    ({12: 4, 16: -2}, -INF, 0),
    ({0: -1, 2: -1, 13: 1}, -INF, 0),
    ({1: -1, 14: 1}, -INF, 0),
    ({0: -1, 2: -1, 3: -1, 15: 1}, -INF, 0),
    ({1: -1, 16: 1}, -INF, 0),
    ({0: 0.55, 1: 0.32, 2: 0.39, 3: 0.22, 5: 0.0011771416457866718, 7: 0.0015302841395226732}, -INF, 1),
    ({3: 0.14, 4: -1}, -INF, 0),
    ({2: 0.24, 3: 0.14, 4: -1, 12: 6.940613073071007e-08}, -INF, 0),
    ({2: -1, 17: 2}, -INF, 0),
    ({2: 1, 17: -2}, -INF, 0),
]
COST = [5, 3, 4, 2, 3] + 13 * [0]
WHOLE = [0, 1, 2, 3, 9, 10, 11, 12, 17]
POINT = {1: 2, 4: 6.940613073071007e-08, 6: 1, 8: 1, 10: 1, 12: 1, 14: 2, 16: 2}

A, B, N, K, P1, Q1, P2, Q2 = range(8)
SMALL = [
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


def optimum(rows, cost, whole, most={}, presolve="on", **options):
    highs = highspy.Highs()
    for name, value in {"output_flag": False, "presolve": presolve, "mip_rel_gap": 0.0, **options}.items():
        highs.setOptionValue(name, value)
    for column, price in enumerate(cost):
        highs.addVar(0.0, most.get(column, INF))
        highs.changeColCost(column, float(price))
    for column in whole:
        highs.changeColIntegrality(column, highspy.HighsVarType.kInteger)
    for terms, lower, upper in rows:
        highs.addRow(lower, upper, len(terms), np.array(list(terms), np.int32), np.array(list(terms.values()), float))
    highs.run()
    assert highs.getModelStatus() == highspy.HighsModelStatus.kOptimal
    return f"{highs.getInfo().objective_function_value:.2f}"


for terms, lower, upper in FLEET:
    total = sum(Fraction(value) * Fraction(POINT.get(column, 0)) for column, value in terms.items())
    assert lower <= total <= upper
assert sum(price * POINT.get(column, 0) for column, price in enumerate(COST)) < 6.000001

fine = {"mip_feasibility_tolerance": 1e-9, "primal_feasibility_tolerance": 1e-9}
fleet = FLEET, COST, WHOLE, {17: 1.0}
small = SMALL, [1, 1, 0, 0, 0, 0, 0, 0], [A]
print(
    f"fleet {optimum(*fleet)}   without presolve {optimum(*fleet, presolve='off')}   "
    f"small at 1e-9 {optimum(*small, **fine)}   at 1e-6 {optimum(*small)}   "
    f"at 1e-9 without presolve {optimum(*small, presolve='off', **fine)}"
)
PY
changed=0
for release in "1.15.1 6.00 2.00" "1.16.0 7.42 3.00"; do
    read -r version fleet small <<<"$release"
    python3 -m venv "$work/$version"
    "$work/$version/bin/pip" install --quiet --disable-pip-version-check "highspy==$version" "numpy<3"
    found="$("$work/$version/bin/python" "$work/optima.py" | tail -n 1)"
    echo "$version  $found"
    rest="at 1e-6 2.00   at 1e-9 without presolve 2.00"
    [[ "$found" == "fleet $fleet   without presolve 6.00   small at 1e-9 $small   $rest" ]] || changed=1
done
exit "$changed"
