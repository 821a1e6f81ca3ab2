"""From the optimiser's numbers to the solution file."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from importlib.metadata import version
from typing import Literal

import numpy as np

from codesign.candidates.build import Candidates
from codesign.candidates.context import OperatingPoints
from codesign.candidates.purchase import Sold
from codesign.candidates.split import ROLE, SplitConfigurations
from codesign.catalog import Accelerator
from codesign.hardware.tco import module_usd_per_hour
from codesign.optimize.fleet import FleetPlan
from codesign.performance import PRECISIONS, ConfigurationTable, calibration, expected_error, kv_bytes
from codesign.performance.drafts import accepted
from codesign.performance.parts import tdp_of
from codesign.problem.instance import HardwareOption, Instance, LinkOption, MemoryOption
from codesign.problem.speculation import expected_tokens
from codesign.solution.accounts import Accounts, PoolAccount, settle
from codesign.solution.kept import kv_use, memory_uses
from codesign.solution.labels import told_apart
from codesign.solution.operation import operate
from codesign.solution.promises import Way, call_latency, slo_results, ways
from codesign.solution.schema import (
    AttachedUse,
    FeedForward,
    Objective,
    Parallelism,
    Pool,
    Precision,
    Provenance,
    Purchase,
    Route,
    ShadowPrice,
    Solution,
    SolveRecord,
    SpeculationUse,
    TaskResult,
    Totals,
    Utilization,
)
from codesign.solution.split import cost_split
from codesign.solution.stages import joined, split
from codesign.solution.state import PoolState
from codesign.solution.tokens import token_prices

UNITS = {
    "cost_per_hour": "$/h",
    "cost_per_task": "$/task",
    "energy_per_task": "J/task",
    "power": "W",
    "carbon_per_task": "kg/task",
    "max_rate": "×",
    "slo_scale": "×",
}


def provenance(instance: Instance, problem: str, command: str) -> Provenance:
    """What a plan rests on."""
    return Provenance(
        problem=problem,
        problem_sha256=instance.sha256,
        price_list=instance.price_list_ids,
        price_date=instance.price_date,
        command=command,
        seed=instance.options.seed,
        warnings=instance.warnings,
    )


def versions() -> dict[str, str]:
    """Of the packages that decide an answer, by name."""
    return {name: version(name) for name in ("codesign", "highspy", "pyomo", "numpy", "scipy")}


def solve_record(candidates: Candidates, plan: FleetPlan, seconds: dict[str, float]) -> SolveRecord:
    """How the answer was found."""
    return SolveRecord(
        seconds=seconds,
        columns_total=candidates.data.columns,
        columns_undominated=plan.columns_undominated,
        columns_considered=plan.columns_considered,
        nodes=plan.nodes,
        rounds=plan.rounds,
        stopped_by=plan.stopped_by,
        solver="HiGHS",
        versions=versions(),
    )


def unplanned(instance: Instance, stopped_by: str, problem: str, command: str, seconds: dict[str, float]) -> Solution:
    """The solution where the clock or an interrupt ended the enumeration of columns: nothing is known."""
    name = instance.objective
    packages = ("codesign", "highspy", "pyomo", "numpy", "scipy")
    return Solution(
        status="no_solution",
        objective=Objective(name=name, value=None, unit=UNITS[name], bound=None, gap=None),
        solve=SolveRecord(
            seconds=seconds,
            columns_total=0,
            columns_undominated=0,
            columns_considered=0,
            nodes=0,
            rounds=0,
            stopped_by=stopped_by,
            solver="HiGHS",
            versions={package: version(package) for package in packages},
        ),
        provenance=provenance(instance, problem, command),
    )


def objective(candidates: Candidates, plan: FleetPlan) -> Objective:
    """Value, bound and gap in the objective's unit; None where there is no plan."""
    name = candidates.instance.objective
    found = math.isfinite(plan.objective)
    return Objective(
        name=name,
        value=plan.objective if found else None,
        unit=UNITS[name],
        bound=plan.bound if math.isfinite(plan.bound) else None,
        gap=_gap(name, plan) if found and math.isfinite(plan.bound) else None,
    )


def _gap(name: str, plan: FleetPlan) -> float:
    """Share of the value by which it could be better at most; a rate's bound lies above it."""
    return plan.gap if name != "max_rate" else max(0.0, (plan.bound - plan.objective) / plan.objective)


