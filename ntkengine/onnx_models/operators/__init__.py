"""The operators that have a rule: by ONNX name, functions of a node and its inputs, None where not given."""

from __future__ import annotations

from collections.abc import Mapping

from ntkengine.onnx_models.operators.convolution import CONVOLUTIONS
from ntkengine.onnx_models.operators.elementwise import ELEMENTWISE
from ntkengine.onnx_models.operators.indexing import INDEXING
from ntkengine.onnx_models.operators.normalization import NORMALIZATION
from ntkengine.onnx_models.operators.pooling import POOLING
from ntkengine.onnx_models.operators.products import PRODUCTS
from ntkengine.onnx_models.operators.recurrent import RECURRENT
from ntkengine.onnx_models.operators.reductions import REDUCTIONS
from ntkengine.onnx_models.operators.shaping import SHAPING, Operator

OPERATORS: Mapping[str, Operator] = {
    **ELEMENTWISE,
    **PRODUCTS,
    **CONVOLUTIONS,
    **POOLING,
    **NORMALIZATION,
    **SHAPING,
    **INDEXING,
    **REDUCTIONS,
    **RECURRENT,
}

SEVERAL_OUTPUTS = frozenset({"Split", *RECURRENT})
