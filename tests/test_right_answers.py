"""Small problems whose right answer is known by hand: each was once answered wrongly, as optimal or as infeasible."""

import itertools
from dataclasses import replace

import numpy as np
import pyomo.environ as pyo
import pytest
from scipy.special import ndtr

from codesign import check, explain, solve
from codesign.candidates.build import build_candidates
from codesign.candidates.flows import chain_moments, task_latency_probability
from codesign.candidates.lengths import task_calls
from codesign.explanation.prices import _of_commodities
from codesign.export.formats import unique_names
from codesign.export.milp import _names as milp_names
from codesign.performance.profile import EngineProfile, write_profile
from codesign.problem import Problem, ProblemError, resolve
from codesign.solution import Solution
from codesign.solution.labels import told_apart

H200 = {"h200": {"accelerator": "h200-sxm", "price": "3 $/h"}}


def problem(task, hardware=H200, model=None, **options):
    """One model, tasks that differ from a common one, one hardware."""
    tasks = [task] if isinstance(task, dict) else task
    common = {"name": "a", "rate": "1/s", "models": ["m"], "calls": 1, "context": 2000, "output": 100}
    return Problem.from_dict(
        {
            "kind": "procurement",
            "models": {"m": model or {"card": "Llama-3.1-70B"}},
            "tasks": [common | each for each in tasks],
            "hardware": hardware,
            "options": {"max_replica_accelerators": 4, "gap": "1%", "time_limit": "30 s"} | options,
        }
    )


def solved(stated):
    """The solution of a problem, once the checker has accepted it."""
    found = solve(stated)
    report = check(stated, found)
    assert report.ok, report.violations
    return found


# ---- tools run between calls ------------------------------------------------------------------------------------


def latency(**task):
    return problem({"slo": {"task_latency": {"p95": "30 s"}}} | task)


def test_no_tool_runs_after_the_only_call():
    wait = {"mean": "5 s", "cv": 12}
    plans = [solved(latency(tool_wait=wait)), solved(latency())]
    assert [plan.objective.value for plan in plans] == pytest.approx([24.0, 24.0])
    first, second = (plan.tasks[0].slo[0].achieved for plan in plans)
    assert first == pytest.approx(second)


def some_calls(**task):
    instance = resolve(latency(**task))
    cards = {model.name: model.card for model in instance.models}
    return task_calls(instance.tasks[0], cards)[0]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_moments_of_a_chain_by_hand(count):
    calls = some_calls(calls=count, tool_wait={"mean": "5 s", "cv": 12}, output={"mean": 100, "cv": 0.5})
    mean, deviation = chain_moments(calls, count, 3.0, 0.25)
    assert mean == pytest.approx(3.0 * count + 5.0 * (count - 1))
    assert deviation**2 == pytest.approx(0.25 * count + 60.0**2 * (count - 1))
    # TTFT of 1 ± 0.3 s and 100 ± 50 tokens of 20 ms: 3 s a call.
    middle, spread = mean, np.sqrt(count * (0.3**2 + (50 * 0.02) ** 2) + 60.0**2 * (count - 1))
    found = task_latency_probability(calls, 1.0, 0.3, 0.02, 30.0)
    assert found == pytest.approx(ndtr((30.0 - middle) / spread), rel=1e-9)


def test_a_mixture_of_chains_has_a_wait_less_than_calls_in_each():
    calls = some_calls(calls=4, tool_wait={"mean": "5 s", "cv": 1})
    mixed = replace(calls.population, calls_values=np.array([1.0, 4.0]), calls_weights=np.array([0.5, 0.5]))
    calls = replace(calls, population=mixed)
    one = ndtr((6.0 - 3.0) / 0.3)  # nothing waits
    four = ndtr((6.0 - (4 * 3.0 + 3 * 5.0)) / np.sqrt(4 * 0.3**2 + 3 * 5.0**2))
    assert task_latency_probability(calls, 1.0, 0.3, 0.02, 6.0) == pytest.approx(0.5 * one + 0.5 * four)


