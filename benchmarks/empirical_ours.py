"""Our side of an empirical case:
python -m benchmarks.empirical_ours NAME IMPLEMENTATION WEIGHTS.npz [OUT.npy].

It writes its weights for the peer, and says which implementation `auto` is.
"""

import sys

import numpy as np
import torch

from benchmarks.cases import EMPIRICAL_BY_NAME
from benchmarks.measure import measure
from ntkengine import Model, empirical_ntk
from ntkengine.empirical import empirical_plan
from ntkengine.spec import from_jsonable


def main(name: str, implementation: str, weights: str, out: str = "") -> None:
    """Print one line of JSON."""
    case = EMPIRICAL_BY_NAME[name]
    model = from_jsonable(Model, case.of.model)
    network = model.network(case.of.shape[1:], seed=0, dtype=torch.float32)
    np.savez(weights, **{path: p.detach().numpy() for path, p in network.named_parameters()})
    x = torch.from_numpy(case.of.inputs())
    plan = empirical_plan(network, x, outputs=case.outputs, implementation=implementation)
    measure(
        lambda: empirical_ntk(network, x, outputs=case.outputs, implementation=implementation),
        lambda kernel: kernel.numpy(),
        out,
        about={"implementation": plan.implementation, "reason": plan.reason},
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
