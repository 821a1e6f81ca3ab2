"""From a resolved instance to the optimiser's numbers: every column that the planner considers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from codesign.candidates.attached import Attachment
from codesign.candidates.colocated import colocated_blocks
from codesign.candidates.configurations import Configurations, enumerate_configurations, places_of
from codesign.candidates.context import ROLES, MomentBook, OperatingPoints, Slice
from codesign.candidates.data import ColumnBlock, FleetData, Flow, Group, Packing
from codesign.candidates.decode import decode_blocks
from codesign.candidates.flows import FlowBook, Reach, build_flows
from codesign.candidates.grids import Grids
from codesign.candidates.kept import tier_limits
from codesign.candidates.lengths import TaskCalls, task_calls
from codesign.candidates.measured import measured_block
from codesign.candidates.objectives import objective_weights
from codesign.candidates.outer import Blocks, Built
from codesign.candidates.prefill import prefill_blocks
from codesign.candidates.prefixes import Memory, by_prefixes
from codesign.candidates.purchase import Market, Sold, build_market, by_electricity, offers_by_option
from codesign.candidates.risk import weighed
from codesign.candidates.split import SplitConfigurations, enumerate_splits, split_columns, split_groups
from codesign.candidates.stages import StagePart, join
from codesign.candidates.tighten import tightened
from codesign.performance import PRECISIONS, ConfigurationTable, decode_step_seconds, link_bytes_per_s
from codesign.performance.split import split_step_seconds
from codesign.problem.instance import Instance, Limits, Offer, Redundancy, Site


@dataclass(frozen=True)
class Candidates:
    """The numbers, and what they stand for."""

    instance: Instance
    data: FleetData
    configurations: Configurations | None
    """None where all pools are measured."""
    splits: SplitConfigurations | None
    """Replicas in two halves; None where the instance asks for none."""
    points: tuple[OperatingPoints | None, ...]
    """By block; None for measured pools."""
    book: FlowBook
    calls: tuple[tuple[TaskCalls, ...], ...]
    """By task, the admissible variants."""
    first_measured_flow: int
    market: Market
    stages: tuple[StagePart, ...] = ()
    """Where there are periods or scenarios: the parts that `data` joins; then the other fields are in the parts."""

    @property
    def sold(self) -> tuple[Sold, ...]:
        """What each offer sells, in the order of `data.offers`; of stages as the first that holds it says."""
        if not self.stages:
            return self.market.sold
        found: dict[int, Sold] = {}
        for part in self.stages:
            for number, item in zip(part.offers, part.candidates.market.sold, strict=True):
                found.setdefault(number, item)
        return tuple(found[number] for number in sorted(found))

    def table(self, configuration: int) -> ConfigurationTable:
        """The performance table of one configuration."""
        if self.configurations is None:
            raise ValueError("measured pools have no configurations")
        return self.configurations.table.take(np.array([configuration]))

    def attachment(self, configuration: int) -> Attachment | None:
        """Memory attached to the accelerators of one configuration."""
        index = int(self.table(configuration).memory[0])
        assert self.configurations is not None
        return self.configurations.attachments[index] if index >= 0 else None


def build_candidates(
    instance: Instance,
    progress: Callable[[str, float], None] | None = None,
    grids: Grids | None = None,
    known: Candidates | None = None,
    bounded: bool = True,
) -> Candidates:
    """Enumerate configurations, flows and operating points.  `progress` hears (what, share done).

    `bounded`: with columns for bounds over all operating points beside those of plans.  `known` are candidates of the
    same instance with only the first of its hardware: where a vendor sells nothing else, its columns are taken over,
    and nothing else bounds.
    """
    if instance.stages:
        return _staged(instance, progress, grids, bounded)
    grids = grids or Grids()
    instance = by_electricity(instance)
    sizes: list[Packing] = []
    places = places_of(instance, sizes)
    configurations = enumerate_configurations(instance, places)
    splits = enumerate_splits(instance, places)
    cards = {model.name: model.card for model in instance.models}
    calls = [task_calls(task, cards) for task in instance.tasks]
    book = build_flows(instance, grids, calls, _reach(instance, configurations, splits))
    inner: list[tuple[ColumnBlock, OperatingPoints | None]] = []
    outer: list[tuple[ColumnBlock, OperatingPoints | None]] = []
    bounded = bounded and configurations is not None and known is None
    slices = slices_of(instance, grids, book, configurations, bounded) if configurations else []
    taken = [_known_columns(part, known) for part in slices]
    new = [part for part, copied in zip(slices, taken, strict=True) if not copied]
    with _at_once(new, instance.options.threads) as columns_of:
        for number, (part, copied) in enumerate(zip(slices, taken, strict=True)):
            built = Built(copied) if copied else columns_of(part)
            inner += built.inner
            outer += built.outer
            if progress is not None:
                progress("configurations", (number + 1) / len(slices))
    market = build_market(instance)
    groups = _groups(instance, configurations) if configurations else []
    if splits is not None:
        for block, point in split_columns(instance, grids, book, splits, len(groups)):
            served = instance.models[int(splits.model[point.configuration[0]])].name
            hardware = splits.hardware[point.configuration]
            split = tightened(instance, block, point.role, served, hardware), point
            inner.append(split)
            outer.append(split)
        groups += split_groups(instance, splits)
    packings = list(sizes) if configurations else []
    numbers = list(book.numbers)
    bound = book.calls_bound
    if instance.measured_pools:
        measured, flows, measured_groups = measured_block(
            instance, len(numbers), len(packings), len(groups)
        )
        inner.append((measured, None))
        outer.append((measured, None))
        first = len(instance.hardware)
        packings += [
            Packing(first + p, pool.accelerators_per_replica)
            for p, pool in enumerate(instance.measured_pools)
        ]
        numbers += flows
        groups += measured_groups
        bound = np.concatenate([bound, [task.rate_per_s for task in instance.tasks]])
    blocks = tuple(block for block, _ in inner)
    more = tuple(block for block, _ in outer) if bounded else ()
    data = _data(instance, market, blocks, tuple(numbers), book, bound, tuple(packings), tuple(groups), more)
    return Candidates(
        instance,
        data,
        configurations,
        splits,
        tuple(point for _, point in inner),
        book,
        tuple(tuple(item) for item in calls),
        len(book.flows),
        market,
    )


def resold(candidates: Candidates, instance: Instance) -> Candidates:
    """The candidates of an instance whose columns are those of another one (`unpriced`, and with rates of its own
    `unrated`, tell): only purchase and demand are new.

    The blocks stay the same objects, so a solver that knows them needs no second look at them.
    """
    instance = by_electricity(instance)
    market = build_market(instance)
    data, book, calls = candidates.data, candidates.book, candidates.calls
    bound = data.calls_bound
    tiers = {tier.name: tier for tier in instance.memory}
    book = replace(book, flows=tuple(replace(f, tier=tiers[f.tier.name] if f.tier else None) for f in book.flows))
    rates = [task.rate_per_s for task in instance.tasks]
    if rates != [task.rate_per_s for task in candidates.instance.tasks]:
        calls = tuple(
            tuple(replace(item, task=task) for item in known) for task, known in zip(instance.tasks, calls, strict=True)
        )
        flows = tuple(replace(f, calls=replace(f.calls, task=instance.tasks[f.task])) for f in book.flows)
        book = replace(book, flows=flows, calls_bound=np.array([flow.calls.calls_per_s for flow in flows]))
        bound = np.concatenate([book.calls_bound, rates]) if instance.measured_pools else book.calls_bound
    data = _data(instance, market, data.blocks, data.flows, book, bound, data.packings, data.groups, data.outer)
    return replace(candidates, instance=instance, data=data, book=book, calls=calls, market=market)


def unrated(instance: Instance) -> Instance:
    """An instance without rates, which no column depends on either."""
    return replace(instance, tasks=tuple(replace(task, rate_per_s=1.0) for task in instance.tasks))


def unpriced(instance: Instance) -> Instance:
    """An instance without what no column depends on: prices, stocks, limits, the site, the objective.

    Raises ValueError for stages: their offers come and go.
    """
    if instance.stages:
        raise ValueError("stages are joined with their prices")
    site = Site(None, 1.0, 0.0, 0.0)
    hardware = tuple(replace(option, offers=_kinds(option.offers)) for option in instance.hardware)
    units = tuple(replace(unit, offers=_kinds(unit.offers)) for unit in instance.units)
    nothing = {"capital_usd": 0.0, "life_s": 1.0, "interest": 0.0, "price_source": "", "price_date": ""}
    memory = tuple(replace(item, **nothing) for item in instance.memory)  # type: ignore[arg-type]
    bare = replace(instance, site=site, hardware=hardware, units=units, memory=memory)
    bare = replace(bare, name="", objective="cost_per_hour", limits=Limits(), redundancy=Redundancy(), sha256="")
    return replace(bare, price_list_ids=(), price_date="", warnings=())


def _kinds(offers: Sequence[Offer]) -> tuple[Offer, ...]:
    """What columns see of offers: whether some pay for power, and some do not."""
    return tuple(
        Offer("", "rent", 0.0, None, None, 0.0, included, 0, None, "", "")
        for included in sorted({offer.includes_power for offer in offers})
    )


def _staged(
    instance: Instance, progress: Callable[[str, float], None] | None, grids: Grids | None, bounded: bool
) -> Candidates:
    """Every stage by itself, and the problem that joins them.  Stages that differ in rates and prices alone share their
    columns."""
    parts: list[Candidates] = []
    columns: list[Instance] = []
    for number, stage in enumerate(instance.stages):

        def told(what: str, share: float, number: int = number) -> None:
            if progress is not None:
                progress("periods and scenarios", (number + share) / len(instance.stages))

        bare = unrated(unpriced(stage.instance))
        alike = columns.index(bare) if bare in columns else None
        parts.append(
            build_candidates(stage.instance, told, grids, bounded=bounded)
            if alike is None
            else resold(parts[alike], stage.instance)
        )
        columns.append(bare)
        told("", 1.0)
    return rejoined(instance, parts)


def rejoined(instance: Instance, parts: Sequence[Candidates]) -> Candidates:
    """The candidates of an instance with stages from those of each stage, in their order."""
    data, stages = join(instance, parts)
    data = weighed(data, instance, stages)
    nothing = FlowBook((), (), (), np.zeros(0))
    return Candidates(instance, data, None, None, (), nothing, (), 0, Market((), (), (), (), ()), stages)


def _reach(instance: Instance, configurations: Configurations | None, splits: SplitConfigurations | None) -> Reach:
    """The shortest and longest steps of each model, and the fastest replica of each hardware of a vendor."""
    one = np.ones(1)
    steps: dict[tuple[int, int], list[float]] = {}
    links: dict[str, list[float]] = {option.accelerator.vendor: [] for option in instance.hardware}
    if configurations is not None:
        step, link = decode_step_seconds(configurations.table, one)[:, 0], link_bytes_per_s(configurations.table)
        for m, k in zip(*np.unique(np.stack([configurations.model, configurations.table.drafts]), axis=1), strict=True):
            mine = (configurations.model == m) & (configurations.table.drafts == k)
            steps.setdefault((int(m), int(k)), []).extend(step[mine].tolist())
        for h, option in enumerate(instance.hardware):
            mine = link[configurations.hardware == h]
            links[option.accelerator.vendor] += [float(mine.max())] if len(mine) else []
    if splits is not None:
        step = np.max(np.stack(split_step_seconds(splits.table, one)), axis=0)[:, 0]
        for m in np.unique(splits.model).tolist():
            steps.setdefault((m, 0), []).extend(step[splits.model == m].tolist())
    return Reach(
        {key: (min(found), max(found)) for key, found in steps.items()},
        {vendor: tuple(found) for vendor, found in links.items()},
    )


def changed(candidates: Candidates, instance: Instance) -> Candidates:
    """`resold` for instances with and without stages; `instance` has those of the candidates' own."""
    if not instance.stages:
        return resold(candidates, instance)
    return rejoined(
        instance,
        [
            resold(part.candidates, stage.instance)
            for part, stage in zip(candidates.stages, instance.stages, strict=True)
        ],
    )


