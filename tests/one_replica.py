"""Colocated replicas, one or several, under Poisson arrivals of one task: their plan, and its simulation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.flows import Admission, CallFlow
from codesign.candidates.lengths import TaskCalls
from codesign.check.calls import Calls
from codesign.check.plan import ModelledPool, ModelledRoute, Plan
from codesign.performance import PRECISIONS, ConfigurationTable
from codesign.problem import Problem, resolve
from codesign.simulate.arrivals import Arrivals
from codesign.simulate.components import build, components
from codesign.simulate.fleet import RECORD
from codesign.simulate.gaps import Told
from codesign.simulate.statistics import percentile
from codesign.solution.schema import Parallelism, Pool, Precision, Route, Utilization


@dataclass(frozen=True)
class Replica:
    """A replica, and its calls, beside others of the same."""

    card: str
    part: str
    precision: str
    tp: int
    ep: int
    dp: int
    chunk: int
    rate: float
    context: object
    output: object
    replicas: int = 1

    @property
    def calls_per_s(self) -> float:
        """Of all replicas."""
        return self.rate * self.replicas

    def plan(self) -> Plan:
        """Its plan: one pool, one route."""
        problem = Problem.from_dict(
            {
                "kind": "procurement",
                "models": {"m": {"card": self.card}},
                "tasks": [
                    {
                        "name": "t", "rate": f"{self.calls_per_s}/s", "context": self.context, "output": self.output,
                        "models": ["m"],
                        "slo": {"ttft": {"p95": "9 s"}, "tpot": {"p95": "9 s"}, "itl": {"p99": "9 s"}},
                    }
                ],
                "hardware": {"h": {"accelerator": self.part, "server": {"accelerators": 8}, "price": "2 $/h"}},
                "options": {"disaggregation": "never", "max_sequences": 512},
            }
        )  # fmt: skip
        instance = resolve(problem)
        option, model, task = instance.hardware[0], instance.models[0], instance.tasks[0]
        formats = self.precision.split("/")
        entry = Pool(
            pool="p", group="g", period="all", role="colocated", hardware="h", accelerator=self.part, model="m",
            precision=Precision(**dict(zip(("weights", "activations", "kv"), formats, strict=True))),
            parallelism=Parallelism(tp=self.tp, pp=1, ep=self.ep, dp=self.dp), batch=None, prefill_chunk=self.chunk,
            step_limit_s=None, step_time_s=None, replicas=self.replicas,
            accelerators=self.tp * self.dp * self.replicas, cost_per_hour=0.0, power_w=0.0,
            utilization=Utilization(), binding="busy", calibration="", expected_error=None,
        )  # fmt: skip
        table = ConfigurationTable(
            (option.accelerator,), (model.card,), [0], [0], *([PRECISIONS.index(word)] for word in formats),
            [self.tp], [1], [self.ep], [self.dp],
        )  # fmt: skip
        pool = ModelledPool(entry, option, model, table)
        variant = task.variants[0]
        route = Route(
            period="all", task="t", variant=variant.name, kv_policy="drop", prefill_pool="p", decode_pool="p",
            calls_per_s=self.calls_per_s,
        )  # fmt: skip
        calls = Calls.of(task, variant, model.card, "drop", 0.0, self.calls_per_s)
        return Plan(instance, None, {"p": pool}, {}, (ModelledRoute(route, calls, pool, pool, None),), ())

    def flow(self, plan: Plan) -> CallFlow:
        """The same calls as the planner has them."""
        calls = plan.routes[0].calls
        own = TaskCalls(calls.task, calls.variant, calls.population, 0.0, 0.0, 0.0)
        return CallFlow(0, own, 0, "fp8", "colocated", "drop", "", np.inf, np.inf, np.inf, Admission())


@dataclass(frozen=True)
class Seen:
    """What calls saw in a simulation: seconds."""

    step: float
    """Mean, over tokens."""
    tpot: float
    """95th percentiles."""
    ttft: float
    gaps: Told
    """Between tokens."""


def together(replicas: Sequence[Replica]) -> Plan:
    """The plan of one replica, the first of these, that serves the calls of all."""
    plans = [replica.plan() for replica in replicas]
    pool, tasks, routes = plans[0].routes[0].prefill, [], []
    for i, plan in enumerate(plans):
        task, route = replace(plan.instance.tasks[0], name=f"t{i}"), plan.routes[0]
        tasks.append(task)
        entry = route.entry.model_copy(update={"task": task.name})
        routes.append(ModelledRoute(entry, replace(route.calls, task=task), pool, pool, None))
    return Plan(replace(plans[0].instance, tasks=tuple(tasks)), None, {"p": pool}, {}, tuple(routes), ())


def simulated(plan: Plan, seconds: float, seed: int) -> list[Seen]:
    """What the calls of each route see in so many seconds, the first tenth of which does not count."""
    fleet = build(plan, components(plan)[0], seconds, seed, Arrivals())
    outcome = fleet.run(seconds, 10)
    records = dict(zip(RECORD, outcome.records.T, strict=True))
    seen = []
    for i in range(len(plan.routes)):
        counts = (records["start"] > 0.1 * seconds) & (records["route"] == i)
        found = {name: values[counts] for name, values in records.items()}
        gaps = outcome.gaps[(outcome.gaps[:, 0] > 0) & (outcome.gaps[:, 1] == i)]
        several = found["output"] > 1
        decoding, tokens = (found["end"] - found["first"])[several], found["output"][several] - 1
        seen.append(
            Seen(
                step=float(decoding.sum() / tokens.sum()),
                tpot=percentile(decoding / tokens, 0.95),
                ttft=percentile(found["first"] - found["start"], 0.95),
                gaps=Told.of(gaps[:, [0, 2, 3]], 10),
            )
        )
    return seen
