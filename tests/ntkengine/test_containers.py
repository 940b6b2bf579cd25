"""Branches, repetition and aggregation: their rules, what they refuse, and their finite maps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from ntkengine import SpecError, UnsupportedError, empirical_ntk, infinite_kernel
from tests.cases import inputs, model
from tests.compare import assert_close

RELU, ERF, SKIP = {"kind": "relu"}, {"kind": "erf"}, {"kind": "identity"}


def dense(width: int | None = 8, W_std: float = 1.2, b_std: float | None = 0.3) -> dict[str, Any]:
    return {"kind": "dense", "width": width, "W_std": W_std, "b_std": b_std}


def serial(*layers: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "serial", "layers": list(layers)}


def parallel(merge: str, *branches: dict[str, Any]) -> dict[str, Any]:
    return {"kind": "parallel", "merge": merge, "branches": list(branches)}


BLOCK = parallel("sum", SKIP, serial(RELU, dense(W_std=0.9)))
READOUT = dense(width=2, W_std=1.0, b_std=0.1)


def test_repeat_is_a_sequence_of_copies() -> None:
    repeated = model([dense(), {"kind": "repeat", "times": 3, "layer": BLOCK}, RELU, READOUT])
    unrolled = model([dense(), BLOCK, BLOCK, BLOCK, RELU, READOUT])
    x = inputs(4)
    assert_close(infinite_kernel(repeated, x).ntk, infinite_kernel(unrolled, x).ntk)
    names = dict(repeated.network((4,)).named_parameters())
    assert "layers.1.copies.2.branches.1.layers.1.W" in names
    copies = [names[f"layers.1.copies.{i}.branches.1.layers.1.W"] for i in range(2)]
    assert not torch.equal(*copies)


def test_finite_maps() -> None:
    x = inputs(3)
    for merge, join in (
        ("sum", torch.add),
        ("product", torch.mul),
        ("concat", lambda a, b: torch.cat((a, b), 1)),
    ):
        network = model([parallel(merge, dense(), serial(dense(), ERF))]).network((4,), seed=1)
        tensors = dict(network.named_parameters())

        def branch(name: str, tensors: dict[str, Any] = tensors) -> torch.Tensor:
            W, b = tensors[f"{name}.W"], tensors[f"{name}.b"]
            return torch.addmm(0.3 * b, x, W, alpha=1.2 / 2.0)

        first = branch("layers.0.branches.0")
        second = torch.erf(branch("layers.0.branches.1.layers.0"))
        assert_close(network(x), join(first, second))


@pytest.mark.parametrize("merge", ["sum", "product", "concat"])
def test_wide_networks_approach_the_rule(merge: str) -> None:
    """The mean over seeds of the empirical kernel, within 4 standard errors and the bias of order 1/N."""
    width, seeds = 256, 24
    branches = [serial(dense(width), RELU, dense(width)), serial(dense(width), ERF, dense(width))]
    spec = model([dense(width), parallel(merge, *branches), ERF if merge == "sum" else SKIP, READOUT])
    x = inputs(3)
    limit = infinite_kernel(spec, x).ntk
    drawn = torch.stack([empirical_ntk(spec.network((4,), seed=s), x) for s in range(seeds)])
    error = (drawn.mean(0) - limit).abs()
    assert bool((error <= 4.0 * drawn.std(0) / seeds**0.5 + 4.0 / width * limit.abs().max()).all())


@pytest.mark.parametrize(
    "layers",
    [
        [dense(), parallel("sum", SKIP, SKIP), READOUT],
        [dense(), parallel("sum", SKIP, RELU), READOUT],
        [dense(), parallel("product", SKIP, serial(dense(), RELU)), READOUT],
        [dense(), parallel("sum", SKIP, parallel("sum", SKIP, dense())), READOUT],
    ],
)
def test_correlated_branches_are_refused(layers: list[Any]) -> None:
    with pytest.raises(UnsupportedError, match=r"layers\.1: .*correlated") as caught:
        infinite_kernel(model(layers), inputs(2))
    assert caught.value.pointer == "/layers/1"


def test_an_activation_on_features_that_are_not_gaussian_is_refused() -> None:
    for layers in (
        [dense(), RELU, ERF, READOUT],
        [dense(), parallel("product", SKIP, dense()), RELU, READOUT],
        [dense(), parallel("concat", SKIP, dense()), RELU, READOUT],
    ):
        with pytest.raises(UnsupportedError, match="not Gaussian"):
            infinite_kernel(model(layers), inputs(2))


def test_branches_without_weights_on_the_inputs_are_part_of_them() -> None:
    x = inputs(3)
    spec = model([parallel("concat", SKIP, {"kind": "quadratic"}), dense(), RELU, READOUT])
    same = model([dense(), RELU, READOUT])
    assert_close(infinite_kernel(spec, x).ntk, infinite_kernel(same, torch.cat((x, x**2), 1)).ntk)


def test_misfits() -> None:
    with pytest.raises(SpecError, match=r"layers\.0: .*\(8,\), \(9,\)"):
        model([parallel("sum", dense(8), dense(9))]).place((4,))
    with pytest.raises(SpecError, match="depends on the widths"):
        infinite_kernel(model([parallel("concat", dense(None), dense(4)), READOUT]), inputs(2))
    with pytest.raises(ValidationError, match="1000"):
        model([{"kind": "repeat", "times": 10**6, "layer": dense()}])


def test_errors_inside_a_repeated_layer_point_at_the_field() -> None:
    spec = model([{"kind": "repeat", "times": 2, "layer": serial(dense(), RELU, RELU)}, READOUT])
    with pytest.raises(UnsupportedError, match=r"layers\.0\.copies\.0\.layers\.2") as caught:
        infinite_kernel(spec, inputs(2))
    assert caught.value.pointer == "/layers/0/layer/layers/2"


def test_widths_that_were_left_out_fit() -> None:
    given = model([dense(), BLOCK, RELU, READOUT])
    free = model([dense(None), parallel("sum", SKIP, serial(RELU, dense(None, W_std=0.9))), RELU, READOUT])
    assert_close(infinite_kernel(free, inputs(3)).ntk, infinite_kernel(given, inputs(3)).ntk)


def test_aggregation_over_a_graph() -> None:
    """Against the kernel between all nodes, (n1, n2, P, P), multiplied by the pattern outside."""
    pattern = np.array([[0.5, 0.5, 0.0], [0.25, 0.5, 0.25], [0.0, 0.5, 0.5]])
    x = inputs(12).reshape(4, 3, 4)
    before = infinite_kernel(model([dense(), RELU, dense()]), x)
    after = infinite_kernel(model([dense(), RELU, dense(), {"kind": "aggregate", "pattern": pattern}]), x)
    for name in ("nngp", "ntk"):
        want = np.einsum("pq,ijqr,sr->ijps", pattern, getattr(before, name).numpy(), pattern)
        assert_close(getattr(after, name), want)
    network = model([{"kind": "aggregate", "pattern": pattern}, dense()]).network((3, 4))
    plain = model([dense()]).network((3, 4))
    plain.load_state_dict({"layers.0.W": network.state_dict()["layers.1.W"], "layers.0.b": torch.zeros(8)})
    b = network.state_dict()["layers.1.b"]
    assert_close(network(x), plain(torch.einsum("pq,nqc->npc", torch.as_tensor(pattern), x)) + 0.3 * b)
    with pytest.raises(SpecError, match="pattern has 3 rows"):
        model([{"kind": "aggregate", "pattern": pattern}, dense()]).place((4, 4))
