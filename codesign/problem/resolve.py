"""From the words of a problem to an `Instance`: catalogue entries looked up, presets filled in, prices
found."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import ValidationError

from codesign.catalog import (
    Accelerator,
    Entry,
    ModelCard,
    Price,
    accelerators,
    default_price,
    listed_price,
    merged,
    models,
    price_lists,
    workloads,
)
from codesign.problem import instance as inst
from codesign.problem.distributions import Distribution
from codesign.problem.errors import FieldError
from codesign.problem.explain import Faults
from codesign.problem.fields import DistributionSpec, Part, Percentiles
from codesign.problem.link_options import link_option, with_link, within_server
from codesign.problem.memory import memory_option
from codesign.problem.offers import hardware_offer, purchase_unit
from codesign.problem.references import MODELLED
from codesign.problem.schema import (
    Hardware,
    MeasuredPool,
    ModelUse,
    Prefix,
    Problem,
    Task,
)
from codesign.problem.sessions import Sessions, is_session_trace, read_sessions
from codesign.problem.speculation import MOST_DRAFTS, speculation
from codesign.problem.stages import with_stages
from codesign.problem.trace import (
    Histogram,
    TraceError,
    catalogue_histogram,
    catalogue_histograms,
    read_histogram,
    read_trace,
)
from codesign.problem.yaml_lines import Document, Path_
from codesign.units import LARGEST

MAX_OVERLONG = 1e-3
"""Share of contexts above the model's limit that is cut without a word of the file: fitted tails have no
end."""

_DECIDED_TTL_S = 300.0
"""What profiles show where the planner decides the time-to-live."""

_WEIGHTS = {"bf16": ("fp8", "bf16"), "fp16": ("fp8", "fp16")}
_ACTIVATIONS = {"fp8": "fp8", "nvfp4": "nvfp4"}
_OWN_HARDWARE = {"vendor": "own", "memory_type": "", "status": "defined in the problem file"}

E = TypeVar("E", bound=Entry)


def resolve(problem: Problem, *, robust: bool = False) -> inst.Instance:
    """Return the instance of a problem, with one stage for each period, and for each scenario where `robust`.

    Raises ProblemError with every name and figure that does not work out.
    """
    return with_stages(problem, _Resolver(problem).run(), robust, lambda stated: _Resolver(stated).run())


@dataclass
class _Resolver:
    problem: Problem
    warnings: list[str] = field(default_factory=list)
    prices: dict[str, datetime.date] = field(default_factory=dict)
    """Oldest date in use of each price list."""

    def __post_init__(self) -> None:
        document = self.problem._document or Document(
            self.problem.model_dump(mode="json", exclude_unset=True)
        )
        self.faults = Faults(self.problem.file, document)
        self.folder = Path(self.problem.file).parent if self.problem.file else Path()

    def run(self) -> inst.Instance:
        problem = self.problem
        found = {name: self._model(name, use) for name, use in problem.models.items()}
        cards = {name: model for name, model in found.items() if model is not None}
        tasks = [self._task(index, task, cards) for index, task in enumerate(problem.tasks)]
        networks = {name: link_option(name, part, self.faults) for name, part in problem.links.items()}
        hardware = tuple(
            option for name, part in problem.hardware.items() for option in self._options(name, part, networks)
        )
        sizes = {option.name: option.server_accelerators for option in hardware}
        units = [
            purchase_unit(name, part, sizes)
            for name, part in problem.purchase_units.items()
            if all(word in sizes for word in part.servers)  # else the hardware's own fault is noted already
        ]
        memory = [memory_option(name, part, hardware, self.faults) for name, part in problem.memory.items()]
        profiles = self._profiles()
        self.faults.raise_if_any()
        pools = tuple(_pool(pool) for pool in problem.measured_pools)
        site, limits = problem.site, problem.limits
        return inst.Instance(
            name=problem.name,
            objective=problem.objective,
            site=inst.Site(
                power_w=site.power,
                pue=site.pue,
                electricity_usd_per_joule=site.electricity,
                carbon_kg_per_joule=site.carbon,
                racks=tuple(inst.Rack(name, rack.count, rack.power) for name, rack in site.racks.items()),
            ),
            models=tuple(cards.values()),
            tasks=tuple(task for task in tasks if task is not None),
            hardware=hardware,
            measured_pools=pools,
            limits=inst.Limits(
                inventory=tuple(
                    _inventory(name, count, hardware, pools) for name, count in limits.inventory.items()
                ),
                capital_usd=limits.budget.capital,
                cost_usd_per_hour=limits.budget.cost_per_hour,
                max_designs=limits.max_designs,
                max_vendors=limits.vendors,
                churn_servers=limits.churn.servers,
            ),
            redundancy=inst.Redundancy(problem.redundancy.survive, problem.redundancy.per),
            options=_options(problem, profiles),
            memory=tuple(option for option in memory if option is not None),
            units=tuple(units),
            price_list_ids=tuple(sorted(self.prices)),
            price_date=min(self.prices.values()).isoformat() if self.prices else "",
            warnings=tuple(dict.fromkeys(self.warnings)),
            sha256=problem.sha256,
        )

    def _profiles(self) -> tuple[str, ...]:
        """Paths of the engine profiles; each must be a file."""
        paths = []
        for index, text in enumerate(self.problem.options.profiles):
            path = self.folder / text
            if not path.is_file():
                expected = "a path to an engine profile, relative to the problem file"
                self.faults.add(("options", "profiles", index), text, expected)
            paths.append(str(path))
        return tuple(paths)

    # ---- models

    def _model(self, name: str, use: ModelUse) -> inst.Model | None:
        card = self._card(name, use)
        if card is None:
            return None
        drafts = None
        if use.speculation is not None:
            drafts = speculation(use.speculation, card)
            if drafts is None:
                asked = max(use.speculation.draft_tokens)
                found = f"{use.speculation.method} for {card.id}, {asked} draft_tokens: no acceptance in the catalogue"
                self.faults.add(
                    ("models", name, "speculation"), found, "acceptance by position, or accepted_length", words=True
                )
        released = card.native_precision
        weights: tuple[str, ...] = tuple(use.weights or ()) or _WEIGHTS.get(released, (released,))
        following = tuple(_ACTIVATIONS.get(precision, "bf16") for precision in weights)
        return inst.Model(
            name=name,
            card=card,
            quality=use.quality,
            weights=weights,
            activations=tuple(use.activations or ()) or following,
            kv=tuple(use.kv or ("fp8",)),
            activations_follow_weights=use.activations is None,
            precision_quality=tuple(
                (kind, precision, factor)
                for kind in ("weights", "activations", "kv")
                for precision, factor in getattr(use.precision_quality, kind).items()
            ),
            speculation=drafts,
        )

    def _card(self, name: str, use: ModelUse) -> ModelCard | None:
        path: Path_ = ("models", name)
        changes = _given(use, ModelCard)
        if use.card is not None:
            card = models()[use.card]
            return self._completed(ModelCard, card.model_dump() | changes, path) if changes else card
        if use.config is not None:
            base = self._configured(use.config, (*path, "config"))
            return base and self._completed(ModelCard, base.model_dump() | {"id": name} | changes, path)
        if use.definition is not None:
            path, changes = (*path, "definition"), _given(use.definition, ModelCard) | changes
        elif not changes:
            self.faults.add(path, "no origin", "card, config, or the fields of a model card", words=True)
            return None
        return self._completed(ModelCard, {"id": name} | changes, path)

    def _configured(self, text: str, path: Path_) -> ModelCard | None:
        from codesign.catalog.huggingface import from_huggingface_config

        try:
            return from_huggingface_config(self.folder / text)
        except FileNotFoundError:
            self.faults.add(path, text, "a path to an existing config.json, relative to the problem file")
        except ValidationError as error:
            for item in error.errors(include_url=False):
                self.faults.add_message(path, str(item["msg"]), text)
        except (OSError, ValueError) as error:
            self.faults.add_message(path, str(error), text)
        return None

    def _completed(self, kind: type[E], values: Mapping[str, Any], path: Path_) -> E | None:
        """An entry from SI values; what is missing or contradictory is noted at `path`."""
        # Entries bound their quantities; their plain numbers (layers, widths, areas) are bounded here.
        huge = [name for name, value in values.items() if isinstance(value, (int, float)) and value > LARGEST]
        for name in huge:
            self.faults.add((*path, name), values[name], f"a number of at most {LARGEST:g}")
        if huge:
            return None
        try:
            return kind.model_validate(dict(values), context={"si_fields": frozenset(values)})
        except ValidationError as error:
            self.faults.add_validation(error, kind, path)
            return None

    # ---- tasks

    def _task(self, index: int, task: Task, cards: Mapping[str, inst.Model]) -> inst.TaskClass | None:
        path: Path_ = ("tasks", index)
        filled, prefix = self._preset(task)
        sessions = self._sessions(task)
        histogram = sessions.histogram if sessions else self._lengths(task, (*path, "lengths"))
        rate = task.rate.value
        if task.rate.trace is not None:
            if histogram is None or histogram.rate_per_s is None:
                if histogram is not None:
                    self.faults.add(
                        (*path, "rate"), "a trace without a rate", "a rate such as '4/s'", words=True
                    )
                return None
            rate = task.rate.trace * histogram.rate_per_s
        if rate is None or (task.lengths is not None and histogram is None):
            return None
        if histogram is not None:
            lengths = histogram.lengths
            context = Distribution.empirical(lengths.input, lengths.weight)
            output = Distribution.empirical(lengths.output, lengths.weight)
        else:
            context, output = self._spec(filled["context"]), self._spec(filled["output"])
        for word, spec in filled.items():
            if spec is not None and spec.spread_is_assumed:
                self.warnings.append(
                    f"tasks.{task.name}.{word}: only the mean is given; assumed lognormal with cv 1"
                )
        known = {word: self._spec(spec) for word, spec in filled.items()}
        known["append"] = context if filled["append"] is None else known["append"]
        if sessions is not None:
            measured = {"calls": sessions.calls, "append": sessions.append, "tool_wait": sessions.gaps}
            known |= {word: value for word, value in measured.items() if word not in task.model_fields_set}
            traced = {"shared": sessions.shared_tokens, "reusable": sessions.reusable}
            given = task.prefix.model_fields_set
            prefix = prefix.model_copy(update={word: v for word, v in traced.items() if word not in given})
        elif filled["append"] is None and prefix.reusable > 0:
            self.faults.add(
                (*path, "append"), "nothing", "tokens that are new in each call, since prefix.reusable > 0", words=True
            )
        modelled = bool(self.problem.hardware) and any(getattr(task, word) is not None for word in MODELLED)
        slo = task.slo
        latency = slo.task_latency
        return inst.TaskClass(
            name=task.name,
            rate_per_s=rate,
            calls=known["calls"],
            context=context,
            append=known["append"],
            output=output,
            tool_wait=known["tool_wait"],
            lengths=histogram.lengths if histogram else None,
            prefix_shared_tokens=prefix.shared,
            prefix_reusable=prefix.reusable,
            prefix_hit=prefix.hit,
            prefix_ttl_s=_DECIDED_TTL_S if prefix.ttl == "decide" else prefix.ttl,
            prefix_ttl_free=prefix.ttl == "decide",
            idle_gap=prefix.idle_gap(),
            variants=self._variants(path, task, cards, context, output.mean) if modelled else (),
            min_quality=task.min_quality,
            ttft_slo=_levels(slo.ttft),
            tpot_slo=_levels(slo.tpot),
            itl_slo=_levels(slo.itl),
            task_latency_slo=_levels(latency),
            task_latency_at=latency.at if latency else "population",
            on_overlong=task.on_overlong,
            acceptance=self._acceptance(path, task, cards),
        )

    def _acceptance(self, path: Path_, task: Task, cards: Mapping[str, inst.Model]) -> tuple[float, ...]:
        """Acceptance by position on the task's text; empty where it says nothing of it."""
        drafts = max(
            (max(m.speculation.draft_tokens) for m in cards.values() if m.speculation is not None), default=MOST_DRAFTS
        )
        try:
            return task.speculation.by_position(drafts) or ()
        except FieldError as error:
            given = task.speculation.accepted_length
            self.faults.add_message((*path, "speculation", "accepted_length"), str(error), given)
            return ()

    def _preset(self, task: Task) -> tuple[dict[str, DistributionSpec[Any] | None], Prefix]:
        """The task's distributions and prefix; a preset stands in for what the file does not say."""
        words = ("calls", "context", "append", "output", "tool_wait")
        base = task
        if task.preset is not None:
            preset = workloads()[task.preset]
            base = Task.model_validate({"name": task.name, "rate": "1/s", **preset.task_fields()})
            weak = ["all of it is weakly grounded"] if preset.assumption else []
            self.warnings.extend(
                f"tasks.{task.name}: assumption of preset {task.preset}: {text}"
                for text in [*weak, *preset.assumptions]
            )
        filled = {word: getattr(task if word in task.model_fields_set else base, word) for word in words}
        given = {word: getattr(task.prefix, word) for word in task.prefix.model_fields_set}
        return filled, base.prefix.model_copy(update=given)

    @staticmethod
    def _spec(spec: DistributionSpec[Any] | None) -> Distribution:
        return Distribution.constant(0.0) if spec is None else spec.distribution()

    def _sessions(self, task: Task) -> Sessions | None:
        """What the task's trace says of its sessions; None where it has none, or no trace that knows them."""
        if task.lengths is None or task.lengths.trace is None:
            return None
        place = self.folder / str(task.lengths.trace)
        if not is_session_trace(place):
            return None
        try:
            found = read_sessions(place)
        except TraceError:
            return None  # `_lengths` reads it again and notes the fault
        self.warnings.append(
            f"tasks.{task.name}.tool_wait: gaps between arrivals of the trace, the time of the call before included"
        )
        return found

    def _lengths(self, task: Task, path: Path_) -> Histogram | None:
        if task.lengths is None:
            return None
        word = "trace" if task.lengths.trace is not None else "histogram"
        text = str(getattr(task.lengths, word))
        try:
            if word == "trace":
                place = self.folder / text
                return read_sessions(place).histogram if is_session_trace(place) else read_trace(place)
            return read_histogram(catalogue_histogram(text) or self.folder / text)
        except TraceError as error:
            where = f"'{text}'" + (f" line {error.line}" if error.line else "")
            names = "; in the catalogue: " + ", ".join(catalogue_histograms()) if word == "histogram" else ""
            self.faults.add((*path, word), f"{error.found} in {where}", error.expected + names, words=True)
            return None

    def _variants(
        self, path: Path_, task: Task, cards: Mapping[str, inst.Model], context: Distribution, output: float
    ) -> tuple[inst.Variant, ...]:
        wanted: list[tuple[Path_, str, str, float | None, float, float]] = [
            ((*path, "models", i), name, name, None, 1.0, 1.0) for i, name in enumerate(task.models or [])
        ]
        wanted += [
            ((*path, "variants", i), v.name, v.model, v.max_context, v.calls_factor, v.quality_factor)
            for i, v in enumerate(task.variants or [])
        ]
        admitted: list[inst.Variant] = []
        best = 0.0
        for place, name, model, max_context, calls_factor, quality_factor in wanted:
            if model not in cards:
                continue  # its own fault is noted already
            quality = cards[model].quality * quality_factor
            formats = max(cards[model].quality_factor(*precision) for precision in cards[model].precisions)
            best = max(best, quality * formats)
            # The product of two decimals must not fall below the threshold that it equals on paper.
            if quality * formats >= task.min_quality * (1 - 1e-12):
                limit = self._context_limit(place, task, cards[model].card, context, output, max_context)
                admitted.append(inst.Variant(name, model, limit, calls_factor, quality))
        if wanted and not admitted and all(model in cards for _, _, model, *_ in wanted):
            self.faults.add(
                (*path, "min_quality"),
                task.min_quality,
                f"at most {best:g}, the best quality among its variants and their precisions",
            )
        return tuple(admitted)

    def _context_limit(
        self, path: Path_, task: Task, card: ModelCard, context: Distribution, output: float, given: float | None
    ) -> float:
        """Longest context of a variant: as the file says, and never above the model's own."""
        if given is not None and given <= card.max_context:
            return given
        share = 1.0 - context.cdf(float(card.max_context))
        beside = 1.0 - context.cdf(card.max_context - output)  # no room for a mean answer either
        if given is None and task.on_overlong == "refuse" and beside > MAX_OVERLONG:
            what = f"{100 * beside:.3g} % of contexts, with answers of {output:.0f} tokens,"
            self.faults.add(
                path,
                f"{what} above the {card.max_context} tokens of {card.id}",
                f"a variant with max_context of at most {card.max_context - output:.0f} (compaction), "
                "on_overlong: truncate, or a model with a longer context",
                words=True,
            )
        elif given is not None:
            self.faults.add(
                (*path, "max_context"), given, f"at most {card.max_context} tokens, the context of {card.id}"
            )
        elif share > 1e-6:
            self.warnings.append(
                f"tasks.{task.name}: {100 * share:.2g} % of contexts are cut to "
                f"the {card.max_context} tokens of {card.id}"
            )
        return float(card.max_context)

    # ---- hardware

    def _options(
        self, name: str, part: Hardware, networks: Mapping[str, inst.LinkOption | None]
    ) -> list[inst.HardwareOption]:
        """The hardware as it is sold, and with each network that it may be bought with."""
        option = self._hardware(name, part)
        if option is None:
            return []
        sold, base = option, accelerators()[part.accelerator] if part.accelerator is not None else None
        # A file that states a domain knows how far links go.
        if base is not None and "scaleup_domain" not in _given(part, Accelerator):
            sold = within_server(option, base.host_accelerators or base.server_accelerators)
        chosen = [networks[word] for word in part.links or () if word in networks]
        others = [with_link(option if link.network == "scaleup" else sold, link) for link in chosen if link is not None]
        return [sold, *(other for other in others if other.offers)]

    def _hardware(self, name: str, part: Hardware) -> inst.HardwareOption | None:
        path: Path_ = ("hardware", name)
        changes = _given(part, Accelerator)
        base = accelerators()[part.accelerator] if part.accelerator is not None else None
        size = part.server.accelerators or (base.server_accelerators if base else 1)
        if base is None:
            chip = self._completed(Accelerator, {"id": name, "name": name} | _OWN_HARDWARE | changes, path)
        else:
            chip = self._completed(Accelerator, merged(base, changes), path) if changes else base
            self.warnings.extend(f"hardware.{name}: assumption: {text}" for text in base.assumptions)
        offers = self._offers(name, part, base, size)
        if chip is None or offers is None:
            return None
        self._check_power(name, part, chip)
        return inst.HardwareOption(
            name=name,
            accelerator=chip,
            catalogue_id=base.id if base else name,
            server_accelerators=size,
            rack=part.server.rack,
            roles=tuple(part.roles or get_args(inst.Role)),
            offers=offers,
        )

    def _check_power(self, name: str, part: Hardware, chip: Accelerator) -> None:
        """A part of unknown power is planned with an assumed one, but not where a limit on power decides by it."""
        if chip.tdp is not None or chip.all_in_power is not None:
            return
        limit = "site.power" if self.problem.site.power is not None else ""
        limit = limit or (f"the power of rack {part.server.rack}" if part.server.rack is not None else "")
        if limit:
            found = f"no TDP of {chip.id} is published, and {limit} limits power"
            expected = "tdp: 800 W (what the part draws, by your own source)"
            self.faults.add(("hardware", name), found, expected, words=True)
            return
        self.warnings.append(
            f"hardware.{name}: assumption: no TDP of {chip.id} is published; its power follows from its peak FLOP/s"
        )

    def _offers(
        self, name: str, part: Hardware, base: Accelerator | None, size: int
    ) -> tuple[inst.Offer, ...] | None:
        """Ways to get it by itself; None (and a fault) where there is no way to get it at all."""
        kept = self._existing(name, size)
        in_units = any(name in unit.servers for unit in self.problem.purchase_units.values())
        if part.offers is not None:
            if not (part.offers or kept or in_units):
                expected = "an offer, or a unit under purchase_units that holds it"
                self.faults.add(("hardware", name, "offers"), "no offers", expected, words=True)
                return None
            return (*kept, *(hardware_offer(word, offer, size) for word, offer in part.offers.items()))
        if part.price is not None:
            return (*kept, _rent("price", part.price, "problem file", "", True))
        price = self._price(base.id) if base else None
        if price is None and in_units:
            return kept
        if price is None:
            what = (
                f"no price of {base.id} in the catalogue"
                if base
                else "an accelerator of your own without price"
            )
            self.faults.add(("hardware", name, "offers"), what, "price: 2.05 $/h, or offers", words=True)
            return None
        known = self.prices.get(price.list_id, price.date)
        self.prices[price.list_id] = min(known, price.date)
        source = price.list_id if price.verified else f"{price.list_id} (unverified)"
        if not price.verified:
            self.warnings.append(f"hardware.{name}: its price in {price.list_id} is unverified")
        as_of = self.problem.as_of
        age = (as_of - price.date).days if as_of is not None else 0
        if age * 86400.0 > self.problem.max_price_age:
            self.warnings.append(
                f"hardware.{name}: stale price: {price.list_id} of {price.date}, {age} days old"
            )
        includes = price_lists()[price.list_id].includes_power
        return (*kept, _rent("catalogue", price.usd_per_hour, source, price.date.isoformat(), includes))

    def _existing(self, name: str, size: int) -> tuple[inst.Offer, ...]:
        """What is there already of a hardware option, as offers."""
        mine = [item for item in self.problem.existing if item.hardware == name]
        return tuple(
            replace(
                _rent(f"{inst.EXISTING}{number or ''}", item.price, "problem file", "", item.includes_power),
                kind="existing",
                max_accelerators=item.servers * size,
                until=item.until,
            )
            for number, item in enumerate(mine)
        )

    def _price(self, accelerator_id: str) -> Price | None:
        chosen = self.problem.price_list
        listed = listed_price(accelerator_id, chosen) if chosen is not None else None
        return listed or default_price(accelerator_id)


