"""What plans buy beyond what simulation says is enough: random settings, planned, then made as small as they hold.

    python scripts/plans_against_simulator.py                        100 settings into solutions/simulated_plans
    python scripts/plans_against_simulator.py --settings 10 --seed 7 --resume DIR      others, in their own folder
    python scripts/plans_against_simulator.py --file 17              the problem file of setting 17

A setting is one task of single calls on one model and one part, served by colocated replicas or by pools of prefill
and decode.  Replicas have one size (the smallest power of two that leaves a third of the memory to the KV cache),
servers hold one of them, and the task has one pool for each phase (`split_tasks: false`), so that what a plan decides
is chunk and counts.  Rates are such that the plan has about the drawn number of replicas, never more than 32; they are
not such that these are full, so part of each ratio is rounding up (`by its rows`: what the plan would need in
fractions).  A setting without a plan (SLOs that the part cannot keep) is drawn again.

The least count is found by bisection with the first of three seeds; the two counts at its end are judged by the
majority of the three.  A run fails where the 95 % interval of a promised percentile lies above the promise, or fewer
calls finish than come (by 4 % and three deviations).  Of a disaggregated plan decode is made smaller first, beside the
planned prefill, then prefill beside the least decode; a plan that does not hold is first made larger in both.  Ratios
are of accelerators.

The run can be stopped at any time and goes on with the same --settings, --seed, --calls and --resume.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codesign import simulate, solve
from codesign.catalog.store import accelerators, models
from codesign.files import write_atomically
from codesign.problem import Problem, ProblemError
from codesign.simulate import SimulationReport
from codesign.solution import Solution
from codesign.workload.parameters import weight_bytes

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "solutions" / "simulated_plans"
ROLES = {"colocated": "never", "disaggregated": "always"}
"""What `options.disaggregation` says for each."""
PARTS = (
    "a100-80-sxm", "h100-sxm", "h200-sxm", "b200-sxm", "b300-sxm", "rtx-pro-6000-se", "l4", "l40s", "a10g", "mi300x",
    "mi355x", "gaudi3", "tpu-v6e", "trn2",
)  # fmt: skip
MODELS = (
    "Llama-3.1-8B", "Llama-3.1-70B", "Qwen3-8B", "Qwen3-32B", "Gemma-3-27B", "Mistral-Nemo-12B", "Mixtral-8x7B",
    "Qwen3-30B-A3B", "Qwen3-Next-80B-A3B", "Qwen3-235B-A22B", "gpt-oss-20b", "gpt-oss-120b", "MiniMax-M2", "GLM-4.5",
    "DeepSeek-V3", "Nemotron-3-Nano-30B-A3B",
)  # fmt: skip
SIZES = (1, 2, 4, 8)
"""Accelerators of a replica."""
MOST = 32
"""Replicas of a planned fleet."""
SEEDS = (11, 12, 13)
GAP, LIMIT_S = 0.02, 20.0
TOO_LARGE = 1.25
"""Ratio from which on a plan is named."""
BATCHES = ((0.0, 1.0), (1.0, 8.0), (8.0, 64.0), (64.0, math.inf))
ROUNDS = 6
"""Plans that a rate is looked for with."""
FILLING = 3
"""Times that a long call takes, until the batches of replicas that start empty are what they will be."""
BEHIND = 0.04, 3.0
"""Share, and deviations beyond it, by which fewer calls may finish than come."""
DRAWS = 40
"""Draws after which a setting is given up."""

Counts = tuple[int, ...]


@dataclass(frozen=True)
class Setting:
    """What is drawn: seconds, tokens."""

    role: str
    model: str
    weights: str
    part: str
    size: int
    """Accelerators of a replica."""
    context: tuple[int, int]
    """Median and 90th percentile."""
    output: tuple[int, int]
    ttft: tuple[str, float]
    """Percentile and target."""
    tpot: tuple[str, float]
    replicas: float
    """About so many in the plan."""

    def document(self, rate: float) -> dict[str, Any]:
        """The problem file at so many calls a second."""
        lengths = {
            name: {"p50": p50, "p90": p90} if p90 > p50 else p50
            for name, (p50, p90) in (("context", self.context), ("output", self.output))
        }
        slo = {name: {share: f"{target:g} s"} for name, (share, target) in (("ttft", self.ttft), ("tpot", self.tpot))}
        task = {"name": "t", "rate": f"{rate:g}/s", "models": ["m"], **lengths, "slo": slo, "on_overlong": "truncate"}
        server = {"accelerators": self.size}
        return {
            "kind": "procurement",
            "models": {"m": {"card": self.model, "weights": [self.weights], "kv": ["fp8"]}},
            "tasks": [task],
            "hardware": {"h": {"accelerator": self.part, "server": server, "price": "1 $/h"}},
            "options": {
                "disaggregation": ROLES[self.role], "split_tasks": False, "max_replica_accelerators": self.size,
                "threads": 1,
            },
        }  # fmt: skip

    def __str__(self) -> str:
        context, output = ("/".join(map(str, pair)) for pair in (self.context, self.output))
        promises = f"TTFT {self.ttft[0]} {self.ttft[1]:g} s, TPOT {self.tpot[0]} {1e3 * self.tpot[1]:g} ms"
        size = f"{self.size} × " if self.size > 1 else ""
        return f"{self.role}, {self.model} {self.weights} on {size}{self.part}, {context} → {output} tokens, {promises}"


def draw(seed: int, number: int, attempt: int = 0) -> Setting:
    """Setting `number` of a seed; the same in any process."""
    rng = np.random.default_rng([seed, number, attempt])

    def between(low: float, high: float) -> float:
        return float(np.exp(rng.uniform(np.log(low), np.log(high))))

    while True:
        model, part = str(rng.choice(MODELS)), str(rng.choice(PARTS))
        card = models()[model]
        weights = str(rng.choice(["fp8", "bf16"])) if card.native_precision == "bf16" else card.native_precision
        room = accelerators()[part].memory_capacity
        fits = [size for size in SIZES if weight_bytes(card, weights) <= 2 / 3 * size * room]
        if fits:
            break
    context, output = between(100, 16_000), between(20, 1_500)
    shares = ["p90", "p95", "p95", "p99"]
    return Setting(
        role=tuple(ROLES)[number % 2],
        model=model,
        weights=weights,
        part=part,
        size=fits[0],
        context=(round(context), round(context * rng.choice([1.0, between(1.3, 5.0)]))),
        output=(round(output), round(output * rng.choice([1.0, between(1.3, 4.0)]))),
        ttft=(str(rng.choice(shares)), float(f"{between(0.2, 8.0):.2g}")),
        tpot=(str(rng.choice(shares)), float(f"{between(0.008, 0.12):.2g}")),
        replicas=between(2.0, 30.0),
    )


def least(start: int, holds: Callable[[int, int], bool], most: int, seeds: tuple[int, ...] = SEEDS) -> int | None:
    """The least count of 1 to `most` that holds; None where none does.

    `holds(count, seed)` is a run.  Bisection with the first seed, from `start` on by fifths, since plans are near; then
    counts hold where most of the seeds say so, and the answer moves until it does and the count below does not.
    """
    fails, found, count = 0, most + 1, start
    while found - fails > 1:
        if holds(count, seeds[0]):
            found = count
        else:
            fails = count
        if found > most:  # nothing holds yet
            count = min(most, max(fails + 1, math.ceil(1.25 * fails)))
        elif not fails:
            count = max(1, min(found - 1, int(0.8 * found)))
        else:
            count = (fails + found) // 2
    if found > most:
        return None
    while not majority(found, holds, seeds):
        found += 1
        if found > most:
            return None
        fails = 0  # what is below was refuted by most seeds just now
    while found > 1 and fails and majority(found - 1, holds, seeds):
        found -= 1
    return found


def majority(count: int, holds: Callable[[int, int], bool], seeds: tuple[int, ...] = SEEDS) -> bool:
    """Whether a count holds in most of the seeds."""
    return 2 * sum(holds(count, seed) for seed in seeds) > len(seeds)


class Trials:
    """A planned setting, simulated with other counts; every run once."""

    def __init__(
        self, setting: Setting, problem: Problem, plan: Solution, calls: int, run: Callable[..., Any] = simulate
    ) -> None:
        self.setting, self.problem, self.plan, self.calls, self.run = setting, problem, plan, calls, run
        self.reports: dict[tuple[Counts, int], SimulationReport] = {}
        self.planned: Counts = tuple(pool.replicas for pool in plan.fleet)
        self.rate = sum(route.calls_per_s for route in plan.routing)
        near = {slo.metric: min(slo.target, 1.5 * slo.achieved) for slo in plan.tasks[0].slo}
        self.longest_s = near["ttft"] + setting.output[1] * near["tpot"]
        """About what a long call takes, with fewer replicas too."""

    def report(self, counts: Counts, seed: int) -> SimulationReport:
        """Of a run that counts so many calls after its warm-up, where they finish at all."""
        if (counts, seed) not in self.reports:
            seconds = self.calls / self.rate + FILLING * self.longest_s
            for _ in range(3):
                found = self.run(self.problem, resized(self.plan, counts), duration_s=seconds, seed=seed)
                if found.tasks[0].calls >= self.calls:
                    break
                seconds *= 1.5
            self.reports[counts, seed] = found
        return self.reports[counts, seed]

    def holds(self, counts: Counts, seed: int) -> bool:
        """Whether no promise is broken beyond doubt, and calls finish as fast as they come.

        Where the promised TTFT is long, a queue that grows without end has not reached it when the run is over.
        """
        found = self.report(counts, seed)
        task, (share, deviations) = found.tasks[0], BEHIND
        enough = task.offered * (1.0 - share - deviations / math.sqrt(max(task.calls, 1)))
        return bool(found.ok) and task.completed > enough

    def least(self) -> Counts | None:
        """The least counts; None where four times the plan does not do."""
        if len(self.planned) == 1:
            found = least(self.planned[0], lambda count, seed: self.holds((count,), seed), 4 * self.planned[0])
            return None if found is None else (found,)
        prefill, decode = self._enough()
        if not prefill:
            return None
        decode = least(decode, partial(self._beside, prefill), decode) or decode
        return least(prefill, lambda count, seed: self.holds((count, decode), seed), prefill) or prefill, decode

    def _beside(self, prefill: int, decode: int, seed: int) -> bool:
        return self.holds((prefill, decode), seed)

    def _enough(self) -> tuple[int, int]:
        """The plan, or as much more of both pools as most seeds ask for; zeros where four times do not do."""
        for share in (1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 4.0):
            prefill, decode = (math.ceil(share * count - 1e-9) for count in self.planned)
            if majority(decode, partial(self._beside, prefill)):
                return prefill, decode
        return 0, 0


def resized(plan: Solution, counts: Counts) -> Solution:
    """The plan with other counts of replicas, pool by pool."""
    fleet = []
    for pool, count in zip(plan.fleet, counts, strict=True):
        size = pool.accelerators // (pool.replicas + pool.spares)
        fleet.append(pool.model_copy(update={"replicas": count, "accelerators": size * (count + pool.spares)}))
    return plan.model_copy(update={"fleet": tuple(fleet)})


def planned(setting: Setting) -> tuple[dict[str, Any], Problem, Solution] | str:
    """Problem file, problem and plan at a rate that fills about so many replicas; else the status that it ends with.

    Pools stand in the order prefill, decode.
    """
    rate, kept = 1.0, None
    for _ in range(ROUNDS):
        rate = float(f"{rate:.3g}")
        document = setting.document(rate)
        try:
            problem = Problem.from_dict(document)
            plan = solve(problem, gap=GAP, time_limit_s=LIMIT_S)
        except ProblemError:
            return "refused"
        if not plan.fleet:
            return kept or plan.status
        fleet = tuple(sorted(plan.fleet, key=lambda pool: pool.role != "prefill"))
        plan = plan.model_copy(update={"fleet": fleet})
        replicas = sum(pool.replicas for pool in fleet)
        if len(fleet) != 1 + (setting.role == "disaggregated"):
            return f"{len(fleet)} pools"
        if replicas <= MOST:
            kept = document, problem, plan
            if abs(replicas - setting.replicas) <= max(1.0, 0.15 * setting.replicas):
                break
        # One replica may be almost idle: what it could still take says how far it is from the next.
        rate *= setting.replicas * (1.0 + max(0.0, plan.tasks[0].headroom or 0.0)) / replicas
    return kept or "too large"


def tried(seed: int, number: int, calls: int) -> dict[str, Any]:
    """What is found of a setting; seconds are those of a core."""
    began, passed = time.process_time(), []
    for attempt in range(DRAWS):
        setting = draw(seed, number, attempt)
        found = planned(setting)
        if not isinstance(found, str):
            break
        passed.append(found)
    else:
        return {"passed": passed, "seconds": round(time.process_time() - began, 1)}
    document, problem, plan = found
    trials = Trials(setting, problem, plan, calls)
    planning = time.process_time() - began
    fewest = trials.least()
    sizes = [pool.accelerators // pool.replicas for pool in plan.fleet]
    own = {str(seed): seen(trials.report(trials.planned, seed)) for seed in SEEDS}
    holds = {str(seed): trials.holds(trials.planned, seed) for seed in SEEDS}
    return {
        "setting": asdict(setting) | {"words": str(setting)},
        "passed": passed,
        "rate": document["tasks"][0]["rate"],
        "problem": document,
        "pools": [pooled(pool) for pool in plan.fleet],
        "planned": trials.planned,
        "headroom": rounded(plan.tasks[0].headroom),
        "least": fewest,
        "ratio": fewest and np.dot(sizes, trials.planned) / np.dot(sizes, fewest),
        "holds": holds,
        "own": own,
        "at_least": fewest and seen(trials.report(fewest, SEEDS[0])),
        "runs": len(trials.reports),
        "planning_s": round(planning, 1),
        "seconds": round(time.process_time() - began, 1),
    }


def pooled(pool: Any) -> dict[str, Any]:
    """What a plan says of a pool."""
    words = ("role", "replicas", "accelerators", "batch", "prefill_chunk", "step_time_s", "wait_s", "binding")
    return {word: rounded(getattr(pool, word)) for word in words} | {
        "parallelism": pool.parallelism.model_dump(),
        "utilization": rounded(pool.utilization.model_dump(exclude_none=True)),
    }


def seen(report: SimulationReport) -> dict[str, Any]:
    """What is kept of a run."""
    (task,) = report.tasks
    words = ("metric", "percentile", "target", "planned", "simulated", "low", "high", "ok")
    return {
        "ok": report.ok,
        "calls": task.calls,
        "slo": [{word: rounded(getattr(slo, word)) for word in words} for slo in task.slo],
        "suspects": [slo.suspect.reason for slo in task.slo if not slo.ok],
        "parts": rounded(task.parts.model_dump()),
        "planned_parts": rounded(task.planned_parts.model_dump()),
        "tpot_p50": rounded(task.tpot.p50),
        "batch": [rounded(pool.batch) for pool in report.pools],
        "busy": [rounded(pool.utilization.busy) for pool in report.pools],
        "capacity": [rounded(pool.utilization.capacity) for pool in report.pools],
        "restarted": task.restarted,
    }


def rounded(value: Any) -> Any:
    """Floats to four digits, so that a file of a hundred settings stays readable."""
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


# -- what it came to -----------------------------------------------------------------------------------------------


def table(known: dict[str, Any]) -> str:
    """Markdown: ratios by role, the plans that fail, and those that are too large."""
    done = {int(number): found for number, found in known["done"].items()}
    plans = {number: found for number, found in sorted(done.items()) if "setting" in found}
    asked, seconds = known["asked"], sum(found["seconds"] for found in done.values())
    again = sum(len(found["passed"]) for found in done.values())
    lines = [
        "# Plans against the simulator",
        "",
        f"`python scripts/plans_against_simulator.py --settings {asked['settings']} --seed {asked['seed']} --calls "
        f"{asked['calls']}`: {len(plans)} settings in {seconds:,.0f} s of one core ({seconds / max(1, len(done)):.0f} "
        f"s each, {sum(found['runs'] for found in plans.values()):,} simulations); {again} others were drawn that have "
        "no plan. What a setting is and how the least count is found stands in the script.",
        "",
        "| role | settings | planned/least: median | 95th percentile | worst | over 1.25 | of these by more than one "
        "replica | plans that fail in any of three seeds | in most |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for role in (*ROLES, "all"):
        chosen = [found for found in plans.values() if role in ("all", found["setting"]["role"])]
        ratios = [found["ratio"] for found in chosen if found["ratio"]]
        if not ratios:
            continue
        middle, high = (float(np.quantile(ratios, share, method="higher")) for share in (0.5, 0.95))
        over = [found for found in chosen if large(found)]
        several = sum(saved(found) > 1 for found in over)
        failed = [list(found["holds"].values()).count(False) for found in chosen]
        lines.append(
            f"| {role} | {len(chosen)} | {middle:.2f} | {high:.2f} | {max(ratios):.2f} | {len(over)} "
            f"| {several} | {sum(n > 0 for n in failed)} | {sum(n > 1 for n in failed)} |"
        )
    lines += [
        "",
        "By the mean batch of the replicas that decode, as planned:",
        "",
        "| role | batch | settings | planned/least: median | worst | over 1.25 |",
        "|---|---|---|---|---|---|",
    ]
    for role in ROLES:
        for low, high in BATCHES:
            chosen = [found for found in plans.values() if found["setting"]["role"] == role and found["ratio"]]
            ratios = [found["ratio"] for found in chosen if low <= found["pools"][-1]["batch"] < high]
            if ratios:
                told = f"{low:g} to {high:g}" if math.isfinite(high) else f"{low:g} and more"
                over = sum(ratio > TOO_LARGE for ratio in ratios)
                lines.append(
                    f"| {role} | {told} | {len(ratios)} | {np.median(ratios):.2f} | {max(ratios):.2f} | {over} |"
                )
    lines += [
        "",
        "Percentiles as planned over those simulated with the planned counts (first seed):",
        "",
        "| role | metric | median | 5th percentile | 95th percentile | the plan's below the interval | above it |",
        "|---|---|---|---|---|---|---|",
    ]
    for role in ROLES:
        for metric in ("ttft", "tpot"):
            runs = [found["own"][str(SEEDS[0])] for found in plans.values() if found["setting"]["role"] == role]
            slos = [slo for run in runs for slo in run["slo"] if slo["metric"] == metric and slo["low"] is not None]
            if not slos:
                continue
            shares = [slo["planned"] / slo["simulated"] for slo in slos]
            spread = " | ".join(f"{np.quantile(shares, share):.2f}" for share in (0.5, 0.05, 0.95))
            below = sum(slo["planned"] < slo["low"] for slo in slos)
            above = sum(slo["planned"] > slo["high"] for slo in slos)
            lines.append(f"| {role} | {metric.upper()} | {spread} | {below} | {above} of {len(slos)} |")
    failing = {number: found for number, found in plans.items() if not all(found["holds"].values())}
    lines += ["", "## Plans that fail", ""]
    for number, found in failing.items():
        seeds = [seed for seed, ok in found["holds"].items() if not ok]
        lines.append(
            f"- **{number}** {words(found)} In {len(seeds)} of {len(SEEDS)} seeds; {figures(found['own'][seeds[0]])}"
        )
    lines += [] if failing else ["None."]
    over_all = sorted((n for n in plans if large(plans[n])), key=lambda n: -(plans[n]["ratio"] or math.inf))
    lines += ["", f"## Plans over {TOO_LARGE:g} times the least", ""]
    for number in over_all:
        found = plans[number]
        lines.append(f"- **{number}** {words(found)} {figures(found['own'][str(SEEDS[0])])}")
        if found["at_least"]:
            lines.append(f"  With the least: {figures(found['at_least'], plan=False)}")
    lines += [] if over_all else ["None."]
    endless = [str(number) for number, found in plans.items() if not found["least"]]
    if endless:
        lines += ["", f"Not even four times the plan holds: {', '.join(endless)}."]
    none = [str(number) for number, found in sorted(done.items()) if "setting" not in found]
    if none:
        lines += ["", f"No plan in {DRAWS} draws: {', '.join(none)}."]
    return "\n".join(lines) + "\n"


def large(found: dict[str, Any]) -> bool:
    """Whether the plan is to be named."""
    return bool(found["ratio"]) and found["ratio"] > TOO_LARGE


def saved(found: dict[str, Any]) -> int:
    """Replicas that simulation does without."""
    return int(sum(found["planned"]) - sum(found["least"]))


def words(found: dict[str, Any]) -> str:
    """A setting, its plan and its least counts."""
    planned, fewest = ("+".join(map(str, counts or ["none"])) for counts in (found["planned"], found["least"]))
    chunk = found["pools"][0]["prefill_chunk"]
    ratio = f"{found['ratio']:.2f}" if found["ratio"] else "–"
    notes = [f"chunk {chunk}"] if chunk else []
    if len(found["planned"]) == 1:  # of two pools the headroom is that of the fuller one
        notes.append(f"{found['planned'][0] / (1.0 + (found['headroom'] or 0.0)):.1f} by its rows")
    told = f" ({', '.join(notes)})" if notes else ""
    return f"{found['setting']['words']}, {found['rate']}: planned {planned}{told}, least {fewest}, ratio {ratio}."


def figures(run: dict[str, Any], plan: bool = True) -> str:
    """Promised, planned and simulated percentiles."""
    parts = []
    for slo in run["slo"]:
        name = f"{slo['metric'].upper()} p{100 * slo['percentile']:g}"
        spread = f" ({slo['low']:.3g}–{slo['high']:.3g})" if slo["low"] is not None else ""
        told = f", planned {slo['planned']:.3g}" if plan and slo["planned"] is not None else ""
        value = "none" if slo["simulated"] is None else f"{slo['simulated']:.3g}"
        parts.append(f"{name} promised {slo['target']:.3g}{told}, simulated {value}{spread}")
    return "; ".join(parts) + "."


def main() -> None:
    """Try what is left, write after each, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--settings", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", type=int, default=4000, help="of each run, at least 2000 (default 4000)")
    parser.add_argument("--seconds", type=float, default=math.inf, help="begin no setting after so long")
    parser.add_argument("--resume", type=Path, metavar="DIR", default=OUT, help="where tables are kept")
    parser.add_argument("--file", type=int, metavar="NUMBER", help="print the problem file of a setting (JSON is YAML)")
    options = parser.parse_args()
    if options.calls < 2000:
        parser.error(f"--calls: found {options.calls}; expected 2000 or more, of which a p99 still tells something")
    path = options.resume / "table.json"
    known: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    if options.file is not None:
        found = known.get("done", {}).get(str(options.file), {})
        if "problem" not in found:
            parser.error(f"--file: {path} has no plan of setting {options.file}")
        print(json.dumps(found["problem"], indent=1))
        return
    asked = {word: getattr(options, word) for word in ("settings", "seed", "calls")}
    if known and known["asked"] != asked:
        sys.exit(f"{path} is of another run ({known['asked']}): ask for the same, or give another --resume")
    known = known or {"asked": asked, "done": {}}
    options.resume.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    for number in range(options.settings):
        if str(number) in known["done"]:
            continue
        if time.monotonic() - began > options.seconds:
            print(f"stopped; the same command with --resume {options.resume} goes on", file=sys.stderr)
            break
        found = tried(options.seed, number, options.calls)
        known["done"][str(number)] = found
        write(options.resume, known)
        told = words(found) if "setting" in found else "no plan"
        print(f"{number}: {told} {found['seconds']:.0f} s", file=sys.stderr, flush=True)
    write(options.resume, known)
    print(table(known))


def write(folder: Path, known: dict[str, Any]) -> None:
    """A line of JSON for each setting, and the table."""
    done = sorted(known["done"].items(), key=lambda item: int(item[0]))
    rows = ",\n".join(f"{json.dumps(number)}: {json.dumps(found)}" for number, found in done)
    text = f'{{"asked": {json.dumps(known["asked"])}, "done": {{\n{rows}\n}}}}\n'
    write_atomically(folder / "table.json", text)
    write_atomically(folder / "table.md", table(known))


if __name__ == "__main__":
    main()
