"""The kernel of a model on data, as one spec: what `POST /kernel` takes. Torch-free to validate."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.data import ArrayField, NumbersField, inputs_shape, load
from ntkengine.empirical.implementation import Work
from ntkengine.empirical.plan import Plan, plan
from ntkengine.errors import NumericalError, SpecError, located
from ntkengine.model import Model
from ntkengine.outputs import OUTPUT_FORMS, Outputs
from ntkengine.spec import NonNegativeInt, spec
from ntkengine.weights import check_start

if TYPE_CHECKING:
    from torch import Tensor


Get = Annotated[tuple[Literal["nngp", "ntk"], ...], Field(min_length=1, max_length=2)]


@spec
class Infinite:
    """The kernel of the model as its hidden widths go to infinity."""

    kind: Literal["infinite"] = "infinite"
    get: Get = ("nngp", "ntk")
    """Which kernels."""
    outputs: Outputs = "mean"
    """`mean` theta (n1, n2); `trace` k theta; `full` theta I_k (n1, n2, k, k); `diagonal` (n1, n2, k)."""
    widths: Literal["limit", "as_given"] = "limit"
    """`limit`: the coefficient of the leading power of the width; `as_given`: the recursion at the widths
    of the spec, as neural-tangents has it for the standard parameterization."""

    def check(self, model: Model, in_shape: tuple[int, ...]) -> None:
        with located("/model"):
            site = model.place(in_shape) if self.widths == "limit" else model.check_finite(in_shape)
        if self.outputs != "mean" and site.out_shape[-1] is None:
            raise SpecError(
                f"outputs {self.outputs!r} depends on the number of outputs, which was left out",
                pointer="/of/outputs",
                hint='give the width of the last layer, or ask for "mean"',
            )

    def plan(self, model: Model, in_shape: tuple[int, ...], n1: int, n2: int, itemsize: int) -> Plan:
        site = model.place(in_shape)
        depth = sum(1 for _ in site.leaves())
        flops = n1 * n2 * (2.0 * math.prod(in_shape) + 60.0 * depth)
        result = Work(n1, n2, site.out_shape[-1] or 1, itemsize, OUTPUT_FORMS[self.outputs]).result_bytes
        held = 8 * n1 * n2 * itemsize + result * len(self.get)
        return Plan("closed_form", n1, flops, held, "the layers' rules, once over all pairs")

    def compute(self, model: Model, x1: Tensor, x2: Tensor | None) -> Answer:
        from ntkengine.infinite import infinite_kernel

        kernel = infinite_kernel(model, x1, x2, widths=self.widths)
        k = model.place(tuple(x1.shape[1:])).out_shape[-1]
        kernels: dict[str, Tensor] = {
            name: spread(getattr(kernel, name), self.outputs, k) for name in self.get
        }
        plain_rounding = 100 * np.finfo(x1.numpy(force=True).dtype).eps
        bound = kernel.entry_error if kernel.entry_error > plain_rounding else 0.0
        method = {"kind": kernel.method, "error_bound": bound, "stderr": None}
        return Answer(kernels, method, kernel.scaling.to_dict(), kernel.warnings)


@spec
class Empirical:
    """The kernel of one finite network at its initial weights."""

    kind: Literal["empirical"] = "empirical"
    get: Get = ("ntk",)
    """Which kernels; `nngp` is the second moment of this network's outputs."""
    seed: NonNegativeInt | None = None
    """Seed of the weights; 0 where neither seed nor weights are given."""
    weights: dict[str, NumbersField] | None = None
    """Weights by name, such as `layers.0.W` of shape (fan-in, width), in place of a seed."""
    outputs: Outputs = "mean"
    """What is kept of the k x k block of a pair: `full`, `trace`, `mean` (trace / k) or `diagonal`."""
    implementation: Literal["auto", "jacobian_contraction", "structured_derivatives"] = "auto"
    """How it is computed; `auto` takes the cheapest."""

    def check(self, model: Model, in_shape: tuple[int, ...]) -> None:
        with located("/model"):
            site = model.check_finite(in_shape)
        with located("/of"):
            check_start(site, self.seed, self.weights)

    def plan(self, model: Model, in_shape: tuple[int, ...], n1: int, n2: int, itemsize: int) -> Plan:
        site = model.check_finite(in_shape)
        work = Work(n1, n2, site.known_size(site.out_shape), itemsize, OUTPUT_FORMS[self.outputs])
        return plan(site, work, implementation=self.implementation)

    def compute(self, model: Model, x1: Tensor, x2: Tensor | None) -> Answer:
        from ntkengine.empirical import empirical_nngp, empirical_ntk

        network = model.network(
            tuple(x1.shape[1:]), seed=self.seed or 0, weights=self.weights, dtype=x1.dtype
        )
        kernels: dict[str, Tensor] = {}
        if "nngp" in self.get:
            kernels["nngp"] = empirical_nngp(network, x1, x2, outputs=self.outputs)
        if "ntk" in self.get:
            kernels["ntk"] = empirical_ntk(
                network, x1, x2, outputs=self.outputs, implementation=self.implementation
            )
        method = {"kind": "empirical", "error_bound": 0.0, "stderr": None}
        return Answer(kernels, method, None, ())


