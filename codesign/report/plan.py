"""A plan as tables that can be pasted into a report: what is asked for, what to buy, what it achieves."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from codesign.report.console import (
    amount,
    joules,
    line,
    make_table,
    money,
    number,
    percent,
    quantity,
    worth,
)
from codesign.report.violations import violation_table
from codesign.solution import Pool, Route, Solution, TaskResult
from codesign.solution.labels import labelled
from codesign.solution.schema import AttachedUse, Polish

STOPPED = {"time limit": "the time limit", "interrupt": "Ctrl-C"}
_UTILIZATIONS = ("compute", "bandwidth", "capacity", "link", "slots", "busy")


def plan_report(solution: Solution) -> Group:
    """All that a planner wants to see of a solution, Little's-law numbers first."""
    parts: list[RenderableType] = [line(headline(solution), "bold"), ""]
    if solution.totals is not None:
        parts += _plan(solution)
    elif solution.violations:
        parts.append(violation_table([item.model_dump() for item in solution.violations]))
    elif solution.conflicts:
        conflicts = make_table("In conflict with each other", ("limit",))
        for limit in solution.conflicts:
            conflicts.add_row(limit)
        parts.append(conflicts)
    if solution.alternatives:
        parts.append(_alternatives(solution))
    parts += _footer(solution)
    return Group(*parts)


def _alternatives(solution: Solution) -> Table:
    table = make_table("Almost as good", ("what",), ("objective", "more", "different"), ("accelerators",))
    for item in solution.alternatives:
        parts = sorted(item.accelerators.items(), key=lambda part: -part[1])
        table.add_row(
            item.what,
            amount(item.value, solution.objective.unit),
            percent(item.extra, 2),
            percent(item.difference, 2),
            ", ".join(f"{count} × {name}" for name, count in parts),
        )
    return table


def headline(solution: Solution) -> str:
    """One sentence: the status, the value, and what is proven about it."""
    objective, name = solution.objective, solution.provenance.problem
    configurations = f"{solution.solve.columns_total:,} configurations"
    if solution.status == "infeasible" and not solution.solve.columns_total:
        return (
            f"{name}: infeasible, which is proven. Nothing on offer can run any of its calls: weights and one call do "
            "not fit, or promises are out of reach on idle hardware. `codesign explain` says which, and by how much."
        )
    if solution.status == "infeasible":
        return f"{name}: infeasible, which is proven. No fleet of {configurations} meets all limits."
    bound = amount(objective.bound, objective.unit)
    stopped = STOPPED.get(solution.solve.stopped_by or "", solution.solve.stopped_by)
    before = f" before {stopped}" if stopped else ""
    if solution.violations:
        return (
            f"{name}: no plan: the one that was found breaks {len(solution.violations)} requirements. That is our "
            "fault: please report it. Another --gap or --time-limit may find a plan that holds."
        )
    if objective.value is None:
        if not solution.solve.columns_total:
            early = "which came while configurations were enumerated; none is proven impossible"
            return f"{name}: no plan found{before}, {early}."
        proven = f" ({objective.name} is at least {bound})" if objective.bound is not None else ""
        return f"{name}: no plan found{before} over {configurations}{proven}; none is proven impossible."
    value = amount(objective.value, objective.unit)
    # Up, so that the text claims no more than the figures do.
    gap = "0 %" if not objective.gap else f"{_ceiling(100 * objective.gap)} %"
    word = "optimal" if solution.status == "optimal" else "feasible, not proven optimal,"
    stop = f"; stopped by {stopped}" if stopped else ""
    if objective.bound is None:
        return f"{name}: {objective.name} {value}, feasible, without a bound over {configurations}{stop}"
    return (
        f"{name}: {objective.name} {value}, {word} within {gap} over {configurations} (bound {bound}{stop})"
    )


def _ceiling(value: float) -> str:
    """Rounded up to two decimals."""
    return f"{-(-value * 100 // 1) / 100:.2f}"


