"""Constants over their own range: which of them move a plan."""

import json
from pathlib import Path

from typer.testing import CliRunner

from codesign.cli import app
from codesign.performance.constants import constants
from codesign.performance.facts import facts
from codesign.problem import load_problem
from codesign.validation.leverage import constants_of

SMALL = "tests/data/commands/small.yaml"


def test_constants_of_a_problem_are_those_of_its_hardware():
    found = {constant.name: constant for constant in constants_of(load_problem(SMALL))}
    assert set(found) == {
        "kernels.ada",
        "engine.host_step_ms",
        "power.peak_over_tdp",
        "power.tdp_joules_per_flop",
        "first_token.5.ms",
    }
    host = found["engine.host_step_ms"]
    assert (host.low, host.high) == (0.0, 7.0)
    before = facts("constants")["engine"]["host_step_ms"]
    assert host.changed(7.0)["constants"]["engine"]["host_step_ms"] == 7.0
    assert facts("constants")["engine"]["host_step_ms"] == before
    rows = found["kernels.ada"].changed(2.0)["constants"]["gemm"]
    (slower,) = [row for row in rows if (row["system"], row["dtype"]) == ("ada", "bf16")]
    assert slower["t0_us"] == 2.0 * constants().row("gemm", "ada", "bf16")["t0_us"]


def test_the_command_lists_what_moves_a_plan(tmp_path):
    path = tmp_path / "busy.yaml"
    path.write_text(Path(SMALL).read_text(encoding="utf-8").replace("rate: 3/s", "rate: 200/s"), encoding="utf-8")
    done = CliRunner().invoke(app, ["validate", "--leverage", str(path), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    rows = {row["constant"]: row for row in document["rows"]}
    assert set(next(iter(rows.values()))) == {
        "constant", "low", "high", "objective_low", "objective_high", "purchase_changes"
    }  # fmt: skip
    kernels = rows["kernels.ada"]
    assert kernels["objective_low"] < document["objective"] < kernels["objective_high"]
    assert kernels["purchase_changes"]
    assert "power.tdp_joules_per_flop" not in rows  # an L40S has a TDP
    refused = CliRunner().invoke(app, ["validate", "--leverage", SMALL, "--plans"])
    assert refused.exit_code == 2