def test_planner_and_checker_agree_on_chains_with_long_waits():
    wait = {"mean": "4 s", "cv": 1}
    for calls in (1, 2, 3):
        solved(latency(calls=calls, tool_wait=wait))  # `check` recomputes what is reported


# ---- grids reach below and above what anything needs -------------------------------------------------------------

SMALL = {"card": "Llama-3.1-8B"}
B200 = {"b200": {"accelerator": "b200-sxm", "price": "3 $/h"}}


def short(slo, hardware=B200, model=SMALL, rate="1/s", context=500, **options):
    return problem({"context": context, "rate": rate, "slo": slo}, hardware, model, **options)


def costs(metric, targets, **rest):
    """What each target of one SLO costs; all of them can be met."""
    return [solved(short({metric: {"p95": target}}, **rest)).objective.value for target in targets]


@pytest.fixture
def in_process(tmp_path):
    """Options for an engine that is called in its own process: no server adds to a TTFT."""
    path = tmp_path / "engine.yaml"
    write_profile(EngineProfile(name="in process", first_token_s=0.0), path)
    return {"profiles": [str(path)]}


def test_steps_of_a_fast_engine():
    # An empty batch steps in 2.9 ms there, and grids once began at 5 ms.
    found = costs("tpot", ["3.2 ms", "3.5 ms", "4 ms", "4.5 ms", "5 ms", "10 ms"], max_replica_accelerators=8)
    assert found == sorted(found, reverse=True)
    assert found[2] == pytest.approx(24.0)


@pytest.mark.parametrize(("disaggregation", "shortest"), [("never", "10 ms"), ("always", "14 ms")])
def test_a_prompt_of_milliseconds(disaggregation, shortest, in_process):
    # Transfers and prompts take 7 to 8 ms, admission 1.5 steps of 3 ms; once waits took 4 ms or more, admission 50 ms.
    targets = [shortest, "20 ms", "60 ms", "240 ms", "260 ms"]
    found = costs("ttft", targets, disaggregation=disaggregation, **in_process)
    assert found == sorted(found, reverse=True)


def test_latencies_of_a_fast_engine(in_process):
    # 100 tokens of 2.9 ms and a prompt of 8 ms; levels once began at 8 ms a token and 50 ms a prompt.
    found = costs("task_latency", ["385 ms", "600 ms", "1 s", "2 s"], disaggregation="always", **in_process)
    assert found == sorted(found, reverse=True)


@pytest.mark.parametrize("disaggregation", ["never", "always"])
@pytest.mark.parametrize("slo", [{}, {"tpot": {"p95": "4 s"}}, {"task_latency": {"p95": "20 min"}}])
def test_steps_of_seconds(disaggregation, slo):
    # 70 GB of weights at 30 GB/s: no limit of a step, or level, was above 1.6 s.
    slow = {"slow": {"accelerator": "h100-sxm", "memory_bandwidth": "30 GB/s", "price": "2 $/h"}}
    fp8 = {"card": "Llama-3.1-70B", "weights": ["fp8"]}
    rest = {"disaggregation": disaggregation, "max_replica_accelerators": 1}
    solved(short(slo, slow, fp8, "0.01/s", **rest))


def test_a_network_slower_than_any_level(in_process):
    # 1.3 GB of KV over 1 GB/s: a commodity once counted on 25 GB/s at least.
    slow = {"wire": {"accelerator": "h100-sxm", "scaleout_bandwidth": "1 GB/s", "price": "2 $/h"}}
    rest = {"disaggregation": "always", "max_replica_accelerators": 1, "context": 20000} | in_process
    found = costs("ttft", ["2 s", "5 s"], hardware=slow, **rest)
    assert found == sorted(found, reverse=True)


# ---- names are the user's own: nothing is read out of them -------------------------------------------------------

