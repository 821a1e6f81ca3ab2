"""Measured serving rows as deployments: how many accelerators carried how many calls per second, at which latency.

A row qualifies where its load is known (clients that send as they are served, or a queue that never empties, and a
throughput) and where its accelerators are counted.  Others are counted under the reason why not.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from codesign.catalog import models
from codesign.validation.measured import DataError, Row, number, text
from codesign.validation.points import (
    CACHED,
    COLOCATED,
    CONTRADICTION,
    DISAGGREGATED,
    Point,
    Skip,
    decode_engine,
    is_apart,
    point_of,
)

ROLES = (COLOCATED, DISAGGREGATED)

FIGURES = (
    *("n_accel", "tp", "pp", "ep", "dp", "isl", "osl", "concurrency_or_batch", "ttft_ms_p50", "tpot_ms_p50"),
    *("output_tok_s_per_gpu", "total_tok_s_per_gpu", "prefill_workers", "prefill_tp", "prefill_accels"),
    *("decode_workers", "decode_tp", "decode_ep", "decode_dp_attention", "decode_accels"),
)
"""Columns that a deployment is read from: numbers from 0, or nothing."""
UNLIMITED = "max"
"""What rows of a queue that never empties have for a concurrency."""


@dataclass(frozen=True)
class Deployment:
    """One measured row: what served, and what it served."""

    point: Point
    """Part, model, precisions, stack and lengths; shape and concurrency are those of one engine that decodes."""
    role: str
    """How it was served: colocated, or disaggregated into engines for prompts and for answers."""
    accelerators: int
    """All that served."""
    engine_accelerators: int
    """Of the largest engine."""
    calls_per_s: float
    """Of the whole deployment: measured tokens per second over mean tokens of a call."""
    tpot_s: float | None
    """Measured median; None where none was published."""
    ttft_s: float | None
    """Measured median; None where none was published."""


def deployments_of(
    placed: Iterable[tuple[str, Row]], names: Mapping[tuple[str, str], str]
) -> tuple[list[Deployment], dict[str, int]]:
    """The deployments among rows, each with its place ("FILE: line N"), and how many others by reason.

    Raises DataError, which names place and column, for a cell that should hold a number and does not.
    """
    found: list[Deployment] = []
    left_out: dict[str, int] = {}
    for place, row in placed:
        _refuse_words(place, row)
        try:
            found.append(deployment_of(row, names))
        except Skip as skip:
            left_out[str(skip)] = left_out.get(str(skip), 0) + 1
    return found, left_out


def deployment_of(row: Row, names: Mapping[tuple[str, str], str]) -> Deployment:
    """The deployment of one row; raises Skip with the reason where it is none."""
    apart = is_apart(row)
    if text(row, "trust").lower().startswith("low: gpu counts"):
        raise Skip("doubtful number of accelerators")
    point = point_of(decode_engine(row) if apart else row, names)
    if point.out_of_score:
        raise Skip(point.out_of_score)
    if point.load not in ("closed", "waves", "offline"):
        raise Skip("load unknown: one batch at a time, or no throughput")
    if "parallelism not published" in text(row, "notes"):
        raise Skip("engine not published")
    if point.isl + point.osl > models()[point.model].max_context:
        raise Skip("longer than the model's context")
    if point.slice == CACHED:
        raise Skip("prefix cache: sessions are not published")
    accelerators = int(number(row, "n_accel"))
    engine = point.tp * point.pp * point.dp
    sizes = _engines(row, accelerators) if apart else (engine,)
    if not apart and accelerators % engine:
        raise Skip("doubtful number of accelerators")
    calls = _calls_per_s(row, point, accelerators)
    tpot, ttft = (_seconds(point.measured.get(metric)) for metric in ("tpot_ms_p50", "ttft_ms_p50"))
    _refuse_contradiction(row, point, calls, tpot, ttft)
    if apart:
        point = replace(point, concurrency=point.concurrency / number(row, "decode_workers"))
    return Deployment(
        point=point,
        role=DISAGGREGATED if apart else COLOCATED,
        accelerators=accelerators,
        engine_accelerators=max(sizes),
        calls_per_s=calls,
        tpot_s=tpot,
        ttft_s=ttft,
    )


def _refuse_words(place: str, row: Row) -> None:
    for column in FIGURES:
        found = text(row, column)
        if not found or (column == "concurrency_or_batch" and found == UNLIMITED):
            continue
        if not number(row, column) >= 0:
            raise DataError(f"{place}: {column}: found {found!r}; expected a number from 0, or nothing")


def _engines(row: Row, accelerators: int) -> tuple[int, int]:
    """Accelerators of a prefill and of a decode engine, where workers and engines make up what was counted."""
    sizes, counted = [], 0.0
    for side in ("prefill", "decode"):
        size, held = number(row, f"{side}_tp"), number(row, f"{side}_accels")
        if not size * number(row, f"{side}_workers") == held:
            raise Skip("doubtful number of accelerators")
        sizes.append(int(size))
        counted += held
    if counted != accelerators:
        raise Skip("doubtful number of accelerators")
    return sizes[0], sizes[1]


def _calls_per_s(row: Row, point: Point, accelerators: int) -> float:
    # Where prompts have engines of their own, published output tokens are per accelerator of those that decode.
    for column, tokens in (("total_tok_s_per_gpu", point.isl + point.osl), ("output_tok_s_per_gpu", point.osl)):
        if number(row, column) > 0:
            return number(row, column) * accelerators / tokens
    raise Skip("load unknown: one batch at a time, or no throughput")


def _refuse_contradiction(row: Row, point: Point, calls: float, tpot: float | None, ttft: float | None) -> None:
    """Little's law for clients that never pause: calls in the system are their rate times their time."""
    if point.load != "closed" or tpot is None or ttft is None:
        return
    factor = calls * (ttft + (point.osl - 1.0) * tpot) / number(row, "concurrency_or_batch")
    if not 1.0 / CONTRADICTION <= factor <= CONTRADICTION:
        raise Skip("published figures contradict each other")


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None or math.isnan(milliseconds) else 1e-3 * milliseconds
