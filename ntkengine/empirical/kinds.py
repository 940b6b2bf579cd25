"""Which modules have forms: told by their exact type, for a subclass may do anything."""

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
    LinearMapForm,
)
from ntkengine.network import LayerModule

FORMS: Mapping[type, Form] = {
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


def forms_of(module: nn.Module) -> list[Form]:
    """The forms of a module whose trained tensors are all covered by them, each of some of these."""
    trained = {name for name, p in module.named_parameters(recurse=False) if p.requires_grad}
    forms = [form for form in known_forms(module) if not trained.isdisjoint(form.tensors)]
    return forms if all(any(name in form.tensors for form in forms) for name in trained) else []


def known_forms(module: nn.Module) -> list[Form]:
    """The forms of a module of that kind and with those settings."""
    if type(module) is LayerModule:
        return [LinearMapForm(each) for each in module.site.layer.linear_maps(module.site)]
    kind = type(module)
    form = FORMS.get(kind) or FORMS_BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}")
    return [form] if form is not None and form.fits(module) else []
