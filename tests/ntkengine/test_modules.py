"""Empirical kernels of any module, against gradients taken one at a time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ntkengine import ResourceError, SpecError, UnsupportedError, blocks
from ntkengine.blocks import Derivatives, Gradients, Sums
from ntkengine.empirical import (
    IMPLEMENTATIONS,
    empirical_gram,
    empirical_nngp,
    empirical_ntk,
    empirical_ntk_by_layer,
    empirical_plan,
    structured_derivatives,
)
from ntkengine.empirical.structured_derivatives import StructuredDerivatives
from tests.architectures import ARCHITECTURES, FALLBACKS, built, inputs_of, reference_jacobian
from tests.compare import assert_close

FORMS: dict[Any, str] = {"full": "iap,jbp->ijab", "trace": "iap,jap->ij", "diagonal": "iap,jap->ija"}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_implementation(name: str) -> None:
    module = built(name)
    x1, x2 = inputs_of(name, 3), inputs_of(name, 2, seed=2)
    first, second = reference_jacobian(module, x1), reference_jacobian(module, x2)
    for implementation in IMPLEMENTATIONS:
        for outputs, letters in FORMS.items():
            got = empirical_ntk(module, x1, x2, outputs=outputs, implementation=implementation)
            assert_close(got, torch.einsum(letters, first, second))
        square = empirical_ntk(module, x1, outputs="full", implementation=implementation)
        assert_close(square, torch.einsum(FORMS["full"], first, first))
        assert torch.equal(square, square.permute(1, 0, 3, 2))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_structured_wherever_there_is_a_form(name: str) -> None:
    """A method that falls back everywhere would be right, and useless."""
    chosen = empirical_plan(built(name), inputs_of(name, 3), implementation="structured_derivatives")
    fallen = {path for path, method in chosen.layers.items() if method == "jacobian"}
    assert fallen == FALLBACKS.get(name, set())


POSITIONS = (
    "linear on positions",
    "called twice",
    "unrolled",
    "conv 1d",
    "conv 2d",
    "conv 2d dilated",
    "conv 3d",
)


@pytest.mark.parametrize("name", [*POSITIONS, "torch's attention", "attention of a spec", "spatial outputs"])
def test_both_ways_to_a_share_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs of positions, gradients in strips, and gradients that are kept, each forced on all layers
    (decisions 0063 and 0088)."""
    module, x1, x2 = built(name), inputs_of(name, 3), inputs_of(name, 2, seed=2)
    shares = []
    for pay, keep in ((False, False), (True, False), (True, True)):
        with monkeypatch.context() as patch:
            patch.setattr(Sums, "gradients_pay", lambda *_, pay=pay: pay)
            patch.setattr(Sums, "keeps_gradients", lambda *_, keep=keep: keep)
            patch.setattr(Derivatives if keep else Gradients, "room", None)  # is not called
            patch.setattr(blocks, "strip_of", lambda _: 2)  # of some layers the last is narrower
            how: Any = {"outputs": "full", "implementation": "structured_derivatives"}
            shares.append(empirical_ntk_by_layer(module, x1, x2, **how))
    for path, share in shares[0].items():
        for other in shares[1:]:
            assert_close(share, other[path], rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        *POSITIONS,
        "torch's encoder",
        "attention of a spec, embeddings",
        "embedding",
        "depthwise",
        "called for nothing",
    ],
)
def test_passes_of_any_size_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module, x = built(name), inputs_of(name, 4)
    how: Any = {"outputs": "full", "implementation": "structured_derivatives"}
    whole = empirical_ntk(module, x, **how)
    for sizes in ((1, 1), (3, 1), (1, 2), (4, 1)):
        monkeypatch.setattr(structured_derivatives, "at_a_time", lambda *_, sizes=sizes: sizes)
        assert_close(empirical_ntk(module, x, **how), whole, rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    [
        *POSITIONS,
        "torch's encoder",
        "attention of a spec, embeddings",
        "attention of a spec, used outside",
        "embedding",
        "depthwise",
        "gru",
        "called for nothing",
    ],
)
def test_a_trace_of_passes_of_some_outputs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass's share is added and dropped (decision 0088); in blocks, derivatives of all are kept."""
    module, x = built(name), inputs_of(name, 4)
    how: Any = {"outputs": "trace", "implementation": "structured_derivatives"}
    wanted = empirical_ntk(module, x, x, **how)
    for outputs in (1, 2, 10**6):
        monkeypatch.setattr(structured_derivatives, "outputs_within", lambda *_, some=outputs: some)
        with monkeypatch.context() as patch:
            patch.setattr(StructuredDerivatives, "derivatives", None)  # is not called
            assert_close(empirical_ntk(module, x, **how), wanted, rtol=1e-12)