def build_solution(
    candidates: Candidates, plan: FleetPlan, problem: str, command: str, seconds: dict[str, float]
) -> Solution:
    """The solution of a plan; for one without a fleet only status, objective, record and provenance."""
    shell = Solution(
        status=plan.status,  # type: ignore[arg-type]
        objective=objective(candidates, plan),
        solve=solve_record(candidates, plan, seconds),
        provenance=provenance(candidates.instance, problem, command),
    )
    if not plan.replicas:
        return shell
    if candidates.stages:
        if candidates.instance.risk is not None:  # prices of demand under a risk measure are no one's marginal cost
            plan = replace(plan, demand_duals=())
        alone = [
            build_solution(part.candidates, own, problem, command, {})
            for part, own in zip(candidates.stages, split(candidates.stages, plan), strict=True)
        ]
        shell = shell.model_copy(update={"shadow_prices": tuple(_shadow_prices(candidates, plan))})
        return joined(candidates, shell, alone)
    states = operate(candidates, plan)
    accounts = settle(candidates, plan)
    names = _pool_names(candidates, accounts)
    routes = ways(candidates, plan, states)
    return shell.model_copy(
        update={
            "totals": _totals(candidates, plan, accounts),
            "purchase": tuple(_purchases(candidates, plan)),
            "memory": tuple(memory_uses(candidates, plan, routes)),
            "fleet": tuple(
                _pool(candidates, a, states.get(a.column), routes, names, plan.by_rows.get(a.column))
                for a in accounts.pools
            ),
            "routing": tuple(_routing(candidates, plan, routes, names)),
            "tasks": tuple(_tasks(candidates, plan, accounts, routes)),
            "shadow_prices": tuple(_shadow_prices(candidates, plan)),
        }
    )


def _pool_names(candidates: Candidates, accounts: Accounts) -> dict[int, str]:
    """Short, stable: hardware-model-role, told apart where several stand side by side."""
    stems: dict[int, str] = {}
    for account in accounts.pools:
        block, position = candidates.data.locate([account.column])[0]
        points = candidates.points[block]
        hardware = candidates.data.hardware[account.hardware].name
        if points is None:
            stems[account.column] = hardware
        else:
            model = _model_of(candidates, points, position)
            stems[account.column] = f"{hardware}-{model}-{points.role}"
    return dict(zip(stems, told_apart(list(stems.values())), strict=True))


def _model_of(candidates: Candidates, points: OperatingPoints, position: int) -> str:
    """Name of the model that a column serves."""
    chosen = candidates.splits if points.role == ROLE else candidates.configurations
    assert chosen is not None
    return candidates.instance.models[int(chosen.model[points.configuration[position]])].name


def _totals(candidates: Candidates, plan: FleetPlan, accounts: Accounts) -> Totals:
    instance, data = candidates.instance, candidates.data
    rate = sum(task.rate_per_s for task in instance.tasks)
    cost = accounts.servers_usd_per_hour + accounts.electricity_usd_per_hour
    cost += accounts.modules_usd_per_hour
    at_meter = accounts.power_w * instance.site.pue
    accelerators: dict[str, int] = {}
    servers: dict[str, int] = {}
    peak = 0.0
    labels = [o.catalogue_id for o in instance.hardware] + [
        p.accelerator for p in instance.measured_pools
    ]
    for o, count in plan.servers.items():
        for row in data.offers[o].supplies:
            hardware = data.hardware[row]
            accelerators[labels[row]] = accelerators.get(labels[row], 0) + count * hardware.accelerators
            peak += count * hardware.peak_power_w * instance.site.pue
        sold = candidates.market.sold[o]
        name = sold[0].name if isinstance(sold, tuple) else sold.name
        servers[name] = servers.get(name, 0) + count
    peak += sum(n * data.modules[m].power_w for m, n in plan.modules.items()) * instance.site.pue
    return Totals(
        cost_per_hour=cost,
        cost_per_task=cost / (3600.0 * rate),
        energy_per_task_j=at_meter / rate,
        power_w=at_meter,
        peak_power_w=peak,
        accelerators=accelerators,
        servers=servers,
    )