def slices_of(
    instance: Instance, grids: Grids, book: FlowBook, configurations: Configurations, bounded: bool
) -> list[Slice]:
    """One slice for each (model, KV precision, vendor, context-parallel or not, drafts) that has configurations.

    `bounded`: also for columns that bound.
    """
    vendor = np.array([option.accelerator.vendor for option in instance.hardware])[
        configurations.hardware
    ]
    shared = configurations.table.cp > 1
    drafts = configurations.table.drafts
    axes = [configurations.model, configurations.table.kv, vendor, shared, *([drafts] if np.any(drafts) else [])]
    keys = np.stack([axis.astype(str) for axis in axes], axis=1)
    found, where = np.unique(keys, axis=0, return_inverse=True)
    return [
        Slice(instance, grids, book, configurations, np.flatnonzero(where.ravel() == i), 0, bounded)
        for i in range(len(found))
    ]


@contextmanager
def _at_once(parts: Sequence[Slice], threads: int) -> Iterator[Callable[[Slice], Built]]:
    """Gives the columns of slices, worked out by several threads: their arrays are large enough for that.

    The largest are begun first, so that none is waited for.  Nothing waits for what is not asked for any more.
    """
    if threads < 2 or len(parts) < 2:
        yield _columns
        return
    left = sorted(parts, key=lambda part: len(part.index))
    found: dict[int, Future[Built]] = {id(part): Future() for part in parts}

    def work() -> None:
        while left:
            try:
                part = left.pop()
            except IndexError:  # another thread was first
                return
            try:
                found[id(part)].set_result(_columns(part))
            except BaseException as error:
                found[id(part)].set_exception(error)

    for _ in range(min(threads, len(parts))):
        threading.Thread(target=work, daemon=True).start()
    try:
        yield lambda part: found[id(part)].result()
    finally:
        left.clear()


