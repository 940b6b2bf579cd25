"""Where a prediction's kernels come from: a model, or arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ntkengine.data import ArrayField, ArrayValue, NumbersField, inputs_shape, load, shape_of
from ntkengine.errors import SpecError, located
from ntkengine.kernels import Empirical, Infinite, KernelSpec, MonteCarlo, compute_kernel, error_of
from ntkengine.model import Model
from ntkengine.predict.ensemble import Blocks, Name
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor


@spec
class PredictData:
    """What is trained on, and where outputs are predicted."""

    y: ArrayField
    """Training targets (n, k)."""
    x: ArrayField | None = None
    """Training inputs (n, d); left out where kernels are given as arrays."""
    x_test: ArrayField | None = None
    """Test inputs (m, d); left out where kernels are given as arrays."""
    y_test: ArrayField | None = None
    """Test targets (m, k), for the loss there."""


@spec
class GivenBlocks:
    """A kernel on training points X and test points x."""

    train_train: NumbersField
    """K(X, X), (n, n) or blocks (n, n, k, k)."""
    test_train: NumbersField | None = None
    """K(x, X), (m, n) or (m, n, k, k)."""
    test_test: NumbersField | None = None
    """K(x, x), (m, m) or (m, m, k, k); for covariances."""


@spec
class Given:
    """Kernels as arrays, from wherever."""

    kind: Literal["given"] = "given"
    ntk: GivenBlocks | None = None
    """The neural tangent kernel."""
    nngp: GivenBlocks | None = None
    """The covariance of outputs at the start."""
    f0_train: NumbersField | None = None
    """Outputs at the start on the training points, (n, k); null is 0."""
    f0_test: NumbersField | None = None
    """Outputs at the start on the test points, (m, k); null is 0."""


AnyOf = Infinite | Empirical | MonteCarlo | Given


@dataclass(frozen=True)
class Prepared:
    """Kernels and outputs at the start, as tensors, and what is known of them."""

    kernels: Mapping[Name, Blocks]
    f0_train: Tensor | float = 0.0
    f0_test: Tensor | float = 0.0
    method: Mapping[str, Any] = field(default_factory=lambda: {"kind": "given", "error_bound": 0.0})
    scaling: Mapping[str, Any] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def entry_error(self) -> float:
        return error_of(dict(self.method))


class Source(ABC):
    """Kernels for targets (n, k). Torch-free until `prepare`."""

    @property
    @abstractmethod
    def joint(self) -> bool:
        """Whether outputs are coupled, by blocks (n, n, k, k)."""

    @property
    @abstractmethod
    def tests(self) -> int:
        """The number m of test points."""

    @abstractmethod
    def check(self, n: int, k: int, names: tuple[Name, ...], covariance: bool) -> None:
        """What the kernels are needed for can be had."""

    @abstractmethod
    def cost(self, names: tuple[Name, ...]) -> dict[str, Any] | None:
        """Estimated cost of the kernels; None where there is none."""

    @abstractmethod
    def prepare(self, names: tuple[Name, ...]) -> Prepared:
        """Compute the kernels."""


@dataclass(frozen=True)
class FromArrays(Source):
    """Kernels that were given."""

    model: Model | None
    data: PredictData
    of: Given

    @property
    def joint(self) -> bool:
        return any(each.train_train.ndim == 4 for each in (self.of.ntk, self.of.nngp) if each)

    @property
    def tests(self) -> int:
        first = self.of.ntk or self.of.nngp
        return 0 if first is None or first.test_train is None else len(first.test_train)

    def check(self, n: int, k: int, names: tuple[Name, ...], covariance: bool) -> None:
        for pointer, superfluous in (
            ("/model", self.model),
            ("/data/x", self.data.x),
            ("/data/x_test", self.data.x_test),
        ):
            if superfluous is not None:
                raise SpecError(
                    "the kernels are given as arrays: there is nothing to compute",
                    pointer=pointer,
                    hint="leave it out",
                )
        for name in names:
            given = getattr(self.of, name)
            if given is None:
                raise SpecError(f"this inference needs the {name}", pointer=f"/of/{name}", hint="give it too")
            self._check_shapes(given, n, k, name, covariance)
        for part, rows in (("f0_train", n), ("f0_test", self.tests)):
            start = getattr(self.of, part)
            if start is not None and start.shape != (rows, k):
                raise SpecError(f"expected shape ({rows}, {k}), got {start.shape}", pointer=f"/of/{part}")

    def _check_shapes(self, given: GivenBlocks, n: int, k: int, name: Name, covariance: bool) -> None:
        m, block = self.tests, (k, k) if given.train_train.ndim == 4 else ()
        sizes = {"train_train": (n, n), "test_train": (m, n), "test_test": (m, m)}
        needed = (
            {"train_train"}
            | ({"test_train"} if m else set())
            | ({"test_test"} if m and covariance else set())
        )
        for part, size in sizes.items():
            array, pointer = getattr(given, part), f"/of/{name}/{part}"
            if array is None and part in needed:
                raise SpecError(f"{part} of the {name} is needed", pointer=pointer, hint="give it too")
            if array is not None and array.shape != (*size, *block):
                raise SpecError(
                    f"expected shape {(*size, *block)}, got {array.shape}",
                    pointer=pointer,
                    hint=f"targets are ({n}, {k}), and test_train has {m} rows",
                )
        K = given.train_train
        if not np.allclose(K, K.T if K.ndim == 2 else K.transpose(1, 0, 3, 2), rtol=1e-8, atol=0):
            raise SpecError(
                "a kernel of points with themselves is symmetric",
                pointer=f"/of/{name}/train_train",
                hint="give K(x_i, x_j) of the same points in the same order",
            )

    def cost(self, names: tuple[Name, ...]) -> dict[str, Any] | None:
        return None

    def prepare(self, names: tuple[Name, ...]) -> Prepared:
        import torch

        def tensor(array: Any) -> Any:
            return None if array is None else torch.from_numpy(array)

        def start(array: Any) -> Any:
            return 0.0 if array is None else torch.from_numpy(array)

        blocks = {
            name: Blocks(tensor(each.train_train), tensor(each.test_train), tensor(each.test_test))
            for name in names
            for each in [getattr(self.of, name)]
        }
        return Prepared(blocks, start(self.of.f0_train), start(self.of.f0_test))


@dataclass(frozen=True)
class FromModel(Source):
    """Kernels that are computed, on training and test points together, so that they fit each other."""

    model: Model | None
    data: PredictData
    of: Infinite | Empirical | MonteCarlo

    @property
    def joint(self) -> bool:
        return self.of.kind == "empirical"

    @property
    def tests(self) -> int:
        return 0 if self.data.x_test is None else shape_of(self.data.x_test, "x")[0]

    def check(self, n: int, k: int, names: tuple[Name, ...], covariance: bool) -> None:
        model = self._model
        in_shape = self._check_inputs(n)
        if self.of.outputs not in ("mean", "full"):
            raise SpecError(
                "a prediction takes the blocks that it needs", pointer="/of/outputs", hint="leave it out"
            )
        with located("/model"):
            out = model.place(in_shape).out_shape
        if len(out) != 1 or out[0] not in (None, k):
            raise SpecError(
                f"targets have {k} columns, outputs of the network the shape {out}",
                pointer="/data/y",
                hint="give a column for each output",
            )
        if self.of.kind == "empirical" and (covariance or "nngp" in names):
            raise SpecError(
                "one network has no distribution over initialisations",
                pointer="/covariance" if covariance else "/inference",
                hint='ask for the infinite-width kernel, or inference "ntk" with no covariance',
            )
        self.of.check(model, in_shape)

    def _check_inputs(self, n: int) -> tuple[int, ...]:
        rows, *in_shape = inputs_shape(self._x, "/data/x")
        if rows != n:
            raise SpecError(f"{rows} inputs and {n} targets", pointer="/data/y", hint=f"give {rows} rows")
        if self.data.x_test is not None:
            other = inputs_shape(self.data.x_test, "/data/x_test")[1:]
            if list(other) != in_shape:
                raise SpecError(
                    f"test inputs have shape {other}, training inputs {tuple(in_shape)}",
                    pointer="/data/x_test",
                    hint="give both the same number of columns",
                )
        return tuple(in_shape)

    def cost(self, names: tuple[Name, ...]) -> dict[str, Any] | None:
        n, *in_shape = shape_of(self._x, "x")
        of, points = self._of(names), n + self.tests
        return of.plan(self._model, tuple(in_shape), points, points, 8).to_dict()

    def prepare(self, names: tuple[Name, ...]) -> Prepared:
        import torch

        x = load(self._x, "x")
        n = len(x)
        both = x if self.data.x_test is None else np.concatenate([x, load(self.data.x_test, "x")])
        found = compute_kernel(KernelSpec(model=self._model, x1=both, of=self._of(names)))
        kernels = {name: torch.from_numpy(found.kernels[name]) for name in names}
        start = torch.zeros(len(both), 1, dtype=torch.float64)
        if isinstance(self.of, Empirical):
            network = self._model.network(x.shape[1:], seed=self.of.seed or 0, weights=self.of.weights)
            with torch.no_grad():
                start = network(torch.from_numpy(both))
        return Prepared(
            {name: split(kernel, n) for name, kernel in kernels.items()},
            start[:n],
            start[n:],
            found.method,
            found.scaling,
            found.warnings,
        )

    @property
    def _model(self) -> Model:
        if self.model is None:
            raise SpecError("a model is needed", pointer="/model", hint='or kernels: "of": {"kind": "given"}')
        return self.model

    @property
    def _x(self) -> ArrayValue:
        if self.data.x is None:
            raise SpecError(
                "training inputs are needed", pointer="/data/x", hint="give a row for each target"
            )
        x: ArrayValue = self.data.x
        return x

    def _of(self, names: tuple[Name, ...]) -> Infinite | Empirical | MonteCarlo:
        outputs = "full" if self.joint else "mean"
        return replace(self.of, get=names, outputs=outputs)  # type: ignore[arg-type]


def split(kernel: Tensor, n: int) -> Blocks:
    """The blocks of a kernel on n training points and, after them, test points."""
    if len(kernel) == n:
        return Blocks(kernel)
    return Blocks(kernel[:n, :n], kernel[n:, :n], kernel[n:, n:])
