import math
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ntkengine import Model, ResourceError, UnsupportedError, empirical_nngp, empirical_ntk
from ntkengine.empirical import IMPLEMENTATIONS, empirical_ntk_by_layer, empirical_plan, plan
from ntkengine.empirical.implementation import Work, layers_of
from ntkengine.empirical.structured_derivatives import PASS, at_a_time, kept_bytes, pass_bytes
from ntkengine.gram.plan import RESERVE
from ntkengine.network import LayerModule
from ntkengine.outputs import OUTPUT_FORMS, Outputs
from ntkengine.reference.one_hidden_layer import explicit_ntk
from tests.cases import ERF, LAYER_KINDS, finite_cases, hidden, inputs, model, quadratic
from tests.compare import assert_close

FORMS: list[Outputs] = ["full", "trace", "mean", "diagonal"]


@pytest.mark.parametrize("model", finite_cases())
def test_implementations_agree(model: Model) -> None:
    network = model.network((4,), seed=1)
    x1, x2 = inputs(6), inputs(5, seed=1)
    requests: list[dict[str, Any]] = [
        *({"x2": other, "outputs": outputs} for outputs in FORMS for other in (x2, None)),
        {"x2": x2, "outputs": "full", "with_rates": True},
    ]
    for request in requests:
        first, *others = (
            empirical_ntk(network, x1, implementation=name, **request) for name in IMPLEMENTATIONS
        )
        for each in others:
            assert_close(each, first)


@pytest.mark.parametrize("name", LAYER_KINDS)
def test_implementations_agree_on_every_kind_of_layer(name: str) -> None:
    """The structured form is used, and the plan says so."""
    shape, layers = LAYER_KINDS[name]
    network = model([*layers(8)[:-1], {"kind": "dense", "width": 3}]).network(shape, seed=1)
    x = inputs(5 * math.prod(shape), 1).reshape(5, *shape)
    for outputs in FORMS:
        by_jacobian, structured = (
            empirical_ntk(network, x[:3], x[3:], outputs=outputs, implementation=each)
            for each in ("jacobian_contraction", "structured_derivatives")
        )
        assert_close(structured, by_jacobian)
    chosen = plan(
        layers_of(network.site),
        Work(3, 2, 3, 8, OUTPUT_FORMS["full"]),
        implementation="structured_derivatives",
    )
    assert set(chosen.layers.values()) == {"structured"}


ATTENTION = {"n_heads": 2, "n_chan_key": 3, "n_chan_val": 2, "b_std": 0.4} | {
    f"W_{name}_std": std for name, std in (("key", 1.3), ("query", 1.2), ("value", 1.1), ("out", 0.9))
}
EMBEDDINGS: list[dict[str, Any]] = [
    {},
    *({"pos_emb_type": kind, "val_pos_emb": val} for kind in ("sum", "concat") for val in (True, False)),
]


def attentive(start: str = "raw", **fields: Any) -> Model:
    """A network with attention, of inputs that may be of different lengths."""
    layer = ATTENTION | {"kind": "attention", "width": 4, "W_pos_emb_std": 0.7} | fields
    first = {"kind": "mask", "constant": 0.0}
    last = [{"kind": "erf"}, {"kind": "global_avg_pool"}, {"kind": "dense", "width": 2}]
    return model([first, {"kind": "dense", "width": 5}, layer, *last], initial_function=start)


@pytest.mark.parametrize("mechanism", ["softmax", "relu", "abs", "identity"])
@pytest.mark.parametrize("linear_scaling", [True, False])
@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=str)
@pytest.mark.parametrize("causal", [True, False])
def test_implementations_agree_on_attention(
    mechanism: str, linear_scaling: bool, embedding: dict[str, Any], causal: bool
) -> None:
    """With every option; one input has fewer positions."""
    options = embedding | {"linear_scaling": linear_scaling, "causal": causal}
    network = attentive(attention_mechanism=mechanism, **options).network((4, 3), seed=1)
    x = inputs(16, 3).reshape(4, 4, 3)
    x[1, 2:] = 0.0
    by_jacobian, structured = (
        empirical_ntk_by_layer(network, x[:2], x[1:], outputs="full", implementation=name)
        for name in ("jacobian_contraction", "structured_derivatives")
    )
    for path, share in by_jacobian.items():
        assert_close(structured[path], share)


