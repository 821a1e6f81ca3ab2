"""What tokens cost, by kind: a task's part of each pool divided over its prompt, its output and its waiting KV."""

from __future__ import annotations

from collections.abc import Sequence

from codesign.solution.accounts import Accounts
from codesign.solution.promises import Way
from codesign.solution.schema import TokenPrices


def token_prices(accounts: Accounts, c: int, mine: Sequence[Way]) -> TokenPrices | None:
    """$ per million tokens by kind: prefill pools pay for new input, decode pools for output; for cached input
    the share of a decode pool's memory that waits between calls, and the memory modules."""
    if not mine:
        return None
    new = cached = output = 0.0
    for way in mine:
        points = way.flow.calls.prefill_points(way.flow.residency)
        new += way.calls_per_s * float(points.new @ points.weight)
        cached += way.calls_per_s * float(points.cached @ points.weight)
        population = way.flow.calls.population
        output += way.calls_per_s * float(population.weight @ population.output)
    bill = {"new": 0.0, "cached": accounts.task_modules_usd_per_hour[c], "output": 0.0}
    for account in accounts.pools:
        part = account.share.get(c, 0.0) * account.cost_per_hour
        states = [w for w in mine if account.column in (w.prefill.column, w.decode.column)]
        if not part or not states:
            continue
        prompt, active, kept = time_and_memory(account.column, states)
        bill["new"] += part * prompt
        bill["output"] += part * active
        bill["cached"] += part * kept
    hour = 3600.0 / 1e6
    return TokenPrices(
        new_input=bill["new"] / (new * hour) if new > 0.5 else None,
        cached_input=bill["cached"] / (cached * hour) if cached > 0.5 else None,
        output=bill["output"] / (output * hour) if output > 0 else None,
    )


def time_and_memory(column: int, mine: Sequence[Way]) -> tuple[float, float, float]:
    """Shares (prompt, output, kept) of a task's use of one pool."""
    way = next(w for w in mine if column in (w.prefill.column, w.decode.column))
    if way.prefill.column == column and way.prefill.role == "prefill":
        return 1.0, 0.0, 0.0
    calls = way.flow.calls
    population = calls.population
    active_s = float(population.weight @ way.decode.decode_seconds(way.flow))
    kept_s = calls.held_s if way.flow.residency == way.decode.role.removeprefix("split-") else 0.0
    prompt = 0.0
    if way.decode.chunked is not None:
        points = calls.prefill_points(way.flow.residency)
        chunks_s = float(points.new @ points.weight) / way.decode.chunked.chunk * way.decode.chunked.full_step_s
        # A sequence occupies one slot of the batch, a chunk the whole step.
        prompt = chunks_s / (chunks_s + active_s / max(way.decode.batch, 1.0))
    # Memory that waits costs as much as the part of the pool that memory binds.
    kept = kept_s / (kept_s + active_s) if way.decode.binding == "capacity" else 0.0
    return prompt, (1 - prompt) * (1 - kept), (1 - prompt) * kept
