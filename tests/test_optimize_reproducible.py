"""The same problem and seed give the same solution file, timings apart, in another process and hash order."""

import json
import os
import subprocess
import sys

import pytest
from test_invariances import SINGLE

SCRIPT = """
import json, sys
from codesign.planner import solve
from codesign.problem import Problem
print(solve(Problem.from_dict(json.load(sys.stdin))).to_json())
"""


def solution(problem, hash_seed):
    """The solution file of a problem, solved in a process of its own; without its timings."""
    environment = os.environ | {"PYTHONHASHSEED": str(hash_seed)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        input=json.dumps(problem),
        capture_output=True,
        text=True,
        env=environment,
        check=True,
        timeout=120,
    )
    found = json.loads(done.stdout)
    assert set(found["solve"].pop("seconds")) == {"build", "optimize"}
    return found


@pytest.mark.parametrize("mode", ["never", "always"])
def test_same_seed_same_solution(mode):
    options = SINGLE["options"] | {"disaggregation": mode, "threads": 2, "gap": "1%"}
    first, second = (solution(SINGLE | {"options": options}, seed) for seed in (1, 2))
    assert first["status"] == "optimal"
    assert first["fleet"]
    assert first == second
