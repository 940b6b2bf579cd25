"""neural-tangents' side of a case, in its own environment: python -m benchmarks.peer NAME [OUT.npy]."""

from __future__ import annotations

import os
import sys
import types
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Its __init__ imports this, and this TensorFlow; nothing here needs either.
sys.modules["neural_tangents.experimental"] = types.ModuleType("neural_tangents.experimental")

import jax  # type: ignore[import-not-found]  # noqa: E402
import neural_tangents as nt  # type: ignore[import-not-found]  # noqa: E402
import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402

from benchmarks.cases import BY_NAME  # noqa: E402
from benchmarks.measure import measure  # noqa: E402

__all__ = ["jax", "nt", "stax", "translate"]  # for what else needs the peer, which has to come this way

# Our kind -> its layer, and its argument for our width.
LAYERS = {
    "attention": stax.GlobalSelfAttention,
    "conv": stax.Conv,
    "dense": stax.Dense,
    "erf": stax.Erf,
    "flatten": stax.Flatten,
    "gelu": stax.Gelu,
    "global_avg_pool": stax.GlobalAvgPool,
    "relu": stax.Relu,
}
WIDTH = {"attention": "n_chan_out", "conv": "out_chan", "dense": "out_dim"}


def translate(layer: dict[str, Any]) -> Any:
    """The layer of neural-tangents that one of our specs describes."""
    fields = dict(layer)
    kind = fields.pop("kind")
    if "width" in fields:
        fields[WIDTH[kind]] = fields.pop("width")
    if "attention_mechanism" in fields:
        fields["attention_mechanism"] = fields["attention_mechanism"].upper()
    if "filter_shape" in fields:
        fields["filter_shape"] = tuple(fields["filter_shape"])
    return LAYERS[kind](**fields)


def main(name: str, out: str = "") -> None:
    """Print one line of JSON; compilation is not in the seconds."""
    case = BY_NAME[name]
    _, _, kernel = stax.serial(*map(translate, case.layers))
    x = jax.numpy.asarray(case.inputs())
    run = jax.jit(lambda x: kernel(x, None, "ntk")).lower(x).compile()
    measure(lambda: jax.block_until_ready(run(x)), np.asarray, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
