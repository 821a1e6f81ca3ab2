"""A small share of `scripts/stress.py`: random fleets of every kind against a second MILP and the judge of plans."""

from collections import Counter

import pytest
from disagreements import judged, smallest, solved, solved_by_branching, to_json
from random_fleets import KINDS, random_fleet

EACH = 6
"""Problems of each kind."""


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_true(kind):
    first = 1000 * list(KINDS).index(kind)
    statuses = Counter()
    for seed in range(first, first + EACH):
        data = random_fleet(seed, kind)
        solve = solved_by_branching if seed % 3 == 2 else solved
        finding = judged(data, 20.0, solve, exported=seed == first)
        statuses[finding.status] += 1
        if finding.what:
            data, finding = smallest(data, finding, 5.0, solve)
        assert not finding.what, f"seed {seed}: {finding}\n{to_json(data)}"
    assert statuses["optimal"]
