"""What a run records, chosen by name. Torch-free to validate."""

from typing import Annotated

from pydantic import Field

from ntkengine.dynamics.records.base import Record, Shapes, Size, Value
from ntkengine.dynamics.records.functions import ErrorsRecord, LossRecord, OutputsRecord, SlopesRecord
from ntkengine.dynamics.records.kernels import (
    AlignmentRecord,
    CKARecord,
    KernelDistanceRecord,
    KernelRecord,
    KernelVelocityRecord,
    LayerShareRecord,
    SpectrumRecord,
)
from ntkengine.dynamics.records.linearized import LinearizedRecord
from ntkengine.dynamics.records.sharpness import SharpnessRecord
from ntkengine.dynamics.records.weights import DisplacementRecord, PathRecord, WeightsRecord

AnyRecord = Annotated[
    LossRecord
    | OutputsRecord
    | ErrorsRecord
    | KernelRecord
    | SlopesRecord
    | KernelDistanceRecord
    | KernelVelocityRecord
    | AlignmentRecord
    | CKARecord
    | SpectrumRecord
    | LayerShareRecord
    | WeightsRecord
    | DisplacementRecord
    | SharpnessRecord
    | LinearizedRecord
    | PathRecord,
    Field(discriminator="what"),
]

__all__ = [
    "AlignmentRecord",
    "AnyRecord",
    "CKARecord",
    "DisplacementRecord",
    "ErrorsRecord",
    "KernelDistanceRecord",
    "KernelRecord",
    "KernelVelocityRecord",
    "LayerShareRecord",
    "LinearizedRecord",
    "LossRecord",
    "OutputsRecord",
    "PathRecord",
    "Record",
    "Shapes",
    "SharpnessRecord",
    "Size",
    "SlopesRecord",
    "SpectrumRecord",
    "Value",
    "WeightsRecord",
]
