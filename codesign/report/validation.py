"""What a validation or a calibration found, as tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table

from codesign.report.console import line, make_table, number, percent
from codesign.validation.calibrate import Calibration
from codesign.validation.commands import Validation
from codesign.validation.errors import LEAST_ROWS, ErrorRow
from codesign.validation.leverage import WORTH, Leverage
from codesign.validation.measured import TPOT_AT_SHARE
from codesign.validation.points import SERVING

_NAMES = {
    "ttft_ms_p50": "TTFT p50",
    "tpot_ms_p50": "TPOT p50",
    "output_tok_s_per_gpu": "output tok/s per GPU",
    "total_tok_s_per_gpu": "total tok/s per GPU",
    "energy_per_output_token_j": "J per output token",
    "itl_ms_p50": "ITL p50",
    "e2e_ms_p50": "end to end p50",
    "prefill_power_w": "W per accelerator, prefill",
    "decode_power_w": "W per accelerator, decode",
    TPOT_AT_SHARE: "TPOT p50, measured decode share",
}


def validation_report(found: Validation) -> Group:
    """All tables of a validation: errors, bands, ranks, users' calibration, what was not predicted."""
    parts: list[RenderableType] = []
    for by in dict.fromkeys(row.by for row in found.summary):
        title = f"Errors by {by}"
        if by == "all":
            title = f"Errors, average over sources with {LEAST_ROWS} rows and more; 80 % interval of the median"
        parts.append(_errors(title, by, [row for row in found.summary if row.by == by]))
    parts += [_bands(found), _ranks(found)]
    if found.user_calibration:
        parts.append(_stacks(found))
    if found.assumed_hits:
        parts.append(_hits(found))
    parts += [counts("Not predicted", found.skipped), counts("Not scored", found.out_of_score)]
    parts.append(
        line(
            "Given rows were in view while terms were chosen (which kernels, vLLM's time per sequence, the lasting "
            "skew of experts), and so were disaggregated and cached ones (the handover between sides, hit ratios of "
            "caches that publish none); what a stack adds to a TTFT was chosen on older runs that are not scored. "
            "Held out by part: without anything that was measured on the part's generation."
        )
    )
    seen = {comparison.point.slice for comparison in found.comparisons}
    if missing := [name for name in SERVING if name not in seen]:
        parts.append(line(f"These rows do not validate {' or '.join(missing)} serving.", "yellow"))
    return Group(*parts)


def _errors(title: str, by: str, rows: list[ErrorRow]) -> Table:
    first = "slice" if by == "all" else by
    table = make_table(
        title,
        (first, "metric"),
        ("rows", "median", "mean", "signed", "p90", "within 20 %", "in the 80 % band"),
    )
    for row in rows:
        figures = (row.median, row.mean, row.signed, row.p90, row.within_20, row.covered)
        words = [f"{100 * value:.1f} %" for value in figures]
        if row.median_low is not None and row.median_high is not None:
            words[0] += f" ({100 * row.median_low:.1f}-{100 * row.median_high:.1f})"
        table.add_row(row.key, _NAMES[row.metric], str(row.count), *words)
    return table


def _bands(found: Validation) -> Table:
    table = make_table(
        "80 % bands, on accelerator-model pairs that did not set them",
        ("of", "class"),
        ("rows", "pairs", "rows covered", "pairs covered", "width"),
    )
    for row in found.coverage:
        shares = (row.covered, row.covered_pairs)
        covered = ("–" if share != share else f"{100 * share:.1f} %" for share in shares)
        width = f"×/÷ {2.718281828459045**row.half_width:.2f}"
        table.add_row(
            row.quantity, row.kind.replace("_", " "), str(row.rows), str(row.pairs), *covered, width
        )
    if found.bracket_rows:
        share = f"{100 * found.bracket_covered:.1f} %"
        table.add_row("ttft", "bracket", str(found.bracket_rows), "–", share, "–", "–")
    return table


