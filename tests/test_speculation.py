"""Speculative decoding: closed forms, a hand-checked flip, and the same answer from planner, checker and simulator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from test_export import own_parser

from codesign import check, load_problem, solve
from codesign.candidates.build import build_candidates
from codesign.candidates.configurations import enumerate_configurations, places_of
from codesign.catalog import accelerators, acceptance_records, models
from codesign.export import deployment
from codesign.export.arguments import sglang_arguments, vllm_arguments
from codesign.export.engine import workers
from codesign.performance import (
    PRECISIONS,
    ConfigurationTable,
    decode_attention_seconds,
    decode_flops,
    decode_step_seconds,
    decode_weight_bytes,
    kv_bytes,
    kv_capacity_bytes,
    prefill_seconds,
    weight_bytes,
)
from codesign.performance.drafts import accepted, draft_card, emitted_moments, steps_needed
from codesign.performance.latency import host_step_seconds
from codesign.problem import ProblemError, resolve
from codesign.problem.load import problem_from_data
from codesign.problem.speculation import ModelSpeculation, alike, emitted, expected_tokens, speculation

ROOT = Path(__file__).parent.parent
FP8 = PRECISIONS.index("fp8")


def drafting(card, tokens=(3,), chances=(0.8, 0.7, 0.6), method="eagle3", **more):
    return speculation(
        ModelSpeculation(method=method, draft_tokens=list(tokens), acceptance=list(chances), **more), models()[card]
    )


def table(card, use, drafts, tp=4, part="h200-sxm"):
    zero = np.zeros(len(drafts), dtype=int)
    return ConfigurationTable(
        [accelerators()[part]], [models()[card]], zero, zero, zero + FP8, zero + FP8, zero + FP8, zero + tp, zero + 1,
        zero + 1, zero + 1, drafts=np.array(drafts), speculations=(use,),
    )  # fmt: skip


# ---- tokens of a step


def test_tokens_of_a_step_by_hand():
    # 1 + 0.8 + 0.8·0.7 + 0.8·0.7·0.6 = 2.696
    assert expected_tokens([0.8, 0.7, 0.6]) == pytest.approx(2.696)
    assert emitted([0.8, 0.7, 0.6]) == pytest.approx([0.2, 0.24, 0.224, 0.336])
    assert expected_tokens([]) == 1.0
    # Leviathan et al., equation 1: (1 − a^(k+1))/(1 − a).
    assert expected_tokens([0.6] * 5) == pytest.approx((1 - 0.6**6) / 0.4)


@pytest.mark.parametrize("drafts", [1, 3, 7])
def test_acceptance_of_one_and_none_have_closed_forms(drafts):
    assert expected_tokens([1.0] * drafts) == drafts + 1
    assert expected_tokens([0.0] * drafts) == 1.0
    every, none = emitted_moments([1.0] * drafts), emitted_moments([0.0] * drafts)
    assert every == (drafts + 1, 0.0, pytest.approx(drafts / 2))
    assert none == (1.0, 0.0, 0.0)
    answers = np.array([0.5, 0.5]), np.array([101.0, 201.0])
    assert steps_needed([0.0] * drafts, 0.95, *answers) == 1.0
    # All are accepted: m tokens take m/(k+1) steps, and what the last one writes too much is half of k on average.
    assert steps_needed([1.0] * drafts, 0.95, *answers) == pytest.approx(1 + drafts / 2 / 100)


def test_a_mean_length_is_a_chain_of_that_mean():
    for drafts, length in [(1, 1.85), (3, 2.4), (7, 3.09), (7, 8.0), (7, 1.0)]:
        assert expected_tokens([alike(length, drafts)] * drafts) == pytest.approx(length)


def test_short_answers_are_counted_on_for_fewer_tokens_a_step_than_long_ones():
    """Against 20,000 answers that draw what each step emits."""
    chances, rng = [0.8, 0.7, 0.6], np.random.default_rng(1)
    shares = np.cumsum(emitted(chances))
    for tokens, percentile in [(20, 0.95), (100, 0.95), (1000, 0.99)]:
        left, steps = np.full(20_000, tokens - 1), np.zeros(20_000)
        while np.any(left > 0):
            steps += left > 0
            left -= 1 + np.searchsorted(shares, rng.random(left.size))
        drawn = np.quantile(steps / (tokens - 1), percentile) * expected_tokens(chances)
        needed = steps_needed(chances, percentile, np.ones(1), np.array([float(tokens)]))
        assert drawn <= needed * 1.01  # no fewer are counted on: a step of an answer of 20 tokens is 15 % of it
        assert needed == pytest.approx(drawn, rel=0.05)
        assert np.mean(steps) == pytest.approx((tokens - 1 + emitted_moments(chances)[2]) / 2.696, rel=0.01)


# ---- what a step takes


def test_a_step_verifies_as_many_tokens_as_that_many_more_sequences_would_write():
    """n-grams cost the accelerators nothing: B sequences with k drafts multiply like B(k + 1)."""
    use = drafting("Llama-3.1-70B", method="ngram")
    both, batch = table("Llama-3.1-70B", use, [0, 3]), np.array([1.0, 16.0, 128.0])
    more = decode_step_seconds(both, 4 * batch)[0] - decode_step_seconds(both, np.zeros(1))[0, 0]
    step = decode_step_seconds(both, batch)[1] - decode_step_seconds(both, np.zeros(1))[0, 0]
    per_sequence = both.part_accelerators.host_per_sequence[0]
    assert step == pytest.approx(more - 3 * batch * per_sequence, rel=1e-9)
    # The context is read once: four positions of 8 query heads a KV head fill half a tile.
    read = decode_attention_seconds(both, np.array([8000.0]))
    assert read[1] == pytest.approx(read[0])
    assert kv_bytes(both, np.array([1000.0]))[1] == kv_bytes(both, np.array([1000.0]))[0]
    assert decode_flops(both, np.array([1000.0]))[1] == pytest.approx(4 * decode_flops(both, np.array([1000.0]))[0])


def test_drafting_layers_take_their_time_weights_and_kv():
    use = drafting("Llama-3.1-70B", chances=[0.7], method="mtp", tokens=[2])
    both = table("Llama-3.1-70B", use, [0, 2])
    layer = draft_card(models()["Llama-3.1-70B"], use)
    alone = replace(table("Llama-3.1-70B", use, [0]), cards=(layer,), speculations=())
    batch = np.array([32.0])
    each = both.part_accelerators.host_per_sequence[0]

    def kernels(sequences):
        return decode_step_seconds(alone, sequences)[0] - host_step_seconds(alone)[0] - each * sequences

    drafted = kernels(3 * batch) + kernels(batch)  # what was verified, then one token each
    ngram = table("Llama-3.1-70B", drafting("Llama-3.1-70B", method="ngram"), [2])
    assert decode_step_seconds(both, batch)[1] == pytest.approx(decode_step_seconds(ngram, batch)[0] + drafted)
    # One of 80 layers, and a projection of 2·8192 × 8192: 0.855 G and 0.134 G weights of one byte over four cards.
    assert weight_bytes(both)[1] - weight_bytes(both)[0] == pytest.approx(0.99e9 / 4, rel=0.01)
    room = kv_capacity_bytes(both)
    assert room[0] - room[1] == pytest.approx(0.99e9, rel=0.01)
    per_token = kv_bytes(both, np.array([1000.0]))[:, 0]
    assert per_token[1] / per_token[0] == pytest.approx(81 / 80)
    streamed = decode_weight_bytes(both, np.array([4.0]))[:, 0]
    head = 128256 * 8192 * 2.0
    assert streamed[1] - streamed[0] == pytest.approx(2 * (0.99e9 + head), rel=0.01)
    # The layer computes prompts too.
    whole = prefill_seconds(both, np.array([2000.0]))[:, 0]
    assert 1 / 80 < whole[1] / whole[0] - 1 < 3 / 80


def test_a_draft_cost_is_a_share_of_the_models_own_pass():
    use = drafting("Llama-3.1-70B", draft_cost=0.1)
    free = drafting("Llama-3.1-70B", draft_cost=0.0)
    dear, cheap, plain = (table("Llama-3.1-70B", u, [k]) for u, k in ((use, 3), (free, 3), (use, 0)))
    batch = np.array([16.0])
    own = decode_step_seconds(plain, batch)[0] - host_step_seconds(plain)[0]
    own -= plain.part_accelerators.host_per_sequence[0] * batch
    more = decode_step_seconds(dear, batch)[0] - decode_step_seconds(cheap, batch)[0]
    assert more == pytest.approx(3 * 0.1 * own)


def test_tables_without_drafts_are_as_they_were():
    use = drafting("Llama-3.1-70B")
    both, batch = table("Llama-3.1-70B", use, [0, 3]), np.array([1.0, 100.0])
    alone = table("Llama-3.1-70B", None, [0])
    for of in (decode_step_seconds, decode_attention_seconds, kv_bytes, decode_flops):
        assert np.array_equal(of(both, batch)[0], of(alone, batch)[0])


# ---- the decision


def flips(rate, tpot, acceptance=(0.5, 0.4, 0.3)):
    """The plan of one task on H200s of which each is a server."""
    data = {
        "kind": "procurement",
        "name": "flip",
        "objective": "cost_per_hour",
        "models": {
            "llama": {
                "card": "Llama-3.1-8B",
                "weights": ["fp8"],
                "speculation": {"method": "ngram", "draft_tokens": 3, "acceptance": list(acceptance)},
            }
        },
        "tasks": [
            {
                "name": "chat",
                "rate": f"{rate}/s",
                "models": ["llama"],
                "context": 200,
                "output": 2000,
                "slo": {"ttft": {"p95": "5 s"}, "tpot": {"p95": tpot}},
            }
        ],
        "hardware": {"h200": {"accelerator": "h200-sxm", "server": {"accelerators": 1}, "price": "2.5 $/h"}},
        "options": {"disaggregation": "never", "time_limit": "60 s"},
    }
    problem = problem_from_data(data)
    solution = solve(problem)
    assert check(problem, solution).ok
    return solution


def test_drafts_pay_in_small_batches_and_cost_in_large_ones():
    """By hand on one H200 (Llama-3.1-8B in FP8, 3 n-gram drafts accepted by 50, 40 and 30 %: 1.76 tokens a step).

    A lone sequence's step reads 8 GB whatever it writes: 4.6 ms with and without drafts, so 4 ms a token are out of
    reach without them, and 2.6 ms with them. With the 256 sequences that an engine takes at most, a step takes 11.9 ms,
    and 22.8 ms with four rows of each: 1.76 tokens come 9 % slower then.
    """
    assert expected_tokens([0.5, 0.4, 0.3]) == pytest.approx(1.76)
    card, use = "Llama-3.1-8B", drafting("Llama-3.1-8B", chances=[0.5, 0.4, 0.3], method="ngram")
    both = table(card, use, [0, 3], tp=1)
    lone, context = decode_step_seconds(both, np.ones(1))[:, 0], np.array([700.0])
    assert lone[0] == pytest.approx(lone[1], rel=0.01)
    assert lone[0] > 4e-3 > lone[1] / 1.76
    large = decode_step_seconds(both, np.array([256.0]))[:, 0]
    large += 256 * decode_attention_seconds(both, context)[:, 0]
    assert large == pytest.approx([11.9e-3, 22.8e-3], rel=0.01)
    assert large[1] / 1.76 > 1.08 * large[0]
    assert [pool.speculation is not None for pool in flips(0.02, "4 ms").fleet] == [True]
    plain = flips(400, "60 ms").fleet
    assert [pool.speculation for pool in plain] == [None]
    assert plain[0].batch > 200


def test_drafts_that_are_never_accepted_are_not_taken():
    assert not any(pool.speculation for pool in flips(400, "60 ms", acceptance=[0.0]).fleet)


def test_the_example_drafts_where_its_page_says():
    problem = load_problem(ROOT / "problems" / "speculation.yaml")
    solution = solve(problem)
    assert solution.status == "optimal"
    assert check(problem, solution).ok
    uses = {route.task: pool.speculation for route in solution.routing for pool in solution.fleet
            if pool.pool == route.decode_pool}  # fmt: skip
    assert uses["reports"] is None
    assert uses["assistant"] is not None
    assert uses["assistant"].tokens_per_step == pytest.approx(expected_tokens([alike(2.88, 7)] * 3))


def test_a_plan_that_claims_other_drafts_is_refused():
    problem = load_problem(ROOT / "problems" / "speculation.yaml")
    solution = solve(problem)
    k, pool = next((k, pool) for k, pool in enumerate(solution.fleet) if pool.speculation is not None)
    for changed in (None, pool.speculation.model_copy(update={"draft_tokens": 5})):
        fleet = list(solution.fleet)
        fleet[k] = pool.model_copy(update={"speculation": changed})
        assert not check(problem, solution.model_copy(update={"fleet": tuple(fleet)})).ok


# ---- the problem file


def errors_of(models_, task=None):
    data = {
        "kind": "procurement", "name": "x", "models": models_, "tasks": [
            {"name": "a", "rate": "1/s", "models": list(models_), "context": 1000, "output": 100} | (task or {})
        ], "hardware": {"h": {"accelerator": "h200-sxm", "price": "2 $/h"}},
    }  # fmt: skip
    with pytest.raises(ProblemError) as caught:
        resolve(problem_from_data(data))
    return str(caught.value)


def test_faults_are_said_with_their_field():
    llama = {"card": "Llama-3.1-8B"}
    text = errors_of({"m": llama | {"speculation": {"method": "mtp", "draft_tokens": 2}}})
    assert "models.m.speculation" in text
    assert "acceptance by position, or accepted_length" in text
    text = errors_of({"m": llama | {"speculation": {"method": "ngram", "draft_tokens": 2, "accepted_length": 4}}})
    assert "at most 3" in text
    text = errors_of({"m": llama | {"speculation": {"method": "draft-model", "acceptance": [0.5]}}})
    assert "draft names a model card" in text
    text = errors_of({"m": llama | {"speculation": {"method": "draft-model", "acceptance": [0.5], "draft": "Llama"}}})
    assert "models.m.speculation.draft" in text
    text = errors_of({"m": llama | {"speculation": {"method": "eagle3", "draft_tokens": 40}}})
    assert "draft_tokens" in text
    text = errors_of(
        {"m": llama | {"speculation": {"method": "eagle3", "draft_tokens": 2}}},
        {"speculation": {"accepted_length": 3.5}},
    )
    assert "tasks[0].speculation" in text or "tasks.a.speculation" in text


def test_published_acceptance_is_of_known_models_with_a_source():
    for record in acceptance_records().values():
        assert set(record.models) <= set(models())
        assert record.source
        assert record.date


def test_a_length_published_for_short_chains_says_nothing_of_longer_ones():
    card = models()["DeepSeek-V3"]
    one, two = (speculation(ModelSpeculation(method="mtp", draft_tokens=k), card) for k in (1, [1, 2]))
    assert one.acceptance == (0.85,)
    assert two.acceptance == pytest.approx((alike(3.09, 7),) * 2)
    assert speculation(ModelSpeculation(method="mtp", draft_tokens=2), models()["DeepSeek-R1"]) is None


def test_a_task_has_its_own_acceptance():
    problem = load_problem(ROOT / "problems" / "speculation.yaml")
    candidates = build_candidates(resolve(problem), bounded=False)
    both = {calls[0].task.name: calls[0] for calls in candidates.calls}
    configurations = enumerate_configurations(candidates.instance, places_of(candidates.instance, []))
    drafts = configurations.table.take(np.flatnonzero(configurations.table.drafts > 0)[:1])
    assert accepted(drafts, both["reports"]).tokens == pytest.approx(1 + 0.45 + 0.45 * 0.40 + 0.45 * 0.40 * 0.35)
    assert accepted(drafts, both["assistant"]).tokens == pytest.approx(2.406, abs=1e-3)
    plain = configurations.table.take(np.flatnonzero(configurations.table.drafts == 0)[:1])
    assert accepted(plain, both["reports"]).tokens == 1.0


# ---- exports


@pytest.mark.parametrize(
    ("method", "more", "vllm", "sglang"),
    [
        ("mtp", {}, {"method": "mtp", "num_speculative_tokens": 3}, "EAGLE"),
        (
            "eagle3", {"checkpoint": "someone/draft"},
            {"method": "eagle3", "model": "someone/draft", "num_speculative_tokens": 3}, "EAGLE3",
        ),
        (
            "draft-model", {"draft": "Llama-3.1-8B"},
            {"method": "draft_model", "model": "meta-llama/Llama-3.1-8B", "num_speculative_tokens": 3}, "STANDALONE",
        ),
        ("ngram", {}, {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}, "NGRAM"),
    ],
)  # fmt: skip
def test_engines_are_told_in_their_own_words(method, more, vllm, sglang):
    problem = load_problem(ROOT / "problems" / "speculation.yaml")
    given = {"method": method, "draft_tokens": 3, "acceptance": [0.8, 0.7, 0.6], "draft_cost": 0.01}
    llama = problem.models["llama"].model_copy(update={"speculation": ModelSpeculation(**given, **more)})
    problem = problem.model_copy(update={"models": {"llama": llama}, "tasks": problem.tasks[:1]})
    solution, instance = solve(problem), resolve(problem)
    worker = workers(solution, instance)[0]
    assert (worker.method, worker.draft_tokens) == (method, 3)
    words = vllm_arguments(worker)
    assert json.loads(words[words.index("--speculative-config") + 1]) == vllm
    assert own_parser("vllm").parse_known_args(words)[1] == []
    words = sglang_arguments(worker)
    assert words[words.index("--speculative-algorithm") + 1] == sglang
    assert words[words.index("--speculative-num-draft-tokens") + 1] == "4"
    assert own_parser("sglang").parse_known_args(words)[1] == []
    assert "drafts 3 tokens a step" in deployment(solution, instance, "vllm")["README.md"]
