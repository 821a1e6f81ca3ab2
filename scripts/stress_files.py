"""Random problem files for `scripts/stress.py`: solved, checked, and challenged by SCIP to be refuted.

Files are small (a model or two, two or three parts, replicas of few accelerators), so that an answer at gap 0 takes a
second; what is drawn is every section of a file that changes the fleet problem.
"""

from __future__ import annotations

import json
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from disagreements import Finding, challenged
from random_fleets import Dice

from codesign.candidates.build import build_candidates
from codesign.check import check
from codesign.optimize.fleet import solve_fleet
from codesign.problem import Problem, ProblemError, resolve
from codesign.solution.build import build_solution

FILE_KINDS = (
    "modelled", "both phases", "periods", "growth", "scenarios", "split decode", "memory tiers", "purchase units",
    "existing servers", "n+1", "measured pools", "power and racks", "wide rates", "one pool",
)  # fmt: skip
LIMIT_S, CHALLENGE_S, SHRINK_S = 30.0, 15.0, 60.0
PARTS = {
    "a100": ("a100-80-sxm", 1.3), "h100": ("h100-sxm", 1.8), "h200": ("h200-sxm", 2.1), "b200": ("b200-sxm", 2.6),
    "l40s": ("l40s", 0.8), "l4": ("l4", 0.7), "rtx": ("rtx-pro-6000-se", 0.6), "mi300x": ("mi300x", 1.4),
}  # fmt: skip
MODELS = ("Llama-3.1-8B", "Qwen3-8B", "gpt-oss-20b", "Mistral-Nemo-12B")


def file_case(seed: int, i: int, kinds: tuple[str, ...]) -> tuple[str, Finding, str, tuple[float, float]]:
    """The kind of file `i`, what is found of it, its smallest form, and orders of rates and prices (not counted)."""
    kind = FILE_KINDS[i % len(FILE_KINDS)]
    document = random_file(Dice(seed * 10_000_000 + i), kind)
    finding = judged_file(document)
    text = ""
    if finding.what and finding.what not in ("undecided", "unproven"):
        _shrunk[finding.what] += 1
        if _shrunk[finding.what] <= 2:
            document, finding = smallest_file(document, finding)
        text = json.dumps(document, indent=1)  # JSON is YAML
    return f"file: {kind}", finding, text, (0.0, 0.0)


_shrunk: Counter[str] = Counter()


def judged_file(document: dict[str, Any]) -> Finding:
    """Solved as `codesign solve` does at gap 0, then judged by `fits`, SCIP and `check`."""
    start, wall = time.process_time(), time.monotonic()
    try:
        problem = Problem.from_dict(document)
        instance = resolve(problem, robust=bool(problem.scenarios))
    except ProblemError as error:
        return Finding("traceback (a file that is none)", str(error))
    try:
        candidates = build_candidates(instance)
        plan = solve_fleet(candidates.data, gap=0.0, time_limit=LIMIT_S, threads=1)
        seconds = {"build": 0.0, "optimize": 0.0}
        solution = build_solution(candidates, plan, "random", "codesign solve --gap 0", seconds)
        report = check(problem, solution)
    except Exception as error:
        return Finding(f"traceback ({type(error).__name__})", "".join(traceback.format_exception(error)[-2:]))
    spent, had_time = time.process_time() - start, time.monotonic() - wall < 0.8 * LIMIT_S
    finding = challenged(candidates.data, plan, spent, CHALLENGE_S, had_time)
    if not finding.what and not report.ok:
        words = [violation.what for violation in report.violations]
        return Finding("refused (check)", f"{words[:6]}", finding.ours, finding.right, finding.status, finding.seconds)
    return finding


def smallest_file(document: dict[str, Any], finding: Finding) -> tuple[dict[str, Any], Finding]:
    """What is left of a file when everything goes whose absence leaves the finding."""
    end = time.monotonic() + SHRINK_S
    going = True
    while going and time.monotonic() < end:
        going = False
        for smaller in _smaller(document):
            if time.monotonic() > end:
                break
            again = judged_file(smaller)
            if again.what == finding.what and again.what != "traceback (a file that is none)":
                document, finding, going = smaller, again, True
                break
    return document, finding