@pytest.mark.parametrize("start", ["raw", "centred", "doubled"])
def test_some_tensors_of_attention(start: str) -> None:
    """Each linear map has a form of its own; without some of its tensors it has none."""
    network = attentive(start, linear_scaling=False, pos_emb_type="sum").network((2, 2, 3), seed=1)
    x = inputs(12, 4).reshape(4, 2, 2, 3)
    some = {
        ("W_query",): "structured",
        ("W_key",): "structured",
        ("W_value",): "structured",
        ("W_out", "b"): "structured",
        ("pos_emb",): "structured",
        ("W_query", "W_out"): "jacobian",
    }
    for tensors, method in some.items():
        how: Any = {"outputs": "full", "parameters": [f"layers.2.{tensor}" for tensor in tensors]}
        chosen = empirical_plan(network, x, implementation="structured_derivatives", **how)
        assert chosen.layers == {"layers.2": method}
        by_jacobian, structured = (
            empirical_ntk(network, x, implementation=name, **how)
            for name in ("jacobian_contraction", "structured_derivatives")
        )
        assert_close(structured, by_jacobian)


@pytest.mark.parametrize("frozen", ["W_query", "W_out", "b", "pos_emb"])
@pytest.mark.parametrize("with_rates", [True, False])
def test_frozen_tensors_have_no_share(frozen: str, with_rates: bool) -> None:
    network = attentive(pos_emb_type="concat").network((4, 3), seed=1)
    network.layers[2].get_parameter(frozen).requires_grad_(False)
    x = inputs(3, 12).reshape(3, 4, 3)
    first, *others = (
        empirical_ntk(network, x, implementation=name, with_rates=with_rates) for name in IMPLEMENTATIONS
    )
    for each in others:
        assert_close(each, first)


def test_rates_of_some_tensors() -> None:
    spec = model(hidden(6, ERF), parameterization={"kind": "mup"})
    network, x = spec.network((4,), seed=1), inputs(3)
    want = sum(
        network.rates()[name] * empirical_ntk(network, x, parameters=[name])
        for name in ("layers.0.W", "layers.0.b")
    )
    for name in IMPLEMENTATIONS:
        got = empirical_ntk(network, x, implementation=name, parameters=["layers.0"], with_rates=True)
        assert_close(got, want)


def test_against_the_definition() -> None:
    """`sum_p df_a(x)/dp df_b(x')/dp`, one gradient at a time."""
    network = quadratic(5).network((2,), seed=2)
    x = inputs(4, 2)
    rows = []
    for point in x:
        gradient = torch.autograd.grad(network(point[None])[0, 0], list(network.trained().values()))
        rows.append(torch.cat([part.flatten() for part in gradient]))
    jacobian = torch.stack(rows)
    assert_close(empirical_ntk(network, x), jacobian @ jacobian.T, rtol=1e-13)


@pytest.mark.parametrize("name", IMPLEMENTATIONS)
def test_against_the_formula_of_the_notes(name: str) -> None:
    network = quadratic(50).network((1,), seed=0)
    w, b, v = (p.numpy(force=True) for p in network.parameters())
    x = np.array([[1.0], [-1.0], [0.3]])
    expected = explicit_ntk(x, x, w.T, b, v[:, 0], 50**-0.5, lambda z: z**2, lambda z: 2 * z)
    assert_close(empirical_ntk(network, torch.from_numpy(x), implementation=name), expected, rtol=1e-13)


@pytest.mark.parametrize(("placement", "share"), [("outside", 1.0), ("scaled", 1 / 50), ("inside_sum", 50.0)])
def test_bias_placements_of_the_read_out(placement: str, share: float) -> None:
    """b2 contributes `(df/db2)^2`: 1 outside, C^2 inside the scaling, (C N)^2 inside the sum; C = N^-1/2."""
    x = inputs(3, 1)
    kernels = []
    for b_std in (None, 1.0):
        layers = [*quadratic(50).layers]
        dense: dict[str, Any] = {"kind": "dense", "width": 1, "b_std": b_std, "b_placement": placement}
        from ntkengine.layers import Dense
        from ntkengine.spec import from_jsonable

        layers[2] = from_jsonable(Dense, dense)
        kernels.append(empirical_ntk(Model(layers=tuple(layers)).network((1,), seed=0), x))
    assert_close(kernels[1] - kernels[0], torch.full((3, 3), share, dtype=torch.float64))


