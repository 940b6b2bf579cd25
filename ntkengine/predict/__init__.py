"""Training in closed form: what a constant kernel makes of data, at any time."""

from ntkengine.predict.compute import Prediction, compute_prediction
from ntkengine.predict.ensemble import Blocks, Ensemble, ensemble, gp_inference
from ntkengine.predict.evolution import Descent, Evolution, Flow, MomentumFlow
from ntkengine.predict.function_space import Integrated, integrate
from ntkengine.predict.modes import Diagnostics, Modes
from ntkengine.predict.regression import largest_learning_rate, leave_one_out
from ntkengine.predict.solvers import RidgeWeights, SolverPlan, conjugate_gradients, plan_solver
from ntkengine.predict.sources import Given, GivenBlocks, PredictData
from ntkengine.predict.spec import PredictSpec
from ntkengine.predict.training import Trajectory, evolve, gradient_descent, gradient_flow

__all__ = [
    "Blocks",
    "Descent",
    "Diagnostics",
    "Ensemble",
    "Evolution",
    "Flow",
    "Given",
    "GivenBlocks",
    "Integrated",
    "Modes",
    "MomentumFlow",
    "PredictData",
    "PredictSpec",
    "Prediction",
    "RidgeWeights",
    "SolverPlan",
    "Trajectory",
    "compute_prediction",
    "conjugate_gradients",
    "ensemble",
    "evolve",
    "gp_inference",
    "gradient_descent",
    "gradient_flow",
    "integrate",
    "largest_learning_rate",
    "leave_one_out",
    "plan_solver",
]
