"""User calibration: profiles from few points, files of points and profiles, and the commands."""

import dataclasses
import json

import numpy as np
import pytest
from test_validation_rows import ROW
from typer.testing import CliRunner

from codesign.cli import app
from codesign.performance.profile import EngineProfile, default_profile, read_profile, write_profile
from codesign.validation.bench import read_bench
from codesign.validation.calibrate import calibrate, leave_rest_out, spread
from codesign.validation.measured import DataError, read_names
from codesign.validation.points import point_of
from codesign.validation.predict import predict

TRUE = EngineProfile(
    name="true",
    multiplier=1.25,
    host_step_s=4e-3,
    per_sequence_s=2e-5,
    first_token_s=0.06,
    accelerators=("h200-sxm",),
)
LOADS = [("1024", "4"), ("1024", "16"), ("1024", "64"), ("8192", "32"), ("8192", "8"), ("2048", "128")]


def measured_points(engine=TRUE, noise=0.0):
    """Points of a stack that follows a profile exactly, or with errors."""
    points = [
        point_of({**ROW, "isl": isl, "concurrency_or_batch": load}, read_names()) for isl, load in LOADS
    ]
    found = predict(points, lambda _: engine)
    errors = 1.0 + noise * np.array([1, -1, 1, -1, 1, -1])
    return [
        dataclasses.replace(
            p,
            measured={
                "tpot_ms_p50": float(found.values["tpot_ms_p50"][i] * errors[i]),
                "ttft_ms_p50": float(found.values["ttft_ms_p50"][i]),
            },
        )
        for i, p in enumerate(points)
    ]


def test_a_profile_is_found_again():
    points = measured_points()
    prior = default_profile("sglang", 2026)
    found = calibrate(points[:4], prior)
    assert found.median_after < 0.02 < found.median_before
    assert found.profile.accelerators == ("h200-sxm",)
    rest = predict(points[4:], lambda _: found.profile).values
    assert rest["tpot_ms_p50"] == pytest.approx([p.measured["tpot_ms_p50"] for p in points[4:]], rel=0.03)


def test_what_a_stack_adds_to_each_ttft_is_found_again():
    true = EngineProfile(first_token_s=0.06, accelerators=("h200-sxm",))
    found = calibrate(measured_points(true)[:4], EngineProfile(host_step_s=1e-3))
    assert found.profile.first_token_s == pytest.approx(0.06, rel=0.1)


def test_few_points_stay_near_the_default():
    prior = default_profile("sglang", 2026)
    exact = calibrate(measured_points(prior)[:3], prior).profile
    assert exact.multiplier == pytest.approx(1.0, abs=0.02)
    assert exact.prefill_charge == pytest.approx(1.0, abs=0.05)
    # One wrong point of four does not carry the profile away.
    points = measured_points(prior)[:4]
    wrong = dataclasses.replace(points[1], measured={"tpot_ms_p50": 10 * points[1].measured["tpot_ms_p50"]})
    assert calibrate([points[0], wrong, *points[2:]], prior).profile.multiplier < 1.5


def test_rates_calibrate_too():
    points = measured_points()
    found = predict(points, lambda _: TRUE)
    rates = [
        dataclasses.replace(
            p, measured={"output_tok_s_per_gpu": float(found.values["output_tok_s_per_gpu"][i])}
        )
        for i, p in enumerate(points)
    ]
    fitted = calibrate(rates[:4], default_profile("sglang", 2026))
    assert fitted.median_after < 0.06 < fitted.median_before
    with pytest.raises(ValueError, match="no point with"):
        calibrate([dataclasses.replace(p, measured={"ttft_ms_p50": 1.0}) for p in points], TRUE)


def test_leave_rest_out():
    points = [
        dataclasses.replace(p, row_id=f"{i}{p.isl}") for i in range(2) for p in measured_points(noise=0.02)
    ]
    (stack,) = leave_rest_out(points)
    assert stack.rest == len(points) - 4
    assert stack.median_after < 0.06 < stack.median_before
    chosen = spread(points, 4)
    assert {p.concurrency for p in chosen} >= {4.0, 128.0}


CSV = """accelerator,model,precision,tp,isl,osl,concurrency,engine,tpot,ttft_ms,output_tok_s
h200-sxm,DeepSeek-R1,fp8,8,1024,1024,4,sglang,9.73 ms,84.7,
h200-sxm,DeepSeek-R1,fp8,8,1024,1024,16,sglang,15.39 ms,94.1,
h200-sxm,DeepSeek-R1,fp8,8,1024,1024,64,sglang,,127,2040
"""


