"""Translate reference kernels computed with neural-tangents into tests/golden, in the words of our specs.

    python scripts/translate_golden.py FOLDER

FOLDER holds `manifest_infinite.json`, `manifest_finite.json`, `manifest_predict.json` and their arrays. Cases
go to `manifest.json` where the engine knows the layers of their models, to `coming.json` where it does not,
and those of closed-form training to a folder of their own.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from ntkengine import Model, SpecError
from ntkengine.spec import from_jsonable

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"
Tree = dict[str, Any]
Arrays = dict[str, Any]

# The reference's type -> our kind, and the fields as the reference names them, with its defaults.
STATED: Any = ...  # no default
WAVE = {"a": 1.0, "b": 1.0, "c": 0.0}
AFFINE = {"W_std": STATED, "b_std": STATED}
CONV = {"out_chan": STATED, "filter_shape": STATED, "strides": STATED, "padding": STATED, **AFFINE}
POOL = {"window_shape": STATED, "strides": STATED, "padding": "VALID"}
ATTENTION: Tree = {
    **dict.fromkeys(("n_chan_out", "n_heads", "n_chan_key", "n_chan_val", "linear_scaling"), STATED),
    **dict.fromkeys(("W_key_std", "W_value_std", "W_query_std", "W_out_std", "b_std"), STATED),
    "attention_mechanism": STATED,
    **dict.fromkeys(("pos_emb_type", "W_pos_emb_std", "val_pos_emb")),  # its defaults are ours
}
WEIGHTED: dict[str, tuple[str, Tree]] = {
    "Dense": ("dense", {"out_dim": STATED, **AFFINE}),
    "Conv": ("conv", CONV),
    "ConvLocal": ("conv_local", CONV),
    "ConvTranspose": ("conv_transpose", CONV),
    "GlobalSelfAttention": ("attention", ATTENTION),
}
WITHOUT_WEIGHTS: dict[str, tuple[str, Tree]] = {
    "ABRelu": ("ab_relu", {"a": STATED, "b": STATED}),
    "Abs": ("abs", {}),
    "AvgPool": ("avg_pool", {**POOL, "normalize_edges": False}),
    "Cos": ("cos", {**WAVE}),
    "Dropout": ("dropout", {"rate": STATED, "mode": STATED}),
    "Erf": ("erf", {}),
    "Exp": ("exp", {"a": 1.0, "b": 1.0}),
    "ExpNormalized": ("exp_normalized", {"gamma": 1.0, "shift": -1.0}),
    "Flatten": ("flatten", {}),
    "Gabor": ("gabor", {}),
    "Gaussian": ("gaussian", {"a": 1.0, "b": -1.0}),
    "Gelu": ("gelu", {}),
    "GlobalAvgPool": ("global_avg_pool", {}),
    "GlobalSumPool": ("global_sum_pool", {}),
    "Hermite": ("hermite", {"degree": STATED}),
    "Identity": ("identity", {}),
    "LayerNorm": ("layer_norm", {"axis": -1, "eps": 1e-12}),
    "LeakyRelu": ("leaky_relu", {"alpha": STATED}),
    "Monomial": ("monomial", {"degree": STATED}),
    "Polynomial": ("polynomial", {"coef": STATED}),
    "Rbf": ("rbf", {"gamma": 1.0}),
    "RectifiedMonomial": ("rectified_monomial", {"degree": STATED}),
    "Relu": ("relu", {}),
    "Sigmoid_like": ("sigmoid_like", {}),
    "Sign": ("sign", {}),
    "Sin": ("sin", {**WAVE}),
    "SumPool": ("sum_pool", POOL),
}
NUMERICAL = {"tanh": "tanh", "swish": "silu"}  # functions of an ElementwiseNumerical
MERGES = {"FanInSum": "sum", "FanInProd": "product", "FanInConcat": "concat"}
RENAMED = {"out_dim": "width", "out_chan": "width", "n_chan_out": "width", "rate": "keep_rate"}
LOWER_CASE = ("attention_mechanism", "pos_emb_type")
TENSORS = {
    "W": "W",
    "b": "b",
    "query": "W_query",
    "key": "W_key",
    "value": "W_value",
    "out": "W_out",
    "bias": "b",
}

TOLERANCE = (
    "relative to the largest entry of the reference array; rtol_11_diagonal for entries of nngp_11, ntk_11 "
    "where both samples (and positions, where outputs have them) are the same: there the reference itself is "
    "off (cancellation under a square root)"
)
BY_QUADRATURE = "the reference integrates numerically and is off by up to 3e-4: these are by polar quadrature"
KERNELS = ("nngp_11", "ntk_11", "nngp_12", "ntk_12")
KERNEL_KEYS = ("rtol", "rtol_11_diagonal", "nonfinite", "notes")
PREDICT_KEYS = ("learning_rate", "diag_reg", "diag_reg_absolute_scale", "t", "ode_t", "scalars", "rtol_ode")
LAYER_CONVENTIONS = ("conv", "conv_local", "flatten", "global_avg", "global_sum", "layernorm", "dropout")
CONVENTIONS = ("input", "dense", *LAYER_CONVENTIONS, "attention", "parameterization", "ntk", "relu")
PREDICT_CONVENTIONS = ("loss", "diag_reg", "arrays", "ensemble")


class Translation:
    """A network in our words, and where each of the reference's paths went."""

    def __init__(self, net: Tree) -> None:
        self.paths: dict[str, str] = {}
        self.model = hoist(self.sequence(net["layers"], "net", ""))

    def sequence(self, items: list[Tree], theirs: str, ours: str) -> list[Tree]:
        """Layers one after the other; what the reference puts around branches is a field of ours."""
        layers: list[Tree] = []
        base_width = None
        for index, item in enumerate(items):
            if item["type"] in MERGES:
                layers[-1]["merge"] = MERGES[item["type"]]
            elif item["type"] != "FanOut":
                layers.append(self.layer(item, f"{theirs}.{index}", f"{ours}layers.{len(layers)}"))
            if item.get("s", (1, 1))[0] != 1:
                layers[-1]["parameterization"]["base_width"] = base_width
            base_width = item.get("out_dim", base_width)
        return layers

    def layer(self, item: Tree, theirs: str, ours: str) -> Tree:
        """One layer with all that is inside it."""
        self.paths[theirs] = ours
        if item["type"] == "serial":
            return {"kind": "serial", "layers": self.sequence(item["layers"], theirs, f"{ours}.")}
        if item["type"] == "parallel":
            branches = [
                self.layer(branch, f"{theirs}.{index}", f"{ours}.branches.{index}")
                for index, branch in enumerate(item["layers"])
            ]
            return {"kind": "parallel", "branches": branches}
        return leaf(item)


