"""The calls of a task class as weighted points: averages over lengths are sums, not products of means.

A call has a prompt (context), of which a part can come from a cached prefix (reusable), and an output. Points
are a product quadrature of context × append × output with exact first and second moments, or the bins of the
class's joint histogram.

Which part is reusable:

- Context grows from call to call, so the first calls of tasks, a share 1/N of all, are those of shortest
  context. (The WEKA corpus starts at p50 24.8K against 110K over all calls and N = 80, facts/paper.md 4.2:
  near the lowest 1/N of its contexts.) They find only the shared prefix (system prompt, tools) in a cache.
- A later call can reuse anything but what was appended since the call before.
- `prefix.reusable` is what traces publish: reusable tokens over prompt tokens, over the whole population.
  The share of history that later calls reuse is set to meet it, as far as the two rules above let it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.problem.distributions import Distribution
from codesign.problem.instance import TaskClass, Variant

Array = NDArray[np.float64]

CALLS_POINTS = 5
"""Quadrature points of the number of calls in a task."""
ANSWER_POINTS = 9
"""Points of the output alone, where the short ones matter by themselves."""
_PROMPT_SHARES = (
    0.0, 0.15, 0.3, 0.45, 0.6, 0.7, 0.8, 0.85, 0.89, 0.91, 0.93, 0.945, 0.955, 0.97, 0.98, 0.985, 0.989, 0.991, 0.995,
    0.998, 1.0,
)  # fmt: skip
"""Shares of prompts between which one of the longer stands for all, closer around percentiles that are promised."""
_PLACES = 4096
"""Contexts, evenly over all calls, at which the most that can be reused is found."""
_BLOCK = 4096
"""Elements of a sum at a time."""


@dataclass(frozen=True, eq=False)
class CallPopulation:
    """The calls of one task class under one variant. Arrays have shape [Q]; lengths are in tokens."""

    weight: Array
    """Share of calls; sums to 1."""
    context: Array
    """Prompt, history included."""
    reusable: Array
    """Prompt tokens that a cache can hold: shared prefix included, at most context − 1."""
    output: Array
    first: NDArray[np.bool_]
    """First call of its task: only the shared prefix is reusable."""
    calls_mean: float
    """Calls per task (≥ 1)."""
    calls_values: Array
    """[n] numbers of calls per task, for sums over the task."""
    calls_weights: Array
    """[n] their probabilities."""
    wait: Distribution
    """Seconds of tool time between two calls."""
    shared_tokens: float
    """Prefix shared by all tasks of the class: held once per replica, always found."""
    longest: float = np.inf
    """Longest prompt that is served; longer ones are cut to it."""

    def mean(self, values: Array) -> Array:
        """Average over calls of values [..., Q]."""
        return np.asarray(values @ self.weight)

    @property
    def reusable_share(self) -> float:
        """Reusable tokens over prompt tokens: the hit ratio when everything is kept."""
        return float(self.mean(self.reusable) / self.mean(self.context))

    def cached(self, kept: float) -> Array:
        """Mean cached tokens [Q] when a task's own history is still there with probability ``kept``.

        Averages only: the second moment of prefill needs the two outcomes, kept and dropped, apart.
        """
        shared = np.minimum(self.shared_tokens, self.reusable)
        return shared + kept * (self.reusable - shared)


def call_population(
    task: TaskClass,
    variant: Variant,
    points: tuple[int, int, int] = (7, 3, 3),
    *,
    context_limit: float | None = None,
) -> CallPopulation:
    """Weighted points of the calls of a task class under a variant.

    Parameters
    ----------
    points:
        Most quadrature points of context, append and output. Context and output come from the joint histogram
        instead where the class has one.
    context_limit:
        Longest prompt that is served, beside ``variant.max_context`` (the card's limit where
        ``on_overlong: truncate``). Longer contexts are compacted or truncated to it.

    Where ``prefix.hit`` is fixed, it takes the place of ``prefix.reusable`` (see :func:`kept_probability`).
    """
    limits = [limit for limit in (variant.max_context, context_limit) if limit is not None]
    limit = min(limits, default=np.inf)
    calls, calls_weights = task.calls.points(CALLS_POINTS)
    calls = np.maximum(calls * variant.calls_factor, 1.0)
    calls_mean = float(calls @ calls_weights)

    append = task.append.points(points[1])
    if task.lengths is not None:
        pairs = np.minimum(task.lengths.input, limit), task.lengths.output, task.lengths.weight
        if calls_mean == 1.0:
            append = np.zeros(1), np.ones(1)  # every call is a first one: nothing was there before it
    else:
        context, context_weight = _cut(task.context, limit, points[0])
        output, output_weight = task.output.points(points[2])
        pairs = (
            np.repeat(context, output.size),
            np.tile(output, context.size),
            np.outer(context_weight, output_weight).ravel(),
        )
    context, output = (np.repeat(column, append[0].size) for column in pairs[:2])
    weight = np.outer(pairs[2], append[1]).ravel()
    appended = np.minimum(np.tile(append[0], pairs[0].size), context)

    context, output, appended, weight, first = _split_first(
        context, output, appended, weight / weight.sum(), 1.0 / calls_mean
    )
    shared = np.minimum(task.prefix_shared_tokens, np.maximum(context - 1.0, 0.0))
    share = task.prefix_reusable if task.prefix_hit is None else task.prefix_hit
    if calls_mean > 1.0 and share > 0:
        share = min(share, _most_reusable(task, limit, 1.0 / calls_mean))
    return CallPopulation(
        weight=weight,
        context=context,
        reusable=reusable_tokens(context, appended, weight, first, shared, share),
        output=output,
        first=first,
        calls_mean=calls_mean,
        calls_values=calls,
        calls_weights=calls_weights,
        wait=task.tool_wait,
        shared_tokens=task.prefix_shared_tokens,
        longest=limit,
    )


def prompt_lengths(task: TaskClass, population: CallPopulation) -> tuple[Array, Array]:
    """(weight, tokens) of contexts alone, finer than the population's points towards the long ones.

    Where prompts seldom wait, those have the tail of TTFT.
    """
    if task.lengths is not None or task.context.kind == "constant":
        return population.weight, population.context
    ends = np.array(_PROMPT_SHARES)
    tokens = task.context.quantiles(0.75 * ends[1:] + 0.25 * ends[:-1])
    return np.diff(ends), np.maximum(np.minimum(tokens, population.longest), 1.0)


def answer_lengths(task: TaskClass, population: CallPopulation) -> tuple[Array, Array]:
    """(weight, tokens) of outputs alone, finer than the population's points: short answers have the tail of TPOT.

    What a call waits for once is divided by its output there, and three points say little about 1/output.
    """
    if task.lengths is not None:
        return population.weight, population.output
    output, weight = task.output.points(ANSWER_POINTS)
    return weight, output


def kept_probability(task: TaskClass, ttl_s: float) -> float:
    """Probability that a task's KV is still held when its next call comes, with a time-to-live in seconds.

    The idle gap's distribution function at the time-to-live (that of the tool wait where no gap is given); 1
    where the file fixes the hit ratio, since the population is then built with that ratio.
    """
    _check_ttl(ttl_s)
    return 1.0 if task.prefix_hit is not None else task.gap.cdf(ttl_s)


def held_seconds(task: TaskClass, ttl_s: float, calls_factor: float = 1.0) -> tuple[float, float]:
    """Mean and second moment (s, s²) of the time for which a call's KV is held after it has ended.

    min(Z, T) after a call that another one follows, with share (N−1)/N, where Z is the idle gap; the whole T
    after the last, because a server cannot know that the task has ended (DESIGN 3.5).
    """
    _check_ttl(ttl_s)
    calls, weights = task.calls.points(CALLS_POINTS)
    last = 1.0 / float(np.maximum(calls * calls_factor, 1.0) @ weights)
    wait = task.gap
    mean = (1.0 - last) * wait.limited_mean(ttl_s) + last * ttl_s
    second = (1.0 - last) * wait.limited_second_moment(ttl_s) + last * ttl_s**2
    return mean, second


def _check_ttl(ttl_s: float) -> None:
    if not (np.isfinite(ttl_s) and ttl_s >= 0):
        raise ValueError(f"found a time-to-live of {ttl_s} s; expected a finite number ≥ 0")


def _most_reusable(task: TaskClass, limit: float, first_share: float) -> float:
    """Share of prompt tokens that an ideal cache finds, over the distributions themselves.

    Where appends often exceed contexts, few points of both miss it by so much that prefill is a sixth too small.
    """
    middle = (np.arange(_PLACES) + 0.5) / _PLACES
    if task.lengths is None:
        context = task.context.quantiles(middle)
    else:
        order = np.argsort(task.lengths.input, kind="stable")
        reached = np.searchsorted(np.cumsum(task.lengths.weight[order]), middle)
        context = task.lengths.input[order[np.minimum(reached, order.size - 1)]]
    context = np.maximum(np.minimum(context, limit), 1.0)
    new = np.minimum(np.maximum(task.append.limited_mean(context), 1.0), context)
    shared = np.minimum(task.prefix_shared_tokens, context - 1.0)
    first = np.clip(first_share * _PLACES - np.arange(_PLACES), 0.0, 1.0)
    found = first * shared + (1.0 - first) * (context - new)
    return _total(np.ones(_PLACES), found) / _total(np.ones(_PLACES), context)


def _cut(context: Distribution, limit: float, n: int) -> tuple[Array, Array]:
    """Quadrature of min(context, limit); points below the limit are rescaled to meet its exact mean."""
    values, weights = context.points(n)
    if np.isinf(limit) or context.kind == "constant":
        return np.minimum(values, limit), weights
    mean = context.limited_mean(limit)
    for _ in range(n):  # what is rescaled beyond the limit is cut, and the rest once more
        below = values < limit
        if not below.any():
            break
        values = np.where(below, values, limit)
        room = mean - limit * weights[~below].sum()
        values = np.where(below, values * max(room, 0.0) / (weights[below] @ values[below]), values)
        if values.max() <= limit:
            break
    return np.minimum(values, limit), weights


def _split_first(
    context: Array, output: Array, appended: Array, weight: Array, share: float
) -> tuple[Array, Array, Array, Array, NDArray[np.bool_]]:
    """Mark the ``share`` of calls with the shortest context as first; points on the border are split."""
    order = np.argsort(context, kind="stable")
    context, output, appended, weight = (column[order] for column in (context, output, appended, weight))
    # Points of one context share the border evenly, so that outputs and appends keep their distribution.
    _, group = np.unique(context, return_inverse=True)
    mass = np.bincount(group, weights=weight)
    before = np.cumsum(mass) - mass
    # Rounded, so that no sliver of 1e-16 becomes a call of its own.
    part = np.clip((share - before) / mass, 0.0, 1.0).round(9)[group]
    rows = np.concatenate((np.flatnonzero(part > 0), np.flatnonzero(part < 1)))
    first = np.arange(rows.size) < np.count_nonzero(part > 0)
    weight = np.where(first, part[rows], 1.0 - part[rows]) * weight[rows]
    return context[rows], output[rows], appended[rows], weight, first


def _total(weight: Array, values: Array) -> float:
    """Σ weight · values [Q], in blocks that no library divides among threads: their number would change last bits."""
    blocks = range(0, len(weight), _BLOCK)
    return sum(float(weight[i : i + _BLOCK] @ values[i : i + _BLOCK]) for i in blocks)


def reusable_tokens(
    context: Array, appended: Array, weight: Array, first: NDArray[np.bool_], shared: Array, share: float
) -> Array:
    """Reusable tokens [Q]: the history of later calls is scaled to meet the share, if it can be."""
    # A prompt is never cached whole: the last token's logits have to be computed.
    history = np.clip(context - np.maximum(appended, 1.0), 0.0, None)
    floor = np.where(first, shared, np.minimum(shared, history))
    own = np.where(first, 0.0, history - floor)
    wanted = share * _total(weight, context) - _total(weight, floor)
    available = _total(weight, own)
    fraction = min(max(wanted / available, 0.0), 1.0) if available > 0 else 0.0
    return np.asarray(floor + fraction * own)
