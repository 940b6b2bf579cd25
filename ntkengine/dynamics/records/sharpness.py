"""The record of the sharpness: the largest eigenvalue of the Hessian, by products with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.dynamics.records.base import Record, Shapes, Size, Value
from ntkengine.dynamics.schedules import AnySchedule, LinearSchedule
from ntkengine.empirical.products import scale_of, start_vector
from ntkengine.errors import NumericalError
from ntkengine.spec import spec

if TYPE_CHECKING:
    from ntkengine.dynamics.snapshot import Snapshot, State

Array = NDArray[np.float64]
Product = Callable[[Array], Array]

RESIDUAL = 1e-8  # |H v - h v|, as a share of |H|
FEW = 20  # so many products make the whole matrix, and Lanczos iterations need no fewer
RESTARTS = 200


@spec
class SharpnessRecord(Record):
    """The largest eigenvalue of the Hessian of the training loss by the weights; below 0 where it curves down
    in all directions.

    By Lanczos iterations from a fixed start, until `|H v - h v| <= 1e-8 |H|`: h is that close to an
    eigenvalue of H. Learning rates by tensor are not in it. For networks of at most a million numbers.
    """

    most_weights: ClassVar[int | None] = 10**6
    what: Literal["sharpness"] = "sharpness"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        return Size(1, (FEW + 8) * shapes.weights)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        state = snapshot.now
        return {"sharpness": largest_eigenvalue(hessian_product(state), len(state.theta))}


def hessian_product(state: State) -> Product:
    """`H v` with `H = d^2 L / d theta^2` at the state's weights, one backward pass each."""
    import torch

    with torch.enable_grad():
        theta = state.theta.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(state.loss_of(theta), theta, create_graph=True)

    def product(v: Array) -> Array:
        (along,) = torch.autograd.grad(gradient, theta, torch.from_numpy(v.copy()), retain_graph=True)
        return np.asarray(along.numpy(force=True))

    return product


def largest_eigenvalue(product: Product, size: int) -> float:
    """Of a symmetric operator, the largest one with its sign.

    0 where it vanishes, NaN where it is not finite.

    Raises:
        NumericalError: the iterations did not converge.
    """
    from scipy.sparse.linalg import ArpackError, LinearOperator, eigsh

    if size <= FEW:
        matrix = np.stack([product(unit) for unit in np.eye(size)])
        return float(np.linalg.eigvalsh((matrix + matrix.T) / 2)[-1])
    start = start_vector(size, 0, np.float64)
    image = product(start)
    if not image.any() or not np.isfinite(image).all():
        return float(image.sum())
    scale = scale_of(product, size, np.float64)  # what residuals are relative to, once it is added
    operator = LinearOperator(
        (size, size), lambda v: product(v.ravel()) + scale * v.ravel(), dtype=np.float64
    )
    try:
        (value,) = eigsh(
            operator,
            1,
            which="LA",
            v0=start,
            ncv=FEW,
            tol=RESIDUAL,
            maxiter=RESTARTS,
            return_eigenvectors=False,
        )
    except ArpackError as error:
        raise NumericalError(
            f"the sharpness was not found by {RESTARTS} restarts of Lanczos: {error}",
            hint="leave sharpness out, or record it more seldom",
        ) from None
    return float(value) - scale
