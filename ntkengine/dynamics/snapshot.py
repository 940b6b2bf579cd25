"""A run at one moment: its members with their weights, and what is measured on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from ntkengine.dynamics.members import Members
from ntkengine.dynamics.objective import Objective, Problem
from ntkengine.empirical import empirical_ntk
from ntkengine.network import Network
from ntkengine.outputs import Outputs


@dataclass
class Stack:
    """All members with some weights theta (S, P); outputs are evaluated for all at once, when first asked."""

    objective: Objective
    members: Members
    theta: Tensor
    _outputs: dict[str, Tensor] = field(default_factory=dict)

    def outputs(self, part: str) -> Tensor:
        """Outputs (S, n, k) on a part of the problem's inputs."""
        if part not in self._outputs:
            self._outputs[part] = self.objective.outputs(self.theta, self.objective.problem.inputs()[part])
        return self._outputs[part]


@dataclass
class State:
    """One member with some weights. What costs something is computed when first asked, and kept."""

    stack: Stack
    member: int
    _kernels: dict[Outputs, Tensor] = field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        return self.stack.objective.problem

    @property
    def theta(self) -> Tensor:
        """The weights (P,), in the order of `network.trained()`."""
        return self.stack.theta[self.member]

    @property
    def outputs(self) -> Tensor:
        """Outputs (m, k) on the training inputs."""
        return self.stack.outputs("")[self.member]

    def outputs_by_part(self) -> dict[str, Tensor]:
        """Outputs (m, k) on the training inputs, "", and (n, k) on the test inputs, "_test", if any."""
        return {part: self.stack.outputs(part)[self.member] for part in self.problem.inputs()}

    @property
    def network(self) -> Network:
        """The network with these weights, until that of another member or moment is asked for."""
        return self.stack.members.loaded(self.member, self.theta)

    def named(self, theta: Tensor) -> dict[str, Tensor]:
        """Numbers (P,) in the order of the weights, as tensors by name."""
        return self.stack.members.named(theta)

    def kernel(self, outputs: Outputs = "mean") -> Tensor:
        """The empirical NTK of the training inputs."""
        if outputs not in self._kernels:
            self._kernels[outputs] = empirical_ntk(self.network, self.problem.x, outputs=outputs)
        return self._kernels[outputs]

    def moving_blocks(self, x: Tensor) -> Tensor:
        """`sum_p rate_p df_a(x_i)/dp df_b(x_j)/dp` (n, m, k, k) between x and the training inputs: the kernel
        that outputs follow in training, tensors weighted by the factors on their learning rates."""
        by_rate: dict[float, list[str]] = {}
        for name, rate in self.stack.members.rates.items():
            by_rate.setdefault(rate, []).append(name)
        network, x2 = self.network, self.problem.x
        if len(by_rate) == 1:
            (rate,) = by_rate
            return rate * empirical_ntk(network, x, x2, outputs="full")
        shares = [
            rate * empirical_ntk(network, x, x2, outputs="full", parameters=names)
            for rate, names in by_rate.items()
        ]
        return torch.stack(shares).sum(0)

    def loss_of(self, theta: Tensor) -> Tensor:
        """The training loss of this member with other weights (P,), a scalar, differentiable."""
        outputs = self.stack.objective.only(self.member)(theta[None], self.problem.x)
        return self.problem.loss.value(outputs[0], self.problem.y)


@dataclass
class Moment:
    """All members at one moment of the run.

    `slope(x)` is `df(x)/dt` (S, n, k) as the trainer really moves, without any kernel: from its next
    step where it makes steps, along its velocity under gradient flow.
    """

    now: Stack
    slope: Callable[[Tensor], Tensor]

    @cached_property
    def measured_slopes(self) -> dict[str, Tensor]:
        """`df/dt` (S, n, k) on each part of the inputs."""
        inputs = self.now.objective.problem.inputs()
        slopes = torch.split(
            self.slope(torch.cat(list(inputs.values()))), [len(x) for x in inputs.values()], 1
        )
        return dict(zip(inputs, slopes, strict=True))


@dataclass
class Snapshot:
    """One member at one moment, and at the start of the run: what records measure.

    `start` is the same object at every moment, so that its kernel is computed once; its network is another
    module than that of `now`. `linearized` is the member of the linearized twin, if one runs beside; it has
    weights and outputs, but no network. `memory` are arrays by name that a record may keep from
    one of its moments to the next; they are part of the checkpoint, and every member keeps the same names.
    """

    moment: Moment
    now: State
    start: State
    linearized: State | None = None
    memory: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def problem(self) -> Problem:
        """The data and the loss."""
        return self.now.problem

    def measured_slopes(self) -> dict[str, Tensor]:
        """`df/dt` (n, k) on each part of the inputs, as the trainer really moves."""
        return {part: slopes[self.now.member] for part, slopes in self.moment.measured_slopes.items()}
