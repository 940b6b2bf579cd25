"""Empirical kernels: of one finite network, at its present weights."""

from ntkengine.empirical.kernel import empirical_nngp, empirical_ntk
from ntkengine.empirical.plan import IMPLEMENTATIONS, Plan, plan

__all__ = ["IMPLEMENTATIONS", "Plan", "empirical_nngp", "empirical_ntk", "plan"]
