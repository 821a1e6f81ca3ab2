"""Measured rows as deployments, and fleets planned for what they carried."""

import json
import math
from dataclasses import asdict, replace

import pytest
from typer.testing import CliRunner

from codesign.cli import app
from codesign.performance.profile import EngineProfile
from codesign.validation.deployments import deployment_of, deployments_of
from codesign.validation.measured import DataError, placed_rows, read_names, shipped_rows
from codesign.validation.plans import (
    DEPLOYMENTS,
    FACTORS,
    TTFT_SLACK,
    plan_deployment,
    predicted_time,
    problem_of,
    validate_plans,
)
from codesign.validation.points import Skip, point_of
from codesign.validation.predict import predict, stack_default
from codesign.validation.ratios import PlannedRow, summary_of

ROW = {
    "row_id": "R1",
    "source": "InferenceX",
    "model": "Llama-3.1-8B",
    "precision": "fp8",
    "accelerator": "h100-sxm",
    "n_accel": "1",
    "tp": "1",
    "backend": "vllm",
    "date": "2026-05-01",
    "isl": "1000",
    "osl": "300",
    "length_kind": "mean",
    "concurrency_or_batch": "32",
    "load_mode": "closed-loop",
    "total_tok_s_per_gpu": "13000",
    "tpot_ms_p50": "9",
    "ttft_ms_p50": "120",
    "trust": "high",
    "is_latest_for_config": "1",
}

APART = ROW | {
    "row_id": "D1",
    "disagg": "1",
    "n_accel": "10",
    "tp": "",
    "prefill_workers": "1",
    "prefill_tp": "2",
    "prefill_accels": "2",
    "decode_workers": "2",
    "decode_tp": "4",
    "decode_accels": "8",
    "concurrency_or_batch": "320",
}


def deployment(row, **changes):
    return deployment_of(row | changes, read_names())


def own_prediction(**changes):
    """A row whose measurements are what the model predicts of it."""
    row = ROW | changes
    found = predict([point_of(row, read_names())]).values
    return row | {metric: f"{values[0]:.9g}" for metric, values in found.items()}


def written(path, *rows):
    columns = list(dict.fromkeys(column for row in rows for column in row))
    lines = [columns, *([row.get(column, "") for column in columns] for row in rows)]
    path.write_text("\n".join(",".join(line) for line in lines) + "\n", encoding="utf-8")
    return path


def test_a_colocated_row_as_a_deployment():
    found = deployment(ROW)
    assert (found.role, found.accelerators, found.engine_accelerators) == ("colocated", 1, 1)
    assert found.calls_per_s == pytest.approx(13000 / 1300)
    assert (found.tpot_s, found.ttft_s) == pytest.approx((0.009, 0.12))
    # Without a total, answers alone say how many calls there were.
    found = deployment(ROW, total_tok_s_per_gpu="", output_tok_s_per_gpu="3000")
    assert found.calls_per_s == pytest.approx(10)


def test_a_disaggregated_row_as_a_deployment():
    found = deployment(APART)
    assert (found.role, found.accelerators, found.engine_accelerators) == ("disaggregated", 10, 4)
    assert found.calls_per_s == pytest.approx(100)
    assert (found.point.tp, found.point.dp, found.point.concurrency) == (4, 1, 160)
    # Prompts do not come between the steps of its engines, so less is predicted of them than of colocated ones.
    engine = stack_default(found.point)
    assert predicted_time(found, engine) < predicted_time(replace(found, role="colocated"), engine)


def test_ranks_of_a_disaggregated_mixture_of_experts():
    experts = {"model": "DeepSeek-R1", "decode_ep": "4", "prefill_ep": "2"}
    shape = deployment(APART, **experts).point
    assert (shape.tp, shape.ep, shape.dp) == (4, 4, 1)
    shape = deployment(APART, **experts, decode_dp_attention="1").point
    assert (shape.tp, shape.ep, shape.dp) == (1, 4, 4)


