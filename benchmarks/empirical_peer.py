"""neural-tangents' side of an empirical case, in its own environment, with our weights:
python -m benchmarks.empirical_peer NAME IMPLEMENTATION WEIGHTS.npz [OUT.npy].
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from benchmarks.cases import EMPIRICAL_BY_NAME
from benchmarks.measure import measure
from benchmarks.peer import jax, nt, stax, translate

# Of its axes of outputs: what is averaged over a = b. None of them: blocks of k x k.
TRACE_AXES: dict[str, tuple[int, ...]] = {"mean": (-1,), "full": ()}


def arranged(params: Any, weights: Mapping[str, Any]) -> list[Any]:
    """Our weights in the place of its own, which have the same order, and axes of size 1 for biases."""
    return [
        tuple(
            jax.numpy.asarray(weights[f"layers.{i}.{name}"]).reshape(p.shape)
            for name, p in zip("Wb", layer, strict=False)
        )
        for i, layer in enumerate(params)
    ]


def main(name: str, implementation: str, weights: str, out: str = "") -> None:
    """Print one line of JSON; compilation is not in the seconds."""
    case = EMPIRICAL_BY_NAME[name]
    init, apply, _ = stax.serial(*map(translate, case.of.layers))
    params = arranged(init(jax.random.PRNGKey(0), case.of.shape)[1], np.load(weights))
    ntk = nt.empirical_ntk_fn(
        apply,
        trace_axes=TRACE_AXES[case.outputs],
        vmap_axes=0,
        implementation=nt.NtkImplementation[implementation.upper()],
    )
    x = jax.numpy.asarray(case.of.inputs())
    run = jax.jit(lambda x, params: ntk(x, None, params)).lower(x, params).compile()
    measure(
        lambda: jax.block_until_ready(run(x, params)),
        np.asarray,
        out,
        about={"implementation": implementation},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
