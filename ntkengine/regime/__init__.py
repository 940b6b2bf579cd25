"""The regime report: whether a network trains as its kernel at the start says, and how far to trust that."""

from ntkengine.regime.module import regime_of_module
from ntkengine.regime.onnx import OnnxRegimeSpec, onnx_regime_report
from ntkengine.regime.report import Findings, Step, regime_report
from ntkengine.regime.spec import Case, RegimeSpec
from ntkengine.regime.thresholds import DEFINITIONS, THRESHOLDS

__all__ = [
    "DEFINITIONS",
    "THRESHOLDS",
    "Case",
    "Findings",
    "OnnxRegimeSpec",
    "RegimeSpec",
    "Step",
    "onnx_regime_report",
    "regime_of_module",
    "regime_report",
]
