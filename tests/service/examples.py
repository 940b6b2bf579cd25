"""Requests that tests begin from."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

JSONObject = dict[str, Any]

MODEL: JSONObject = {
    "parameterization": {"kind": "ntk"},
    "layers": [
        {"kind": "dense", "width": 8, "b_std": 1.0},
        {"kind": "quadratic"},
        {"kind": "dense", "width": 1},
    ],
}

KERNEL: JSONObject = {"model": MODEL, "x1": [[1.0], [-1.0]], "of": {"kind": "infinite", "get": ["ntk"]}}

RUN: JSONObject = {
    "model": MODEL,
    "data": {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]]},
    "training": {"kind": "gradient_descent", "learning_rate": 0.001, "steps": 50},
    "record": [{"what": "loss"}, {"what": "outputs"}],
    "seed": 0,
}


def changed(body: JSONObject, pointer: str, value: Any) -> JSONObject:
    """The body with another value at the pointer; `...` removes what is there."""
    result = deepcopy(body)
    *path, last = (int(key) if key.isdecimal() else key for key in pointer.strip("/").split("/"))
    here: Any = result
    for key in path:
        here = here[key]
    if value is ...:
        del here[last]
    else:
        here[last] = value
    return result