def _purchases(candidates: Candidates, plan: FleetPlan) -> list[Purchase]:
    instance, data = candidates.instance, candidates.data
    lines = []
    linked: Counter[tuple[str, int, LinkOption]] = Counter()
    for o, count in sorted(plan.servers.items()):
        bought, sold = data.offers[o], candidates.market.sold[o]
        of = sold[0] if isinstance(sold, tuple) and isinstance(sold[0], HardwareOption) else None
        link = of.link if of is not None else None
        accelerators = count * sum(data.hardware[row].accelerators for row in bought.supplies)
        network = accelerators * (module_usd_per_hour(link) if link else 0.0)
        paid = accelerators * (link.capital_usd if link else 0.0)
        if of is not None and link is not None:
            linked[of.name, of.server_accelerators, link] += count
        lines.append(
            Purchase(
                item=bought.name,
                kind=_kind(sold),
                count=count,
                accelerators=accelerators,
                capital_usd=count * bought.capital_usd - paid,
                usd_per_hour=count * bought.usd_per_hour - network,
                price_source=sold[1].price_source if isinstance(sold, tuple) else "problem file",
                price_date=sold[1].price_date if isinstance(sold, tuple) else "",
            )
        )
    for (name, size, link), count in linked.items():
        each, item = count * size, f"{name}/{link.name}"
        lines.append(
            _beside(item, "link", link, count, each * link.capital_usd, each * module_usd_per_hour(link))
        )
    for m, count in sorted(plan.modules.items()):
        tier, module = instance.memory[m], data.modules[m]
        lines.append(
            _beside(tier.name, "module", tier, count, count * module.capital_usd, count * module.usd_per_hour)
        )
    return lines


def _kind(sold: Sold) -> Literal["server", "unit", "measured"]:
    """What a line of the purchase calls it."""
    if isinstance(sold, tuple):
        return "server" if isinstance(sold[0], HardwareOption) else "unit"
    return "measured"


def _beside(
    item: str,
    kind: Literal["link", "module"],
    source: LinkOption | MemoryOption,
    count: int,
    capital_usd: float,
    usd_per_hour: float,
) -> Purchase:
    """A line of what is bought beside servers."""
    return Purchase(
        item=item,
        kind=kind,
        count=count,
        accelerators=0,
        capital_usd=capital_usd,
        usd_per_hour=usd_per_hour,
        price_source=source.price_source,
        price_date=source.price_date,
    )


def _pool(
    candidates: Candidates,
    account: PoolAccount,
    state: PoolState | None,
    routes: list[Way],
    names: dict[int, str],
    by_rows: int | None,
) -> Pool:
    instance, data = candidates.instance, candidates.data
    block, i = data.locate([account.column])[0]
    points = candidates.points[block]
    hardware = data.hardware[account.hardware].name
    common = {
        "pool": names[account.column],
        "group": data.groups[account.group].name,
        "period": "all",
        "hardware": hardware,
        "replicas": account.replicas,
        "replicas_by_rows": by_rows,
        "spares": account.spares,
        "accelerators": account.accelerators,
        "cost_per_hour": account.cost_per_hour,
        "cost_split": cost_split(account, state, routes),
        "power_w": account.power_w,
        "pays_electricity": _pays_electricity(candidates, account.hardware),
    }
    if points is None:
        pool = instance.measured_pools[account.hardware - len(instance.hardware)]
        return Pool(
            **common,  # type: ignore[arg-type]
            role="serve",
            accelerator=pool.accelerator,
            model=None,
            precision=None,
            parallelism=None,
            batch=None,
            prefill_chunk=None,
            step_limit_s=None,
            step_time_s=None,
            utilization=Utilization(busy=account.load),
            binding="measured rate",
            calibration="measured by the user",
            expected_error=None,
        )
    k = int(points.configuration[i])
    splits = candidates.splits if points.role == ROLE else None
    table = splits.table.attention.take(np.array([k])) if splits else candidates.table(k)
    option = instance.hardware[account.hardware]
    stepping = points.role != "prefill"
    return Pool(
        **common,  # type: ignore[arg-type]
        role=points.role,  # type: ignore[arg-type]
        accelerator=option.catalogue_id,
        model=instance.models[int(table.card[0])].name,
        precision=Precision(
            weights=PRECISIONS[int(table.weights[0])],
            activations=PRECISIONS[int(table.activations[0])],
            kv=PRECISIONS[int(table.kv[0])],
        ),
        parallelism=Parallelism(
            tp=int(table.tp[0]),
            pp=int(table.pp[0]),
            ep=int(table.ep[0]),
            dp=int(splits.table.groups[k]) if splits else int(table.dp[0]),
            cp=int(table.cp[0]),
        ),
        feed_forward=_feed_forward(instance, splits, k) if splits else None,
        attached=None if splits else _attached(candidates, k),
        speculation=_speculation(instance, table, state),
        tiers=_tiers(candidates, None if splits else k, state),
        link=option.link.technology if option.link else option.accelerator.scaleup_technology,
        batch=state.batch if state and stepping else None,
        prefill_chunk=int(points.chunk[i]) if points.role == "colocated" else None,
        step_limit_s=_or_none(points.step_limit_s[i]),
        step_time_s=state.step_s if state and stepping else None,
        utilization_limit=_or_none(points.utilization[i]),
        wait_limit_s=_or_none(points.wait_s[i]),
        wait_s=state.wait_s if state and points.role in ("prefill", "colocated") else None,
        utilization=Utilization(**state.shares) if state else Utilization(),
        binding=state.binding if state else "idle",
        calibration=calibration(table)[int(table.accelerator[0])]
        + _assumed_power(option.accelerator)
        + (", attached memory unmeasured" if table.memory[0] >= 0 else ""),
        expected_error=float(expected_error(table)[0]),
    )


