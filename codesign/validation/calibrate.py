"""An engine profile from a user's own 3 to 5 measured points, pulled to the defaults where they say little.

    time per token = m·(kernels + κ·interference) + h·stages + s·sequences

in four numbers: multiplier m, host step h, per-sequence step s and prefill charge κ. Least squares of the
logarithms with a prior on each: a few points cannot carry more, and profiles fitted without one transfer
badly.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.performance.profile import EngineProfile
from codesign.validation.engine_load import Load, table_of
from codesign.validation.measured import DataError
from codesign.validation.points import Point
from codesign.validation.predict import predict

FloatArray = NDArray[np.float64]

MEASUREMENT_ERROR = 0.03
"""Spread of a measured time per token (0.6 % within a week, 5 % across software updates)."""
PRIOR_MULTIPLIER = 0.25
"""Spread of the multiplier's logarithm around 0."""
PRIOR_HOST_S = 4e-3
PRIOR_SEQUENCE_S = 40e-6
PRIOR_CHARGE = 0.25
OUTLIER = 3.0
"""Spreads beyond which a point counts less: a published point may be wrong by factors."""
SMALLEST_ERROR = 0.05
"""What a calibrated profile claims at best: leave-rest-out errors of stacks, not of the points themselves."""


@dataclass(frozen=True)
class Calibration:
    """A fitted profile and how well it explains the points that it was fitted to."""

    profile: EngineProfile
    measured_ms: tuple[float, ...]
    """Time per output token of each point that has one."""
    before_ms: tuple[float, ...]
    """Predicted with the engine's default profile."""
    after_ms: tuple[float, ...]
    """Predicted with the fitted one."""

    @property
    def slower(self) -> float:
        """How much longer the stack's steps take than the default profile says (median; negative: shorter)."""
        return float(np.median(np.array(self.measured_ms) / np.array(self.before_ms))) - 1.0

    @property
    def median_before(self) -> float:
        """Median relative error of the default profile."""
        return _median_error(self.before_ms, self.measured_ms)

    @property
    def median_after(self) -> float:
        """Median relative error of the fitted profile on its own points."""
        return _median_error(self.after_ms, self.measured_ms)


def calibrate(points: Sequence[Point], prior: EngineProfile, name: str = "") -> Calibration:
    """Fit a profile to points of one stack; ``prior`` is where it starts from and is pulled to.

    Every point needs a TPOT, an output rate or a TTFT. Raises ValueError where none has a time per token,
    DataError where no fit is found.
    """
    parts = tuple(dict.fromkeys(point.accelerator for point in points))
    # Kernel times alone: a profile that names the parts brings no vendor's extra.
    bare = EngineProfile(host_step_s=0.0, kernels=prior.kernels, accelerators=parts)
    table = table_of(points, bare)
    load = Load.of(table, points)
    measured = _time_per_token_s(points, load)
    timed = np.isfinite(measured)
    if not timed.any():
        raise ValueError("found no point with a TPOT or an output rate; expected at least one")
    kernels = load.step_s(table, load.batch)
    interference = load.interference_s(load.batch, 1.0)
    prompts = np.where(np.isfinite(_tpot_s(points)), 0.0, _first_token_share(load))
    stages = table.pp.astype(float)
    host = prior.host_step_s or 0.0

    def modelled(x: FloatArray) -> FloatArray:
        kernel = np.exp(x[0]) * (kernels + x[3] * interference + prompts)
        return np.asarray(kernel + x[1] * stages + x[2] * load.batch)

    def residuals(x: FloatArray) -> FloatArray:
        errors = np.log(modelled(x)[timed] / measured[timed]) / MEASUREMENT_ERROR
        priors = (
            (x[0] - np.log(prior.multiplier)) / PRIOR_MULTIPLIER,
            (x[1] - host) / PRIOR_HOST_S,
            (x[2] - prior.per_sequence_s) / PRIOR_SEQUENCE_S,
            (x[3] - prior.prefill_charge) / PRIOR_CHARGE,
        )
        return np.concatenate([errors, priors])

    from scipy.optimize import least_squares

    start = np.array([np.log(prior.multiplier), max(host, 1e-4), max(prior.per_sequence_s, 1e-6), 1.0])
    fit = least_squares(
        residuals,
        start,
        bounds=([-1.5, 0.0, 0.0, 0.0], [1.5, 0.1, 2e-3, 3.0]),
        x_scale=[0.1, 1e-3, 1e-5, 0.1],
        loss="soft_l1",
        f_scale=OUTLIER,
    )
    if not fit.success:
        raise DataError(
            f"the fit to {len(points)} points did not converge ({fit.message}); expected points of one stack"
        )
    found = fit.x
    profile = replace(
        prior,
        name=name or f"calibrated {points[0].engine}",
        multiplier=float(np.exp(found[0])),
        host_step_s=float(found[1]),
        per_sequence_s=float(found[2]),
        prefill_charge=float(found[3]),
        accelerators=parts,
        source=f"{len(points)} measured points, on {', '.join(dict.fromkeys(p.pair for p in points))}",
        date=datetime.date.today().isoformat(),
    )
    profile = replace(profile, first_token_s=_first_token_s(points, profile))
    before, after = (_predicted_ms(points, p)[timed] for p in (prior, profile))
    fitted = Calibration(profile, tuple(1e3 * measured[timed]), tuple(before.tolist()), tuple(after.tolist()))
    # In-sample errors flatter: twice the median, and never below what unseen rows of calibrated stacks gave.
    own = max(2.0 * fitted.median_after, 2.0 * SMALLEST_ERROR)
    return replace(fitted, profile=replace(profile, expected_error=round(own, 4)))


