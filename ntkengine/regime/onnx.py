"""The regime of a network in an ONNX file, as one spec: what `POST /regime/onnx` takes. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ntkengine.data import load, shape_of
from ntkengine.dynamics import Data
from ntkengine.empirical.plan import MEMORY_BUDGET
from ntkengine.errors import ResourceError, SpecError, located
from ntkengine.losses import AnyLoss, HalfSum
from ntkengine.onnx_kernels import file_of, inputs_of
from ntkengine.regime.optimizers import AnyOptimizer
from ntkengine.regime.report import Checkpoint, Step
from ntkengine.spec import Count, spec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ntkengine.regime.module import Trials

MOST_ORDERS = 1000
STEP_OVERHEAD = 2e7  # what a step of an optimiser costs besides its arithmetic, in flops' worth of time


@spec
class OnnxRegimeSpec:
    """The question whether a network of one's own, under the optimiser that is really used for it, trains as
    its kernel at the start says; and which assumptions of the theory that optimiser violates."""

    onnx: Annotated[str, Field(min_length=4)]
    """The file in base64, with the weights to start from; in a form, a part of its own."""
    data: Data
    """What it is trained on, inputs as the model's only input takes them, and test points."""
    optimizer: AnyOptimizer
    """The optimiser, by torch's names."""
    steps: Count
    """Steps of the optimiser."""
    loss: AnyLoss = Field(default_factory=HalfSum)
    """Loss; of a minibatch, that of its points."""
    batch_size: Count | None = None
    """Points in a step, in a new order each epoch; all points by default."""
    seeds: Annotated[int, Field(ge=2, le=MOST_ORDERS, strict=True)] = 3
    """How many orders of the minibatches; steps on all points have one order, so there is one training."""
    trainable: tuple[str, ...] | None = None
    """Names of the file's tensors that are trained; null is all weights that reach its first output."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of the computation."""

    def check(self) -> None:
        """Check what needs no look into the file. Torch-free.

        Raises:
            SpecError: with the pointer of the field that does not fit.
        """
        with located("/data"):
            self.data.check(shape_of(self.data.y, "y")[1], self.loss)
        with located("/optimizer"):
            self.optimizer.check()
        file_of(self.onnx)


def onnx_regime_report(
    spec: OnnxRegimeSpec,
    checkpoint: Checkpoint | None = None,
    *,
    max_flops: float = math.inf,
    max_bytes: int = MEMORY_BUDGET,
) -> Iterator[Step]:
    """Say whether a network in an ONNX file is in the kernel regime, as `regime_of_module` does.

    Args:
        max_flops, max_bytes: refuse more estimated work, or memory, than this.

    Raises:
        EngineError: the file has an operator without a rule or is none, the data do not fit it, or the work
            is over a limit.
    """
    spec.check()
    trials = trials_of(spec)
    check_cost(trials, max_flops, max_bytes)
    yield from trials.measured(checkpoint)


def trials_of(spec: OnnxRegimeSpec) -> Trials:
    """The module of the file on the data, with its recipe."""
    import torch

    from ntkengine.onnx_models import load_onnx
    from ntkengine.regime.module import Trials
    from ntkengine.regime.recipe import Recipe

    dtype = getattr(torch, spec.dtype)
    with located("/onnx"):
        module = load_onnx(file_of(spec.onnx), trainable=spec.trainable).to(dtype).eval()
    x, x_test = (
        None if array is None else inputs_of(module, load(array, "x"), spec.dtype, f"/data/{name}")
        for name, array in (("x", spec.data.x), ("x_test", spec.data.x_test))
    )
    y, y_test = (
        None if array is None else torch.as_tensor(load(array, "y"), dtype=dtype)
        for array in (spec.data.y, spec.data.y_test)
    )
    if x is None or y is None:
        raise RuntimeError("a spec has data")
    check_outputs(module, x, y)
    recipe = Recipe(spec.optimizer, Named(spec.loss), y, spec.steps, spec.batch_size or len(x))
    return Trials(module, recipe, x, x_test, y_test, spec.seeds)


class Named:
    """A loss of the specs as a function of outputs and targets."""

    def __init__(self, loss: AnyLoss) -> None:
        self._loss = loss
        self.__name__ = loss.kind

    def __call__(self, f: Tensor, y: Tensor) -> Tensor:
        return self._loss.value(f, y)


def check_outputs(module: nn.Module, x: Tensor, y: Tensor) -> None:
    """Outputs have the targets' shape."""
    import torch

    with located("/onnx"), torch.no_grad():
        found = tuple(module(x[:1]).shape[1:])
    if found != tuple(y.shape[1:]):
        raise SpecError(
            f"an output of the model has shape {found}, a target {tuple(y.shape[1:])}",
            pointer="/data/y",
            hint="give a row of targets for each input, as long as an output; classes as one-hot rows",
        )


def check_cost(trials: Trials, max_flops: float, max_bytes: int) -> None:
    """Refuse work over a limit, by what one gradient of this module costs."""
    from torch.utils.flop_counter import FlopCounterMode

    from ntkengine.empirical import empirical_plan
    from ntkengine.regime.module import gradients

    recipe, m = trials.recipe, len(trials.x)
    with FlopCounterMode(display=False) as counter:
        recipe.loss(trials.member(0).module(trials.x), recipe.y).backward()  # type: ignore[no-untyped-call]
    one = counter.get_total_flops() * min(recipe.batch, m) / m + STEP_OVERHEAD
    plan = empirical_plan(trials.member(0).module, trials.x, outputs="full", budget=max_bytes)
    rows = recipe.y.numel()
    flops = gradients(trials) * one + trials.count * (2 * plan.flops + 10.0 * rows**3)
    found = {"flops": (flops, max_flops), "bytes": (plan.bytes + 40.0 * rows**2, max_bytes)}
    for what, (needed, most) in found.items():
        if needed > most:
            raise ResourceError(
                f"{what}: about {needed:.2g}, at most {most:.2g} are allowed",
                estimate={what: needed},
                limit={what: most},
                hint="send fewer rows, or ask for fewer steps",
            )
