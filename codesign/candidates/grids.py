"""The grids that operating points and commodity levels come from, all in one place.

Absolute: no SLO, rate or price moves them, so that a tighter SLO only removes columns (DESIGN 3.4).
"""

from __future__ import annotations

from dataclasses import dataclass

_DECADE = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)
_STEP_LIMITS_S = tuple(n / per for per in (100_000, 10_000, 1_000, 100, 10, 1) for n in _DECADE)


_QUICK_LEVELS_S = tuple(0.008 / 1.1**i for i in range(46, 0, -1))
"""Close to one another, since a fast engine's latency is that of its steps: few of them let a TTFT level more fit."""
_LOADED = 4.0
"""Steps of a loaded replica over those of an empty one, as far as limits go for slow hardware."""


@dataclass(frozen=True)
class Grids:
    """Ascending values of each grid; seconds, bytes per second, tokens and shares."""

    step_limits_s: tuple[float, ...] = _STEP_LIMITS_S
    """Step limits, round numbers since promises are such; none is an SLO's own, so that a tighter SLO only
    removes columns.  From below any step that moves weights and launches kernels to far above any SLO; `steps`
    leaves those that the configurations on offer can use."""
    floor_room: float = 0.02
    """Room above the step of an empty batch in the shortest limit of each configuration's own, which it has beside the
    grid's: so that no SLO that it can meet lies between two of them."""
    step_spreads: tuple[float, ...] = (0.04, 0.08, 0.14, 0.22, 0.33)
    """Shares of the step limit that decode pools keep free for fluctuation."""
    memory_spreads: tuple[float, ...] = (0.06, 0.2, 0.4)
    """Shares of the memory that decode pools keep free for fluctuation."""
    pools: tuple[int, ...] = (*range(1, 9), *(round(8 * 2 ** (n / 4)) for n in range(1, 25)))
    """Replicas that pool one prefill queue."""
    prefix_worth: float = 0.05
    """By how much columns that serve fewer tasks, and hold fewer prefixes, must leave more memory for sessions."""
    chunks: tuple[float, ...] = (256.0, 1024.0, 2048.0, 4096.0, 16384.0)
    """New prompt tokens that a colocated step may hold."""
    batches: tuple[float, ...] = (1.0, 4.0, 16.0, 48.0, 128.0, 384.0, 1024.0, 4096.0, 16384.0)
    """Knots of the chords of the step curve."""
    anchors: tuple[float, ...] = (1.0, 16.0, 128.0)
    """Batches (among `batches`) at which the chords of a non-convex step are tight."""
    fabrics_bytes_per_s: tuple[float, ...] = (25e9, 100e9, 400e9)
    """Transfer rates that a commodity may count on, of a replica and direction."""
    slow_fabrics_bytes_per_s: tuple[float, ...] = tuple(25e9 / 1.25**i for i in range(40, 0, -1))
    """Of these the nearest to the fastest replica of hardware that has not the least of the others."""
    ttls_s: tuple[float, ...] = (15.0, 60.0, 300.0, 1800.0)
    """Times-to-live of idle sessions' KV, where the planner decides them."""
    admission_s: tuple[float, ...] = tuple(0.05 * 2.0**i for i in range(11))
    """Steps that a TTFT may count on for decode admission."""
    quick_admission_s: tuple[float, ...] = (0.001, 0.0016, 0.0025, 0.004, 0.0063, 0.01, 0.016, 0.025)
    """The same, for a TTFT of less than `quick_ttft_s`: there the shortest of the others would take much of it."""
    quick_ttft_s: float = 0.25
    tpot_levels_s: tuple[float, ...] = (*_QUICK_LEVELS_S, *(s for s in _STEP_LIMITS_S if s >= 0.008))
    """Step limits that a commodity may count on for task latency."""
    ttft_levels_s: tuple[float, ...] = tuple(0.05 * 1.25**i for i in range(-20, 40))
    """Mean (and deviation) of TTFT that a commodity may count on for task latency."""

    longest_step_s: float = 1.0
    longest_tpot_level_s: float = 0.6
    longest_admission_s: float = 1.6
    """The three: where no configuration is so slow that it needs longer ones."""

    def steps(self, fastest: float, slowest: float) -> list[float]:
        """Step limits between configurations whose steps take `fastest` and `slowest` seconds without a load."""
        return _within(self.step_limits_s, self.longest_step_s, fastest, slowest)

    def tpot_levels(self, fastest: float, slowest: float) -> list[float]:
        """TPOT levels for such configurations."""
        return _within(self.tpot_levels_s, self.longest_tpot_level_s, fastest, slowest)

    def admissions(self, slowest: float) -> list[float]:
        """Admission steps for such configurations."""
        return _within(self.admission_s, self.longest_admission_s, 0.0, slowest)


def _within(levels: tuple[float, ...], usual: float, fastest: float, slowest: float) -> list[float]:
    """Levels that the fastest can keep, up to the usual longest or to steps with several sequences of the slowest."""
    longest = max(usual, _LOADED * slowest)
    return [level for level in levels if fastest <= level <= longest * (1 + 1e-12)]
