"""The regime of networks in ONNX files: as of the module that was exported."""

from __future__ import annotations

import base64
import io
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from ntkengine.errors import EngineError, ResourceError
from ntkengine.regime import OnnxRegimeSpec, onnx_regime_report, regime_of_module
from ntkengine.spec import from_jsonable

pytest.importorskip("onnx")
# of the exporter that works without onnxscript
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

X = torch.linspace(-1.0, 1.0, 6)[:, None]
Y = X**2 - 0.3


@pytest.fixture(scope="module")
def module() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))


@pytest.fixture(scope="module")
def body(module: nn.Module) -> dict[str, Any]:
    """Weights as float32, data as they are: what both sides are given."""
    file: Any = io.BytesIO()  # which torch takes, though its annotation does not say so
    torch.onnx.export(module, (X,), file, dynamo=False, dynamic_axes={"x": {0: "n"}}, input_names=["x"])
    return {
        "onnx": base64.b64encode(file.getvalue()).decode(),
        "data": {"x": X.tolist(), "y": Y.tolist(), "x_test": [[0.3]], "y_test": [[-0.2]]},
        "optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.5},
        "loss": {"kind": "mean"},
        "steps": 40,
        "batch_size": 3,
        "seeds": 2,
    }


def spec_of(body: dict[str, Any], **changes: Any) -> OnnxRegimeSpec:
    found: OnnxRegimeSpec = from_jsonable(OnnxRegimeSpec, body | changes)
    return found


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [({"kind": "sgd", "lr": 0.1, "momentum": 0.5}, "SGD"), ({"kind": "adamw"}, "AdamW")],
)
def test_a_file_is_the_module_that_it_was_made_of(
    module: nn.Module, body: dict[str, Any], optimizer: dict[str, Any], kind: str
) -> None:
    *_, last = onnx_regime_report(spec_of(body, optimizer=optimizer))
    options = {name: value for name, value in optimizer.items() if name != "kind"}
    wanted = regime_of_module(
        module.double(),
        X.double(),
        Y.double(),
        optimizer=lambda p: getattr(torch.optim, kind)(p, **options),
        loss=functional.mse_loss,
        steps=40,
        batch_size=3,
        x_test=torch.tensor([[0.3]], dtype=torch.float64),
        y_test=torch.tensor([[-0.2]], dtype=torch.float64),
        seeds=2,
    )
    assert last.report is not None
    found = last.report
    assert found["verdict"] == wanted["verdict"]
    for name in ("kernel_change", "weight_change", "trained_share"):
        assert found["widths"][0][name] == pytest.approx(wanted["widths"][0][name], rel=1e-9)
    for name in ("network", "linearized"):
        errors = [each["widths"][0]["test_error"][name] for each in (found, wanted)]
        assert errors[0] == pytest.approx(errors[1], rel=1e-9)
    for one, other in zip(found["assumptions"], wanted["assumptions"], strict=True):
        assert one["holds"] == other["holds"]
        if not one["holds"]:
            assert one["contribution"]["test"] == pytest.approx(other["contribution"]["test"], rel=1e-9)


def test_a_report_goes_on_with_the_orders_that_are_missing(body: dict[str, Any]) -> None:
    steps = list(onnx_regime_report(spec_of(body)))
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    half = next(step for step in steps if step.checkpoint and len(step.checkpoint["loss_end"]) == 1)
    resumed = list(onnx_regime_report(spec_of(body), half.checkpoint))
    assert resumed[-1].report == steps[-1].report
    assert len(resumed) < len(steps)


def test_given_weights_and_whole_batches_are_one_training(body: dict[str, Any]) -> None:
    *_, last = onnx_regime_report(spec_of(body, batch_size=None, seeds=500))
    assert last.report is not None
    row = last.report["widths"][0]
    assert row["seeds"] == 1
    assert row["kernel_change"]["low"] == row["kernel_change"]["high"]
    assert any("one training" in reason for reason in last.report["reasons"])


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"onnx": "AAAA"}, "/onnx"),
        ({"onnx": "@@@@"}, "/onnx"),
        ({"optimizer": {"kind": "sgd", "lr": 0.1, "nesterov": True}}, "/optimizer/nesterov"),
        ({"data": {"x": X.tolist(), "y": [[1.0, 0.0]] * 6}}, "/data/y"),
        ({"data": {"x": [[1.0, 2.0]] * 6, "y": Y.tolist()}}, "/data/x"),
        ({"loss": {"kind": "logistic"}}, "/data/y"),
    ],
)
def test_refused_with_the_field(body: dict[str, Any], changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(EngineError) as caught:
        list(onnx_regime_report(spec_of(body, **changes)))
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("limit", [{"max_flops": 1e6}, {"max_bytes": 1000}])
def test_too_much_is_refused_with_the_estimate(body: dict[str, Any], limit: dict[str, Any]) -> None:
    with pytest.raises(ResourceError) as caught:
        list(onnx_regime_report(spec_of(body), **limit))
    assert caught.value.estimate
