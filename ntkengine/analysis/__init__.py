"""Pure measures of kernels."""

from ntkengine.analysis.spectrum import NOT_A_GRAM_MATRIX, Diagnostics, diagnose

__all__ = ["NOT_A_GRAM_MATRIX", "Diagnostics", "diagnose"]