@pytest.mark.parametrize(
    ("row", "changes", "reason"),
    [
        (ROW, {"trust": "low: GPU counts are not workers x tp"}, "doubtful number"),
        (ROW, {"n_accel": "3", "tp": "2"}, "doubtful number"),
        (APART, {"decode_workers": "3"}, "doubtful number"),
        (APART, {"n_accel": "12"}, "doubtful number"),
        (APART, {"spec_decode": "mtp"}, "speculative"),
        (ROW, {"load_mode": "static batch"}, "load unknown"),
        (ROW, {"total_tok_s_per_gpu": ""}, "load unknown"),
        (ROW, {"total_tok_s_per_gpu": "52000"}, "contradict"),
        (ROW, {"is_latest_for_config": "0"}, "newest"),
        (ROW, {"notes": "parallelism not published"}, "engine not published"),
        (ROW, {"isl": "200000"}, "model's context"),
    ],
)
def test_rows_that_are_left_out(row, changes, reason):
    with pytest.raises(Skip, match=reason):
        deployment(row, **changes)


def test_what_is_no_number_is_told_with_its_place(tmp_path):
    path = written(tmp_path / "rows.csv", ROW, ROW | {"tpot_ms_p50": "fast"})
    with pytest.raises(DataError, match=r"rows\.csv: line 3: tpot_ms_p50: found 'fast'; expected a number"):
        deployments_of(placed_rows(path), read_names())
    path.write_text("# source\n" + path.read_text(), encoding="utf-8")
    with pytest.raises(DataError, match="line 4"):
        deployments_of(placed_rows(path), read_names())


def test_shipped_rows_with_a_known_load():
    found, left_out = deployments_of(placed_rows(), read_names())
    sources = {each.point.source for each in found}
    assert {"InferenceX", "TensorRT-LLM-perf-overview-v0.17"} <= sources
    assert len(found) + sum(left_out.values()) == len(shipped_rows())
    assert all((each.tpot_s is None) == (each.point.load == "offline") for each in found)


def test_the_problem_asks_for_what_was_measured():
    problem = problem_of(deployment(APART), "disaggregated", 1.15, "engine.json")
    (task,) = problem.tasks
    assert task.rate.value == pytest.approx(DEPLOYMENTS * 100)
    assert dict(task.slo.tpot.levels) == {0.5: pytest.approx(1.15 * 0.009)}
    assert dict(task.slo.ttft.levels) == {0.5: pytest.approx(TTFT_SLACK * 0.12)}
    assert (problem.options.disaggregation, problem.options.max_replica_accelerators) == ("always", 4)
    unpromised = problem_of(replace(deployment(ROW), tpot_s=None, ttft_s=None), "colocated", None, "engine.json")
    assert unpromised.tasks[0].slo.tpot is None
    assert unpromised.tasks[0].slo.ttft is None


def test_the_models_own_prediction_is_planned_as_measured():
    found = deployment(own_prediction())
    rows = plan_deployment(found, stack_default(found.point))
    assert [(row.role, row.tpot_factor) for row in rows] == [
        (role, factor) for role in ("colocated", "disaggregated") for factor in FACTORS
    ]
    assert rows[0].ratio == pytest.approx(1.0, abs=0.13)
    assert rows[0].planned_accelerators == rows[0].ratio
    assert rows[0].predicted_time == pytest.approx(1.0)
    assert all(row.planned_engine == row.engine == (1, 1, 1) for row in rows)
    for way in (rows[:3], rows[3:]):
        ratios = [row.ratio for row in way]
        assert ratios == sorted(ratios, reverse=True)
    assert [row.as_measured for row in rows] == [True] * 3 + [False] * 3


def test_a_slower_engine_needs_more_and_one_too_slow_is_impossible():
    found = deployment(own_prediction())
    slower = replace(stack_default(found.point), multiplier=1.2)
    assert plan_deployment(found, slower)[0].ratio >= 1.13
    hopeless = plan_deployment(found, EngineProfile(multiplier=5.0))
    assert {(row.status, row.ratio, row.planned_accelerators) for row in hopeless} == {("infeasible", None, None)}


def planned_row(**changes):
    return replace(
        PlannedRow(
            row_id="R1",
            role="colocated",
            measured_role="colocated",
            tpot_factor=1.15,
            measured_accelerators=8,
            planned_accelerators=8.0,
            status="optimal",
            ratio=1.0,
            source="InferenceX",
            accelerator="h100-sxm",
            model="Llama-3.1-8B",
            precision="fp8",
            stack="vllm 2026",
            isl=922.0,
            osl=922.0,
            concurrency=32.0,
            calls_per_s=1.0,
            predicted_time=1.05,
            engine=(8, 1, 1),
            planned_engine=(8, 1, 1),
        ),
        **changes,
    )