def roles_of(part: Slice) -> tuple[str, ...]:
    """Roles that a slice's configurations may take: prompts alone need no drafts, and share their work alone."""
    if int(part.table.cp[0]) > 1:
        return ("prefill",)
    return ROLES if not int(part.table.drafts[0]) else tuple(role for role in ROLES if role != "prefill")


def _columns(part: Slice) -> Built:
    """Columns of all roles of a slice, each on the hardware that may take the role."""
    model = int(part.configurations.model[part.index[0]])
    kv = PRECISIONS[int(part.table.kv[0])]
    hardware = part.configurations.hardware[part.index]
    vendor = part.instance.hardware[int(hardware[0])].accelerator.vendor
    inner: Blocks = []
    outer: Blocks = []
    builders = {"prefill": prefill_blocks, "decode": decode_blocks, "colocated": colocated_blocks}
    books: dict[bytes, MomentBook] = {}
    for role in roles_of(part):
        allowed = np.array([role in option.roles for option in part.instance.hardware])[hardware]
        if not allowed.any():
            continue
        book = books.setdefault(allowed.tobytes(), MomentBook(replace(part, index=part.index[allowed])))
        select = part.book.select(role, model, kv, vendor, int(part.table.drafts[0]))
        own = replace(book.part, role=role)
        memory = Memory(own.index, own.room, own.prefix_bytes)
        flows = [part.book.flows[f] for f in select]
        built = builders[role](own, book, select)
        outer += built.outer
        for item in built.inner:
            # Others hold the prefixes of the flows that they admit.
            inner += by_prefixes(item, flows, memory, part.grids.prefix_worth) if role == "prefill" else [item]

    def good(found: Blocks) -> Blocks:
        kept = []
        for block, point in found:
            hardware = part.configurations.hardware[point.configuration]
            served = part.instance.models[model].name
            block = tightened(part.instance, _good_enough(part, block, point), point.role, served, hardware)
            rows = np.flatnonzero(block.admissible.any(axis=1))
            if len(rows):
                kept.append((block, point) if len(rows) == len(block) else (block.take(rows), point.take(rows)))
        return kept

    return Built(good(inner), good(outer))


