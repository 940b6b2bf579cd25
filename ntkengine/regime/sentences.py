"""What a report says in words. Torch-free."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ntkengine.data import shape_of
from ntkengine.losses import Squared
from ntkengine.regime.rows import Row
from ntkengine.regime.spec import RegimeSpec
from ntkengine.regime.thresholds import THRESHOLDS

OPENING: Mapping[str, str] = {
    "lazy": "The network is in the kernel regime on this data: it trains almost as if its kernel were fixed.",
    "rich": "The network is not in the kernel regime: its kernel changes so much that the one it started "
    "with does not describe its training.",
    "between": "The network is near the kernel regime, but not surely in it: the kernel that it started with "
    "describes its training roughly.",
    "undetermined": "Nothing can be said: the network was not trained far enough to show whether its kernel "
    "moves.",
}
PARTS = {"train": "training points", "test": "test points"}


def percent(value: float) -> str:
    """A share in words; of more than ten wholes, how many."""
    return f"{value:.3g} times" if value > 10 else f"{float(f'{100 * value:.2g}'):.6g} %"


def spread(of: Row) -> str:
    """A median and its interval in words."""
    return f"{percent(of['median'])} (between {percent(of['low'])} and {percent(of['high'])})"


def reasons(own: Row, rows: Sequence[Row], exponents: Row, advice: Row | None) -> list[str]:
    """Why the verdict is what it is, for a reader who does not know the theory."""
    return [
        OPENING[own["verdict"]],
        how_far_trained(own),
        *on_the_kernel(own),
        *on_the_linearization(own),
        *on_test_errors(own),
        *on_widths(rows, exponents),
        *([] if advice is None else [in_words(advice)]),
    ]


def how_far_trained(own: Row) -> str:
    """What of the loss went away, and what that means for everything else."""
    share, limit = own["trained_share"], own["learning_rate_limit"]
    if own["diverged"]:
        known = "" if limit is None else f" By the kernel at the start, steps are stable up to {limit:.3g}."
        return f"{own['diverged']} of {own['seeds']} seeds diverged: the learning rate is too large.{known}"
    if share is None:
        return "The loss was 0 at the start, so there was nothing to train."
    went = f"{percent(share['median'])} of the loss was trained away"
    if share["median"] >= THRESHOLDS["trained_share"]:
        return f"{went}, so what is said here is about whole training."
    least = percent(THRESHOLDS["trained_share"])
    return (
        f"Only {went}, less than {least}: a network that has hardly moved looks lazy whatever it is. Train "
        "longer, or with a larger learning rate."
    )


def on_the_kernel(own: Row) -> list[str]:
    """How much the kernel changed."""
    change, limit = own["kernel_change"], THRESHOLDS["lazy_kernel_change"]
    where = "below" if change["high"] < limit else "not surely below"
    said = (
        f"From start to end the kernel changed by {spread(change)} of its size, {where} the {percent(limit)}"
    )
    return [f"{said} up to which it counts as constant."]


def on_the_linearization(own: Row) -> list[str]:
    """How far the linearized network was from the network."""
    limit = percent(THRESHOLDS["lazy_linearization_error"])
    return [
        f"On the {PARTS[part]} the linearized network was off by at most {spread(error)} of the way that "
        f"training moved the outputs; below {limit} would be lazy."
        for part, error in own["linearization_error"].items()
        if error is not None
    ]


def on_test_errors(own: Row) -> list[str]:
    """Who predicts best."""
    known = {whose: error["median"] for whose, error in own["test_error"].items() if error is not None}
    if "network" not in known:
        return []
    said = ", ".join(f"{value:.3g} of the {whose}" for whose, value in known.items())
    return [f"The errors on the test points are {said}."]


def on_widths(rows: Sequence[Row], exponents: Row) -> list[str]:
    """How the kernel's change depends on the width."""
    found = exponents["kernel_change"]
    left_out = ", ".join(str(row["width"]) for row in rows if row["verdict"] == "undetermined")
    said = []
    if left_out and len(rows) > 1:
        said.append(f"Left out of the exponents, as not trained far enough: widths {left_out}.")
    if found is not None:
        interval = f"between {found['low']:.2f} and {found['high']:.2f}"
        said.append(f"With the width N the kernel's change goes as N^{found['slope']:.2f} ({interval}).")
    return said


def in_words(advice: Row) -> str:
    """The advice, and whether it held."""
    goal = f"To be lazy within {percent(advice['tolerance'])}"
    if not advice["tries"]:
        return f"{goal}: {advice['reason']}."
    where = f"{goal}, the {advice['change']} should be about {advice[advice['change']]:g}"
    if advice["holds"]:
        return f"{where}. This was checked by training it there."
    return f"{where} by the fitted exponents, but {advice['reason']}."


def assumptions(spec: RegimeSpec) -> list[dict[str, Any]]:
    """What the theory assumes of training, and whether this training is so."""
    training, rows = spec.training, shape_of(spec.data.y, "y")[0]
    batch = getattr(training, "batch_size", None) or rows
    momentum, decay = (getattr(training, name, 0.0) for name in ("momentum", "weight_decay"))
    plain = training.kind != "adam" and not momentum and not decay
    optimiser = f"momentum {momentum:g} and weight decay {decay:g}"
    facts = {
        "gradient_flow": (training.kind == "gradient_flow", f"training is {training.kind.replace('_', ' ')}"),
        "squared_loss": (isinstance(training.loss, Squared), f"the loss is {training.loss.kind}"),
        "full_batch": (batch >= rows, f"a step uses {min(batch, rows)} of {rows} points"),
        "plain_descent": (plain, "adaptive steps" if training.kind == "adam" else optimiser),
    }
    return [
        {"assumption": name, "holds": bool(holds), "detail": detail}
        for name, (holds, detail) in facts.items()
    ]
