"""Pure measures of kernels, and statistics of what was measured."""

from ntkengine.analysis.shares import layer_shares
from ntkengine.analysis.similarity import (
    alignment,
    centred_alignment,
    cka,
    cosine_distance,
    kernel_distance,
    kernel_velocity,
)
from ntkengine.analysis.spectrum import (
    NOT_A_GRAM_MATRIX,
    Diagnostics,
    Spectrum,
    condition_number,
    diagnose,
    effective_rank,
    spectrum,
)
from ntkengine.analysis.statistics import Exponent, Interval, fit_exponent, median_interval

__all__ = [
    "NOT_A_GRAM_MATRIX",
    "Diagnostics",
    "Exponent",
    "Interval",
    "Spectrum",
    "alignment",
    "centred_alignment",
    "cka",
    "condition_number",
    "cosine_distance",
    "diagnose",
    "effective_rank",
    "fit_exponent",
    "kernel_distance",
    "kernel_velocity",
    "layer_shares",
    "median_interval",
    "spectrum",
]
