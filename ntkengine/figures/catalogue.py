"""Every figure by its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ntkengine.experiments import EXPERIMENTS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Figure:
    """A figure, and how it is drawn."""

    shows: str
    draw: Callable[[Canvas], None]


def of(name: str) -> Figure:
    """Loss, errors, slopes and kernel of an experiment."""
    from ntkengine.figures import slopes

    return Figure(EXPERIMENTS[name].shows, partial(slopes.training, name))


def catalogue() -> dict[str, Figure]:
    """In the order of the notes. Imports matplotlib."""
    from ntkengine.figures import slopes, weights

    point = "A network, a new training point, and how its outputs move, beside what the kernel says."
    found = {
        "new_point": Figure(point, slopes.new_point),
        "linear_one_neuron": Figure(
            EXPERIMENTS["linear_one_neuron"].shows, partial(weights.plane, "linear_one_neuron")
        ),
    }
    for width in (1, 2, 10, 100):
        name = f"linear_standard_{width}"
        found[name] = Figure(EXPERIMENTS[name].shows, partial(weights.neurons, name, width))
    found |= {name: of(name) for name in EXPERIMENTS if name.startswith("quadratic")}
    limit = "quadratic_mean_field_limit"
    shown = "Neurons of the mean-field limit as a distribution in weight space, before and after training."
    found[f"{limit}_neurons"] = Figure(shown, partial(slopes.distribution, limit))
    return found
