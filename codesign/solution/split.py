"""What a pool's money pays for: prefill, decode, KV parked between calls, idle capacity, redundancy.

Spares are redundancy.  Of what serves, a prompt queue idles 1 − ρ of the time, and a stepping pool the part of its
planned load that nobody uses; server slots that no replica fills idle too.  The rest is divided over the tasks by
their shares of the pool's binding row, and of each task by time in its slots (as prices per token are).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from codesign.solution.accounts import PoolAccount
from codesign.solution.promises import Way
from codesign.solution.state import PoolState
from codesign.solution.tokens import time_and_memory


def cost_split(account: PoolAccount, state: PoolState | None, routes: Sequence[Way]) -> Mapping[str, float]:
    """$/h of a pool by phase; the parts sum to its cost.  A pool known by measurements alone serves or idles."""
    cost = account.cost_per_hour
    redundancy = cost * account.spares / (account.replicas + account.spares)
    serving = cost - redundancy
    load = account.load if state is None or state.role != "prefill" else state.shares["busy"]
    used = serving * min(1.0, load) * (1.0 - account.unfilled)
    parts = {"prefill": 0.0, "decode": 0.0, "parked_kv": 0.0, "serve": 0.0}
    if state is None:
        parts["serve"] = used
    else:
        for task, share in account.share.items():
            mine = [w for w in routes if w.flow.task == task and account.column in (w.prefill.column, w.decode.column)]
            if mine:
                prompt, active, kept = time_and_memory(account.column, mine)
                parts["prefill"] += used * share * prompt
                parts["decode"] += used * share * active
                parts["parked_kv"] += used * share * kept
    parts["redundancy"] = redundancy
    parts["idle"] = cost - sum(parts.values())
    return {phase: usd for phase, usd in parts.items() if usd > 1e-9 * cost}
