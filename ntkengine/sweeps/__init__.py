"""Sweeps: a run at many combinations of some of its fields, as one table."""

from ntkengine.sweeps.compute import Step, sweep
from ntkengine.sweeps.spec import Combination, SweepAxis, SweepSpec

__all__ = ["Combination", "Step", "SweepAxis", "SweepSpec", "sweep"]