def _assumed_power(part: Accelerator) -> str:
    """What a pool's calibration says of a TDP that nobody published."""
    watts, source = tdp_of(part)
    return f", TDP {watts:,.0f} W assumed {source}" if source else ""


def _pays_electricity(candidates: Candidates, row: int) -> bool | None:
    """None where all offers of this hardware are alike in it: then they make one row."""
    options = candidates.instance.hardware
    if row >= len(options) or [option.name for option in options].count(options[row].name) == 1:
        return None
    return not options[row].includes_power


def _feed_forward(instance: Instance, splits: SplitConfigurations, k: int) -> FeedForward:
    """The half of a split replica that holds no KV."""
    option = instance.hardware[int(splits.other_hardware[k])]
    table = splits.table.feed_forward
    return FeedForward(
        hardware=option.name,
        accelerator=option.catalogue_id,
        accelerators_per_replica=int(splits.table.feed_forward_accelerators[k]),
        parallelism=Parallelism(
            tp=int(table.tp[k]), pp=int(table.pp[k]), ep=int(table.ep[k]), dp=int(table.dp[k])
        ),
        microbatches=int(splits.table.microbatches[k]),
    )


def _attached(candidates: Candidates, k: int) -> AttachedUse | None:
    """The modules that a configuration's accelerators have to themselves."""
    beside = candidates.attachment(k)
    if beside is None:
        return None
    return AttachedUse(
        tier=candidates.instance.memory[beside.tier].name,
        holds=beside.memory.holds,
        modules_per_accelerator=beside.modules,
        bandwidth_bytes_per_s=beside.memory.bandwidth_bytes_per_s,
    )


def _speculation(instance: Instance, table: ConfigurationTable, state: PoolState | None) -> SpeculationUse | None:
    """What a configuration drafts, and what its steps emit of the calls that its pool has."""
    speculation = instance.models[int(table.card[0])].speculation
    if speculation is None or not table.drafts[0]:
        return None
    emits = expected_tokens(speculation.acceptance[: int(table.drafts[0])])
    if state is not None and state.flows:
        tokens = [
            rate * float(flow.calls.population.weight @ flow.calls.population.output) for flow, rate in state.flows
        ]
        each = [accepted(table, flow.calls).tokens for flow, _ in state.flows]
        emits = sum(tokens) / max(sum(n / t for n, t in zip(tokens, each, strict=True)), 1e-300)
    return SpeculationUse(
        method=speculation.method,
        draft_tokens=int(table.drafts[0]),
        tokens_per_step=float(emits),
        source=speculation.source,
    )


def _tiers(candidates: Candidates, k: int | None, state: PoolState | None) -> tuple[str, ...]:
    """The memories that a pool uses: its accelerators' own, what is attached to them, where its sessions' KV waits."""
    beside = candidates.attachment(k) if k is not None else None
    attached = () if beside is None else (candidates.instance.memory[beside.tier].name,)
    flows = state.flows if state else ()
    return ("hbm", *dict.fromkeys([*attached, *(flow.tier.name for flow, _ in flows if flow.tier is not None)]))


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def _routing(
    candidates: Candidates, plan: FleetPlan, routes: list[Way], names: dict[int, str]
) -> list[Route]:
    found = []
    for way in routes:
        flow = way.flow
        fabric = flow.fabric_bytes_per_s
        found.append(
            Route(
                period="all",
                task=flow.calls.task.name,
                variant=flow.calls.variant.name,
                kv_policy=flow.residency,
                kv=kv_use(candidates, flow, way.calls_per_s),
                prefill_pool=names[way.prefill.column],
                decode_pool=names[way.decode.column],
                calls_per_s=way.calls_per_s,
                fabric_bytes_per_s=fabric if math.isfinite(fabric) else None,
                ttft_level_s=flow.ttft_level_s if math.isfinite(flow.ttft_level_s) else None,
                tpot_level_s=flow.tpot_level_s if math.isfinite(flow.tpot_level_s) else None,
            )
        )
    for (column, f), rate in plan.rates.items():
        if f >= candidates.first_measured_flow:
            task = candidates.data.tasks[candidates.data.flows[f].task]
            pool = names[column]
            found.append(
                Route(
                    period="all",
                    task=task,
                    variant=None,
                    kv_policy=None,
                    prefill_pool=pool,
                    decode_pool=pool,
                    calls_per_s=rate,
                )
            )
    return found


