"""The regime of a user's own module: its optimiser, its linearization, and what the theory assumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from ntkengine.regime import regime_of_module
from ntkengine.regime.recipe import Recipe, linearized
from tests.compare import assert_close

X = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64)[:, None]
Y = X**2 - 0.3


def net(width: int = 16) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Linear(1, width), nn.Tanh(), nn.Linear(width, 1)).double()


def sgd(lr: float = 0.05, **more: Any) -> Callable[[Iterable[Tensor]], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, lr=lr, **more)


def report(make: Any, optimizer: Any, loss: Any = functional.mse_loss, y: Tensor = Y, **more: Any) -> Any:
    return regime_of_module(make, X, y, optimizer=optimizer, loss=loss, **{"steps": 60, **more})


def violated(found: Any) -> set[str]:
    return {each["assumption"] for each in found["assumptions"] if not each["holds"]}


@pytest.mark.parametrize(
    ("optimizer", "more", "names"),
    [
        (sgd(), {}, {"gradient_flow"}),
        (sgd(momentum=0.5), {}, {"gradient_flow", "plain_descent"}),
        (sgd(weight_decay=0.1), {"batch_size": 3}, {"gradient_flow", "plain_descent", "full_batch"}),
        (lambda p: torch.optim.Adam(p, lr=0.01), {"steps": 10}, {"gradient_flow", "plain_descent"}),
        (sgd(), {"loss": functional.soft_margin_loss, "y": Y.sign()}, {"gradient_flow", "squared_loss"}),
    ],
)
def test_which_assumptions_are_violated(optimizer: Any, more: Any, names: set[str]) -> None:
    found = report(net(4), optimizer, seeds=2, **more)
    assert violated(found) == names
    for each in found["assumptions"]:
        if not each["holds"]:
            assert each["contribution"]["train"]["median"] > 0


def test_smaller_steps_are_nearer_to_the_flow() -> None:
    """The error of Euler's method is of the order of the step."""

    def contribution(lr: float, steps: int) -> float:
        found = report(net(4), sgd(lr), steps=steps, seeds=2)
        return float(found["assumptions"][0]["contribution"]["train"]["median"])

    coarse, fine = contribution(0.2, 20), contribution(0.05, 80)
    assert coarse / fine == pytest.approx(4.0, rel=0.25)


def test_a_linear_module_is_its_own_linearization() -> None:
    found = report(lambda: nn.Linear(1, 1).double(), sgd(0.3), steps=100, seeds=2)
    row = found["widths"][0]
    assert row["kernel_change"]["high"] == 0.0
    assert row["linearization_error"]["train"]["high"] < 1e-12


def test_the_linearization_trains_as_the_kernel_says() -> None:
    """By steps against `f - lr Theta dL/df` in function space, with the kernel by autograd."""
    torch.manual_seed(0)
    module = net(5)()
    rows = []
    for output in module(X):
        grads = torch.autograd.grad(output.sum(), list(module.parameters()), retain_graph=True)
        rows.append(torch.cat([grad.flatten() for grad in grads]))
    jacobian = torch.stack(rows)
    f = module(X).detach()
    for _ in range(30):
        f = f - 0.05 * (jacobian @ jacobian.T) @ (2.0 / len(X) * (f - Y))
    recipe = Recipe(sgd(), functional.mse_loss, Y, 30, len(X))
    path = recipe.train(linearized(module), X, [0, 30], X, 0)
    assert_close(path[-1].numpy(), f.numpy(), rtol=1e-12)


def test_the_users_module_is_left_as_it_was() -> None:
    module = net()()
    before = [p.detach().clone() for p in module.parameters()]
    report(module, sgd(), seeds=2, batch_size=2, steps=10)
    assert all(torch.equal(p, q) for p, q in zip(module.parameters(), before, strict=True))