@pytest.fixture
def bench(tmp_path):
    path = tmp_path / "bench.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


def test_bench_files(bench, tmp_path):
    points = read_bench(bench)
    assert [p.measured.get("tpot_ms_p50") for p in points] == [
        pytest.approx(9.73),
        pytest.approx(15.39),
        None,
    ]
    assert points[2].measured["output_tok_s_per_gpu"] == 255
    as_json = tmp_path / "bench.json"
    entry = {"accelerator": "mi300x", "model": "Llama-3.1-70B", "weights": "bf16", "isl": 1, "osl": 9}
    as_json.write_text(
        json.dumps({"points": [{**entry, "concurrency": 2, "tpot": "0.02 s"}]}), encoding="utf-8"
    )
    (point,) = read_bench(as_json)
    assert (point.tp, point.weights, point.engine) == (1, "bf16", "other")
    assert point.measured == {"tpot_ms_p50": pytest.approx(20)}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("h200-sxm", "h2000", "accelerator: found 'h2000'"),
        ("DeepSeek-R1", "Deep", "model: found 'Deep'"),
        (",4,sglang", ",0,sglang", "concurrency: found '0'"),
        ("9.73 ms", "9.73 parsecs", "tpot"),
        ("9.73 ms", "", "point 1"),
        (",8,1024", ",7,1024", "shape"),
        ("fp8,8,1024,1024,4", "fp8,8,1024,nan,4", "osl: found 'nan'"),
        ("ttft_ms,", "tftt_ms,", "perhaps ttft_ms"),
        ("4,sglang", "4,vllm", "one stack"),
    ],
)
def test_bad_bench_files(bench, old, new, words):
    bench.write_text(bench.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    if old == "9.73 ms" and not new:
        words = "found neither tpot nor output_tok_s"
    with pytest.raises(DataError, match=words):
        read_bench(bench)


@pytest.mark.parametrize("content", ["", "[1, 2]", "[{", "accelerator\n", "{}"])
def test_files_that_are_no_bench(tmp_path, content):
    path = tmp_path / "bench"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(DataError):
        read_bench(path)


@pytest.mark.parametrize("suffix", ["yaml", "json"])
def test_profiles_survive_a_file(tmp_path, suffix):
    path = tmp_path / f"profile.{suffix}"
    write_profile(TRUE, path)
    assert read_profile(path) == TRUE


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("multiplier: -1", "multiplier: found -1"),
        ("multiplier: .nan", "multiplier: found nan"),
        ("multiplyer: 1", "found the field 'multiplyer'"),
        ("accelerators: h100-sxm", "list of catalogue ids"),
        ("- 1", "expected an engine profile"),
        ("{", "no YAML"),
    ],
)
def test_bad_profiles(tmp_path, content, words):
    path = tmp_path / "profile.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=words):
        read_profile(path)
    with pytest.raises(ValueError, match="no readable file"):
        read_profile(tmp_path / "none.yaml")


def test_commands(bench, tmp_path):
    run = CliRunner().invoke
    profile = tmp_path / "profile.yaml"
    done = run(app, ["calibrate", "--bench", str(bench), "-o", str(profile), "--name", "mine", "--json"])
    assert done.exit_code == 0, done.output
    assert read_profile(profile).name == "mine"
    assert run(app, ["calibrate", "--bench", str(bench)]).exit_code == 0
    rows = tmp_path / "rows.csv"
    rows.write_text(",".join(ROW) + "\n" + ",".join(f'"{v}"' for v in ROW.values()) + "\n", encoding="utf-8")
    words = ["validate", "--data", str(rows), "--profile", str(profile), "--json"]
    done = run(app, words)
    assert done.exit_code == 0, done.output
    (ttft, tpot) = json.loads(done.stdout)["rows"]
    assert (ttft["metric"], tpot["metric"]) == ("ttft_ms_p50", "tpot_ms_p50")
    assert "mine" in tpot["calibration"]
    assert "Errors by source" in run(app, words[:3]).stdout
    for bad in (["validate", "--data", str(tmp_path)], ["validate", "--profile", str(rows)]):
        assert run(app, bad).exit_code == 2
    assert run(app, ["calibrate", "--bench", str(rows)]).exit_code == 2


def test_a_fit_that_does_not_converge_is_no_profile(monkeypatch):
    from types import SimpleNamespace

    import scipy.optimize

    failed = SimpleNamespace(success=False, message="too many evaluations", x=np.zeros(4))
    monkeypatch.setattr(scipy.optimize, "least_squares", lambda *_, **__: failed)
    with pytest.raises(DataError, match="did not converge"):
        calibrate(measured_points(), TRUE)