@dataclass(frozen=True)
class Answer:
    """What a kind of kernel computed."""

    kernels: dict[str, Tensor]
    method: dict[str, Any]
    scaling: dict[str, Any] | None
    warnings: tuple[str, ...]


@spec
class KernelSpec:
    """A kernel of a model on data."""

    model: Model
    """The network."""
    x1: ArrayField
    """Inputs (n1, d)."""
    x2: ArrayField | None = None
    """Inputs (n2, d); null is x1 with itself."""
    of: Annotated[Infinite | Empirical, Field(discriminator="kind")] = Field(default_factory=Infinite)
    """Which kernel."""
    dtype: Literal["float64", "float32"] = "float64"
    """Precision of the computation."""

    def check(self) -> None:
        """Check the parts against each other. Torch-free.

        Raises:
            EngineError: with the pointer of the field that does not fit.
        """
        in_shape = inputs_shape(self.x1, "/x1")[1:]
        if self.x2 is not None and inputs_shape(self.x2, "/x2")[1:] != in_shape:
            raise SpecError(
                f"inputs of x1 have shape {in_shape}, those of x2 {inputs_shape(self.x2, '/x2')[1:]}",
                pointer="/x2",
                hint="give both the same number of columns",
            )
        self.of.check(self.model, in_shape)
        self.plan()

    def plan(self) -> Plan:
        """How it will be computed, and at what cost. Torch-free."""
        shape = inputs_shape(self.x1, "/x1")
        n2 = shape[0] if self.x2 is None else inputs_shape(self.x2, "/x2")[0]
        return self.of.plan(self.model, shape[1:], shape[0], n2, np.dtype(self.dtype).itemsize)


@dataclass(frozen=True)
class KernelResult:
    """Kernels by name, with how they were computed and what can be said of them."""

    kernels: dict[str, NDArray[Any]]
    outputs: str
    dtype: str
    method: dict[str, Any]  # kind; error_bound, beyond rounding, relative to the largest entry; stderr
    plan: dict[str, Any]
    scaling: dict[str, Any] | None  # None for an empirical kernel
    diagnostics: dict[str, Any]  # of the NTK where it was asked for
    warnings: tuple[str, ...]


def compute_kernel(spec: KernelSpec) -> KernelResult:
    """The kernels that a spec asks for.

    Raises:
        EngineError: the spec does not fit together, a layer has no rule, or the result is unusable.

    >>> from ntkengine import Dense, Model, Relu
    >>> model = Model(layers=(Dense(), Relu(), Dense(width=1)))
    >>> result = compute_kernel(KernelSpec(model=model, x1=[[3.0, 4.0]]))
    >>> result.kernels["nngp"].round(12).tolist()  # |x|^2 / 2d
    [[6.25]]
    """
    import torch

    from ntkengine.analysis import NOT_A_GRAM_MATRIX, diagnose

    spec.check()
    dtype = {"float64": torch.float64, "float32": torch.float32}[spec.dtype]
    x1 = torch.as_tensor(load(spec.x1, "x"), dtype=dtype)
    x2 = None if spec.x2 is None else torch.as_tensor(load(spec.x2, "x"), dtype=dtype)
    with located("/model"):
        try:
            answer = spec.of.compute(spec.model, x1, x2)
        except OverflowError as error:
            raise NumericalError(
                f"a constant left the range of float64: {error}", pointer="", hint="use scales of order 1"
            ) from None
    overflow = [name for name, kernel in answer.kernels.items() if not bool(torch.isfinite(kernel).all())]
    if overflow:
        raise NumericalError(
            f"the {' and '.join(overflow)} left the range of {spec.dtype}",
            hint="scale the inputs to entries of order 1, or use float64",
        )
    diagnosed = answer.kernels.get("ntk", next(iter(answer.kernels.values())))
    return KernelResult(
        kernels={name: kernel.numpy(force=True) for name, kernel in answer.kernels.items()},
        outputs=spec.of.outputs,
        dtype=spec.dtype,
        method=answer.method,
        plan=spec.plan().to_dict(),
        scaling=answer.scaling,
        diagnostics=asdict(
            diagnose(diagnosed, entry_error=answer.method["error_bound"]) if x2 is None else NOT_A_GRAM_MATRIX
        ),
        warnings=answer.warnings,
    )


def spread(theta: Tensor, outputs: Outputs, k: int | None) -> Tensor:
    """The kernel theta (n1, n2) of one of k independent outputs, in the shape of `outputs`."""
    import torch

    if outputs == "mean":
        return theta
    if k is None:
        raise SpecError("the number of outputs was left out", pointer="/of/outputs")
    block = {"trace": torch.tensor(float(k)), "full": torch.eye(k), "diagonal": torch.ones(k)}[outputs]
    return theta.reshape(*theta.shape, *[1] * block.ndim) * block.to(theta)
