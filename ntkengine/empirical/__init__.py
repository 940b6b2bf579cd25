"""Empirical kernels: of one finite network, at its present weights."""

from ntkengine.empirical.kernel import (
    empirical_gram,
    empirical_nngp,
    empirical_ntk,
    empirical_ntk_by_layer,
    empirical_plan,
)
from ntkengine.empirical.plan import IMPLEMENTATIONS, Plan, plan

__all__ = [
    "IMPLEMENTATIONS",
    "Plan",
    "empirical_gram",
    "empirical_nngp",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "empirical_plan",
    "plan",
]
