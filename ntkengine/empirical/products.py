"""Products with the empirical NTK, and its largest eigenvalues, without forming it. Torch-free."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ntkengine.empirical.plan import MEMORY_BUDGET
from ntkengine.errors import NumericalError, SpecError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ntkengine.empirical.jacobian import Jacobian
    from ntkengine.empirical.subject import Inputs

Rates = Mapping[str, float]  # factors on learning rates, by the name of the tensor
Vectors = NDArray[Any]
Product = Callable[[Vectors], Vectors]
POWER_STEPS = 8  # after which a power iteration knows the scale of a kernel
ROUNDING = 1000  # times the machine epsilon: what eigenvalues of two runs may differ by


def ntk_vector_product(
    module: nn.Module,
    x1: Inputs,
    v: Tensor,
    x2: Inputs | None = None,
    *,
    rates: Rates | None = None,
    parameters: Sequence[str] | None = None,
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """The NTK times a vector, `u[i, a] = sum_{j, b} Theta[i, j, a, b] v[j, b]`, without the NTK.

    With `J[i, a, p] = df_a(x_i)/dp` it is `J_1 R J_2^T v`: a backward pass over x2 and a forward-mode pass
    over x1, in time O(n1 + n2). `Theta` is that of `empirical_ntk` with the outputs `full`.

    Args:
        module: any torch module, with outputs (n, k), further axes being part of k; frozen tensors do not
            count, tied ones count once. Its weights, gradients, buffers and mode are left as they are.
        x1: inputs (n1, ...); a tuple or dict of such for a module that takes several.
        v: (n2, k).
        x2: inputs (n2, ...); x1 by default.
        rates: R, a factor for each tensor by name, such as `network.rates()`; 1 by default.
        parameters: names of tensors, or of layers that hold them, whose share is wanted; all by default.
        budget: bytes that may be held: what decides how many rows are computed at a time. The result depends
            on that only within rounding.

    Returns:
        u (n1, k), of the module's dtype.

    Raises:
        UnsupportedError: outputs depend on chance or on other rows (dropout, batch norm in training mode).
        ResourceError: not one row fits the budget.
        SpecError: v has another shape, or there is no tensor of such a name.

    Source: Novak et al., "Fast finite width neural tangent kernel" (2022), section 3.3.

    >>> import torch
    >>> module = torch.nn.Linear(1, 1, dtype=torch.float64)  # Theta = x x' + 1
    >>> x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> ntk_vector_product(module, x, torch.tensor([[3.0], [1.0]])).tolist()
    [[6.0], [2.0]]
    """
    from ntkengine.empirical.jacobian import Jacobian

    jacobian = Jacobian.of(module, parameters)
    factors = factors_of(jacobian, rates)
    other = x1 if x2 is None else x2
    rows = jacobian.rows_within(x1, budget), jacobian.rows_within(other, budget)
    gradient = jacobian.pull(other, v.detach(), rows[1])
    return jacobian.push(x1, {name: factors[name] * g for name, g in gradient.items()}, rows[0])


class NTKOperator:
    """The NTK over pairs (input, output) as a linear operator, `A[i k + a, j k + b] = Theta[i, j, a, b]`.

    It has what `scipy.sparse.linalg.aslinearoperator` asks for, so that SciPy's solvers take it. Vectors may
    be NumPy arrays or tensors; products are of the same kind, in the module's dtype.

    Args:
        module: as in `ntk_vector_product`, with its errors; likewise the other arguments.
        x: inputs (n, ...).

    >>> import torch
    >>> from scipy.sparse.linalg import cg
    >>> x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> kernel = NTKOperator(torch.nn.Linear(1, 1, dtype=torch.float64), x)
    >>> kernel.shape, (kernel @ np.array([3.0, 1.0])).tolist()
    ((2, 2), [6.0, 2.0])
    >>> cg(kernel, np.array([6.0, 2.0]))[0].round(12).tolist()
    [3.0, 1.0]
    """

    def __init__(
        self,
        module: nn.Module,
        x: Inputs,
        *,
        rates: Rates | None = None,
        parameters: Sequence[str] | None = None,
        budget: int = MEMORY_BUDGET,
    ) -> None:
        import torch

        from ntkengine.empirical.jacobian import Jacobian
        from ntkengine.empirical.subject import length

        self.jacobian = Jacobian.of(module, parameters)
        self.x = x
        self.factors = factors_of(self.jacobian, rates)
        self.rows = self.jacobian.rows_within(x, budget)
        self.k = self.jacobian.width(x)
        self.shape = (length(x) * self.k, length(x) * self.k)
        self.dtype = torch.empty(0, dtype=self.jacobian.dtype).numpy().dtype

    def matvec(self, v: Any) -> Any:
        """`A v` for v (n k,) or (n k, 1), in the same shape."""
        import torch

        product = self._product(tensor_of(v)).reshape(v.shape)
        return product if torch.is_tensor(v) else product.numpy(force=True)

    def matmat(self, v: Any) -> Any:
        """`A v` for v (n k, m)."""
        import torch

        product = torch.stack([self._product(column) for column in tensor_of(v).T], dim=1)
        return product if torch.is_tensor(v) else product.numpy(force=True)

    def rmatvec(self, v: Any) -> Any:
        """`A^T v`, which is `A v`."""
        return self.matvec(v)

    def rmatmat(self, v: Any) -> Any:
        """`A^T v`, which is `A v`."""
        return self.matmat(v)

    def __matmul__(self, v: Any) -> Any:
        """`A v`."""
        return self.matvec(v) if v.ndim == 1 else self.matmat(v)

    def _product(self, v: Tensor) -> Tensor:
        if v.numel() != self.shape[0]:
            raise SpecError(f"v has shape {tuple(v.shape)}, the kernel {self.shape}")
        gradient = self.jacobian.pull(self.x, v.reshape(-1, self.k), self.rows)
        scaled = {name: self.factors[name] * g for name, g in gradient.items()}
        return self.jacobian.push(self.x, scaled, self.rows).flatten()


def tensor_of(v: Any) -> Tensor:
    """A tensor as it is, an array as a copy: torch refuses strides below zero and read-only memory."""
    import torch

    return v.detach() if torch.is_tensor(v) else torch.from_numpy(np.array(v, order="C"))


def factors_of(jacobian: Jacobian, rates: Rates | None) -> dict[str, float]:
    """A factor for each tensor."""
    if rates is None:
        return dict.fromkeys(jacobian.tensors, 1.0)
    missing = [name for name in jacobian.tensors if name not in rates]
    if missing:
        raise SpecError(f"rates are missing: {', '.join(missing)}", hint="give one for each trained tensor")
    return {name: float(rates[name]) for name in jacobian.tensors}


@dataclass(frozen=True)
class Eigenpairs:
    """Eigenvalues `values` (count,) from the largest, with unit vectors (n, k, count) and error bounds.

    `residuals[m] = |A v_m - values[m] v_m|`: each value is at most so far from an eigenvalue of A, for A is
    symmetric. Rounding adds to that what it does in a product with A.
    """

    values: Vectors
    residuals: Vectors
    vectors: Vectors


def top_eigenvalues(
    module: nn.Module,
    x: Inputs,
    count: int,
    *,
    tol: float = 0.0,
    rates: Rates | None = None,
    parameters: Sequence[str] | None = None,
    budget: int = MEMORY_BUDGET,
) -> Eigenpairs:
    """The largest eigenvalues of the NTK over pairs (input, output), by products with it.

    The matrix is that of `NTKOperator`, `A[i k + a, j k + b] = Theta[i, j, a, b]`.

    By Lanczos iterations from a fixed start. One start finds one vector of an eigenspace, and the kernel of a
    trained read-out alone is `K[i, j] delta[a, b]`, which has each eigenvalue k times: so further iterations
    look outside what was found until they find nothing larger.

    Args:
        module: as in `ntk_vector_product`, with its errors; likewise the other arguments.
        x: inputs (n, ...).
        count: how many eigenvalues, less than n k.
        tol: how large residuals may be, as a share of the largest eigenvalue; 0: as small as rounding allows.

    Raises:
        SpecError: count is not between 1 and n k - 1.
        NumericalError: the kernel is zero or not finite, or the iterations do not converge.

    Source: Lehoucq, Sorensen and Yang, "ARPACK users' guide" (1998); Parlett, "The symmetric eigenvalue
    problem" (1998), theorem 4.5.1 for the bound.

    >>> import torch
    >>> x = torch.tensor([[1.0], [-1.0], [2.0]], dtype=torch.float64)
    >>> found = top_eigenvalues(torch.nn.Linear(1, 2, dtype=torch.float64), x, 3)  # (x x' + 1) delta_ab
    >>> found.values.round(9).tolist()
    [7.0, 7.0, 2.0]
    >>> found.vectors.shape, bool((found.residuals < 1e-12).all())
    ((3, 2, 3), True)
    """
    kernel = NTKOperator(module, x, rates=rates, parameters=parameters, budget=budget)
    if not 1 <= count < kernel.shape[0]:
        raise SpecError(
            f"count is {count}, the kernel has {kernel.shape[0]} eigenvalues",
            hint="for all of them form the matrix with empirical_ntk",
        )
    basis = largest(kernel.matvec, kernel.shape[0], count, tol, kernel.dtype)
    values, vectors, images = ritz(kernel.matmat, basis, count)
    residuals = np.linalg.norm(images - values * vectors, axis=0) / np.linalg.norm(vectors, axis=0)
    return Eigenpairs(values, residuals, vectors.reshape(-1, kernel.k, count))


def largest(product: Product, size: int, count: int, tol: float, dtype: Any) -> Vectors:
    """A basis (size, count) of the eigenvectors of the largest eigenvalues, multiple ones included."""
    scale = scale_of(product, size, dtype)
    basis = lanczos(product, np.empty((size, 0), dtype), count, scale, tol)
    for start in range(1, 2 * count + 1):
        values, basis, _ = ritz(columnwise(product), basis, count)
        beyond = lanczos(product, basis, 1, scale, tol, start)
        value = float(np.vdot(beyond, product(beyond[:, 0])))
        if value <= values[-1] + max(tol, ROUNDING * np.finfo(dtype).eps) * values[0]:
            return basis
        basis = np.concatenate([basis, beyond], axis=1)
    raise NumericalError(
        f"the {count} largest eigenvalues are not complete after {2 * count} iterations",
        hint="ask for other eigenvalues, or form the matrix with empirical_ntk",
    )


def start_vector(size: int, key: int, dtype: Any) -> Vectors:
    """Normal numbers that are the same in every run."""
    return np.random.Generator(np.random.Philox(key=key)).standard_normal(size).astype(dtype)


def scale_of(product: Product, size: int, dtype: Any) -> float:
    """The size of the largest eigenvalue, from below."""
    v = start_vector(size, 0, dtype)
    norm = float(np.linalg.norm(v))
    for _ in range(POWER_STEPS):
        v = product(v / norm)
        norm = float(np.linalg.norm(v))
        if norm == 0 or not np.isfinite(norm):
            raise NumericalError("the kernel is zero or not finite", hint="look at weights and inputs")
    return norm


def lanczos(
    product: Product, basis: Vectors, count: int, scale: float, tol: float, start: int = 0
) -> Vectors:
    """Eigenvectors (size, count) of the largest eigenvalues outside a basis.

    The operator is shifted by its scale, so that `tol` is relative to the largest eigenvalue, not to the one
    that is looked for, which may be zero.
    """
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    def outside(v: Vectors) -> Vectors:
        return np.asarray(v - basis @ (basis.T @ v))

    def shifted(v: Vectors) -> Vectors:
        v = v.ravel()
        return np.asarray(outside(product(outside(v))) + scale * v)

    size, dtype = len(basis), basis.dtype
    operator = LinearOperator((size, size), shifted, dtype=dtype)
    try:
        _, found = eigsh(operator, count, which="LA", v0=outside(start_vector(size, start, dtype)), tol=tol)
    except ArpackError as error:
        raise NumericalError(f"Lanczos iterations failed: {error}", hint="use a larger tol") from None
    return np.asarray(found)


def columnwise(product: Product) -> Product:
    """A product with vectors as one with matrices."""
    return lambda vectors: np.stack([product(column) for column in vectors.T], axis=1)


def ritz(product: Product, basis: Vectors, count: int) -> tuple[Vectors, Vectors, Vectors]:
    """Of the space of a basis the `count` largest Ritz values, their vectors, and those times the kernel."""
    q, _ = np.linalg.qr(basis)
    images = product(q)
    projected = q.T @ images
    values, mix = np.linalg.eigh((projected + projected.T) / 2)
    order = np.argsort(values)[::-1][:count]
    return values[order], q @ mix[:, order], images @ mix[:, order]