def _plan(solution: Solution) -> Iterator[RenderableType]:
    yield _demand(solution)
    yield _fleet(solution)
    yield _operation(solution)
    yield from _drafts(solution)
    yield from _calibrations(solution)
    yield ""
    yield _purchases(solution)
    if solution.stages:
        yield _stages(solution)
    if solution.scenarios:
        yield _scenarios(solution)
    if any(route.variant is not None for route in solution.routing) or len(solution.routing) > 1:
        yield _routing(solution)
    yield _tasks(solution)
    if any(task.slo for task in solution.tasks):
        yield _promises(solution)
    if solution.verification is not None:
        yield _verification(solution)
    yield _totals(solution)
    prices = [price for price in solution.shadow_prices if price.value]
    if prices:
        table = make_table("What one more unit of a limit saves", ("limit",), ("worth",), ("from",))
        for price in prices:
            table.add_row(price.limit, worth(price.value, price.unit, solution.objective.unit), price.source)
        yield table


def _demand(solution: Solution) -> Table:
    table = make_table(
        "Demand (Little's law)", ("task",), ("calls/s", "open tasks", "time per call", "resident KV")
    )
    for task in solution.tasks:
        calls = sum(route.calls_per_s for route in solution.routing if _same(route, task))
        in_calls = task.open_tasks / calls if task.open_tasks is not None and calls else None
        table.add_row(
            labelled(task.name, task),
            number(calls),
            number(task.open_tasks),
            quantity(in_calls, "time", 3),
            quantity(task.resident_kv_bytes, "bytes"),
        )
    return table


def _fleet(solution: Solution) -> Table:
    replicas = "replicas + spares" if any(pool.spares for pool in solution.fleet) else "replicas"
    table = make_table(
        "Fleet", ("pool", "role", "accelerators"), (replicas,),
        ("model", "weights/act./KV", "parallelism", "serves"),
    )  # fmt: skip
    table.add_column("$/h", justify="right")
    for pool in solution.fleet:
        spares = f" + {pool.spares}" if pool.spares else ""
        precision = pool.precision
        table.add_row(
            pool.pool,
            pool.role,
            f"{pool.accelerators} × {pool.accelerator}",
            f"{pool.replicas}{spares}",
            pool.model or "–",
            f"{precision.weights}/{precision.activations}/{precision.kv}" if precision else "–",
            parallelism(pool),
            served(solution, pool),
            money(pool.cost_per_hour),
        )
    return table


def parallelism(pool: Pool) -> str:
    """`TP8 EP8 DP2, mtp 1`: the ways in which a replica is split (`1`: not at all), and the tokens that it drafts."""
    if pool.parallelism is None:
        return "–"
    ways = pool.parallelism.model_dump()
    split = " ".join(f"{way.upper()}{size}" for way, size in ways.items() if size > 1) or "1"
    if pool.speculation is not None:
        split += f", {pool.speculation.method} {pool.speculation.draft_tokens}"
    return split if pool.attached is None else f"{split}, {held(pool.attached)}"


def held(use: AttachedUse) -> str:
    """`KV in 16 × ddr5`: what lies in the modules of each accelerator."""
    what = "KV" if use.holds == "kv" else use.holds
    return f"{what} in {use.modules_per_accelerator:g} × {use.tier}"


def served(solution: Solution, pool: Pool) -> str:
    """The tasks that a pool serves, with its share of their calls in its period."""
    total: dict[str, float] = {}
    here: dict[str, float] = {}
    for route in solution.routing:
        if (route.period, route.scenario) != (pool.period, pool.scenario):
            continue
        total[route.task] = total.get(route.task, 0.0) + route.calls_per_s
        if pool.pool in (route.prefill_pool, route.decode_pool):
            here[route.task] = here.get(route.task, 0.0) + route.calls_per_s
    shares = {task: calls / total[task] for task, calls in here.items() if total[task] > 0}
    return ", ".join(
        task if share > 0.9995 else f"{task} {percent(share, 2)}" for task, share in shares.items()
    )


def _operation(solution: Solution) -> Table:
    shown = [
        name
        for name in _UTILIZATIONS
        if any(getattr(pool.utilization, name) is not None for pool in solution.fleet)
    ]
    table = make_table(
        "Operation at the fixed point",
        ("pool",),
        ("batch", "step (TPOT)", "limit", "wait", *shown),
        ("binds",),
    )
    for pool in solution.fleet:
        table.add_row(
            pool.pool,
            "–" if pool.batch is None else f"{pool.batch:.3g}",
            quantity(pool.step_time_s, "time", 3),
            quantity(pool.step_limit_s, "time", 3),
            quantity(pool.wait_s, "time", 3),
            *(percent(getattr(pool.utilization, name), 2) for name in shown),
            pool.binding,
        )
    return table


