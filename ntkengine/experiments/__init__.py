"""The catalogue: named runs, each with what it shows and what to expect. Torch-free."""

from ntkengine.experiments.digits import DIGITS
from ntkengine.experiments.experiment import Experiment
from ntkengine.experiments.linear import LINEAR
from ntkengine.experiments.quadratic import QUADRATIC

EXPERIMENTS: dict[str, Experiment] = {each.name: each for each in (*QUADRATIC, *LINEAR, *DIGITS)}

__all__ = ["EXPERIMENTS", "Experiment"]