def test_what_cannot_be_batched_is_said() -> None:
    """The passes of its outputs go one after the other; the kernel is that of every implementation."""
    name = "backward pass of its own"
    chosen = empirical_plan(built(name), inputs_of(name, 3), implementation="structured_derivatives")
    assert "one output at a time" in chosen.reason
    assert set(chosen.layers.values()) == {"structured"}
    assert empirical_plan(built("mlp tanh"), inputs_of("mlp tanh", 3)).reason.count("at a time") == 0


@pytest.mark.parametrize("name", ["batch norm", "gru", "tied embedding", "mlp relu in place"])
def test_the_module_is_left_as_it_was(name: str) -> None:
    module = built(name)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    mode = [part.training for part in module.modules()]
    empirical_ntk(module, inputs_of(name, 3))
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert [part.training for part in module.modules()] == mode
    assert all(p.grad is None for p in module.parameters())
    assert not any(part._forward_hooks for part in module.modules())


def test_parameter_subsets_and_layers_add_up() -> None:
    module, x = built("conv 2d"), inputs_of("conv 2d", 4)
    whole = empirical_ntk(module, x)
    shares = empirical_ntk_by_layer(module, x)
    assert set(shares) == {"0", "3"}
    assert_close(sum(shares.values()), whole)
    assert_close(empirical_ntk(module, x, parameters=["3"]), shares["3"])
    weight, bias = (empirical_ntk(module, x, parameters=[f"0.{name}"]) for name in ("weight", "bias"))
    assert_close(weight + bias, shares["0"])
    with pytest.raises(SpecError, match="no trained tensor or layer is called head"):
        empirical_ntk(module, x, parameters=["head"])


def test_outputs_that_depend_on_chance_or_other_rows_are_refused() -> None:
    for part in (nn.Dropout(0.5), nn.BatchNorm1d(6)):
        module = nn.Sequential(nn.Linear(4, 6), part, nn.Linear(6, 1)).double()
        with pytest.raises(UnsupportedError, match=r"1 \(.*training mode") as caught:
            empirical_ntk(module, inputs_of("mlp tanh", 3))
        assert "eval()" in str(caught.value.hint)
        assert empirical_ntk(module.eval(), inputs_of("mlp tanh", 3)).shape == (3, 3)


def test_what_is_no_network() -> None:
    x = inputs_of("mlp tanh", 3)
    with pytest.raises(SpecError, match="no tensor requires gradients"):
        empirical_ntk(built("mlp tanh").requires_grad_(False), x)

    class TwoOutputs(nn.Linear):
        def forward(self, x: Any) -> Any:
            return super().forward(x), x

    with pytest.raises(UnsupportedError, match="returns tuple"):
        empirical_ntk(TwoOutputs(4, 2).double(), x)


def test_what_does_not_fit_is_refused_with_an_estimate() -> None:
    module, x = built("mlp tanh"), inputs_of("mlp tanh", 3000)
    with pytest.raises(ResourceError, match="needs at least") as caught:
        empirical_ntk(module, x, budget=2**25)
    assert caught.value.estimate["bytes"] > 3000**2 * 8


def test_on_disk_and_in_blocks(tmp_path: Path) -> None:
    module, x = built("conv 2d"), inputs_of("conv 2d", 60)
    whole = empirical_ntk(module, x, outputs="full")
    fields: Any = {"outputs": "full", "budget": 2**24 + 2**18}
    stored = empirical_gram(module, x, directory=tmp_path / "gram", **fields)
    assert_close(stored.rows("ntk", 0, 60), whole)
    assert stored.fraction() == 1.0


def test_nngp_of_a_module() -> None:
    module, x = built("inputs by name"), inputs_of("inputs by name", 3)
    with torch.no_grad():
        f = module(**x)
    assert_close(empirical_nngp(module, x, outputs="full"), torch.einsum("ia,jb->ijab", f, f))
