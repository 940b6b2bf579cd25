"""Empirical kernels: of one finite network, at its present weights."""

from ntkengine.empirical.features import gradient_features, gradient_features_to_store
from ntkengine.empirical.kernel import (
    empirical_gram,
    empirical_nngp,
    empirical_ntk,
    empirical_ntk_by_layer,
    empirical_plan,
)
from ntkengine.empirical.plan import IMPLEMENTATIONS, Plan, plan
from ntkengine.empirical.products import Eigenpairs, NTKOperator, ntk_vector_product, top_eigenvalues

__all__ = [
    "IMPLEMENTATIONS",
    "Eigenpairs",
    "NTKOperator",
    "Plan",
    "empirical_gram",
    "empirical_nngp",
    "empirical_ntk",
    "empirical_ntk_by_layer",
    "empirical_plan",
    "gradient_features",
    "gradient_features_to_store",
    "ntk_vector_product",
    "plan",
    "top_eigenvalues",
]