def _given(part: Part, entry: type[Entry]) -> dict[str, Any]:
    """The fields of a catalogue entry that a part sets itself, in SI."""
    own = set(type(part).model_fields) & set(entry.model_fields) & part.model_fields_set
    return {name: getattr(part, name) for name in entry.model_fields if name in own}


def _levels(percentiles: Percentiles | None) -> inst.SloLevels:
    return percentiles.levels if percentiles is not None else ()


def _rent(name: str, price: float, source: str, date: str, includes_power: bool) -> inst.Offer:
    return inst.Offer(
        name=name,
        kind="rent",
        usd_per_accelerator_hour=price,
        capital_usd_per_accelerator=None,
        life_s=None,
        interest=0.0,
        includes_power=includes_power,
        min_accelerators=0,
        max_accelerators=None,
        price_source=source,
        price_date=date,
    )


def _pool(pool: MeasuredPool) -> inst.MeasuredPool:
    return inst.MeasuredPool(
        name=pool.name,
        accelerator=pool.accelerator,
        accelerators_per_replica=pool.accelerators_per_replica,
        cost_usd_per_hour=pool.cost,
        power_w=pool.power,
        max_rate_per_s={task: rate for task, rate in pool.max_rate.items() if rate > 0},
    )


def _inventory(
    name: str, count: int, hardware: tuple[inst.HardwareOption, ...], pools: tuple[inst.MeasuredPool, ...]
) -> inst.InventoryLimit:
    """A name means the hardware option of that name; else all of that catalogue id; and measured pools on
    it."""
    by_name = tuple(option.name for option in hardware if option.hardware == name)
    by_id = tuple(option.name for option in hardware if option.catalogue_id == name)
    measured = tuple(pool.name for pool in pools if pool.accelerator == name)
    return inst.InventoryLimit(name, count, by_name or by_id, measured)


def _options(problem: Problem, profiles: tuple[str, ...]) -> inst.Options:
    options = problem.options
    return inst.Options(
        disaggregation=options.disaggregation,
        split_decode=options.split_decode,
        split_tasks=options.split_tasks,
        gap=options.gap,
        time_limit_s=options.time_limit,
        seed=options.seed,
        threads=options.threads,
        memory_fraction=options.memory_fraction,
        memory_reserve_bytes=options.memory_reserve,
        max_sequences=options.max_sequences,
        max_utilization=options.max_utilization,
        max_replica_accelerators=options.max_replica_accelerators,
        max_context_parallel=options.max_context_parallel,
        max_expert_domains=options.max_expert_domains,
        profiles=profiles,
        safety=float(options.safety[1:]) / 100.0,
    )
