"""Records of the weights: themselves, how far they are from the start, and the path that they took."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ntkengine.dynamics.records.base import Record, Shapes, Size, Value, array
from ntkengine.dynamics.schedules import AnySchedule, LinearSchedule
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.dynamics.snapshot import Snapshot
    from ntkengine.network import Network

Array = NDArray[np.float64]

RESOLVED = 1e-5  # of the size of a point's start: shorter movements have no direction, but that of errors


@spec
class WeightsRecord(Record):
    """Every trained tensor by name; of a mean-field limit those of its particles, with their `probabilities`.
    For networks of at most 4,096 numbers."""

    most_weights: ClassVar[int | None] = 4096
    what: Literal["weights"] = "weights"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        return Size(2 * shapes.weights, 2 * shapes.weights)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        from ntkengine.dynamics.particle_network import distribution

        return {"weights": {name: array(p) for name, p in distribution(snapshot.now.network).items()}}


@spec
class DisplacementRecord(Record):
    """`|theta_t - theta_0| / |theta_0|` over all trained numbers: the relative change of the weights."""

    what: Literal["displacement"] = "displacement"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        return Size(1, shapes.weights)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        start = snapshot.start.theta
        return {"displacement": float((snapshot.now.theta - start).norm() / start.norm())}


@spec
class PathRecord(Record):
    """The path of the weights so far: its `length`, `displacement` and `curvature`.

    With theta_i the weights at the moments of the schedule, the length is `sum_i |theta_i - theta_(i-1)|`,
    the displacement `|theta_t - theta_0|`, and the curvature the angle in radians by which it has turned,
    `sum_i angle(theta_(i+1) - theta_i, theta_i - theta_(i-1))`: 0 for a straight line. All come from below to
    those of the smooth path as moments become dense. A movement of less than 1e-5 of |theta_0| is taken
    together with the next when it is asked where it points. With one hidden layer `neurons` has the
    same three numbers (N,) of each neuron as a point: its incoming weights, bias and outgoing weights.
    """

    what: Literal["path"] = "path"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded, and so where the corners of the path are."""

    def size(self, shapes: Shapes) -> Size:
        return Size(3 + shapes.weights, 16 * shapes.weights)  # a neuron has three weights or more

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        network, theta, start = snapshot.now.network, snapshot.now.theta, snapshot.start.theta
        whole = followed(snapshot.memory, "path", theta[None], start[None])
        found: dict[str, Value] = {name: float(value[0]) for name, value in whole.items()}
        if (paths := hidden_neurons(network)) is not None:
            points, starts = (neurons(network, weights, paths) for weights in (theta, start))
            found["neurons"] = dict(followed(snapshot.memory, "path.neurons", points, starts))
        return {"path": found}


def followed(memory: dict[str, Array], key: str, points: Tensor, starts: Tensor) -> dict[str, Array]:
    """Length, displacement and curvature of the paths of several points (r, q), each (r,), from what is
    remembered of them under that key, which is brought up to date.

    Remembered are where they were; the corner at which the last movement that has a direction ended, and that
    movement; how far they came; and by what angle they turned.
    """
    now, start = points.numpy(force=True), starts.numpy(force=True)
    nothing = np.zeros(len(now))
    fresh = {"last": now, "corner": now, "along": np.zeros_like(now), "length": nothing, "turned": nothing}
    track = {name: memory.get(f"{key}.{name}", value) for name, value in fresh.items()}
    track["length"] = track["length"] + np.linalg.norm(now - track["last"], axis=1)
    step = now - track["corner"]
    moved = np.linalg.norm(step, axis=1) > RESOLVED * np.linalg.norm(start, axis=1)
    turned = np.where(track["along"].any(1), angles(track["along"], step), 0.0)
    track["turned"] = track["turned"] + np.where(moved, turned, 0.0)
    track["corner"] = np.where(moved[:, None], now, track["corner"])
    track["along"] = np.where(moved[:, None], step, track["along"])
    memory |= {f"{key}.{name}": value for name, value in (track | {"last": now}).items()}
    displacement = np.linalg.norm(now - start, axis=1)
    return {"length": track["length"], "displacement": displacement, "curvature": track["turned"]}


def angles(first: Array, second: Array) -> Array:
    """Between the rows of two matrices, 0 to pi, without loss of digits at either end."""
    u, v = (each / np.maximum(np.linalg.norm(each, axis=1), 1e-300)[:, None] for each in (first, second))
    return np.asarray(2.0 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1)))


def hidden_neurons(network: Network) -> tuple[str, str] | None:
    """The paths of the two dense layers around the one hidden layer, if the network is of that kind."""
    layers = [leaf for leaf in network.site.leaves() if leaf.role is not None]
    plain = [leaf.path for leaf in layers if leaf.layer.kind == "dense" and len(leaf.in_shape) == 1]
    top = [path for path in plain if path.count(".") == 1]
    return (top[0], top[1]) if len(layers) == len(top) == 2 else None


def neurons(network: Network, theta: Tensor, paths: tuple[str, str]) -> Tensor:
    """Each hidden neuron as a point (N, d + 1 + k), by its incoming weights, bias and outgoing weights; those
    of a trained twin follow."""
    import torch

    trained = network.trained()
    parts = torch.split(theta, [p.numel() for p in trained.values()])
    tensors = {name: part.view(p.shape) for (name, p), part in zip(trained.items(), parts, strict=True)}
    first, last = paths
    sides = []
    for copy in ("", "twin."):
        columns = [tensors.get(f"{copy}{first}.W"), tensors.get(f"{copy}{first}.b")]
        rows = [column.reshape(-1, column.shape[-1]).mT for column in columns if column is not None]
        if rows:
            sides.append(torch.cat([*rows, tensors[f"{copy}{last}.W"]], dim=1))
    return torch.cat(sides)
