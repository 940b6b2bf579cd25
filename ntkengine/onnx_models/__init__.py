"""Networks from ONNX files: the safe way in for models that were trained elsewhere."""

from ntkengine.onnx_models.load import load_onnx

__all__ = ["load_onnx"]