ODD = ["decode", "prefill", "colocated", "both", "serve", "drop"]
ODD += ["a|b", "a:b", "a b", "a.b", "dc1/h", "tier:x", "a+b", "@="]


def named(task="t", variant="v", part="h", offer="o", model="m", tier="k", period="p", other="q", pool="w"):
    """A day-and-night problem with everything that has a name."""
    return Problem.from_dict(
        {
            "kind": "procurement",
            "models": {model: {"card": "Llama-3.1-8B", "weights": ["fp8"]}},
            "tasks": [
                {
                    "name": task,
                    "rate": "2/s",
                    "calls": 3,
                    "context": 4000,
                    "append": 400,
                    "output": 200,
                    "tool_wait": {"mean": "20 s"},
                    "prefix": {"reusable": 0.8, "ttl": "60 s"},
                    "variants": [{"name": variant, "model": model}],
                    "slo": {"ttft": {"p95": "1 s"}, "tpot": {"p95": "20 ms"}},
                },
                {"name": f"{task}2", "rate": "3/s"},
            ],
            "hardware": {
                part: {
                    "accelerator": "h200-sxm",
                    "server": {"accelerators": 2},
                    "offers": {offer: {"rent": "3 $/h", "min": 4, "max": 20}},
                }
            },
            "existing": [{"hardware": part, "servers": 1, "price": "1 $/h"}],
            "memory": {tier: {"tier": "ddr5-rdimm", "price": "10 $/GB", "module": "64 GB", "max_per_server": "1 TB"}},
            "measured_pools": [
                {
                    "name": pool,
                    "accelerator": part,
                    "accelerators_per_replica": 1,
                    "cost": "2 $/h",
                    "max_rate": {f"{task}2": "4/s"},
                }
            ],
            "periods": {period: {"hours": "10 h/day"}, other: {"hours": "14 h/day", "scale": 0.4}},
            "limits": {"inventory": {part: 16}, "churn": {"servers": "100%"}},
            "options": {"max_replica_accelerators": 2, "disaggregation": "always", "gap": "1%", "time_limit": "30 s"},
        }
    )


@pytest.fixture(scope="module")
def plainly_named():
    return solved(named())


def check_named(stated, plain):
    """The plan of a problem that differs in names alone."""
    found = solved(stated)
    assert found.objective.value == pytest.approx(plain.objective.value, rel=0.01)
    assert len({pool.pool for pool in found.fleet}) == len(found.fleet)
    assert found.totals.accelerators.keys() >= {"h200-sxm"}
    assert sum(found.totals.servers.values()) == sum(line.count for line in found.purchase if line.kind != "module")
    return found


@pytest.mark.parametrize("name", ["decode", "a|b", "dc1/h"])
@pytest.mark.parametrize("kind", ["task", "variant", "part", "offer", "model", "tier", "period", "pool"])
def test_a_name_changes_no_answer(kind, name, plainly_named):
    check_named(named(**{kind: name}), plainly_named)


@pytest.mark.parametrize("name", ODD)
def test_names_change_no_answer(name, plainly_named):
    kinds = ("task", "variant", "part", "offer", "model", "tier", "period")
    stated = named(**dict.fromkeys(kinds, name), pool=f"{name}-pool")
    found = check_named(stated, plainly_named)
    assert Solution.model_validate_json(found.to_json()) == found
    assert explain(stated).feasible


def test_variants_named_like_phases():
    task = {"rate": "3/s", "calls": 5, "context": 4000, "output": 300}
    task |= {"models": None}
    task |= {"slo": {"ttft": {"p95": "0.5 s"}, "tpot": {"p95": "20 ms"}}}
    named = [task | {"variants": [{"name": name, "model": "m"}]} for name in ("plain", "decode", "prefill")]
    plain, *others = (solved(problem(each, disaggregation="always")).objective.value for each in named)
    assert others == pytest.approx([plain, plain])


