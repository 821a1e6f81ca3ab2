"""Session traces: chains found by prefix hashes, reuse of an ideal cache, and what a task takes from them."""

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest

from codesign.problem import Problem, ProblemError, load_problem, resolve
from codesign.problem.sessions import is_session_trace, read_sessions
from codesign.problem.trace import TraceError

DATA = Path(os.environ.get("CODESIGN_DATA", Path(__file__).parents[1] / ".." / "shared")) / "measured"


def _lines(path, rows):
    path.write_text(
        "".join(
            json.dumps(dict(zip(("timestamp", "input_length", "output_length", "hash_ids"), r, strict=True))) + "\n"
            for r in rows
        )
    )
    return path


CHAINS = [
    (0, 1200, 10, [1, 2, 3]),  # session A: two full blocks and 176 tokens
    (1000, 1100, 20, [1, 7, 8]),  # session B: shares A's first block, which no request ends with
    (5000, 2000, 30, [1, 2, 4, 5]),  # A goes on after its two full blocks
    (9000, 600, 5, [20, 21]),  # session C: nothing known
]


def test_chains_by_hand(tmp_path):
    found = read_sessions(_lines(tmp_path / "t.jsonl", CHAINS))
    assert found.calls.mean == pytest.approx(4 / 3)
    assert found.gaps.mean == pytest.approx(5.0)
    assert found.append.mean == pytest.approx(2000 - 1024)
    assert found.reusable == pytest.approx((512 + 1024) / (1200 + 1100 + 2000 + 600))
    assert found.shared_tokens == 0.0  # the median first call finds nothing of other sessions
    assert found.histogram.rate_per_s == pytest.approx(2 / 9.0)  # three sessions in nine seconds


def test_a_prefix_of_all_sessions_is_shared_and_joins_none(tmp_path):
    rows = [(1000 * i, 1500, 10, [1, 2, 100 + i]) for i in range(6)]
    found = read_sessions(_lines(tmp_path / "t.jsonl", rows))
    # The second full block ends the first request, so the others continue it: equal prompts are one session.
    assert found.calls.mean == pytest.approx(6)
    rows = [(1000 * i, 1600, 10, [1, 2, 100 + i, 200 + i]) for i in range(6)]
    found = read_sessions(_lines(tmp_path / "u.jsonl", rows))
    assert found.calls.mean == 1.0
    assert found.shared_tokens == 1024


def test_sessions_fill_a_task_and_its_own_words_go_first(tmp_path):
    _lines(tmp_path / "t.jsonl", CHAINS)
    (tmp_path / "p.yaml").write_text(
        """
name: p
models: {m: {card: gpt-oss-120b}}
tasks:
  - {name: t, rate: {trace: 3x}, lengths: {trace: t.jsonl}, models: [m]}
  - {name: own, rate: 1/s, lengths: {trace: t.jsonl}, models: [m], calls: 7, prefix: {reusable: 0.5}}
hardware: {h: {accelerator: h100-sxm}}
"""
    )
    traced, own = resolve(load_problem(tmp_path / "p.yaml")).tasks
    assert traced.rate_per_s == pytest.approx(3 * 2 / 9)
    assert traced.calls.mean == pytest.approx(4 / 3)
    assert traced.tool_wait.mean == pytest.approx(5.0)
    assert traced.context.mean == pytest.approx(4900 / 4)
    assert own.calls.mean == 7
    assert own.prefix_reusable == 0.5
    assert own.append.mean == pytest.approx(976)


def test_a_table_of_sessions(tmp_path):
    path = tmp_path / "s.csv.gz"
    head = "session,turn,timestamp_s,approx_in_tokens,approx_out_tokens,approx_prefix_shared_tokens\n"
    path.write_bytes(gzip.compress((head + "a,0,10,100,5,0\nb,0,11,50,5,0\na,1,14,150,5,100\n").encode()))
    assert is_session_trace(path)
    found = read_sessions(path)
    assert found.calls.mean == 1.5
    assert found.gaps.mean == 4.0
    assert found.append.mean == 50.0
    assert found.reusable == pytest.approx(100 / 300)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('{"timestamp": 0}\n', 1),
        ('{"timestamp": 0, "input_length": 5, "output_length": 1, "hash_ids": ["x"]}\n', 1),
        ('{"timestamp": 0, "input_length": -5, "output_length": 1, "hash_ids": []}\n', 1),
        ('{"timestamp": 0, "input_length": NaN, "output_length": 1, "hash_ids": []}\n', 1),
        ("session,timestamp_s\n", 1),
        ("session,timestamp_s,approx_in_tokens,approx_out_tokens,approx_prefix_shared_tokens\na,x,1,1,1\n", 2),
        ("session,timestamp_s,approx_in_tokens,approx_out_tokens,approx_prefix_shared_tokens\n", None),
    ],
)
def test_broken_files_say_where(tmp_path, text, line):
    path = tmp_path / "t.jsonl"
    path.write_text(text)
    with pytest.raises(TraceError) as caught:
        read_sessions(path)
    assert caught.value.line == line


def test_a_broken_trace_is_a_fault_of_the_problem(tmp_path):
    (tmp_path / "t.jsonl").write_text("{}\n")
    data = {
        "models": {"m": {"card": "gpt-oss-120b"}},
        "tasks": [{"name": "t", "rate": "1/s", "lengths": {"trace": str(tmp_path / "t.jsonl")}, "models": ["m"]}],
        "hardware": {"h": {"accelerator": "h100-sxm"}},
    }
    with pytest.raises(ProblemError, match="hash_ids"):
        resolve(Problem.from_dict(data))


@pytest.mark.skipif(not (DATA / "mooncake_synthetic.jsonl.gz").exists(), reason="raw traces are not in CODESIGN_DATA")
def test_published_reuse_of_mooncake_and_of_coding_sessions():
    path = DATA / "mooncake_synthetic.jsonl.gz"
    seen, known, total = set(), 0, 0
    with gzip.open(path, "rt") as stream:
        for text in stream:
            ids = json.loads(text)["hash_ids"]
            known += sum(i in seen for i in ids)
            total += len(ids)
            seen.update(ids)
    assert known / total == pytest.approx(0.640, abs=5e-4)  # the published share of blocks
    assert read_sessions(path).reusable == pytest.approx(known / total, abs=0.02)  # of tokens, here
    coding = read_sessions(DATA / "lmcache_miniswe_turns.csv.gz")
    assert coding.calls.mean == pytest.approx(402 / 20)
    assert 0.9 < coding.reusable < 0.97
    assert np.isfinite(coding.gaps.mean)
