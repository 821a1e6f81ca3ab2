"""A plan in three sentences: what to buy and how good that is, what it achieves, what binds."""

from __future__ import annotations

from collections.abc import Iterable

from codesign.report.console import joules, money, percent, quantity, worth
from codesign.report.page.simulated import Simulated
from codesign.report.plan import headline
from codesign.solution import Solution
from codesign.solution.labels import labelled

_NAMED = 3
"""Full limits that the third sentence names."""

NAMES = {"busy": "time in the prompt queue"}
METRICS = {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL", "task_latency": "task latency"}


def answer(solution: Solution, simulated: Simulated) -> tuple[str, ...]:
    """The sentences; one where there is no plan.  `simulated` is what simulations made of its promises."""
    if solution.totals is None:
        return (headline(solution),)
    return _bought(solution), _achieved(solution, simulated), _binding(solution)


def _bought(solution: Solution) -> str:
    totals, objective = solution.totals, solution.objective
    assert totals is not None
    counts = sorted(totals.accelerators.items(), key=lambda item: -item[1])
    capital = sum(bought.capital_usd for bought in solution.purchase)
    spent = f" and {money(capital)} $ of capital" if capital else ""
    proof = ""
    if objective.gap is not None:
        word = "optimal" if solution.status == "optimal" else "not proven optimal"
        proof = (
            f": {word}, within {percent(objective.gap)} of the bound over "
            f"{solution.solve.columns_total:,} configurations"
        )
    listed = listing([f"{count:,} × {name}" for name, count in counts])
    bought = f"Buy {listed} for {money(totals.cost_per_hour)} $/h{spent}{proof}."
    return bought if solution.polish is None or solution.polish.note is None else f"{bought} {solution.polish.note}"


def _achieved(solution: Solution, simulated: Simulated) -> str:
    dear = sorted(solution.tasks, key=lambda task: -task.cost_per_task)
    spent = [
        f"of {labelled(task.name, task)} {money(task.cost_per_task)} $ and {joules(task.energy_per_task_j)}"
        for task in dear
    ]
    costs = f"A task costs, {listing(spent)}"
    slos = [(slo.achieved / slo.target, task, slo) for task in solution.tasks for slo in task.slo if slo.target]
    if not slos:
        return f"{costs}."
    missed = sum(share > 1 + 1e-6 for share, _, _ in slos)
    _, task, slo = max(slos, key=lambda item: item[0])
    kept = "every latency promise holds" if not missed else f"{missed} of {len(slos)} latency promises are missed"
    tight = (
        f"{labelled(task.name, task)}'s {METRICS[slo.metric]} p{100 * slo.percentile:g} is the tightest, at "
        f"{quantity(slo.achieved, 'time', 3)} of {quantity(slo.target, 'time', 3)}"
    )
    runs = [(task, slo, run) for _, task, slo in slos if (run := simulated.worst(task, slo)) is not None]
    late = [f"{labelled(task.name, task)}'s {METRICS[slo.metric]} p{100 * slo.percentile:g}"
            for task, slo, run in runs if not run.ok]  # fmt: skip
    seen = ""
    if runs:
        seen = f"; under simulation {listing(late)} {'is' if len(late) == 1 else 'are'} missed" if late else (
            f"; under simulation {len(runs)} of {len(slos)} were followed, and all hold")  # fmt: skip
    return f"{costs}; {kept}, and {tight}{seen}."


def _binding(solution: Solution) -> str:
    spent: dict[str, float] = {}
    for pool in solution.fleet:
        spent[pool.binding] = spent.get(pool.binding, 0.0) + pool.cost_per_hour
    total = sum(spent.values()) or 1.0
    order = sorted(spent.items(), key=lambda item: -item[1])
    binds = listing([f"{NAMES.get(name, name)} binds {percent(usd / total, 2)}" for name, usd in order])
    full = [price for price in solution.shadow_prices if price.value > 0]
    unit = solution.objective.unit
    limit = "no limit of the problem file is full"
    if full:
        named = [f"{price.limit} (one more saves {worth(price.value, price.unit, unit)})" for price in full[:_NAMED]]
        more = len(full) - len(named)
        full_ones = listing([*named, f"{more} more"] if more else named)
        limit = f"what is full: {full_ones}"
    return f"By cost of the pools, {binds}; {limit}."


def listing(words: Iterable[str]) -> str:
    """`a, b and c`."""
    given = list(words)
    return given[0] if len(given) == 1 else f"{', '.join(given[:-1])} and {given[-1]}" if given else "nothing"