def _ranks(found: Validation) -> Table:
    table = make_table(
        "Order of (accelerator, precision) pairs that differ by more than 10 %",
        ("source", "metric"),
        ("pairs", "right"),
    )
    for row in found.ranks:
        table.add_row(row.source, _NAMES[row.metric], str(row.pairs), percent(row.agreed))
    return table


def _stacks(found: Validation) -> Table:
    table = make_table(
        "Four points of a stack calibrate it: median error of time per token on the rest",
        ("stack",),
        ("rest", "before", "after"),
    )
    for row in found.user_calibration:
        table.add_row(row.stack, str(row.rest), percent(row.median_before), percent(row.median_after))
    return table


def _hits(found: Validation) -> Table:
    table = make_table(
        "Hit ratios that are not published: the constant that explains TPOT best, chosen on these rows",
        ("source", "of"),
        ("rows", "hit ratio", "TPOT, median", "range", "median at its ends", "most moved row"),
    )
    for row in found.assumed_hits:
        table.add_row(
            row.source,
            row.pair,
            str(row.rows),
            f"{row.ratio:.2f}",
            percent(row.median),
            f"{row.low:.2f} to {row.high:.2f}",
            f"{percent(row.median_low)}, {percent(row.median_high)}",
            f"×{1.0 + row.change:.2f}",
        )
    return table


def counts(title: str, found: Mapping[str, int]) -> Table:
    """How many rows there are for each reason."""
    table = make_table(title, ("reason",), ("rows",))
    for reason, count in found.items():
        table.add_row(reason, str(count))
    return table


def calibration_report(found: Calibration) -> Group:
    """The profile that a few points gave, and how it explains them."""
    profile = found.profile
    table = make_table(f"Engine profile {profile.name}", ("what",), ("value",))
    host = (profile.host_step_s or 0.0) * 1e3
    table.add_row("multiplier of kernel times", f"{profile.multiplier:.3f}")
    table.add_row("host time per step", f"{host:.3g} ms")
    table.add_row("per sequence and step", f"{profile.per_sequence_s * 1e6:.3g} µs")
    table.add_row("charge of others' prefills", f"{profile.prefill_charge:.2f}")
    if profile.first_token_s is not None:
        table.add_row("added to each TTFT", f"{profile.first_token_s * 1e3:.3g} ms")
    table.add_row("holds for", ", ".join(profile.accelerators))
    points = make_table("Time per output token, ms", ("point",), ("measured", "default", "calibrated"))
    for index, values in enumerate(zip(found.measured_ms, found.before_ms, found.after_ms, strict=True)):
        points.add_row(str(index + 1), *(f"{value:.4g}" for value in values))
    pace = f"{percent(abs(found.slower), 2)} {'slower' if found.slower > 0 else 'faster'} than"
    return Group(
        table,
        points,
        line(
            f"Your stack is {pace} the model with its default profile: plans whose `options.profiles` name this "
            "profile count with that from here on.",
            "bold",
        ),
        line(
            f"Median error on these points: {percent(found.median_before)} before, "
            f"{percent(found.median_after)} after. On other points of a stack so calibrated it is larger: "
            "`codesign validate` shows it."
        ),
    )


def leverage_report(found: Leverage) -> Group:
    """The constants that move a plan, and by how much at the ends of their ranges."""
    table = make_table(
        f"Constants that move the objective by more than {percent(WORTH)}",
        ("constant",),
        ("low", "high", "objective at low", "at high", "buys other parts"),
    )
    for row in found.rows:
        ends = (number(row.objective_low), number(row.objective_high))
        table.add_row(row.constant, f"{row.low:.4g}", f"{row.high:.4g}", *ends, "yes" if row.purchase_changes else "no")
    words = f"{len(found.rows)} of {found.looked_at} constants; with all as they are the objective is "
    return Group(table, line(words + number(found.objective)))