def _calibrations(solution: Solution) -> Iterator[Text]:
    """What each pool's figures were calibrated on, and the error that is expected of them."""
    pools: dict[str, list[str]] = {}
    for pool in solution.fleet:
        error = "" if pool.expected_error is None else f", expected error ±{percent(pool.expected_error, 2)}"
        pools.setdefault(f"{pool.calibration}{error}", []).append(pool.pool)
    for calibration, names in pools.items():
        yield line(f"Calibration {calibration}: {', '.join(names)}")


def _drafts(solution: Solution) -> Iterator[Text]:
    """Which pools draft tokens, how many their steps emit, and where that is from."""
    for pool in solution.fleet:
        use = pool.speculation
        if use is not None:
            step = quantity(pool.step_time_s, "time", 3)
            token = quantity(pool.step_time_s / use.tokens_per_step, "time", 3) if pool.step_time_s else "–"
            yield line(
                f"Speculation {pool.pool}: {use.draft_tokens} drafted by {use.method}, {use.tokens_per_step:.3g} "
                f"tokens a step of {step}, {token} each; acceptance: {use.source}"
            )


def _purchases(solution: Solution) -> Table:
    table = make_table(
        "Purchases", ("item", "kind"), ("count", "accelerators", "capital $", "$/h"), ("price list", "date")
    )
    for bought in solution.purchase:
        table.add_row(
            bought.item,
            bought.kind,
            f"{bought.count:,}",
            f"{bought.accelerators:,}",
            money(bought.capital_usd) if bought.capital_usd else "–",
            money(bought.usd_per_hour),
            bought.price_source,
            bought.price_date or "–",
        )
    return table


def _routing(solution: Solution) -> Table:
    table = make_table(
        "Routing",
        ("task", "variant", "prefill pool", "decode pool", "KV between calls"),
        ("calls/s", "share"),
    )
    for route in solution.routing:
        task = next(task for task in solution.tasks if _same(route, task))
        total = sum(other.calls_per_s for other in solution.routing if _same(other, task))
        table.add_row(
            labelled(task.name, task),
            route.variant or "–",
            route.prefill_pool,
            route.decode_pool,
            route.kv_policy or "–",
            number(route.calls_per_s),
            percent(route.calls_per_s / total if total else None),
        )
    return table


def _same(route: Route, task: TaskResult) -> bool:
    """Is this a route of the task, in its period and scenario?"""
    return (route.task, route.period, route.scenario) == (task.name, task.period, task.scenario)


def _stages(solution: Solution) -> Table:
    table = make_table(
        "Periods and scenarios" if solution.scenarios else "Periods",
        ("period", "scenario") if solution.scenarios else ("period",),
        ("of all hours", "$/h", "$/task", "mean power", "energy/task"),
    )
    for stage in solution.stages:
        totals = stage.totals
        table.add_row(
            *((stage.period, stage.scenario) if solution.scenarios else (stage.period,)),
            percent(stage.share),
            money(totals.cost_per_hour),
            money(totals.cost_per_task),
            quantity(totals.power_w, "power"),
            joules(totals.energy_per_task_j),
        )
    return table


def _scenarios(solution: Solution) -> Group:
    objective, found = solution.objective, solution.robustness
    table = make_table(
        f"{objective.name} by scenario", ("scenario",), ("probability", "value", "served by the nominal plan's fleet")
    )
    for scenario in solution.scenarios:
        served = found.unprepared.get(scenario.name) if found else None
        value = amount(scenario.value, objective.unit)
        table.add_row(scenario.name, percent(scenario.probability), value, percent(served))
    if found is None or found.price is None:
        return Group(table)
    text = (
        f"Price of robustness ({found.measure}): {percent(found.price)} of the nominal optimum "
        f"({amount(found.nominal_optimum, objective.unit)}), if nothing happens."
    )
    return Group(table, line(text), "")


def _verification(solution: Solution) -> Group:
    """The plans that were simulated: what each cost, what it broke, what the next was asked for."""
    found = solution.verification
    assert found is not None
    table = make_table("Simulated plans", ("plan",), (solution.objective.name,), ("broken promises", "next with"))
    for plan, each in enumerate(found.rounds, 1):
        broken = ", ".join(
            " ".join(filter(None, (b.stage, b.task, f"{b.metric} p{100 * b.percentile:g} ({b.pool}: {b.resource})")))
            for b in each.broken
        )
        value = amount(each.objective, solution.objective.unit)
        table.add_row(str(plan), value, broken or "none", "; ".join(each.tightened) or "–")
    seeds = f"{len(found.seeds)} seeds of {quantity(found.duration_s, 'time')}"
    if not found.ok:
        return Group(table, line(f"Promises are broken in simulation ({seeds}): {found.stopped}", "bold red"), "")
    return Group(table, line(f"Every SLO holds in simulation ({seeds}), at {percent(found.price)} more."), "")