def _smaller(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The file without one of its sections, then without one entry of a section, then of a task or part."""
    optional = ("scenarios", "risk", "periods", "existing", "limits", "memory", "purchase_units", "redundancy", "site",
                "objective", "measured_pools", "options")  # fmt: skip
    for word in optional:
        if word in document:
            yield {key: value for key, value in document.items() if key != word}
    for word in ("tasks", "hardware", "limits", "scenarios", "existing", "measured_pools", "options", "site"):
        part = document.get(word)
        for key in range(len(part)) if isinstance(part, list) else list(part or {}):
            smaller = deepcopy(document)
            del smaller[word][key]
            yield smaller
    for word in ("tasks", "hardware"):
        part = document.get(word) or {}
        for key in range(len(part)) if isinstance(part, list) else list(part):
            for field in part[key]:
                smaller = deepcopy(document)
                del smaller[word][key][field]
                yield smaller


def random_file(dice: Dice, kind: str) -> dict[str, Any]:
    """A problem file as data."""
    return _Drawing(dice, kind).document()


class _Drawing:
    def __init__(self, dice: Dice, kind: str) -> None:
        self.dice, self.kind = dice, kind

    def on(self, kind: str, otherwise: float = 0.12) -> bool:
        return self.kind == kind or self.dice.chance(otherwise)

    def document(self) -> dict[str, Any]:
        dice = self.dice
        self.models = list(dict.fromkeys(dice.pick(*MODELS) for _ in range(dice.pick(1, 1, 2))))
        names = dict.fromkeys(dice.pick(*PARTS) for _ in range(dice.whole(2, 3)))
        if self.kind in ("split decode", "purchase units"):
            names = dict.fromkeys(dice.pick(("h100", "h200"), ("h200", "rtx"), ("b200", "l40s")))
        self.hardware = list(names)
        tasks = [self._task(t) for t in range(dice.pick(1, 1, 2))]
        found: dict[str, Any] = {
            "name": "random",
            "models": {name: {"card": name, "weights": [dice.pick("fp8", "bf16")]} for name in self.models},
            "tasks": tasks,
            "hardware": {name: self._hardware(name) for name in self.hardware},
            "options": self._options(),
        }
        if self.models == ["gpt-oss-20b"] or "gpt-oss-20b" in self.models:
            found["models"]["gpt-oss-20b"].pop("weights")
        if dice.chance(0.25):
            found["objective"] = dice.pick("power", "cost_per_task", "energy_per_task", "carbon_per_task")
        if self.on("memory tiers"):
            found["memory"] = self._memory()
        if self.on("purchase units") and len(self.hardware) > 1:
            price = f"{dice.between(1.0, 8.0):.2f} $/h"
            found["purchase_units"] = {"rack": {"servers": self.hardware[:2], "offers": {"rent": {"rent": price}}}}
        if self.on("existing servers"):
            servers = dice.whole(1, 6)
            found["existing"] = [{"hardware": self.hardware[-1], "servers": servers, "price": dice.pick(0, "0.3 $/h")}]
        if self.on("n+1"):
            found["redundancy"] = {"survive": "one-server"}
        if self.on("measured pools"):
            found["measured_pools"] = [self._pool(p, tasks) for p in range(dice.whole(1, 3))]
        limits = self._limits("existing" in found)
        if limits:
            found["limits"] = limits
        site = self._site()
        if site:
            found["site"] = site
        self._stages(found, tasks)
        return found

    def _task(self, number: int) -> dict[str, Any]:
        dice = self.dice
        chain = self.kind in ("memory tiers", "purchase units") or dice.chance(0.25)
        rate = dice.orders(-6, 4) if self.kind == "wide rates" else dice.orders(-1, 1.2)
        context = dice.pick(600, 2000, 8000, {"p50": 800, "p90": 3000})
        task: dict[str, Any] = {
            "name": f"task{number}",
            "rate": f"{rate:.6g}/s",
            "context": context,
            "output": dice.pick(100, 400, {"mean": 200}),
            "models": self.models if dice.chance(0.5) else self.models[:1],
            "slo": {
                "ttft": {"p95": dice.pick("500 ms", "1 s", "4 s")},
                "tpot": {"p95": dice.pick("30 ms", "60 ms", "150 ms")},
            },
        }
        if chain:
            task |= {"calls": dice.pick(2, 8, 20), "append": 300, "tool_wait": dice.pick("2 s", "20 s")}
            task["prefix"] = {"shared": dice.pick(0, 200), "reusable": dice.pick(0.7, 0.95), "ttl": "60 s"}
        if dice.chance(0.15):
            task["slo"].pop(dice.pick("ttft", "tpot"))
        return task

    def _hardware(self, name: str) -> dict[str, Any]:
        dice = self.dice
        part, price = PARTS[name]
        size = dice.pick(1, 1, 2, 4)
        if self.kind == "wide rates" and dice.chance(0.5):
            price = dice.orders(-4, 3)
        found: dict[str, Any] = {"accelerator": part, "server": {"accelerators": size}}
        offers: dict[str, Any] = {"rent": {"rent": f"{price * dice.between(0.7, 1.4):.4g} $/h"}}
        if dice.chance(0.3):
            offers["reserved"] = {"rent": f"{price * 0.6:.4g} $/h", "min": size * dice.whole(2, 4)}
        if dice.chance(0.2):
            offers["own"] = {"capital": f"{dice.whole(5, 40)}000 $", "hosting": "0.2 $/h"}
        if dice.chance(0.2):
            offers["rent"]["max"] = size * dice.whole(1, 6)
        return found | {"offers": offers}

    def _options(self) -> dict[str, Any]:
        dice = self.dice
        found: dict[str, Any] = {"max_replica_accelerators": dice.pick(1, 1, 2), "disaggregation": "never"}
        if self.on("both phases", 0.2) or self.kind == "purchase units":
            found["disaggregation"] = dice.pick("decide", "always")
        if self.kind == "split decode":
            found |= {"split_decode": "decide", "disaggregation": "always", "max_replica_accelerators": 3}
        if self.on("one pool"):
            found["split_tasks"] = False
        return found

    def _memory(self) -> dict[str, Any]:
        dice = self.dice
        tier: dict[str, Any] = {"tier": "ddr5-rdimm", "price": f"{dice.between(2, 20):.2f} $/GB", "module": "64 GB"}
        if dice.chance(0.6):
            tier["max_per_server"] = dice.pick("128 GB", "1 TB")
            if dice.chance(0.4):
                tier["included_per_server"] = "64 GB"
        if dice.chance(0.3):
            tier["max_modules"] = dice.whole(1, 20)
        if dice.chance(0.3):
            tier["power"] = "8 W"
        return {"dram": tier}

    def _pool(self, number: int, tasks: list[dict[str, Any]]) -> dict[str, Any]:
        dice = self.dice
        rates = {task["name"]: f"{dice.orders(-1, 1.5):.4g}/s" for task in tasks if dice.chance(0.8)}
        return {
            "name": f"pool{number}",
            "accelerator": f"part{number}",
            "accelerators_per_replica": dice.pick(1, 4),
            "cost": f"{dice.between(0.5, 8):.3f} $/h",
            "power": f"{dice.pick(0, 300, 900)} W",
            "max_rate": rates or {tasks[0]["name"]: "1/s"},
        }

    def _limits(self, existing: bool) -> dict[str, Any]:
        dice = self.dice
        found: dict[str, Any] = {}
        if dice.chance(0.3):
            found["inventory"] = {dice.pick(*self.hardware): dice.whole(0, 12)}
        if dice.chance(0.15):
            found["max_designs"] = dice.whole(1, 3)
        if dice.chance(0.15):
            found["vendors"] = 1
        if existing and dice.chance(0.7):
            found["churn"] = {"servers": dice.pick("0%", "50%", "80%")}
        if dice.chance(0.2):
            found["budget"] = {"cost_per_hour": f"{dice.orders(0, 2.5):.4g} $/h"}
            if dice.chance(0.5):
                found["budget"]["capital"] = f"{dice.whole(10, 500)}000 $"
        return found

    def _site(self) -> dict[str, Any]:
        dice = self.dice
        found: dict[str, Any] = {}
        if self.on("power and racks"):
            found["power"] = f"{dice.orders(0, 2):.4g} kW"
        if dice.chance(0.3):
            found |= {"pue": dice.pick(1.0, 1.4), "electricity": dice.pick("0 $/kWh", "0.3 $/kWh")}
        return found

    def _stages(self, found: dict[str, Any], tasks: list[dict[str, Any]]) -> None:
        dice = self.dice
        name = tasks[0]["name"]

        def change() -> dict[str, Any]:
            return {f"tasks.{name}.rate": f"{dice.orders(-1, 1.5):.4g}/s"}

        if self.kind == "periods":
            hours = dice.whole(4, 16)
            found["periods"] = {
                "day": {"hours": f"{hours} h/day"},
                "night": {"hours": f"{24 - hours} h/day", "scale": dice.pick(0.1, 0.5, 1.5)},
            }
            if dice.chance(0.5):
                found["periods"]["night"]["set"] = change()
            if dice.chance(0.4):
                part = found["hardware"][self.hardware[0]]["offers"]
                part["spot"] = {"rent": "0.5 $/h", "periods": [dice.pick("day", "night")]}
        elif self.kind == "growth":
            found["periods"] = {
                "first": {"lasts": "1 year"},
                "second": {"lasts": dice.pick("1 year", "2 years"), "scale": dice.pick(1.5, 3.0)},
            }
        elif self.kind == "scenarios":
            found["scenarios"] = [{"name": "more", "set": change()}]
            if dice.chance(0.4):
                found["scenarios"].append({"name": "dear", "set": {"site.electricity": "0.9 $/kWh"}})
            if dice.chance(0.6):
                measure = dice.pick("expected", "worst-case", "cvar")
                found["risk"] = {"measure": measure} | ({"level": 0.6} if measure == "cvar" else {})
