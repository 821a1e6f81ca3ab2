"""OI, CF, regimes and Little's-law numbers of a problem as tables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from codesign.report.console import line, make_table, number, quantity
from codesign.workload.chain import ChainCall
from codesign.workload.profile import CapacityProfile, PhaseProfile, Profile


def profile_report(profile: Profile) -> Group:
    """All tables of a profile, Little's law first."""
    if not profile.totals:
        return Group("No task has a model: measured pools alone serve them, so there is nothing to profile.")
    parts: list[RenderableType] = [_totals(profile), *_assumptions(profile)]
    parts += [_chain(task, calls) for task, calls in profile.chains.items() if len(calls) > 1]
    for (task, variant, model, precision), rows in groupby(
        profile.phases, lambda row: (row.task, row.variant, row.model, _precision(row.precision))
    ):
        named = (
            f"{task}: {model} {precision}" if variant == model else f"{task}: {variant}, {model} {precision}"
        )
        parts.append(_phases(named, list(rows)))
    if profile.speculation:
        parts.append(_speculation(profile))
    if profile.capacity:
        parts.append(_capacity(profile.capacity))
    return Group(*parts)


def _precision(precision: dict[str, str]) -> str:
    return f"({precision['weights']}/{precision['activations']}/{precision['kv']})"


def _totals(profile: Profile) -> Table:
    table = make_table(
        "Little's law: what is in the system at the SLOs",
        ("task", "model", "KV"),
        ("task time", "open tasks", "resident KV", "with time-to-live", "prefix hits"),
    )
    for task, row in profile.totals.items():
        table.add_row(
            task,
            row.model,
            row.kv,
            quantity(row.task_seconds, "time"),
            number(row.open_tasks),
            quantity(row.resident_kv_bytes, "bytes"),
            quantity(row.resident_kv_bytes_with_ttl, "bytes"),
            f"{100 * row.hit_ratio:.3g} %",
        )
    return table


def _chain(task: str, calls: tuple[ChainCall, ...]) -> Table:
    table = make_table(
        f"{task}: the calls of a median task, if everything is kept",
        ("call",),
        ("context", "cached", "new", "output", "KV at its end", "tool time after it"),
    )
    for row in calls:
        table.add_row(
            f"{row.call} of {row.of}",
            quantity(row.context_tokens, "tokens"),
            quantity(row.cached_tokens, "tokens"),
            quantity(row.new_tokens, "tokens"),
            quantity(row.output_tokens, "tokens"),
            quantity(row.kv_bytes, "bytes"),
            quantity(row.wait_s, "time") if row.wait_s else "–",
        )
    return table


def _assumptions(profile: Profile) -> Iterator[Text]:
    for task, row in profile.totals.items():
        for assumption in row.assumptions:
            yield line(f"Note: {task}: {assumption}", "yellow")


def _phases(title: str, rows: list[PhaseProfile]) -> Table:
    table = make_table(
        title,
        ("phase", "block"),
        ("batch", "context", "OI FLOP/B", "CF/request", "CF/device", "FLOP/call", "bytes/call"),
        ("regime",),
    )
    order = {"prefill": 0, "decode": 1, "parked": 2}
    for row in sorted(rows, key=lambda row: (order[row.phase], row.block, row.batch)):
        table.add_row(
            row.phase,
            row.block,
            str(row.batch),
            quantity(row.context_tokens, "tokens"),
            f"{row.operational_intensity:,.1f}" if row.operational_intensity else "–",
            quantity(row.cf_request_bytes, "bytes"),
            quantity(row.cf_device_bytes, "bytes"),
            f"{row.flops_per_call:.3g}" if row.flops_per_call else "–",
            quantity(row.bytes_per_call, "bytes") if row.bytes_per_call else "–",
            _regimes(row),
        )
    return table


def _regimes(row: PhaseProfile) -> str:
    """Hardware by regime; the regime alone where all hardware is in it."""
    by_regime: dict[str, list[str]] = {}
    for hardware, regime in row.regime.items():
        by_regime.setdefault(regime, []).append(hardware)
    if len(by_regime) == 1:
        return next(iter(by_regime))
    return "; ".join(f"{regime}: {', '.join(names)}" for regime, names in by_regime.items())


def _speculation(profile: Profile) -> Table:
    table = make_table(
        "Speculative decoding, where a pool drafts",
        ("task", "model", "method"),
        ("drafted", "tokens a step", "verified per token"),
        ("acceptance",),
    )
    for row in profile.speculation:
        figures = (str(row.draft_tokens), f"{row.tokens_per_step:.3g}", f"{row.verified_per_token:.3g}")
        table.add_row(row.task, row.model, row.method, *figures, row.source)
    return table


def _capacity(rows: tuple[CapacityProfile, ...]) -> Table:
    batches = sorted({row.batch for row in rows})
    table = make_table(
        "Context at which memory is full (the fewest accelerators that hold the weights)",
        ("hardware", "model", "weights/act./KV"),
        ("accelerators", *(f"batch {batch}" for batch in batches)),
    )
    for (hardware, model, precision, size), group in groupby(
        rows, lambda row: (row.hardware, row.model, _precision(row.precision), row.accelerators)
    ):
        full = {row.batch: row.max_context_tokens for row in group}
        cells = ["any" if full.get(batch) is None else quantity(full[batch], "tokens") for batch in batches]
        table.add_row(hardware, model, precision[1:-1], str(size), *cells)
    return table
