"""Real training, recorded beside the kernel."""

from collections.abc import Iterator

from ntkengine.dynamics.losses import CrossEntropy, HalfMean, HalfSum, Logistic, Mean
from ntkengine.dynamics.mean_field import MeanFieldFlow
from ntkengine.dynamics.records import (
    AlignmentRecord,
    CKARecord,
    DisplacementRecord,
    ErrorsRecord,
    KernelDistanceRecord,
    KernelRecord,
    KernelVelocityRecord,
    LayerShareRecord,
    LinearizedRecord,
    LossRecord,
    OutputsRecord,
    PathRecord,
    SharpnessRecord,
    SlopesRecord,
    SpectrumRecord,
    Value,
    WeightsRecord,
)
from ntkengine.dynamics.schedules import At, Every, LinearSchedule, Logarithmic
from ntkengine.dynamics.segments import Checkpoint, Outcome, Point, Segment
from ntkengine.dynamics.spec import Data, RunSpec
from ntkengine.dynamics.training import Adam, GradientDescent, GradientFlow, Stop


def train(
    spec: RunSpec, checkpoint: Checkpoint | None = None, *, segment_seconds: float = 0.5
) -> Iterator[Segment]:
    """Train a network and record it, as a sequence of segments of about `segment_seconds`.

    A run that is taken up from a segment's checkpoint yields the points of the uninterrupted run,
    bitwise (on a CPU with one thread), though its segments may be cut elsewhere. Recorded values are
    finite: a diverged run ends with its last finite point. Times are in the unit of `spec.facts()`.

    Raises:
        EngineError: the spec does not fit together, or the computation left the range of float64.

    >>> from ntkengine import Dense, Model
    >>> model = Model(layers=(Dense(width=1),))
    >>> spec = RunSpec(model=model, data=Data(x=[[1.0]], y=[[1.0]]), weights={"layers.0.W": [[0.0]]},
    ...                training=GradientDescent(learning_rate=0.5, steps=3))
    >>> [point.values["loss"] for segment in train(spec) for point in segment.points]
    [0.5, 0.125, 0.03125, 0.0078125]
    """
    from ntkengine.dynamics.run import Run

    spec.check()
    run = Run(spec, checkpoint)
    while run.outcome is None:
        yield run.segment(segment_seconds)


__all__ = [
    "Adam",
    "AlignmentRecord",
    "At",
    "CKARecord",
    "Checkpoint",
    "CrossEntropy",
    "Data",
    "DisplacementRecord",
    "ErrorsRecord",
    "Every",
    "GradientDescent",
    "GradientFlow",
    "HalfMean",
    "HalfSum",
    "KernelDistanceRecord",
    "KernelRecord",
    "KernelVelocityRecord",
    "LayerShareRecord",
    "LinearSchedule",
    "LinearizedRecord",
    "Logarithmic",
    "Logistic",
    "LossRecord",
    "Mean",
    "MeanFieldFlow",
    "Outcome",
    "OutputsRecord",
    "PathRecord",
    "Point",
    "RunSpec",
    "Segment",
    "SharpnessRecord",
    "SlopesRecord",
    "SpectrumRecord",
    "Stop",
    "Value",
    "WeightsRecord",
    "train",
]
