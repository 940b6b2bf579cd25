"""neural-tangents' side of an empirical case, in its own environment, with our weights:
python -m benchmarks.empirical_peer NAME IMPLEMENTATION WEIGHTS.npz [OUT.npy].
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.empirical_cases import CHANNELS, CLASSES, DEPTH, DIMENSION, EMPIRICAL_BY_NAME, HEADS, WIDTHS
from benchmarks.measure import measure
from benchmarks.peer import jax, nt

jnp = jax.numpy
Params = dict[str, Any]

# Of its axes of outputs: what is averaged over a = b. None of them: blocks of k x k.
TRACE_AXES: dict[str, tuple[int, ...]] = {"trace": (-1,), "full": ()}


def dense(params: Params, name: str, h: Any) -> Any:
    """A layer whose weights are (fan-in, width), as JAX has them."""
    return h @ params[f"{name}.weight"] + params[f"{name}.bias"]


def mlp(params: Params, x: Any) -> Any:
    """Dense layers with ReLU."""
    for i in range(len(WIDTHS)):
        x = jax.nn.relu(dense(params, str(2 * i), x))
    return dense(params, str(2 * len(WIDTHS)), x)


def cnn(params: Params, x: Any) -> Any:
    """On images with their channels last, which is what XLA is fast with."""
    for i in range(len(CHANNELS)):
        w, b = params[f"{2 * i}.weight"], params[f"{2 * i}.bias"]
        y = jax.lax.conv_general_dilated(x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.relu(y + b)
    return dense(params, str(2 * len(CHANNELS) + 1), x.mean((1, 2)))


def layer_norm(params: Params, name: str, h: Any) -> Any:
    """Over the last axis."""
    centred = h - h.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / jnp.sqrt(variance + 1e-5) * params[f"{name}.weight"] + params[f"{name}.bias"]


def attention(params: Params, name: str, h: Any) -> Any:
    """Several heads, as torch's MultiheadAttention has them."""
    joined = h @ params[f"{name}.in_proj_weight"] + params[f"{name}.in_proj_bias"]
    n, length, _ = h.shape
    split = joined.reshape(n, length, 3, HEADS, DIMENSION // HEADS)
    query, key, value = (split[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(DIMENSION // HEADS)
    attended = (jax.nn.softmax(scores) @ value).transpose(0, 2, 1, 3).reshape(n, length, DIMENSION)
    return dense(params, f"{name}.out_proj", attended)


def encoder(params: Params, h: Any) -> Any:
    """Layers as torch's TransformerEncoderLayer, with the norms after the sums."""
    for i in range(DEPTH):
        layer = f"0.layers.{i}"
        h = layer_norm(params, f"{layer}.norm1", h + attention(params, f"{layer}.self_attn", h))
        inner = dense(params, f"{layer}.linear2", jax.nn.relu(dense(params, f"{layer}.linear1", h)))
        h = layer_norm(params, f"{layer}.norm2", h + inner)
    return dense(params, "2", h.mean(1))


NETWORKS: dict[str, Callable[[Params, Any], Any]] = {"mlp": mlp, "cnn": cnn, "encoder": encoder}


def as_jax_has_it(array: Any) -> Any:
    """Torch's weights (out, in, ...) as (..., in, out), and images (n, C, H, W) as (n, H, W, C)."""
    if array.ndim == 4:
        return jnp.asarray(array.transpose(2, 3, 1, 0))
    return jnp.asarray(array.T)


def main(name: str, implementation: str, weights: str, out: str = "") -> None:
    """Print one line of JSON; compilation is not in the seconds."""
    case = EMPIRICAL_BY_NAME[name]
    params = {path: as_jax_has_it(array) for path, array in np.load(weights).items()}
    inputs = case.inputs()
    x = jnp.asarray(inputs.transpose(0, 2, 3, 1) if case.network == "cnn" else inputs)
    ntk = nt.empirical_ntk_fn(
        NETWORKS[case.network],
        trace_axes=TRACE_AXES[case.outputs],
        vmap_axes=0,
        implementation=nt.NtkImplementation[implementation.upper()],
    )
    run = jax.jit(lambda x, params: ntk(x, None, params)).lower(x, params).compile()
    scale = CLASSES if case.outputs == "trace" else 1  # its trace is a mean
    measure(lambda: jax.block_until_ready(run(x, params)), lambda found: scale * np.asarray(found), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
