"""Our side of a case, in a process of its own: python -m benchmarks.ours NAME [OUT.npy]."""

import json
import sys

import torch
from pydantic import ValidationError

from benchmarks.cases import BY_NAME
from benchmarks.measure import measure
from ntkengine import Model, UnsupportedError, infinite_kernel
from ntkengine.spec import from_jsonable


def main(name: str, out: str = "") -> None:
    """Print one line of JSON; `not_yet` says what the engine lacks for this case."""
    case = BY_NAME[name]
    try:
        model = from_jsonable(Model, case.model)
        x = torch.from_numpy(case.inputs())
        infinite_kernel(model, x[:2])
    except ValidationError as refused:
        print(json.dumps({"not_yet": refused.errors()[0]["msg"].split(" does not match")[0]}))
    except UnsupportedError as refused:
        print(json.dumps({"not_yet": str(refused)}))
    else:
        measure(lambda: infinite_kernel(model, x, get=("ntk",)), lambda kernel: kernel.ntk.numpy(), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