def test_an_explanation_of_hardware_with_a_slash():
    task = {"rate": "3/s", "calls": 5, "context": 4000, "output": 300}
    task |= {"slo": {"ttft": {"p95": "0.5 s"}, "tpot": {"p95": "20 ms"}}}
    offers = {"rent": {"rent": "3 $/h", "min": 17, "max": 20}}
    part = {"dc1/h200": {"accelerator": "h200-sxm", "server": {"accelerators": 8}, "offers": offers}}
    found = explain(problem(task, part, disaggregation="always"))
    assert "hardware.dc1/h200.offers.rent.max" in [conflict.limit for conflict in found.conflicts]


@pytest.mark.parametrize(
    ("hardware", "more"),
    [
        ({"a/b": "c", "a": "b/c"}, {}),
        ({"a+n": "x", "a": "x"}, {"links": {"n": {"link": "ib-ndr", "price": "1 $"}}}),
        ({"a": "x"}, {"measured_pools": [{"name": "a", "accelerator": "z", "cost": "1 $/h", "max_rate": {"t": 1}}]}),
        ({"a": "x"}, {"memory": {"a/x": {"tier": "ddr5-rdimm", "price": "10 $/GB", "module": "64 GB"}}}),
    ],
)
def test_names_that_would_be_one_on_a_purchase_are_refused(hardware, more):
    parts = {
        name: {"accelerator": "h200-sxm", "offers": {offer: {"rent": "3 $/h"}}} for name, offer in hardware.items()
    }
    for name in more.get("links", {}):
        parts["a"]["links"] = [name]
    data = {
        "models": {"m": {"card": "Llama-3.1-8B"}},
        "tasks": [{"name": "t", "rate": "1/s", "models": ["m"], "context": 500, "output": 100}],
        "hardware": parts,
    }
    with pytest.raises(ProblemError, match="name of two things"):
        Problem.from_dict(data | more)


def test_labels_are_told_apart():
    assert told_apart(["x", "y", "x", "x-1"]) == ["x-2", "y", "x-3", "x-1"]


def test_an_exported_milp_tells_names_apart():
    stated = named()
    data = build_candidates(resolve(stated)).data
    twins = replace(data.offers[0], name="a b"), replace(data.offers[0], name="a_b")
    offers = (*twins, *data.offers[2:])
    hardware = tuple(replace(h, name="h") for h in data.hardware)  # a name in several periods
    label = milp_names(replace(data, offers=offers, hardware=hardware))
    model = pyo.ConcreteModel()
    model.servers, model.bought = pyo.Var(range(len(offers))), pyo.Var(range(len(hardware)))
    found = [label(item) for family in (model.servers, model.bought) for item in family.values()]
    written = unique_names(found)  # as the file has them
    assert len(set(written)) == len(written) > 3


# ---- a pool holds the prefixes of the tasks that it serves ------------------------------------------------------

H100S = {"h100": {"accelerator": "h100-sxm", "price": "2 $/h", "server": {"accelerators": 2}}}
LARGE = {"card": "Llama-3.1-70B", "weights": ["fp8"], "kv": ["bf16"]}
PREFIX_BYTES = 40_000 * 2 * 80 * 8 * 128 * 2
"""Keys and values of 40K tokens: 80 layers, 8 heads of 128, 2 bytes."""


def prompted(count, more=(), **options):
    """Tasks that share a system prompt of 40K tokens each, beside others."""
    prefix = {"context": 42000, "append": 2000, "prefix": {"shared": "40K"}}
    common = {"rate": "0.2/s", "slo": {"ttft": {"p95": "20 s"}, "tpot": {"p95": "100 ms"}}}
    tasks = [{"name": f"t{i}"} | common | prefix for i in range(count)]
    rest = {"max_replica_accelerators": 2, "disaggregation": "never"} | options
    return problem([*tasks, *({"rate": "0.2/s"} | each for each in more)], H100S, LARGE, **rest)


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_tasks_with_prefixes_cost_no_more_than_each_alone(count):
    assert solved(prompted(count)).objective.value <= 4.0 * count + 1e-6


