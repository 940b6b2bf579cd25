"""Translate reference kernels computed with neural-tangents into tests/golden, in the words of our specs.

    python scripts/translate_golden.py FOLDER

FOLDER holds `manifest_infinite.json`, `manifest_finite.json` and their arrays. Cases with layers that are not
in the tables below are left out; whoever adds such a layer adds a line here and runs this again.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
Tree = dict[str, Any]
Arrays = dict[str, Any]

WAVE = {"a": 1.0, "b": 1.0, "c": 0.0}
# Our kind, and the fields, named as the reference names them, with its defaults (None: always stated).
ACTIVATIONS: dict[str, tuple[str, dict[str, float | None]]] = {
    "ABRelu": ("ab_relu", {"a": None, "b": None}),
    "Abs": ("abs", {}),
    "Cos": ("cos", {**WAVE}),
    "Erf": ("erf", {}),
    "Exp": ("exp", {"a": 1.0, "b": 1.0}),
    "ExpNormalized": ("exp_normalized", {"gamma": 1.0, "shift": -1.0}),
    "Gabor": ("gabor", {}),
    "Gaussian": ("gaussian", {"a": 1.0, "b": -1.0}),
    "Gelu": ("gelu", {}),
    "Hermite": ("hermite", {"degree": None}),
    "LeakyRelu": ("leaky_relu", {"alpha": None}),
    "Monomial": ("monomial", {"degree": None}),
    "Polynomial": ("polynomial", {"coef": None}),
    "Rbf": ("rbf", {"gamma": 1.0}),
    "RectifiedMonomial": ("rectified_monomial", {"degree": None}),
    "Relu": ("relu", {}),
    "Sigmoid_like": ("sigmoid_like", {}),
    "Sign": ("sign", {}),
    "Sin": ("sin", {**WAVE}),
}
# Their infinite-width kernel is inexact in the reference; the function itself is not.
FINITE_ACTIVATIONS = {"tanh": {"kind": "tanh"}}

TOLERANCE = (
    "relative to the largest entry of the reference array; rtol_11_diagonal for entries of nngp_11, ntk_11 "
    "where both samples are the same: there the reference itself is off (cancellation under a square root)"
)
KINDS = ("infinite", "finite")
CONVENTIONS = ("input", "dense", "parameterization", "ntk", "relu")
COMMON_KEYS = ("rtol", "rtol_11_diagonal", "nonfinite", "notes")


def dense(net: Tree) -> Tree:
    """A dense layer. The reference's `s` = (s_in, s_out) multiplies the widths, which are then bases."""
    _, s_out = net.get("s", (1, 1))
    layer = {"kind": "dense", "width": net["out_dim"] * s_out, "W_std": net["W_std"]}
    if net["b_std"] is not None:
        layer["b_std"] = net["b_std"]
    return layer | {"parameterization": {"kind": net["parameterization"]}}


def activation(net: Tree) -> Tree:
    """An activation that has an infinite-width rule."""
    kind, fields = ACTIVATIONS[net["type"]]
    given = {
        field: net[field] if default is None else net.get(field, default) for field, default in fields.items()
    }
    return {"kind": kind} | given


def translate(net: Tree, *, finite: bool) -> Tree:
    """The model of a plain sequence of layers; KeyError names a layer that has no translation."""
    layers: list[Tree] = []
    base_width = None
    for item in net["layers"]:
        if item["type"] == "Dense":
            layer = dense(item)
            if item.get("s", (1, 1))[0] != 1:
                layer["parameterization"]["base_width"] = base_width
            base_width = item["out_dim"]
        elif finite and item["type"] == "ElementwiseNumerical":
            layer = FINITE_ACTIVATIONS[item["fn"]]
        else:
            layer = activation(item)
        layers.append(layer)
    return hoist(layers)


def hoist(layers: list[Tree]) -> Tree:
    """The model: a parameterization that all layers share is stated once, for the network.

    The first layer shares a base width without having one, because its fan-in is the data's.
    """
    weighted = [layer for layer in layers if "parameterization" in layer]
    shared = weighted[-1]["parameterization"]
    first, *others = [layer["parameterization"] for layer in weighted]
    if first["kind"] == shared["kind"] and all(other == shared for other in others):
        for layer in weighted:
            del layer["parameterization"]
    return {"parameterization": shared, "layers": layers}


def weights(case: Tree, arrays: Arrays) -> Arrays:
    """The reference's parameters by our names, a bias as a vector."""
    named = {}
    for param in case["params"]:
        values = arrays.pop(param["key"])
        name = f"layers.{param['path'].removeprefix('net.')}.{param['role']}"
        named[name] = values.reshape(-1) if param["role"] == "b" else values
    return named


def translate_case(case: Tree, source: Path) -> tuple[Tree, Arrays]:
    """A case of ours with its arrays."""
    finite = case["kind"] == "finite"
    model = translate(case["net"], finite=finite)
    with np.load(source / case["arrays"]) as file:
        arrays = dict(file)
    ours = {"id": case["id"], "kind": case["kind"], "model": model}
    if finite:
        named = weights(case, arrays)
        ours["weights"] = list(named)
        arrays = named | arrays
    elif "standard" in json.dumps(model):
        ours["widths"] = "as_given"
    ours |= {key: case[key] for key in COMMON_KEYS if case.get(key)}
    return ours | {"arrays": f"{case['id']}.npz"}, arrays


def render(manifest: Tree) -> str:
    """JSON with one line a fact, to be read and compared by people."""

    def block(tree: Tree, indent: str) -> str:
        lines = [f"{indent} {json.dumps(key)}: {json.dumps(value)}" for key, value in tree.items()]
        return f"{indent}{{\n" + ",\n".join(lines) + f"\n{indent}}}"

    cases = ",\n".join(block(case, "  ") for case in manifest["cases"])
    facts = [f" {json.dumps(key)}: {json.dumps(manifest[key])}" for key in ("generator", "tolerance")]
    conventions = f' "conventions":\n{block(manifest["conventions"], "  ")}'
    return "{\n" + ",\n".join([*facts, conventions, f' "cases": [\n{cases}\n ]']) + "\n}\n"


def main(source: Path) -> None:
    """Write the manifest and the arrays of all cases that can be translated."""
    infinite, finite = (json.loads((source / f"manifest_{kind}.json").read_text()) for kind in KINDS)
    cases = []
    for case in infinite["cases"] + finite["cases"]:
        try:
            ours, arrays = translate_case(case, source)
        except KeyError as missing:
            print(f"left out: {case['id']} ({missing.args[0]})")
            continue
        np.savez(GOLDEN / ours["arrays"], **arrays)
        cases.append(ours)
    conventions = {key: finite["conventions"][key] for key in CONVENTIONS}
    facts = {"generator": finite["generator"], "tolerance": TOLERANCE}
    (GOLDEN / "manifest.json").write_text(render(facts | {"conventions": conventions, "cases": cases}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