def _known_columns(part: Slice, known: Candidates | None) -> list[tuple[ColumnBlock, OperatingPoints]]:
    """The columns that `known` has of a slice, with this instance's numbers of flows and groups; none of a new one.

    Hardware of `known` comes first in the instance, so its configurations and packings keep their numbers.
    """
    if known is None or part.configurations.hardware[part.index].max() >= len(known.instance.hardware):
        return []
    number = {(flow.commodity, flow.phase): f for f, flow in enumerate(part.book.flows)}
    flows = np.array([number[flow.commodity, flow.phase] for flow in known.book.flows], dtype=np.int64)
    return [
        (replace(block, flows=flows[block.flows], group=part.group(point.role, point.configuration)), point)
        for block, point in zip(known.data.blocks, known.points, strict=True)
        if point is not None and int(point.configuration[0]) in part.index
    ]


def _good_enough(part: Slice, block: ColumnBlock, point: OperatingPoints) -> ColumnBlock:
    """The block with flows closed where the configuration's number formats cost too much quality."""
    table = part.configurations.table
    model = part.instance.models[int(part.configurations.model[part.index[0]])]
    formats, where = np.unique(
        np.stack([axis[point.configuration] for axis in (table.weights, table.activations, table.kv)]),
        axis=1,
        return_inverse=True,
    )
    factors = [model.quality_factor(*(PRECISIONS[p] for p in chosen)) for chosen in formats.T.tolist()]
    flows = [part.book.flows[f].calls for f in block.flows.tolist()]
    admitted = np.array([[calls.variant.admitted(calls.task, factor) for calls in flows] for factor in factors])
    return replace(block, admissible=block.admissible & admitted[where.ravel()])


