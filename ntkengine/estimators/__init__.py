"""Wide networks as scikit-learn estimators: their kernels, with defaults for small tables."""

from ntkengine.estimators.gaussian_process import NTKGaussianProcessRegressor
from ntkengine.estimators.kernel import NTKKernel, fully_connected
from ntkengine.estimators.ridge import NTKClassifier, NTKRegressor

__all__ = ["NTKClassifier", "NTKGaussianProcessRegressor", "NTKKernel", "NTKRegressor", "fully_connected"]
