"""Runs of HiGHS: for how long, how they ended, and what they prove.

`Solver` is a `LinearModel` that can be solved.  How a run ended is told apart status by status, and one that HiGHS
leaves open is run again; a failure of HiGHS is a `SolverError`, never an answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Literal

import highspy
import numpy as np

from codesign.candidates.data import Floats
from codesign.optimize.lp import LinearModel, SolverError, done

Status = Literal["optimal", "infeasible", "unbounded", "time_limit", "interrupted", "stopped", "unknown"]
"""`stopped`: by a limit other than time; `unknown`: HiGHS gave up. Neither says anything of what is possible."""

_KINDS = highspy.HighsModelStatus
_STATUS: dict[Any, Status] = {
    _KINDS.kOptimal: "optimal",
    _KINDS.kInfeasible: "infeasible",
    _KINDS.kUnbounded: "unbounded",
    _KINDS.kTimeLimit: "time_limit",
    _KINDS.kInterrupt: "interrupted",
    _KINDS.kObjectiveBound: "stopped",
    _KINDS.kObjectiveTarget: "stopped",
    _KINDS.kIterationLimit: "stopped",
    _KINDS.kSolutionLimit: "stopped",
    _KINDS.kMemoryLimit: "stopped",
    _KINDS.kUnknown: "unknown",
}
"""All others are failures of HiGHS itself, except kUnboundedOrInfeasible and kModelEmpty, which are looked into."""

_SAME = 1e-6
"""Relative difference of a MILP's objective and what its point costs: rounding."""
_LEAST_STEP = 1e-3
"""Of the dearest column: numbers without a common step have a smaller one, of rounding."""
_AGAIN = 2.0
"""Times as long as a MILP took, to be asked for again with presolve the other way."""
_RAY_TOLERANCE = 1e-9
"""Of a sum of products, relative to the sum of their sizes: rounding."""

Watch = Callable[[float, float], bool]
"""Called with (incumbent objective or inf, bound) while a MILP runs; True ends it."""


@dataclass(frozen=True)
class Run:
    """How a run ended."""

    status: Status
    objective: float
    """Of the point found, inf without one."""
    bound: float
    """No feasible point is below: what is proven, -inf where nothing is, inf where there is no feasible point."""
    feasible: bool
    """There is a point that keeps all rows and bounds, to HiGHS's tolerance; whole where it must be."""
    dual_feasible: bool
    """There are duals of an LP that prove a bound, to HiGHS's tolerance."""
    nodes: int
    iterations: int
    seconds: float


@dataclass(frozen=True)
class _Task:
    """A run with all that is run again for it."""

    deadline: float
    """Of `time.monotonic`."""
    cancellable: bool
    """HiGHS asks on the way whether to go on: not for LPs of milliseconds."""
    cancel: threading.Event