@pytest.mark.parametrize("model", finite_cases())
def test_forms_of_the_outputs(model: Model) -> None:
    network = model.network((4,), seed=0)
    k = cast("int", network.site.out_shape[-1])
    for kernel in (empirical_ntk, empirical_nngp):
        full, trace, mean, diagonal = (kernel(network, inputs(6), outputs=outputs) for outputs in FORMS)
        assert full.shape == (6, 6, k, k)
        assert_close(diagonal, torch.diagonal(full, dim1=2, dim2=3))
        assert_close(trace, diagonal.sum(-1))
        assert_close(mean, trace / k)
        assert torch.equal(full, full.permute(1, 0, 3, 2))  # symmetric to the last bit


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 7),
    budget=st.integers(RESERVE + 2**13, RESERVE + 2**16),
    name=st.sampled_from(sorted(IMPLEMENTATIONS)),
)
def test_properties(seed: int, n: int, budget: int, name: str) -> None:
    """Positive semi-definite, equivariant under permutations, the same however it is chunked."""
    network = quadratic(6).network((2,), seed=seed)
    x = inputs(n, 2, seed=seed)
    kernel = empirical_ntk(network, x, implementation=name)
    low, high = torch.linalg.eigvalsh(kernel)[[0, -1]]
    assert low >= -n * torch.finfo(torch.float64).eps * high
    order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
    assert_close(empirical_ntk(network, x[order], implementation=name), kernel[order][:, order], rtol=1e-14)
    assert_close(empirical_ntk(network, x, implementation=name, budget=budget), kernel, rtol=1e-14)


def test_the_network_is_left_as_it_was() -> None:
    network = quadratic(4).network((1,), seed=0)
    before = [p.clone() for p in network.parameters()]
    for name in IMPLEMENTATIONS:
        empirical_ntk(network, inputs(3, 1), implementation=name)
    assert all(p.grad is None for p in network.parameters())
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    assert not any(part.recorders for part in network.modules() if isinstance(part, LayerModule))


def test_float32() -> None:
    x = inputs(5, 2)
    exact = empirical_ntk(quadratic(20).network((2,), seed=0), x)
    network = quadratic(20).network((2,), seed=0, dtype=torch.float32)
    for name in IMPLEMENTATIONS:
        single = empirical_ntk(network, x.float(), implementation=name)
        assert single.dtype == torch.float32
        assert_close(single, exact.float())


def work(n: int, k: int, outputs: Outputs = "full") -> Work:
    return Work(n, n, k, 8, OUTPUT_FORMS[outputs])


def test_the_plan_keeps_to_its_budget() -> None:
    site = quadratic(1000).place((20,))
    chosen = plan(layers_of(site), work(5000, 1), implementation="jacobian_contraction", budget=3 * 10**8)
    assert 1 <= chosen.chunk < 5000
    assert chosen.bytes <= 3 * 10**8
    assert plan(layers_of(site), work(10, 1), budget=10**8).chunk == 10
    with pytest.raises(
        ResourceError, match=r"needs at least [\d,]+ bytes of memory, the budget is 100,000,000"
    ):
        plan(layers_of(site), work(5000, 1), budget=10**8)


@given(rows=st.integers(1, 5000), k=st.integers(1, 3000), width=st.integers(1, 3000))
def test_passes_hold_no_more_than_is_counted(rows: int, k: int, width: int) -> None:
    """Of all outputs, unless a single row of them would be too large."""
    layers, asked = layers_of(quadratic(width).place((20,))), work(rows, k)
    some, outputs = at_a_time(layers, asked, rows)
    counted = rows * (kept_bytes(layers, asked) + pass_bytes(layers, asked, 1))
    assert 1 <= some <= rows
    assert 1 <= outputs <= k
    assert (some, outputs) == (1, 1) or some * pass_bytes(layers, asked, outputs) <= min(PASS, counted)
    assert outputs == k or pass_bytes(layers, asked, outputs + 1) > min(PASS, counted)
    assert at_a_time(layers, replace(asked, batched=False), rows)[1] == 1


def test_the_plan_takes_the_cheaper_one() -> None:
    site = quadratic(1000).place((20,))
    assert plan(layers_of(site), work(500, 1)).implementation == "structured_derivatives"
    assert plan(layers_of(site), work(500, 1), implementation="jacobian_contraction").reason == "as asked"


def test_unknown_implementation() -> None:
    with pytest.raises(UnsupportedError, match="has no form"):
        plan(layers_of(quadratic(3).place((1,))), work(2, 1), implementation="guess")