def _groups(instance: Instance, configurations: Configurations) -> list[Group]:
    """Groups by role, then configuration."""
    table = configurations.table
    groups = []
    for role in ROLES:
        for k in range(len(configurations)):
            option = instance.hardware[int(configurations.hardware[k])]
            model = instance.models[int(configurations.model[k])]
            precision = "-".join(
                PRECISIONS[int(p[k])] for p in (table.weights, table.activations, table.kv)
            )
            shape = f"tp{table.tp[k]}pp{table.pp[k]}ep{table.ep[k]}dp{table.dp[k]}"
            if table.cp[k] > 1:
                shape += f"cp{table.cp[k]}"
            if table.memory[k] >= 0:
                shape += f" {configurations.attachments[int(table.memory[k])].name}"
            if table.drafts[k]:
                shape += f" {model.speculation.method if model.speculation else ''}+{table.drafts[k]}"
            lost = max(1, option.server_accelerators // int(configurations.packed[k]))
            groups.append(
                Group(
                    f"{option.name}/{model.name}/{precision}/{shape}/{role}",
                    int(configurations.hardware[k]),
                    lost,
                    work=f"{model.name}/{role}",
                    role=role,
                )
            )
    return groups


def _data(
    instance: Instance,
    market: Market,
    blocks: tuple[ColumnBlock, ...],
    flows: tuple[Flow, ...],
    book: FlowBook,
    calls_bound: np.ndarray,
    packings: tuple[Packing, ...],
    groups: tuple[Group, ...],
    outer: tuple[ColumnBlock, ...],
) -> FleetData:
    usd_weight, watt_weight = objective_weights(instance, instance.objective)
    return FleetData(
        tasks=tuple(task.name for task in instance.tasks),
        demand=np.array([task.rate_per_s for task in instance.tasks]),
        calls_bound=calls_bound,
        flows=flows,
        commodities=book.commodities,
        blocks=blocks,
        offers=market.offers,
        hardware=market.hardware,
        packings=packings,
        groups=groups,
        limits=(
            *market.limits,
            *tier_limits(instance, book.flows, offers_by_option(instance, market.offers), packings),
        ),
        usd_weight=usd_weight,
        watt_weight=watt_weight,
        pue=instance.site.pue,
        max_designs=instance.limits.max_designs,
        max_vendors=instance.limits.max_vendors,
        survive_one_server=instance.redundancy.survive == "one-server",
        split_tasks=instance.options.split_tasks,
        modules=market.modules,
        outer=outer,
    )