def leaf(item: Tree) -> Tree:
    """A layer without layers inside. `s` = (s_in, s_out) multiplies the widths, which are then bases."""
    if item["type"] == "ElementwiseNumerical":
        return {"kind": NUMERICAL[item["fn"]]}
    if item["type"] not in WEIGHTED:
        return with_fields(item, *WITHOUT_WEIGHTS[item["type"]])
    layer = with_fields(item, *WEIGHTED[item["type"]])
    layer["width"] *= item.get("s", (1, 1))[1]
    return layer | {"parameterization": {"kind": item.get("parameterization", "ntk")}}


def with_fields(item: Tree, kind: str, fields: Tree) -> Tree:
    """The layer of that kind; what is null is left out, as it is the default of ours."""
    layer = {"kind": kind}
    for name, default in fields.items():
        value = item[name] if default is STATED else item.get(name, default)
        if value is not None:
            layer[RENAMED.get(name, name)] = value.lower() if name in LOWER_CASE else value
    return layer


def weighted(layers: list[Tree]) -> Iterator[Tree]:
    """All layers that state a parameterization, in order."""
    for layer in layers:
        if "parameterization" in layer:
            yield layer
        yield from weighted(layer.get("layers", []) + layer.get("branches", []))


def hoist(layers: list[Tree]) -> Tree:
    """The model: a parameterization that all layers share is stated once, for the network.

    The first layer shares a base width without having one, because its fan-in is the data's.
    """
    stated = list(weighted(layers))
    shared = stated[-1]["parameterization"]
    first, *others = [layer["parameterization"] for layer in stated]
    if first["kind"] == shared["kind"] and all(other == shared for other in others):
        for layer in stated:
            del layer["parameterization"]
    return {"parameterization": shared, "layers": layers}


def weights(case: Tree, arrays: Arrays, paths: dict[str, str]) -> Arrays:
    """The reference's parameters by our names: a bias as a vector, the rows of W_out head by head."""
    named: Arrays = {}
    for param in case["params"]:
        values, path = arrays.pop(param["key"]), paths[param["path"]]
        tensor = TENSORS[param["role"]]
        if tensor == "b":
            values = values.reshape(-1)
        if tensor == "W_out":
            heads, _, val = named[f"{path}.W_value"].shape
            values = values.reshape(val, heads, -1).swapaxes(0, 1).reshape(values.shape)
        named[f"{path}.{tensor}"] = values
    return named


def load(case: Tree, source: Path) -> Arrays:
    """The arrays of a case."""
    with np.load(source / case["arrays"]) as file:
        return dict(file)


