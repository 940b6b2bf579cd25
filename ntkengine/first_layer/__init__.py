"""First layers of any law: second moments after an activation whose inputs need not be Gaussian."""

from ntkengine.first_layer.moments import Averages, FirstLayerMoments, first_layer_moments
from ntkengine.first_layer.preactivation import Growth, Preactivation
from ntkengine.first_layer.profile import PiecewisePolynomial, Profile, slope_of
from ntkengine.first_layer.randomised import Precision, points_for

__all__ = [
    "Averages",
    "FirstLayerMoments",
    "Growth",
    "PiecewisePolynomial",
    "Preactivation",
    "Precision",
    "Profile",
    "first_layer_moments",
    "points_for",
    "slope_of",
]