def _tasks(
    candidates: Candidates, plan: FleetPlan, accounts: Accounts, routes: list[Way]
) -> list[TaskResult]:
    instance = candidates.instance
    results = []
    for c, task in enumerate(instance.tasks):
        mine = [way for way in routes if way.flow.task == c]
        cost = accounts.task_cost_per_hour[c] / (3600.0 * task.rate_per_s)
        open_tasks, resident = _little(candidates, mine) if mine else (None, None)
        results.append(
            TaskResult(
                name=task.name,
                cost_per_task=cost,
                marginal_cost_per_task=_marginal(candidates, plan, c),
                energy_per_task_j=accounts.task_power_w[c] * instance.site.pue / task.rate_per_s,
                usd_per_million_tokens=token_prices(accounts, c, mine),
                open_tasks=open_tasks,
                resident_kv_bytes=resident,
                headroom=_headroom(candidates, plan, c),
                slo=tuple(slo_results(candidates, task, mine)) if mine else (),
            )
        )
    return results


def _marginal(candidates: Candidates, plan: FleetPlan, c: int) -> float | None:
    """$ of one more task, from the relaxation's price of demand (cost objectives only)."""
    data = candidates.data
    if not plan.demand_duals or data.usd_weight <= 0:
        return None
    return plan.demand_duals[c] / data.usd_weight / (3600.0 * float(data.demand[c]))


def _little(candidates: Candidates, mine: list[Way]) -> tuple[float, float]:
    """Open tasks, and KV bytes that their calls hold (active and kept), by Little's law."""
    open_tasks = resident = 0.0
    for way in mine:
        calls = way.flow.calls
        population = calls.population
        mean, _ = call_latency(candidates, way)
        waits = 1.0 - 1.0 / calls.calls_per_task  # of each call: none follows a task's last one
        open_tasks += way.calls_per_s * (mean + waits * calls.task.tool_wait.mean)
        table = way.decode.table
        held = kv_bytes(table, population.context + population.output)[0]
        held = held - kv_bytes(table, np.array([calls.shared]))[0, 0]
        seconds = way.decode.decode_seconds(way.flow)
        seconds = seconds + (calls.held_s if way.flow.residency != "drop" else 0.0)
        resident += way.calls_per_s * float(population.weight @ (np.maximum(held, 0.0) * seconds))
    return open_tasks, resident


def _headroom(candidates: Candidates, plan: FleetPlan, c: int) -> float | None:
    """Share by which a task could grow on the pools that it uses before a design row is full."""
    data = candidates.data
    least = math.inf
    for column, replicas in plan.replicas.items():
        block, i = data.locate([column])[0]
        part = data.blocks[block]
        rates = np.array([plan.rates.get((column, f), 0.0) for f in part.flows.tolist()])
        own = np.array([data.flows[f].task == c for f in part.flows.tolist()])
        if not np.any(rates[own] > 0):
            continue
        use = part.use.one(i)
        load = use @ rates / (part.limit[i] * replicas)
        mine = use @ (rates * own) / (part.limit[i] * replicas)
        rows = mine > 1e-12
        least = min(least, float(np.min((1.0 - load[rows]) / mine[rows], initial=math.inf)))
    return max(0.0, least) if math.isfinite(least) else None


def _shadow_prices(candidates: Candidates, plan: FleetPlan) -> list[ShadowPrice]:
    """What one more unit of each limit saves, from the relaxation."""
    found = []
    for limit, dual in zip(candidates.data.limits, plan.limit_duals, strict=False):
        if not limit.unit:  # rows of ours that no one can buy more of
            continue
        found.append(
            ShadowPrice.model_validate(
                {
                    "limit": limit.name,
                    "unit": limit.unit,
                    "value": dual / limit.scale,
                    "from": "relaxation",
                }
            )
        )
    return found
