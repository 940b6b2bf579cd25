"""Files that torch exports: their kernel is that of the module, in the way that our errors say."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from ntkengine import empirical_ntk, load_onnx
from tests.architectures import built, inputs_of
from tests.compare import assert_close


def exported(module: torch.nn.Module, x: Any, path: Path) -> Path:
    """As `EXPORT` of ntkengine.onnx_models.reading says."""
    open_batch = {0: torch.export.Dim("batch")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter about itself
        torch.onnx.export(
            module,
            (x,),
            path,
            external_data=False,
            optimize=False,
            dynamic_shapes=(open_batch,),
            verbose=False,
        )
    return path


@pytest.mark.long
@pytest.mark.parametrize("name", ["torch's encoder", "batch norm", "bert", "gru", "lstm"])
def test_the_kernel_of_the_file_is_that_of_the_module(tmp_path: Path, name: str) -> None:
    """At weights as torch draws them: norms of ones and biases of zeros are what exporters join."""
    module, x = built(name).float(), inputs_of(name, 3)
    x = x.float() if x.is_floating_point() else x.clamp(min=1)  # 0 is bert's padding, which files do not tell
    loaded = load_onnx(exported(module, x, tmp_path / "model.onnx")).double()
    x = x.double() if x.is_floating_point() else x
    assert_close(
        empirical_ntk(loaded, x, outputs="full"),
        empirical_ntk(module.double(), x, outputs="full"),
        rtol=1e-11,  # the file's constants, such as the root of a width, have single precision
    )
