"""The torch modules of the empirical cases, which our side and torch's other tools measure alike."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.empirical_cases import CHANNELS, CLASSES, DEPTH, DIMENSION, FEEDFORWARD, HEADS, SHAPES, WIDTHS


class Average(nn.Module):
    """The mean over some axes."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(self.axes)


def mlp() -> nn.Module:
    """Dense layers with ReLU."""
    layers: list[nn.Module] = []
    for fan_in, width in zip((*SHAPES["mlp"], *WIDTHS), WIDTHS, strict=False):
        layers += [nn.Linear(fan_in, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTHS[-1], CLASSES))


def cnn() -> nn.Module:
    """3 x 3 convolutions with ReLU, an average, a dense layer."""
    layers: list[nn.Module] = []
    for fan_in, width in zip((SHAPES["cnn"][0], *CHANNELS), CHANNELS, strict=False):
        layers += [nn.Conv2d(fan_in, width, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, Average(2, 3), nn.Linear(CHANNELS[-1], CLASSES))


def encoder() -> nn.Module:
    """Torch's own, an average over positions, a dense layer."""
    layer = nn.TransformerEncoderLayer(DIMENSION, HEADS, FEEDFORWARD, dropout=0.0, batch_first=True)
    stack = nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)
    return nn.Sequential(stack, Average(1), nn.Linear(DIMENSION, CLASSES))


BUILDERS: dict[str, Callable[[], nn.Module]] = {"mlp": mlp, "cnn": cnn, "encoder": encoder}


def built(network: str) -> nn.Module:
    """The module at the weights of seed 0, as torch draws them."""
    torch.manual_seed(0)
    return BUILDERS[network]()


def save_weights(module: nn.Module, file: Path) -> None:
    """For the peers that are not torch."""
    arrays: dict[str, Any] = {name: p.detach().numpy() for name, p in module.named_parameters()}
    np.savez(file, **arrays)
