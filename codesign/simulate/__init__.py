"""The second witness: a plan under discrete-event simulation, judged by the percentiles that single calls see."""

from codesign.simulate.arrivals import Arrivals
from codesign.simulate.fleet import Failure
from codesign.simulate.replay import Replay
from codesign.simulate.report import SimulationReport
from codesign.simulate.run import SimulationError, server_lost, simulate

__all__ = ["Arrivals", "Failure", "Replay", "SimulationError", "SimulationReport", "server_lost", "simulate"]
