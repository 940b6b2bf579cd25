"""A network as data: layers, parameterization, and the function they make. Torch-free to validate."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from ntkengine.errors import SpecError, pointer_of
from ntkengine.layer import Position, Site
from ntkengine.layers import AnyLayer, Serial
from ntkengine.parameterizations import NTK, AnyParameterization
from ntkengine.spec import Positive, spec
from ntkengine.weights import Weights, checked, draw

if TYPE_CHECKING:
    import torch

    from ntkengine.network import Network

InitialFunction = Literal["raw", "centred", "doubled"]


@spec
class Model:
    """A network `f(x) = output_scale * layers(x)`: the source of a finite network and of its limit."""

    layers: Annotated[tuple[AnyLayer, ...], Field(min_length=1)]
    """The layers, first one first."""
    parameterization: AnyParameterization = Field(default_factory=NTK)
    """How multipliers, laws and learning rates depend on the width; a layer may override it."""
    output_scale: Positive = 1.0
    """Constant factor alpha on the function; a large one makes training lazy."""
    initial_function: InitialFunction = "raw"
    """`raw`: the network as drawn; `centred`: its start is subtracted; `doubled`: the difference of two
    copies that start equal, over sqrt(2). The last two start at f = 0."""

    def place(self, in_shape: tuple[int, ...]) -> Site:
        """The tree of layers in their places, for inputs of that shape (without the batch).

        Raises:
            SpecError: a layer does not fit what arrives, or the parameterization has no row for it.
        """
        return placed(self, in_shape)

    def check_finite(self, in_shape: tuple[int, ...]) -> Site:
        """`place`, and every width must be there."""
        site = self.place(in_shape)
        for leaf in site.leaves():
            if None in leaf.out_shape:
                raise SpecError(
                    f"{leaf.path}: a finite network needs the width of every layer",
                    pointer=f"{pointer_of(leaf.path)}/width",
                    hint="give a width",
                )
        return site

    def network(
        self,
        in_shape: tuple[int, ...],
        *,
        seed: int = 0,
        weights: Weights | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | None = None,
    ) -> Network:
        """The finite network with weights drawn from `seed`, or the `weights` given by name.

        Args:
            in_shape: shape of one input, `(d,)`.
            weights: `{"layers.0.W": ..., "layers.0.b": ...}`, W of shape (fan-in, width).
            dtype: torch.float64 by default.

        Raises:
            SpecError: a width is missing, or the weights' names or shapes do not fit.

        >>> from ntkengine import Dense, Model, Quadratic
        >>> net = Model(layers=(Dense(width=4), Quadratic(), Dense(width=1))).network((2,), seed=0)
        >>> {name: tuple(p.shape) for name, p in net.named_parameters()}
        {'layers.0.W': (2, 4), 'layers.2.W': (4, 1)}
        """
        import torch

        from ntkengine.network import build

        site = self.check_finite(in_shape)
        arrays = draw(site, seed) if weights is None else checked(site, weights)
        tensors = {
            name: torch.as_tensor(array, dtype=dtype or torch.float64, device=device)
            for name, array in arrays.items()
        }
        return build(site, tensors, self.output_scale, self.initial_function)


@lru_cache(maxsize=256)  # one request asks for it many times, and others have the same network
def placed(model: Model, in_shape: tuple[int, ...]) -> Site:
    """`Model.place`."""
    start = Position(
        path="",
        shape=in_shape,
        parameterization=model.parameterization,
        weights_before=False,
        weights_after=False,
    )
    site = Serial(layers=model.layers).place(start)
    if not any(leaf.role for leaf in site.leaves()):
        raise SpecError(
            "the network has no layer with weights, so it has no kernel",
            pointer="/layers",
            hint='add a layer, such as {"kind": "dense", "width": 1}',
        )
    return site
