"""What each task gets: percentiles of TTFT, TPOT, ITL and task latency over the ways that its calls take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from codesign.candidates.build import Candidates
from codesign.candidates.flows import CallFlow, chain_lengths, chain_moments
from codesign.optimize.fleet import FleetPlan
from codesign.performance import first_token_seconds
from codesign.performance.drafts import accepted
from codesign.performance.queueing import wait_exceeds
from codesign.problem.instance import TaskClass
from codesign.solution.operation import reload_seconds, rest_of_ttft
from codesign.solution.schema import SloResult
from codesign.solution.state import PoolState
from codesign.workload.population import answer_lengths


@dataclass(frozen=True)
class Way:
    """Calls of one commodity that take one prefill pool and one decode pool."""

    flow: CallFlow
    """The prefill or colocated flow."""
    prefill: PoolState
    decode: PoolState
    calls_per_s: float


def ways(candidates: Candidates, plan: FleetPlan, states: dict[int, PoolState]) -> list[Way]:
    """Match prefill and decode flows of each commodity, in proportion to their rates."""
    found: list[Way] = []
    decode_rates: dict[int, list[tuple[int, float]]] = {}
    for (column, f), rate in plan.rates.items():
        number = candidates.data.flows[f]
        if column in states and not number.serves and number.commodity is not None:
            decode_rates.setdefault(number.commodity, []).append((column, rate))
    for (column, f), rate in plan.rates.items():
        if column not in states:
            continue
        number, flow = candidates.data.flows[f], candidates.book.flows[f]
        if number.commodity is None:
            found.append(Way(flow, states[column], states[column], rate))
        elif number.serves:
            partners = decode_rates.get(number.commodity, [])
            total = sum(r for _, r in partners)
            found += [Way(flow, states[column], states[k], rate * r / total) for k, r in partners]
    return found


def call_latency(candidates: Candidates, way: Way) -> tuple[float, float]:
    """Mean and variance (s, s²) of one call, from its arrival to its last token."""
    weight, rest = rest_of_ttft(way.flow, way.prefill, way.decode)
    population = way.flow.calls.population
    wait, wait_variance = way.prefill.wait_moments()
    mean_rest = float(weight @ rest)
    ttft_variance = float(weight @ rest**2) - mean_rest**2 + wait_variance
    first, first_variance = wait + mean_rest, max(ttft_variance, 0.0)
    if way.decode.chunked is not None:
        mean, variance = way.decode.chunked.answer_moments(way.decode.table, way.flow)
        return first + mean, first_variance + variance
    emits = accepted(way.decode.table, way.flow.calls)
    number = population.output / emits.tokens
    steps = float(population.weight @ number)
    variance = max(float(population.weight @ number**2) - steps**2, 0.0) + emits.scatter * steps
    return first + steps * way.decode.step_s, first_variance + variance * way.decode.step_s**2


def slo_results(candidates: Candidates, task: TaskClass, routes: list[Way]) -> list[SloResult]:
    """Achieved value of every SLO of a task; its calls divide over `routes`."""
    results = []
    for metric, levels, tail in _promised(candidates, task, routes):
        for percentile, target in levels:
            results.append(
                SloResult.model_validate(
                    {
                        "metric": metric,
                        "percentile": percentile,
                        "target": target,
                        "achieved": _quantile(tail, percentile, target),
                    }
                )
            )
    return results


def keeps_slos(candidates: Candidates, task: TaskClass, routes: list[Way]) -> bool:
    """Does every SLO of a task hold, whose calls divide over `routes`?"""
    return all(
        tail(target) <= 1.0 - percentile
        for _, levels, tail in _promised(candidates, task, routes)
        for percentile, target in levels
    )


def _promised(
    candidates: Candidates, task: TaskClass, routes: list[Way]
) -> list[tuple[str, tuple[tuple[float, float], ...], Tail]]:
    """(metric, SLOs as percentile and target, tail over all calls) of a task."""
    total = sum(way.calls_per_s for way in routes)
    shares = [way.calls_per_s / total for way in routes]
    gaps = [way.calls_per_s * _steps(way) for way in routes]
    written = [each / max(sum(gaps), 1e-300) for each in gaps]
    return [
        ("ttft", task.ttft_slo, _mixture([_ttft_tail(candidates, way) for way in routes], shares)),
        ("tpot", task.tpot_slo, _mixture([_tpot_tail(way) for way in routes], shares)),
        ("itl", task.itl_slo, _mixture([_itl_tail(way) for way in routes], written)),
        ("task_latency", task.task_latency_slo, _mixture([_latency_tail(candidates, way) for way in routes], shares)),
    ]


def _steps(way: Way) -> float:
    """Of an answer, on average."""
    points = way.flow.calls.population
    return float(points.weight @ points.output) / accepted(way.decode.table, way.flow.calls).tokens


Tail = Callable[[float], float]
"""P(value > t)."""


def _mixture(tails: list[Tail], shares: list[float]) -> Tail:
    return lambda t: sum(share * tail(t) for share, tail in zip(shares, tails, strict=True))


def _quantile(tail: Tail, percentile: float, near: float) -> float:
    """Least t with P(value > t) ≤ 1 − percentile."""
    allowed = 1.0 - percentile
    high = near
    while tail(high) > allowed and high < 1e7:
        high *= 2.0
    if tail(high) > allowed:
        return float("inf")
    # The tail is a step function where lengths are points: close in on the jump from above.
    low = 0.0
    if tail(low) <= allowed:
        return low
    from scipy.optimize import brentq

    root = brentq(lambda t: tail(t) - allowed - 1e-13, low, high, xtol=1e-9 * near, rtol=1e-12)
    while tail(root) > allowed + 1e-12:
        root = np.nextafter(root * (1 + 1e-9), np.inf)
    return float(root)


def _ttft_tail(candidates: Candidates, way: Way) -> Tail:
    if way.prefill.chunked is not None:
        start = float(first_token_seconds(way.prefill.table)[0])
        tail = way.prefill.chunked.ttft_tail(way.prefill.table, way.flow, reload_seconds(way.flow, way.prefill))
        return lambda t: tail(t - start)
    weight, rest = rest_of_ttft(way.flow, way.prefill, way.decode)
    queue = way.prefill
    at = queue.wait_s, queue.utilization, queue.queue_servers, queue.skew
    return lambda t: float(weight @ wait_exceeds(t - rest, *at))


def _tpot_tail(way: Way) -> Tail:
    if way.decode.chunked is not None:
        lengths = answer_lengths(way.flow.calls.task, way.flow.calls.population)
        return way.decode.chunked.tpot_tail(way.decode.table, way.flow, lengths)
    step, emits = _step_tail(way.decode), accepted(way.decode.table, way.flow.calls)
    return lambda t: step(emits.target("tpot", t))


def _itl_tail(way: Way) -> Tail:
    """Of one gap: where nothing else is in the steps, it is as long as the mean of them."""
    if way.decode.chunked is not None:
        return way.decode.chunked.itl_tail(way.decode.table, way.flow)
    return _step_tail(way.decode)


def _step_tail(pool: PoolState) -> Tail:
    mean, deviation = pool.step_s, max(pool.step_sd_s, 1e-12)
    return lambda t: float(ndtr((mean - t) / deviation))


def _latency_tail(candidates: Candidates, way: Way) -> Tail:
    calls = way.flow.calls
    numbers, weights = chain_lengths(calls)
    middle, spread = chain_moments(calls, numbers, *call_latency(candidates, way))
    return lambda t: float(weights @ ndtr((middle - t) / spread))