def test_slices_by_hand():
    rows = [planned_row(ratio=ratio, planned_accelerators=8 * ratio) for ratio in (0.5, 1.0, 1.2)]
    unplanned = {"ratio": None, "planned_accelerators": None, "planned_engine": None}
    rows += [planned_row(status="infeasible", **unplanned), planned_row(status="no_solution", **unplanned)]
    rows += [planned_row(planned_engine=(1, 1, 8), predicted_time=1.3), planned_row(planned_engine=(4, 1, 1))]
    rows += [planned_row(role="disaggregated", ratio=0.7), planned_row(tpot_factor=None, concurrency=math.inf)]
    slices = summary_of(rows)
    every = {(each.role, each.tpot_factor): each for each in slices if each.by == "all"}
    first = every["colocated", 1.15]
    assert (first.rows, first.impossible, first.none_found, first.median) == (7, 1, 1, 1.0)
    assert first.near == pytest.approx(4 / 7)
    assert every["disaggregated", 1.15].near == 1.0
    assert every["colocated", None].rows == 1
    assert {each.role for each in slices if each.by == "source"} == {"colocated"}
    assert {each.key for each in slices if each.by == "prompt and answer"} == {"1,024/1,024"}
    planned = {each.key: each.rows for each in slices if each.by == "planned engine" and each.tpot_factor}
    assert planned == {"as measured": 3, "as large, another shape": 1, "of another size": 1, "no plan": 2}
    predicted = {each.key: each.rows for each in slices if each.by == "predicted time per token" and each.tpot_factor}
    assert predicted == {"within 10 %": 6, "further above": 1}
    assert {each.key for each in slices if each.by == "calls on an engine"} == {"17–64", "as many as fit"}


def test_a_slice_without_plans_has_no_ratios():
    (first, *_) = summary_of([planned_row(status="infeasible", ratio=None, planned_accelerators=None)])
    assert (first.median, first.low, first.high, first.near) == (None, None, None, 0.0)


def test_a_limit_is_told():
    found = validate_plans(limit=1)
    assert (found.sampled, len({row.row_id for row in found.rows})) == (1, 1)
    assert found.deployments > 300


def test_command(tmp_path):
    run = CliRunner().invoke
    offline = {"row_id": "R2", "load_mode": "offline", "tpot_ms_p50": "", "ttft_ms_p50": ""}
    path = written(tmp_path / "rows.csv", own_prediction(), ROW | offline)
    words = ["validate", "--plans", "--data", str(path)]
    done = run(app, [*words, "--json", "--plots", str(tmp_path / "plots")])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert [row["row_id"] for row in document["rows"]] == ["R1"] * 6 + ["R2"] * 2
    assert set(document["rows"][0]) == set(asdict(planned_row()))
    assert {"by", "key", "role", "tpot_factor", "rows", "impossible", "median", "near"} <= set(document["summary"][0])
    assert document["rows"][0]["ratio"] == pytest.approx(1.0, abs=0.13)
    assert document["sampled"] == document["deployments"] == 2
    assert (tmp_path / "plots" / "plans.png").read_bytes()[:4] == b"\x89PNG"
    assert "no TPOT measured: 1 of 1 rows planned" in (tmp_path / "plots" / "plans.html").read_text()
    done = run(app, [*words, "--limit", "1"])
    assert done.exit_code == 0, done.output
    assert "A sample: 1 of 2 measured rows" in done.stdout
    assert "planned in the way that was measured" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--limit", "3"], "--limit: found 3 without --plans"),
        (["--plans", "--data", "{bad}"], "line 2: n_accel: found 'many'"),
        (["--plans", "--data", "nowhere.csv"], "nowhere.csv: found no such file"),
        (["--plans", "--profile", "{bad}"], "--profile: "),
        (["--plans", "--names", "nowhere.csv"], "nowhere.csv"),
    ],
)
def test_bad_input_is_two(words, told, tmp_path):
    bad = written(tmp_path / "bad.csv", ROW | {"n_accel": "many"})
    done = CliRunner().invoke(app, ["validate", *(word.format(bad=bad) for word in words)])
    assert done.exit_code == 2
    assert told in done.output
