"""The kernel of a model on data, as one spec: what `POST /kernel` takes. Torch-free to validate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.data import ArrayField, NumbersField, inputs_shape, load
from ntkengine.empirical.implementation import Work, layers_of, parameter_count
from ntkengine.empirical.plan import MEMORY_BUDGET, Plan, plan
from ntkengine.errors import NumericalError, SpecError, located
from ntkengine.layers.mask import check_lengths
from ntkengine.layers.windows import known_sizes
from ntkengine.model import Model
from ntkengine.outputs import OUTPUT_FORMS, Outputs
from ntkengine.positions import Extent, Needs
from ntkengine.spec import NonNegativeInt, spec
from ntkengine.weights import check_not_random, check_start

if TYPE_CHECKING:
    from torch import Tensor, nn


DRAWING = 50.0  # flops' worth of drawing one weight
DRAW_OVERHEAD = 2e7  # of one network, in flops' worth of time

ImplementationName = Literal["auto", "jacobian_contraction", "structured_derivatives", "ntk_vector_products"]
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
        leaves = list(site.leaves())
        full = site.layer.needs(site, Needs()).between == Extent.FULL
        covariances = [math.prod(known_sizes(leaf.in_shape)) ** (2 if full else 1) for leaf in leaves]
        inputs = 2.0 * covariances[0] * (in_shape[-1])
        flops = n1 * n2 * (inputs + 60.0 * sum(covariances))
        result = Work(n1, n2, site.out_shape[-1] or 1, itemsize, OUTPUT_FORMS[self.outputs]).result_bytes
        spatial = math.prod(known_sizes(site.out_shape)) ** 2
        held = 4 * n1 * n2 * itemsize * spatial + result * spatial * len(self.get)
        return Plan("closed_form", n1, flops, held, "the layers' rules, block by block over all pairs")

    def compute(self, model: Model, x1: Tensor, x2: Tensor | None) -> Answer:
        from ntkengine.infinite import infinite_kernel

        kernel = infinite_kernel(model, x1, x2, get=self.get, widths=self.widths)
        k = model.place(tuple(x1.shape[1:])).out_shape[-1]
        kernels: dict[str, Tensor] = {
            name: spread(kernel.kernels[name], self.outputs, k) for name in self.get
        }
        plain_rounding = 100 * np.finfo(x1.numpy(force=True).dtype).eps
        bound = kernel.entry_error if kernel.entry_error > plain_rounding else 0.0
        sampled = kernel.method == "quadrature"
        method = {
            "kind": kernel.method,
            "error_bound": None if sampled else bound,
            "stderr": kernel.entry_error if sampled else None,  # of the first layer's moments
        }
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
    implementation: ImplementationName = "auto"
    """How it is computed; `auto` takes the cheapest."""

    def check(self, model: Model, in_shape: tuple[int, ...]) -> None:
        with located("/model"):
            site = model.check_finite(in_shape)
        with located("/of"):
            check_start(site, self.seed, self.weights)
        with located("/model"):
            check_not_random(site)

    def plan(self, model: Model, in_shape: tuple[int, ...], n1: int, n2: int, itemsize: int) -> Plan:
        site = model.check_finite(in_shape)
        k = math.prod((*known_sizes(site.out_shape), site.known_size(site.out_shape)))
        work = Work(n1, n2, k, itemsize, OUTPUT_FORMS[self.outputs])
        return plan(layers_of(site), work, implementation=self.implementation)

    def compute(self, model: Model, x1: Tensor, x2: Tensor | None) -> Answer:
        network = model.network(
            tuple(x1.shape[1:]), seed=self.seed or 0, weights=self.weights, dtype=x1.dtype
        )
        return of_module(network, x1, x2, self.get, self.outputs, self.implementation)


def of_module(
    module: nn.Module,
    x1: Tensor,
    x2: Tensor | None,
    get: Get,
    outputs: Outputs,
    implementation: str,
    budget: int = MEMORY_BUDGET,
) -> Answer:
    """Kernels of a module at its present weights; `budget` bytes may be held for the NTK."""
    from ntkengine.empirical import empirical_nngp, empirical_ntk

    kernels: dict[str, Tensor] = {}
    if "nngp" in get:
        kernels["nngp"] = empirical_nngp(module, x1, x2, outputs=outputs)
    if "ntk" in get:
        kernels["ntk"] = empirical_ntk(
            module, x1, x2, outputs=outputs, implementation=implementation, budget=budget
        )
    return Answer(kernels, {"kind": "empirical", "error_bound": 0.0, "stderr": None}, None, ())


@spec
class MonteCarlo:
    """The mean kernel of random networks of the spec's widths, with its standard error: what is left where
    a layer has no infinite-width rule. It differs from the infinite-width kernel by O(1/width)."""

    kind: Literal["monte_carlo"] = "monte_carlo"
    get: Get = ("nngp", "ntk")
    """Which kernels."""
    outputs: Literal["mean"] = "mean"
    """The trace over outputs divided by their number."""
    rtol: Annotated[float, Field(strict=True, ge=1e-4, le=1.0)] = 0.02
    """Stop when every standard error is below this times the largest entry."""
    max_draws: Annotated[int, Field(strict=True, ge=2, le=10**6)] = 2000
    """Stop after so many networks, with a warning."""
    seed: NonNegativeInt = 0
    """Seed of the first network; the others follow it."""

    def check(self, model: Model, in_shape: tuple[int, ...]) -> None:
        with located("/model"):
            model.check_finite(in_shape)

    def plan(self, model: Model, in_shape: tuple[int, ...], n1: int, n2: int, itemsize: int) -> Plan:
        once = Empirical(get=("ntk",)).plan(model, in_shape, n1, n2, itemsize)
        drawn = DRAWING * parameter_count(model.check_finite(in_shape))
        return replace(
            once,
            flops=self.max_draws * (once.flops + drawn + DRAW_OVERHEAD),
            bytes=once.bytes + 5 * 8 * n1 * n2 * len(self.get),
            reason=f"at most {self.max_draws} networks, each by {once.implementation}",
        )

    def compute(self, model: Model, x1: Tensor, x2: Tensor | None) -> Answer:
        from ntkengine.empirical import empirical_nngp, empirical_ntk
        from ntkengine.infinite import monte_carlo_kernel

        in_shape = tuple(x1.shape[1:])
        rooms: dict[str, Callable[..., Tensor]] = {"nngp": empirical_nngp, "ntk": empirical_ntk}
        kernel = monte_carlo_kernel(
            lambda seed: model.network(in_shape, seed=seed, dtype=x1.dtype),
            x1,
            x2,
            get=self.get,
            rtol=self.rtol,
            max_draws=self.max_draws,
            seed=self.seed,
            kernels=lambda network, x1, x2, get: {name: rooms[name](network, x1, x2) for name in get},
        )
        kernels: dict[str, Tensor] = {name: getattr(kernel, name) for name in self.get}
        method = {
            "kind": "monte_carlo",
            "error_bound": None,  # the distance from the limit is not known
            "stderr": kernel.relative_error,
            "draws": kernel.draws,
        }
        return Answer(kernels, method, None, kernel.warnings)


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
    of: Annotated[Infinite | Empirical | MonteCarlo, Field(discriminator="kind")] = Field(
        default_factory=Infinite
    )
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

    spec.check()
    dtype = {"float64": torch.float64, "float32": torch.float32}[spec.dtype]
    x1 = torch.as_tensor(load(spec.x1, "x"), dtype=dtype)
    x2 = None if spec.x2 is None else torch.as_tensor(load(spec.x2, "x"), dtype=dtype)
    with located("/model"):
        for x in (x1,) if x2 is None else (x1, x2):
            check_lengths(spec.model.place(tuple(x.shape[1:])), x)
        try:
            answer = spec.of.compute(spec.model, x1, x2)
        except OverflowError as error:
            raise NumericalError(
                f"a constant left the range of float64: {error}", pointer="", hint="use scales of order 1"
            ) from None
    return result_of(answer, spec.plan(), spec.of.outputs, spec.dtype, symmetric=x2 is None)


def result_of(answer: Answer, plan: Plan, outputs: Outputs, dtype: str, *, symmetric: bool) -> KernelResult:
    """The kernels as arrays, with what can be said of them.

    Raises:
        NumericalError: a number is not finite, or a kernel of x1 with itself is far from positive.
    """
    import torch

    from ntkengine.analysis import NOT_A_GRAM_MATRIX, diagnose

    overflow = [name for name, kernel in answer.kernels.items() if not bool(torch.isfinite(kernel).all())]
    if overflow:
        raise NumericalError(
            f"the {' and '.join(overflow)} left the range of {dtype}",
            hint="scale the inputs to entries of order 1, or use float64",
        )
    diagnosed = answer.kernels.get("ntk", next(iter(answer.kernels.values())))
    diagnostics = diagnose(diagnosed, entry_error=error_of(answer.method)) if symmetric else NOT_A_GRAM_MATRIX
    return KernelResult(
        kernels={name: kernel.numpy(force=True) for name, kernel in answer.kernels.items()},
        outputs=outputs,
        dtype=dtype,
        method=answer.method,
        plan=plan.to_dict(),
        scaling=answer.scaling,
        diagnostics=asdict(diagnostics),
        warnings=answer.warnings,
    )


def error_of(method: dict[str, Any]) -> float:
    """What may make an eigenvalue negative; an average over draws is a Gram matrix, whatever its noise."""
    return float(method["error_bound"] or 0.0)


def spread(theta: Tensor, outputs: Outputs, k: int | None) -> Tensor:
    """The kernel theta (n1, n2) of one of k independent outputs, in the shape of `outputs`."""
    import torch

    if outputs == "mean":
        return theta
    if k is None:
        raise SpecError("the number of outputs was left out", pointer="/of/outputs")
    block = {"trace": torch.tensor(float(k)), "full": torch.eye(k), "diagonal": torch.ones(k)}[outputs]
    return theta.reshape(*theta.shape, *[1] * block.ndim) * block.to(theta)