def _tpot_s(points: Sequence[Point]) -> FloatArray:
    return np.array([point.measured.get("tpot_ms_p50", np.nan) for point in points]) * 1e-3


def _time_per_token_s(points: Sequence[Point], load: Load) -> FloatArray:
    """Measured TPOT; where there is none, sequences over output tokens per second, prefill included."""
    rate = np.array([p.measured.get("output_tok_s_per_gpu", np.nan) * p.tp * p.pp * p.dp for p in points])
    tpot = _tpot_s(points)
    return np.where(np.isfinite(tpot), tpot, load.batch / rate)


def _first_token_share(load: Load) -> FloatArray:
    """What the prompt of a batch adds to each output token when only the rate is known."""
    everyone = load.own_s + (load.batch - 1.0) * load.shared_s
    return np.where(load.together, everyone, load.own_s) / load.osl


def _predicted_ms(points: Sequence[Point], profile: EngineProfile) -> FloatArray:
    """Predicted time per output token in the sense of :func:`_time_per_token_s`, ms."""
    found = predict(points, lambda _: profile)
    gpus = np.array([point.tp * point.pp * point.dp for point in points])
    by_rate = 1e3 * found.batch / (found.values["output_tok_s_per_gpu"] * gpus)
    return np.where(np.isfinite(_tpot_s(points)), found.values["tpot_ms_p50"], by_rate)


def _first_token_s(points: Sequence[Point], profile: EngineProfile) -> float | None:
    """What the stack adds to each TTFT: median of what simulation leaves of closed loops; the prior's without any."""
    rows = [p for p in points if p.load == "closed" and "ttft_ms_p50" in p.measured]
    if not rows:
        return profile.first_token_s
    found = predict(rows, lambda _: replace(profile, first_token_s=0.0)).values["ttft_ms_p50"]
    left = np.array([p.measured["ttft_ms_p50"] for p in rows]) - found
    return float(np.clip(np.median(left), 0.0, 1e4)) * 1e-3


def _median_error(predicted: ArrayLike, measured: ArrayLike) -> float:
    return float(np.median(np.abs(np.asarray(predicted) / np.asarray(measured) - 1.0)))


@dataclass(frozen=True)
class StackResult:
    """Leave-rest-out test of one stack: a few points calibrate it, the others are predicted."""

    stack: str
    points: int
    rest: int
    median_before: float
    median_after: float


def leave_rest_out(points: Sequence[Point], count: int = 4) -> list[StackResult]:
    """Calibrate each stack (source, parts, precision, engine) on ``count`` spread points, test the rest.

    Stacks with fewer than twice as many points are left out.
    """
    from codesign.validation.predict import stack_default

    stacks: dict[str, list[Point]] = {}
    for point in points:
        if not point.out_of_score and (
            "tpot_ms_p50" in point.measured or "output_tok_s_per_gpu" in point.measured
        ):
            key = f"{point.source}: {point.pair} {point.weights} {point.stack}"
            stacks.setdefault(key, []).append(point)
    results = []
    for key, members in sorted(stacks.items()):
        if len(members) < 2 * count:
            continue
        chosen = spread(members, count)
        rest = [point for point in members if point not in chosen]
        prior = stack_default(members[0])
        fitted = calibrate(chosen, prior)
        load = Load.of(table_of(rest, EngineProfile()), rest)
        measured = 1e3 * _time_per_token_s(rest, load)
        before, after = (_predicted_ms(rest, p) for p in (prior, fitted.profile))
        results.append(
            StackResult(
                key, count, len(rest), _median_error(before, measured), _median_error(after, measured)
            )
        )
    return results


def spread(points: Sequence[Point], count: int) -> list[Point]:
    """Points that a user would measure: evenly along the load, then along the lengths."""
    ordered = sorted(points, key=lambda p: (p.concurrency, p.isl + p.osl, p.tp))
    places = np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))
    return [ordered[place] for place in places]
