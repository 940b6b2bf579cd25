"""Records of the kernel: itself, how it moves, what it is aligned with, and where it comes from."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, Annotated, Literal, final

from pydantic import Field

from ntkengine.analysis import alignment, cka, kernel_distance, kernel_velocity, layer_shares, spectrum
from ntkengine.dynamics.records.base import Record, Shapes, Size, Value, array
from ntkengine.dynamics.schedules import AnySchedule, LinearSchedule
from ntkengine.empirical import empirical_ntk, empirical_ntk_by_layer
from ntkengine.outputs import OUTPUT_FORMS, Outputs
from ntkengine.spec import spec

if TYPE_CHECKING:
    from torch import Tensor

    from ntkengine.dynamics.snapshot import Snapshot, State

LAYERS = 16  # that stand for any number of them in an estimate of the size
STEP = 2.0**-17  # of a central difference, over the size of the weights: near the cube root of rounding


@spec
class KernelRecord(Record):
    """The empirical NTK of the training inputs."""

    what: Literal["kernel"] = "kernel"
    """Which quantity."""
    outputs: Outputs = "mean"
    """What is kept of the k x k block of a pair: `full` (m, m, k, k), `trace`, `mean` or `diagonal`."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        kept = math.prod(OUTPUT_FORMS[self.outputs].shape(shapes.m, shapes.m, shapes.k))
        return Size(kept, 3 * kept)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        return {"kernel": array(snapshot.now.kernel(self.outputs))}


@spec
class KernelMeasure(Record):
    """A number, or few, of the kernel of the training inputs."""

    # described here, for docstrings of fields are not inherited
    outputs: Literal["mean", "full"] = Field(
        default="mean",
        description="Of which kernel: `mean` (m, m), over the outputs, or `full`, all k x k blocks.",
    )
    schedule: AnySchedule = Field(default_factory=LinearSchedule, description="When it is recorded.")

    @abstractmethod
    def of(self, snapshot: Snapshot) -> Value:
        """The value at that moment."""

    @abstractmethod
    def numbers(self, shapes: Shapes) -> int:
        """How many numbers are kept."""

    @final
    def size(self, shapes: Shapes) -> Size:
        kernel = math.prod(OUTPUT_FORMS[self.outputs].shape(shapes.m, shapes.m, shapes.k))
        return Size(self.numbers(shapes), 4 * kernel)

    @final
    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        return {self.what: self.of(snapshot)}


@spec
class KernelDistanceRecord(KernelMeasure):
    """`|Theta_t - Theta_0|_F / |Theta_0|_F`: the relative change of the kernel since the start."""

    what: Literal["kernel_distance"] = "kernel_distance"
    """Which quantity."""

    def numbers(self, shapes: Shapes) -> int:
        return 1

    def of(self, snapshot: Snapshot) -> Value:
        return float(kernel_distance(snapshot.now.kernel(self.outputs), snapshot.start.kernel(self.outputs)))


@spec
class KernelVelocityRecord(KernelMeasure):
    """`|dTheta/dt|_F / |Theta_0|_F`: relative change of the kernel in a unit of time.

    v is `-rate grad L`, how gradient flow moves the weights and plain descent its next step. By the central
    difference of the kernel at theta +- h v, with `h |v|` =
    2^-17 |theta|: to about 1e-9 where the kernel is smooth in the weights. With ReLU it has jumps that this
    does not see.
    """

    what: Literal["kernel_velocity"] = "kernel_velocity"
    """Which quantity."""

    def numbers(self, shapes: Shapes) -> int:
        return 1

    def of(self, snapshot: Snapshot) -> Value:
        state = snapshot.now
        velocity = flow_velocity(state)
        speed = float(velocity.norm())
        if speed == 0.0:
            return 0.0
        h = STEP * float(state.theta.norm()) / speed
        before, after = (kernel_at(state, state.theta + s * velocity, self.outputs) for s in (-h, h))
        return float(kernel_velocity(before, after, 2 * h, snapshot.start.kernel(self.outputs)))


@spec
class AlignmentRecord(KernelMeasure):
    """`<Theta, y y^T> / (|Theta|_F |y y^T|_F)`: kernel-target alignment, not centred."""

    what: Literal["alignment"] = "alignment"
    """Which quantity."""

    def numbers(self, shapes: Shapes) -> int:
        return 1

    def of(self, snapshot: Snapshot) -> Value:
        return float(alignment(snapshot.now.kernel(self.outputs), snapshot.problem.y))


@spec
class CKARecord(KernelMeasure):
    """`<H Theta_t H, H Theta_0 H>` over their norms, `H_ij = delta_ij - 1/m`: centred alignment with the
    kernel of the start. It is 1 on two inputs, where nothing but a number is left of a centred kernel."""

    what: Literal["cka"] = "cka"
    """Which quantity."""

    def numbers(self, shapes: Shapes) -> int:
        return 1

    def of(self, snapshot: Snapshot) -> Value:
        return float(cka(snapshot.now.kernel(self.outputs), snapshot.start.kernel(self.outputs)))


@spec
class SpectrumRecord(KernelMeasure):
    """The kernel's largest `eigenvalues`, descending; its `effective_rank`, `(tr Theta)^2 / |Theta|_F^2`; and
    its `condition_number`, which ends at that of rounding."""

    what: Literal["spectrum"] = "spectrum"
    """Which quantity."""
    top: Annotated[int, Field(ge=1, le=10_000, strict=True)] = 10
    """How many eigenvalues are kept, at most."""

    def numbers(self, shapes: Shapes) -> int:
        return self.top + 2

    def of(self, snapshot: Snapshot) -> Value:
        found = spectrum(snapshot.now.kernel(self.outputs), self.top)
        return {
            "eigenvalues": array(found.eigenvalues),
            "effective_rank": float(found.effective_rank),
            "condition_number": float(found.condition_number),
        }


@spec
class LayerShareRecord(Record):
    """The share of each layer in the trace of the kernel, by path; shares add up to 1."""

    what: Literal["layer_share"] = "layer_share"
    """Which quantity."""
    schedule: AnySchedule = Field(default_factory=LinearSchedule)
    """When it is recorded."""

    def size(self, shapes: Shapes) -> Size:
        return Size(LAYERS, 3 * LAYERS * shapes.m**2)

    def measure(self, snapshot: Snapshot) -> dict[str, Value]:
        kernels = empirical_ntk_by_layer(snapshot.now.network, snapshot.problem.x, outputs="trace")
        return {"layer_share": {path: float(share) for path, share in layer_shares(kernels).items()}}


def kernel_at(state: State, theta: Tensor, outputs: Outputs) -> Tensor:
    """The kernel of a member with other weights (P,)."""
    network = state.stack.members.loaded(state.member, theta)
    return empirical_ntk(network, state.problem.x, outputs=outputs)


def flow_velocity(state: State) -> Tensor:
    """`-rate grad L` (P,): how gradient flow moves the weights, and a step of plain descent over its rate."""
    objective = state.stack.objective
    return -objective.rates * objective.only(state.member).gradient(state.theta[None]).theta[0]