def test_columns_hold_the_prefixes_of_the_tasks_that_they_admit():
    """What the memory row takes of a call alone grows with the prefixes of those that may come as well."""
    candidates = build_candidates(resolve(prompted(4, [{"name": "bare"}])))
    tasks, used = candidates.data.tasks, {}
    for block in candidates.data.blocks:
        row = block.row_names.index("capacity")
        for i in range(len(block)):
            served = frozenset(tasks[candidates.data.flows[f].task] for f in block.flows[block.admissible[i]])
            for v in np.flatnonzero(block.admissible[i]):
                key = (int(block.group[i]), candidates.data.flows[block.flows[v]].task)
                used.setdefault(key, {}).setdefault(served, block.use.one(i)[row, v])
    served = {tasks for found in used.values() for tasks in found}
    assert served >= {frozenset({f"t{i}"}) for i in range(4)} | {frozenset({"bare"}), frozenset({"t0", "t1"})}
    assert max(served, key=len) == frozenset({"bare", "t0", "t1", "t2", "t3"})
    for found in used.values():
        for few, many in itertools.permutations(found, 2):
            if few < many and many - few != {"bare"}:
                assert found[few] < 1.03 * found[many]  # what mixes carry less is known to about as much


def test_prefixes_that_take_little_memory_add_no_columns():
    def columns(tokens):
        common = {"context": 4000, "prefix": {"shared": tokens}, "append": 500}
        tasks = [{"name": f"t{i}"} | common for i in range(3)]
        return build_candidates(resolve(problem(tasks, H100S, LARGE, disaggregation="never"))).data.columns

    assert columns(100) <= columns(50)


@pytest.mark.parametrize("disaggregation", ["never", "always"])
def test_a_task_without_a_prefix_needs_no_memory_for_others(disaggregation):
    # Five prefixes of 13 GB do not fit beside the weights: what they take is no concern of the sixth task.
    assert solved(prompted(6, [{"name": "bare"}], disaggregation=disaggregation)).fleet


def test_two_halves_hold_the_prefixes_of_their_tasks():
    parts = {"h100": H100S["h100"], "h200": {"accelerator": "h200-sxm", "price": "3 $/h"}}
    stated = prompted(6, disaggregation="always", split_decode="decide").replace({"hardware.h200": parts["h200"]})
    candidates = build_candidates(resolve(stated))
    sizes = set()
    for block, points in zip(candidates.data.blocks, candidates.points, strict=True):
        if points.role == "split-decode":
            sizes |= {len({candidates.data.flows[f].task for f in block.flows[row]}) for row in block.admissible}
    assert sizes == {1, 2, 3, 6}  # halves of halves


@pytest.mark.parametrize(
    ("periods", "scenarios"),
    [(["p, s", "p"], ["s"]), (["all", "s"], ["s"])],
)
def test_stages_that_would_have_one_name_are_refused(periods, scenarios):
    hours = {name: {"hours": "12 h/day"} for name in periods}
    changed = [{"name": name, "set": {"tasks.t.rate": "4/s"}} for name in scenarios]
    with pytest.raises(ProblemError, match="name of two stages"):
        Problem.from_dict(
            {
                "models": {"m": SMALL},
                "tasks": [{"name": "t", "rate": "1/s", "models": ["m"], "context": 500, "output": 100}],
                "hardware": H200,
                "periods": hours,
                "scenarios": changed,
            }
        )


def test_prices_know_no_commodity_that_better_hardware_alone_reaches():
    data = build_candidates(resolve(short({"ttft": {"p95": "1 s"}}, disaggregation="always"))).data
    first, *others = data.commodities
    closed = _of_commodities(data, others)
    for block, before in zip(closed.blocks, data.blocks, strict=True):
        of = np.array([data.flows[f].commodity for f in block.flows])
        assert not block.admissible[:, of == data.commodities.index(first)].any()
        assert np.array_equal(block.admissible[:, of != 0], before.admissible[:, of != 0])
