"""A small share of `scripts/stress.py`: random fleets of every kind against a second MILP and the judge of plans."""

from collections import Counter

import pytest
from disagreements import judged, smallest, solved, solved_by_branching, to_json
from random_fleets import KINDS, random_fleet

EACH = 6
"""Problems of each kind."""
LIMIT_S = 5.0
"""A plan that is not proven by then has to say so."""


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_true(kind):
    first = 1000 * list(KINDS).index(kind)
    statuses = Counter()
    for seed in range(first, first + EACH):
        data = random_fleet(seed, kind)
        solve = solved_by_branching if seed % 3 == 2 else solved
        finding = judged(data, LIMIT_S, solve, exported=seed == first)
        statuses[finding.status] += 1
        if finding.wrong:
            data, finding = smallest(data, finding, 5.0, solve)
        assert not finding.wrong, f"seed {seed}: {finding}\n{to_json(data)}"
        assert not finding.what.startswith("second"), f"seed {seed}: {finding}"
    assert statuses["optimal"]
