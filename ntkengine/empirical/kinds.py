"""Which modules have a form: told by their exact type, for a subclass may do anything."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from ntkengine.empirical.attention_form import AttentionForm
from ntkengine.empirical.forms import (
    BatchNormForm,
    ConvForm,
    EmbeddingForm,
    Form,
    GroupNormForm,
    LayerNormForm,
    LinearForm,
    PlacedLayer,
)
from ntkengine.network import LayerModule

FORMS: Mapping[type, Form] = {
    LayerModule: PlacedLayer(),
    nn.Linear: LinearForm(),
    nn.modules.linear.NonDynamicallyQuantizableLinear: LinearForm(),  # of torch's attention
    nn.Conv1d: ConvForm(),
    nn.Conv2d: ConvForm(),
    nn.Conv3d: ConvForm(),
    nn.MultiheadAttention: AttentionForm(),
    nn.Embedding: EmbeddingForm(),
    nn.LayerNorm: LayerNormForm(),
    nn.GroupNorm: GroupNormForm(),
    nn.BatchNorm1d: BatchNormForm(),
    nn.BatchNorm2d: BatchNormForm(),
    nn.BatchNorm3d: BatchNormForm(),
}

# Kinds of libraries that are not imported for this.
FORMS_BY_NAME: Mapping[str, Form] = {"transformers.pytorch_utils.Conv1D": LinearForm()}  # weights (in, out)


def form_of(module: nn.Module) -> Form | None:
    """The form of a module whose trained tensors are all covered by it."""
    kind = type(module)
    form = FORMS.get(kind) or FORMS_BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}")
    trained = {name for name, p in module.named_parameters(recurse=False) if p.requires_grad}
    if form is None or not trained or not trained <= set(form.tensors) or not form.fits(module):
        return None
    return form
