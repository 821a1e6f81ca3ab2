"""Traces and histograms: the same problem either way, exact means, and clear words about broken files."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from codesign.problem import Problem, ProblemError, load_problem, resolve
from codesign.problem.trace import TraceError, bin_lengths, read_histogram, read_trace, write_histogram

HEAD = "TIMESTAMP,ContextTokens,GeneratedTokens\n"


def _trace(path: Path, rows: int = 300) -> Path:
    rng = np.random.default_rng(1)
    lines = [
        f"2023-11-16 18:{i // 60:02d}:{i % 60:02d}.{i:07d},{a},{b}\n"
        for i, (a, b) in enumerate(rng.lognormal(6, 1, (rows, 2)).astype(int))
    ]
    text = HEAD + "".join(lines)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_trace_and_its_histogram_give_the_same_instance(tmp_path: Path) -> None:
    trace = _trace(tmp_path / "trace.csv.gz")
    write_histogram(read_trace(trace), tmp_path / "lengths.csv", ["source: made up", "licence: none"])
    problem = """
name: p
models: {m: {card: gpt-oss-120b}}
tasks: [{name: t, rate: {trace: 10x}, lengths: {WORD}, models: [m]}]
hardware: {h: {accelerator: h100-sxm}}
"""
    instances = []
    for word in ("trace: trace.csv.gz", "histogram: lengths.csv"):
        path = tmp_path / "p.yaml"
        path.write_text(problem.replace("WORD", word))
        instances.append(resolve(load_problem(path)))
    assert instances[0].tasks == instances[1].tasks
    assert instances[0].tasks[0].rate_per_s == pytest.approx(10.0, rel=1e-3)


def test_bins_keep_means_and_split_at_powers_of_sqrt_two() -> None:
    inputs = np.array([0.0, 1, 2, 3, 4, 5, 1000, 1000])
    outputs = np.array([1.0, 1, 1, 1, 1, 1, 7, 8])
    lengths = bin_lengths(inputs, outputs)
    assert lengths.weight.sum() == pytest.approx(1)
    assert lengths.input @ lengths.weight == pytest.approx(inputs.mean())
    assert lengths.output @ lengths.weight == pytest.approx(outputs.mean())
    assert sorted(lengths.input.tolist()) == [0, 1, 2, 3, 4.5, 1000, 1000]


def test_histogram_of_the_catalogue_is_the_published_trace() -> None:
    problem = Problem.from_dict(
        {
            "models": {"m": {"card": "gpt-oss-120b"}},
            "tasks": [
                {
                    "name": "chat",
                    "rate": "trace",
                    "lengths": {"histogram": "azure2023-conversation"},
                    "models": ["m"],
                }
            ],
            "hardware": {"h": {"accelerator": "h100-sxm"}},
        }
    )
    task = resolve(problem).tasks[0]
    assert task.context.mean == pytest.approx(1154.70, abs=0.01)
    assert task.output.mean == pytest.approx(211.13, abs=0.01)
    assert task.rate_per_s == pytest.approx(5.53, abs=0.01)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", None),
        ("A,B\n1,2\n", 1),
        (HEAD, None),
        (HEAD + "2023-11-16 18:15:46,1\n", 2),
        (HEAD + "yesterday,1,2\n", 2),
        (HEAD + "2023-11-16 18:15:46,-1,2\n", 2),
        (HEAD + "2023-11-16 18:15:46,nan,2\n", 2),
        (HEAD + "2023-11-16 18:15:46,1e40,2\n", 2),
    ],
)
def test_broken_traces_say_where(tmp_path: Path, text: str, line: int | None) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        read_trace(path)
    assert caught.value.line == line


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"not gzip", b"\x1f\x8b\x08broken"])
def test_unreadable_files(tmp_path: Path, content: bytes) -> None:
    for name in ("t.csv", "t.csv.gz"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(TraceError):
            read_trace(tmp_path / name)
        with pytest.raises(TraceError):
            read_histogram(tmp_path / name)


def test_missing_trace_is_a_problem_error() -> None:
    problem = Problem.from_dict(
        {
            "models": {"m": {"card": "gpt-oss-120b"}},
            "tasks": [{"name": "t", "rate": "trace", "lengths": {"trace": "none.csv"}, "models": ["m"]}],
            "hardware": {"h": {"accelerator": "h100-sxm"}},
        }
    )
    with pytest.raises(ProblemError, match=r"tasks\.t\.lengths\.trace: found no file"):
        resolve(problem)