def infinite(case: Tree, source: Path) -> tuple[Tree, Arrays]:
    """Kernels of infinitely wide networks, integrated exactly where the reference did not."""
    model = Translation(case["net"]).model
    arrays = load(case, source)
    widths = {"widths": "as_given"} if "standard" in json.dumps(model) else {}
    if "rtol_exact_keys" in case:
        arrays = {name: arrays.get(f"{name}_exact", arrays[name]) for name in ("x1", "x2", *KERNELS)}
        rtol = case["rtol_exact_keys"]
        case = case | {"rtol": rtol, "rtol_11_diagonal": rtol, "notes": BY_QUADRATURE}
    return {"model": model, **widths, **picked(case, KERNEL_KEYS)}, arrays


def finite(case: Tree, source: Path) -> tuple[Tree, Arrays]:
    """Kernels of finite networks with given weights."""
    translation = Translation(case["net"])
    arrays = load(case, source)
    named = weights(case, arrays, translation.paths)
    facts = {"model": translation.model, "weights": list(named), **picked(case, KERNEL_KEYS)}
    return facts, named | arrays


def predict(case: Tree, source: Path) -> tuple[Tree, Arrays]:
    """Closed-form training and inference."""
    facts, arrays = infinite(case, source)
    return facts | {key: case[key] for key in PREDICT_KEYS}, arrays


KINDS = {"infinite": infinite, "finite": finite, "predict": predict}


def picked(tree: Tree, keys: tuple[str, ...]) -> Tree:
    """The entries of those keys that say something."""
    return {key: tree[key] for key in keys if tree.get(key)}


def missing(model: Tree, in_shape: tuple[int, ...]) -> str:
    """What the engine does not accept in a model; empty if it does."""
    try:
        from_jsonable(Model, model).place(in_shape)
    except ValidationError as refused:
        first = refused.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg'][:60]}"
    except SpecError as refused:
        return str(refused)
    return ""


def render(manifest: Tree) -> str:
    """JSON with one line a fact, to be read and compared by people."""

    def block(tree: Tree, indent: str) -> str:
        lines = [f"{indent} {json.dumps(key)}: {json.dumps(value)}" for key, value in tree.items()]
        return f"{indent}{{\n" + ",\n".join(lines) + f"\n{indent}}}"

    cases = ",\n".join(block(case, "  ") for case in manifest["cases"])
    facts = [f" {json.dumps(key)}: {json.dumps(manifest[key])}" for key in ("generator", "tolerance")]
    conventions = f' "conventions":\n{block(manifest["conventions"], "  ")}'
    return "{\n" + ",\n".join([*facts, conventions, f' "cases": [\n{cases}\n ]']) + "\n}\n"


def translate(manifest: Tree, source: Path, folder: Path) -> list[Tree]:
    """All cases of a manifest, their arrays written to a folder."""
    cases = []
    for case in manifest["cases"]:
        facts, arrays = KINDS[case["kind"]](case, source)
        ours = {"id": case["id"], "kind": case["kind"], **facts, "arrays": f"{case['id']}.npz"}
        np.savez(folder / ours["arrays"], **arrays)
        cases.append(ours)
    return cases


def main(source: Path) -> None:
    """Write all manifests and arrays."""
    theirs = {kind: json.loads((source / f"manifest_{kind}.json").read_text()) for kind in KINDS}
    conventions = theirs["infinite"]["conventions"] | theirs["finite"]["conventions"]
    facts = {"generator": theirs["finite"]["generator"], "tolerance": TOLERANCE}
    facts |= {"conventions": {key: conventions[key] for key in CONVENTIONS}}

    known: list[Tree] = []
    coming: list[Tree] = []
    for case in translate(theirs["infinite"], source, GOLDEN) + translate(theirs["finite"], source, GOLDEN):
        with np.load(GOLDEN / case["arrays"]) as file:
            reason = missing(case["model"], file["x1"].shape[1:])
        (coming if reason else known).append(case)
        if reason:
            print(f"coming: {case['id']} ({reason})")
    (GOLDEN / "manifest.json").write_text(render(facts | {"cases": known}))
    (GOLDEN / "coming.json").unlink(missing_ok=True)
    if coming:
        (GOLDEN / "coming.json").write_text(render(facts | {"cases": coming}))

    folder = GOLDEN / "predict"
    folder.mkdir(exist_ok=True)
    cases = translate(theirs["predict"], source, folder)
    facts["conventions"] |= {key: theirs["predict"]["conventions"][key] for key in PREDICT_CONVENTIONS}
    facts["tolerance"] = theirs["predict"]["tolerance"]
    (folder / "manifest.json").write_text(render(facts | {"cases": cases}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
