"""Requests as data: JSON for what is said, `.npy` for arrays, `.safetensors` for weights. Torch-free."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np
from safetensors.numpy import save as save_weights

from service.encoding import npy

NPY, NPZ, NDJSON = "application/x-npy", "application/x-npz", "application/x-ndjson"
File = tuple[str, bytes, str]


@dataclass(frozen=True)
class Request:
    """What is sent. The client only makes requests of which two are as good as one."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    json: Any = None
    files: Mapping[str, File] | None = None
    content: bytes | None = None

    def arguments(self) -> dict[str, Any]:
        """As httpx' clients take it."""
        names = ("headers", "params", "json", "files", "content")
        return {"method": self.method, "url": self.path} | {name: getattr(self, name) for name in names}


def post(path: str, body: Any, files: Mapping[str, File], **headers: str) -> Request:
    """A request with this JSON and, if there are any, files beside it."""
    if not files:
        return Request("POST", path, headers, json=body)
    parts = {"request": ("request.json", json.dumps(body).encode(), "application/json"), **files}
    return Request("POST", path, headers, files=parts)


def encode(body: Any, arrays: Sequence[str], weights: str) -> tuple[Any, dict[str, File]]:
    """The JSON of a spec or of plain dicts with numpy arrays, and the files that take the arrays' places.

    Args:
        arrays: dotted places of arrays that the service takes as parts, each named like its last key.
        weights: the place of a network's weights.
    """
    told = plain(body)
    files = {}
    for holder, name, value in _found(told, arrays):
        if isinstance(value, np.ndarray):
            files[name] = (f"{name}.npy", npy(holder.pop(name)), "application/x-npy")
    for holder, name, value in _found(told, [weights]):
        if value is not None:
            tensors = {key: np.ascontiguousarray(tensor, np.float64) for key, tensor in value.items()}
            files["weights"] = ("weights.safetensors", save_weights(tensors), "application/octet-stream")
            del holder[name]
    return json.loads(json.dumps(told, default=_in_json, allow_nan=False)), files


def plain(value: Any) -> Any:
    """Specs as dicts, tuples as lists; arrays stay arrays."""
    if is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def _found(body: Any, places: Sequence[str]) -> Iterator[tuple[dict[str, Any], str, Any]]:
    """The fields that are there, with what holds them."""
    for place in places:
        *path, name = place.split(".")
        holder = body
        for key in path:
            holder = holder.get(key, {})
        if name in holder:
            yield holder, name, holder[name]


def _in_json(value: Any) -> Any:
    """Arrays that no part is there for, and numpy's numbers."""
    if np.ndim(value) == 0:
        return value.item()
    return {"kind": "npy", "base64": base64.b64encode(npy(np.asarray(value))).decode()}