def _tasks(solution: Solution) -> Table:
    tokens = any(task.usd_per_million_tokens for task in solution.tasks)
    table = make_table(
        "Tasks",
        ("task",),
        (
            "$/task",
            "one more $",
            "energy/task",
            *(("$/M new input", "$/M cached", "$/M output") if tokens else ()),
            "headroom",
        ),
    )
    for task in solution.tasks:
        prices = task.usd_per_million_tokens
        per_million = (prices.new_input, prices.cached_input, prices.output) if prices else (None,) * 3
        table.add_row(
            labelled(task.name, task),
            money(task.cost_per_task),
            money(task.marginal_cost_per_task),
            joules(task.energy_per_task_j),
            *(map(money, per_million) if tokens else ()),
            percent(task.headroom, 2),
        )
    return table


def _promises(solution: Solution) -> Table:
    table = make_table("SLOs", ("task", "metric"), ("percentile", "target", "achieved", "margin"), ("",))
    for task in solution.tasks:
        for slo in task.slo:
            met = slo.achieved <= slo.target * (1 + 1e-6)
            table.add_row(
                labelled(task.name, task),
                {"ttft": "TTFT", "tpot": "TPOT", "itl": "ITL"}.get(slo.metric, "task latency"),
                f"p{100 * slo.percentile:g}",
                quantity(slo.target, "time", 3),
                quantity(slo.achieved, "time", 3),
                percent((slo.target - slo.achieved) / slo.target if slo.target else None, 2),
                Text("met", style="green") if met else Text("MISSED", style="bold red"),
            )
    return table


def _totals(solution: Solution) -> Table:
    totals = solution.totals
    assert totals is not None
    table = make_table("Totals", ("", ""))
    table.show_header = False
    rows = {
        "cost": f"{money(totals.cost_per_hour)} $/h, {money(totals.cost_per_task)} $/task",
        "energy": f"{joules(totals.energy_per_task_j)}/task at the meter",
        "power": f"{quantity(totals.power_w, 'power')} mean, {quantity(totals.peak_power_w, 'power')} "
        "provisioned peak, PUE included",
        "accelerators": _counts(totals.accelerators),
        "servers": _counts(totals.servers),
    }
    for name, text in rows.items():
        table.add_row(name, text)
    return table


def _counts(counts: dict[str, int]) -> str:
    listed = ", ".join(f"{count:,} × {name}" for name, count in counts.items())
    return f"{sum(counts.values()):,}: {listed}" if len(counts) > 1 else listed


def polished(polish: Polish, unit: str) -> str:
    """What polish has done, in a sentence, and why the bound went with it."""
    pools = ", ".join(f"{pool.pool} {pool.before:,} → {pool.after:,}" for pool in polish.pools)
    before = f"{amount(polish.value, unit)} before; promises hold with other replicas than were searched for: {pools}."
    return before if polish.note is None else f"{before} {polish.note}"


def _footer(solution: Solution) -> Iterator[RenderableType]:
    """Prices, warnings, and how the answer was found."""
    provenance, record = solution.provenance, solution.solve
    if provenance.price_list:
        date = f", oldest price {provenance.price_date}" if provenance.price_date else ""
        yield line(f"Prices: {', '.join(provenance.price_list)}{date}")
    elif solution.purchase:
        yield f"Prices: from the problem file{f', {provenance.price_date}' if provenance.price_date else ''}"
    if solution.polish is not None:
        yield line(f"Polished: {polished(solution.polish, solution.objective.unit)}")
    for warning in provenance.warnings:
        yield line(f"Note: {warning}", "yellow")
    stages = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in record.seconds.items())
    total = record.seconds.get("total", sum(record.seconds.values()))
    yield line(
        f"{total:.1f} s ({stages}); {record.columns_total:,} configurations, {record.columns_considered:,} "
        f"in the largest MILP, {record.nodes:,} nodes; {record.solver} "
        f"{record.versions.get('highspy', '')}".rstrip()
    )
