"""Exposures with truth, for the demo, the tests and the benchmarks."""

from __future__ import annotations

from service.simulation.config import SimulationConfig
from service.simulation.simulate import Simulation, simulate
from service.simulation.write import write_simulation

__all__ = ["Simulation", "SimulationConfig", "simulate", "write_simulation"]