class Solver(LinearModel):
    """A linear program, with or without whole numbers, that HiGHS solves."""

    _agreed = False
    """Have two runs of a MILP found one optimum whose bound is below it?"""

    def run(
        self,
        time_limit: float | None = None,
        watch: Watch | None = None,
        cancel: threading.Event | None = None,
    ) -> Run:
        """Solve for `time_limit` seconds at most, or until `cancel` is set or a MILP's `watch` returns True.

        An LP without `watch` and `cancel` is not asked on its way: it should be short, or have a limit.

        Ctrl-C sets `cancel`, and what has been found is returned; without `cancel` the run ends and Ctrl-C is raised.
        """
        started = time.monotonic()
        deadline = np.inf if time_limit is None else started + max(0.0, time_limit)
        if not self._columns:
            return self._run_empty()
        cancellable = self.is_mip or watch is not None or cancel is not None
        task = _Task(deadline, cancellable, cancel or threading.Event())
        interrupts = self._interrupts(watch, task)
        try:
            self._optimise(task)
            status = self.highs.getModelStatus()
            if status == _KINDS.kUnboundedOrInfeasible:
                status = self._tell_apart(task)
        finally:
            if interrupts is not None:
                interrupts.clear()
        if cancel is None and task.cancel.is_set():
            raise KeyboardInterrupt
        return self._outcome(self._known(status), started)

    def values(self) -> Floats:
        """[n] the point last found."""
        return np.asarray(self.highs.getSolution().col_value, dtype=np.float64) * self._column_scale

    def duals(self) -> Floats:
        """[m] of an LP's rows: by how much the objective grows per unit of the row's binding bound."""
        return np.asarray(self.highs.getSolution().row_dual, dtype=np.float64) * self._row_scale

    def reduced_costs(self) -> Floats:
        """[n] of an LP's columns."""
        return np.asarray(self.highs.getSolution().col_dual, dtype=np.float64) / self._column_scale

    def farkas(self, time_limit: float | None = None) -> Floats | None:
        """[m] multipliers that prove an LP infeasible, None where HiGHS has none that do.

        With y⁺ on lower and y⁻ on upper bounds of the rows, Σ y⁺·lower + y⁻·upper exceeds the most that (yᵀA)·x can
        be within the bounds of the columns; both sides are computed here, from the caller's numbers.
        """
        # Of rows without entries HiGHS has no rays.
        for row in np.flatnonzero(self._empty & ((self.row_lower > 0) | (self.row_upper < 0))).tolist():
            alone = np.zeros(self.rows)
            alone[row] = 1.0 if self.row_lower[row] > 0 else -1.0
            return alone
        _, there = self.highs.getDualRayExist()
        if not there:
            # Presolve proves without a ray, the primal simplex by a phase of its own.
            before = {name: self.highs.getOptionValue(name)[1] for name in ("presolve", "simplex_strategy", "solver")}
            for name, value in (("presolve", "off"), ("simplex_strategy", 1), ("solver", "simplex")):
                self.set_option(name, value)
            try:
                done(self.highs.clearSolver(), "a start from nothing")
                if self.run(time_limit).status != "infeasible":
                    return None
            finally:
                for name, value in before.items():
                    self.set_option(name, value)
        status, there, ray = self.highs.getDualRay()
        done(status, "the question for a dual ray", hint=True)
        if not there:
            return None
        y = np.asarray(ray, dtype=np.float64) * self._row_scale
        peak = np.abs(y).max(initial=0.0)
        if not np.isfinite(peak) or peak == 0.0:
            return None
        for signed in (y / peak, -y / peak):
            if self._proves(signed):
                return np.asarray(signed)
        return None

    def _proves(self, y: Floats) -> bool:
        """Do no values of the columns keep the sum of the rows by multipliers y?"""
        lp = self.highs.getLp()
        lower, upper = self.row_lower, self.row_upper
        below, above = (np.asarray(b) * self._column_scale for b in (lp.col_lower_, lp.col_upper_))
        row, column, value = self.held()
        product = y[row] * value
        total = np.bincount(column, product, self._columns)
        noise = _RAY_TOLERANCE * np.bincount(column, np.abs(product), self._columns)
        # HiGHS leaves rounding where a column has no bound that would hold it.
        bound = np.where(total > 0, above, below)
        total = np.where(np.isinf(bound) & (np.abs(total) <= noise), 0.0, total)
        parts = total * np.where(total == 0, 0.0, bound)
        multiplied = y * np.where(y > 0, lower, np.where(y < 0, upper, 0.0))
        size = np.abs(parts).sum() + np.abs(multiplied).sum()
        return bool(np.isfinite(size) and multiplied.sum() - parts.sum() > _RAY_TOLERANCE * size)

    def _interrupts(self, watch: Watch | None, task: _Task) -> Any:
        """Have HiGHS ask whether to go on; the callback, to be cleared after the run."""
        if not task.cancellable:
            return None

        def ask(event: Any) -> None:
            found = event.data_out
            ends = self.is_mip and watch is not None and watch(found.mip_primal_bound, found.mip_dual_bound)
            # HiGHS keeps what it was told: an interrupt of the run before would end this one at once.
            event.data_in.user_interrupt = bool(ends or task.cancel.is_set())

        callback = self.highs.cbMipInterrupt if self.is_mip else self.highs.cbSimplexInterrupt
        callback += ask
        return callback

    def _optimise(self, task: _Task) -> None:
        """One run; a second from nothing where HiGHS fails, and a third with presolve the other way."""
        self._agreed = False
        started = time.monotonic()
        status = self._once(task)
        if status == highspy.HighsStatus.kError or self.highs.getModelStatus() == _KINDS.kUnknown:
            # HiGHS keeps a pool of threads per thread of ours, and refuses to run where an earlier run of anybody chose
            # another number of them.
            highspy.Highs.resetGlobalScheduler(True)
            done(self.highs.clearSolver(), "a start from nothing")
            status = self._once(task)
        failed, open_ = status == highspy.HighsStatus.kError, self._open()
        if not failed and not open_:
            return
        if open_ and task.deadline - time.monotonic() < _AGAIN * (time.monotonic() - started):
            return  # rather a point without a proof than none
        first = float(self.highs.getInfo().objective_function_value)
        # Seen with 1.16: "Solve error" of small MILPs with presolve, of LPs with large penalties without; and "Optimal"
        # with a point that postsolve has made dearer than the bound.
        presolve = self.highs.getOptionValue("presolve")[1]
        self.set_option("presolve", "on" if presolve == "off" else "off")
        try:
            done(self.highs.clearSolver(), "a start from nothing")
            failed = self._once(task) == highspy.HighsStatus.kError
        finally:
            self.set_option("presolve", presolve)
        if failed:
            raise SolverError(
                f"HiGHS {version('highspy')} failed three times on {self._rows} rows and {self._columns} columns "
                f"({self.highs.modelStatusToString(self.highs.getModelStatus())})"
            )
        second = float(self.highs.getInfo().objective_function_value)
        self._agreed = open_ and abs(second - first) <= _SAME * abs(first)

    def _open(self) -> bool:
        """Is a MILP called optimal whose point is dearer than its bound, by more than was asked for?

        HiGHS also ends where no objective between the two is possible, and leaves the bound as it was: that is seen
        where all objectives are multiples of a step, else by two runs that agree.
        """
        if not self.is_mip or self.highs.getModelStatus() != _KINDS.kOptimal:
            return False
        info = self.highs.getInfo()
        objective, bound = float(info.objective_function_value), float(info.mip_dual_bound)
        return objective - bound > max(self._allowed(objective), self._step() * (1.0 + _SAME))

    def _allowed(self, objective: float) -> float:
        """The gap of a MILP at which HiGHS may end, and rounding."""
        relative, absolute = (float(self.highs.getOptionValue(f"mip_{kind}_gap")[1]) for kind in ("rel", "abs"))
        return max(absolute, max(relative, _SAME) * abs(objective))

    def _step(self) -> float:
        """What all objectives of a MILP's whole points are multiples of; 0 where there is no such number."""
        lp = self.highs.getLp()
        cost = np.abs(lp.col_cost_)
        cost[np.asarray(lp.col_lower_) == np.asarray(lp.col_upper_)] = 0.0
        if np.any(cost[~self._whole]):
            return 0.0
        largest = step = float(cost.max(initial=0.0))
        for other in np.unique(cost[cost > 0]).tolist():
            while other > _SAME * largest:  # Euclid, to rounding
                step, other = other, abs(step - round(step / other) * other)
        return step if step > _LEAST_STEP * largest else 0.0

    def _once(self, task: _Task) -> Any:
        """What HiGHS's run returns."""
        left = task.deadline - time.monotonic()
        # The clock of an instance goes on from run to run.
        self.set_option("time_limit", self.highs.getRunTime() + max(0.0, left) if np.isfinite(left) else np.inf)
        if not task.cancellable or threading.current_thread() is not threading.main_thread():
            return self.highs.run()
        # Ctrl-C arrives in the main thread, and only while Python runs there.
        returned: list[Any] = []
        ended = threading.Event()

        def work() -> None:
            try:
                returned.append(self.highs.run())
            finally:
                ended.set()

        threading.Thread(target=work, daemon=True).start()
        # Not `is_alive`: in Python 3.11 a `join` that Ctrl-C interrupts takes the thread for ended while HiGHS runs on.
        while not ended.is_set():
            try:
                ended.wait(0.1)
            except KeyboardInterrupt:
                task.cancel.set()
        return returned[0] if returned else highspy.HighsStatus.kError

    def _tell_apart(self, task: _Task) -> Any:
        """Unbounded or infeasible: without presolve, then without an objective, which cannot be unbounded."""
        presolve = self.highs.getOptionValue("presolve")[1]
        self.set_option("presolve", "off")
        try:
            done(self.highs.clearSolver(), "a start from nothing")
            self._optimise(task)
            status = self.highs.getModelStatus()
            if status != _KINDS.kUnboundedOrInfeasible:
                return status
            every = np.arange(self._columns, dtype=np.int32)
            cost = np.array(self.highs.getLp().col_cost_)
            done(self.highs.changeColsCost(len(every), every, np.zeros(len(every))), "no costs")
            try:
                self._optimise(task)
                status = self.highs.getModelStatus()
            finally:
                done(self.highs.changeColsCost(len(every), every, cost), "other costs")
            return _KINDS.kUnbounded if status == _KINDS.kOptimal else status
        finally:
            self.set_option("presolve", presolve)

    def _known(self, status: Any) -> Status:
        if status not in _STATUS:
            raise SolverError(
                f"HiGHS {version('highspy')} ended a run with the status '{self.highs.modelStatusToString(status)}'"
            )
        return _STATUS[status]

    def _outcome(self, status: Status, started: float) -> Run:
        info = self.highs.getInfo()
        seconds = time.monotonic() - started
        point = highspy.SolutionStatus.kSolutionStatusFeasible
        feasible = bool(info.primal_solution_status == point) and status not in ("infeasible", "unbounded")
        dual_feasible = bool(info.dual_solution_status == point) and not self.is_mip
        if status == "optimal" and not feasible:
            status = "unknown"
        objective = float(info.objective_function_value) if feasible else np.inf
        if feasible and self.is_mip:
            lp = self.highs.getLp()
            cost = float(np.dot(lp.col_cost_, self.highs.getSolution().col_value)) + float(lp.offset_)
            if abs(cost - objective) > _SAME * max(1.0, abs(cost)):  # HiGHS has returned another point than it found
                objective, status = cost, "unknown" if status == "optimal" else status
        if status == "optimal" and self._open() and not self._agreed:
            status = "unknown"
        bound = {"infeasible": np.inf, "unbounded": -np.inf}.get(status)
        if bound is None:
            proven = float(info.mip_dual_bound) if self.is_mip else objective if status == "optimal" else -np.inf
            bound = proven if np.isfinite(proven) else -np.inf
            if status == "optimal" and objective - bound > self._allowed(objective):
                bound = objective  # nothing between them is possible
        iterations = int(info.simplex_iteration_count)
        nodes = int(info.mip_node_count) if self.is_mip else 0
        return Run(status, objective, bound, feasible, dual_feasible, nodes, iterations, seconds)

    def _run_empty(self) -> Run:
        """A model without columns, which HiGHS calls empty whatever its rows ask for."""
        kept = bool((self.row_lower <= 0).all() and (self.row_upper >= 0).all())
        value = float(self.highs.getLp().offset_) if kept else np.inf
        return Run("optimal" if kept else "infeasible", value, value, kept, kept, 0, 0, 0.0)
