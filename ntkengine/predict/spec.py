"""A prediction as data: what `POST /predict` takes. Torch-free to validate."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ntkengine.data import load, shape_of
from ntkengine.errors import SpecError, UnsupportedError, located
from ntkengine.kernels import Infinite
from ntkengine.losses import Squared
from ntkengine.model import Model
from ntkengine.predict.ensemble import INFERENCES, InferenceName, Name
from ntkengine.predict.evolution import Descent, Flow, MomentumFlow
from ntkengine.predict.solvers import BUDGET, SolverPlan, plan_integration, plan_solver
from ntkengine.predict.sources import AnyOf, FromArrays, FromModel, Given, PredictData, Source
from ntkengine.spec import NonNegative, spec

GAIN_FLOPS = 4000.0  # of a mode at a moment, at most: the power of a 3 x 3 matrix


@spec
class PredictSpec:
    """Training in closed form: which kernel, on what data, how, and when."""

    data: PredictData
    """Training points, and test points."""
    model: Model | None = None
    """The network; left out where kernels are given as arrays."""
    of: Annotated[AnyOf, Field(discriminator="kind")] = Field(default_factory=Infinite)
    """Which kernels: of infinite width, of one network at its start (whose outputs at the start are then
    those that are trained), an average over networks, or given as arrays. What of a kernel is computed
    (`get`, `outputs`) follows from what is asked for."""
    training: Annotated[Flow | Descent | MomentumFlow, Field(discriminator="kind")] = Field(
        default_factory=lambda: Flow(times=("inf",))
    )
    """How outputs evolve, and at which times or steps they are wanted."""
    inference: InferenceName = "ntk"
    """`ntk`: all weights are trained; `nngp`: the read-out alone is, which at t = inf is the posterior of the
    network's Gaussian process; `ntkgp`: the posterior of a Gaussian process whose covariance is the ntk."""
    ridge: NonNegative = 0.0
    """Penalty `ridge / 2 |theta - theta_0|^2` beside `1/2 sum (f - y)^2`, both times the loss's rate factor:
    it adds to the eigenvalues of the kernel. For the Gaussian processes it is the variance of noise."""
    covariance: bool = False
    """Whether the covariance over initialisations is wanted too."""

    @property
    def names(self) -> tuple[Name, ...]:
        """The kernels that are needed."""
        kind = INFERENCES[self.inference]
        return (kind.kernel, kind.prior) if self.covariance and kind.prior != kind.kernel else (kind.kernel,)

    @property
    def source(self) -> Source:
        """Where they come from."""
        if isinstance(self.of, Given):
            return FromArrays(self.model, self.data, self.of)
        return FromModel(self.model, self.data, self.of)

    @property
    def targets(self) -> tuple[int, int]:
        """The shape (n, k) of the targets."""
        n, k = shape_of(self.data.y, "y")
        return n, k

    def check(self) -> None:
        """Check the parts against each other. Torch-free.

        Raises:
            EngineError: with the pointer of the field that does not fit.
        """
        shape = shape_of(self.data.y, "y")
        if len(shape) != 2:
            raise SpecError(
                f"targets have shape (n, k), got {shape}", pointer="/data/y", hint="give a row for each input"
            )
        n, k = self.targets
        self.source.check(n, k, self.names, self.covariance)
        m = self.source.tests
        if self.data.y_test is not None and shape_of(self.data.y_test, "y") != (m, k):
            raise SpecError(
                f"test targets have shape {shape_of(self.data.y_test, 'y')}, expected ({m}, {k})",
                pointer="/data/y_test",
                hint="give a row for each test point",
            )
        self._check_loss()
        self.plan()

    def _check_loss(self) -> None:
        if isinstance(self.training.loss, Squared):
            return
        name = self.training.loss.kind
        integrable = self.training.kind == "gradient_flow" and all(
            t < float("inf") for t in self.training.moments
        )
        for pointer, wrong in (
            ("/training", not integrable),
            ("/ridge", self.ridge > 0),
            ("/covariance", self.covariance),
        ):
            if wrong:
                raise UnsupportedError(
                    f"the loss {name} has no closed form: its flow is integrated, to finite times",
                    pointer=pointer,
                    hint='use training of kind "gradient_flow" with finite times, no ridge and no covariance',
                )
        with located("/data/y"):
            self.training.loss.check(load(self.data.y, "y"))

    def solver(self, budget: int = BUDGET) -> SolverPlan:
        """How the equations are solved. Torch-free."""
        n, k = self.targets
        if not isinstance(self.training.loss, Squared):
            return plan_integration(n, k, joint=self.source.joint)
        finite = any(moment < float("inf") for moment in self.training.moments)
        return plan_solver(
            n,
            k,
            whole_path=finite or self.covariance,
            joint=self.source.joint,
            ridge=self.ridge,
            budget=budget,
        )

    def plan(self) -> dict[str, Any]:
        """Estimated cost, in all and by part: the kernel, the solver, and what is returned. Torch-free."""
        n, k = self.targets
        m, moments = self.source.tests, len(self.training.moments)
        kernel, solver = self.source.cost(self.names), self.solver()
        joint = self.source.joint
        rows, tests = (n * k, m * k) if joint else (n, m)
        squares = rows**2 + tests**2 + rows * tests if self.covariance else 0
        work = rows**3 + moments * rows * (GAIN_FLOPS + 2.0 * (rows + tests) * (1 if joint else k))
        work += moments * 4.0 * rows * (rows + tests) ** 2 if self.covariance else 0.0
        numbers = moments * ((n + m) * k + (rows**2 + tests**2 if self.covariance else 0))
        return {
            "kernel": kernel,
            "solver": solver.to_dict(),
            "numbers": numbers,
            "flops": solver.flops + work + (kernel or {}).get("flops", 0.0),
            "bytes": solver.bytes + 8 * (numbers + 3 * moments * squares) + (kernel or {}).get("bytes", 0.0),
        }
