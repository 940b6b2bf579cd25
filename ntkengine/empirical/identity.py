"""What tells a stored result of a module from others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from ntkengine.gram.identity import identity

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ntkengine.empirical.subject import Inputs


def digest_of(about: str, module: nn.Module, tensors: Iterable[str], *inputs: Inputs) -> str:
    """SHA-256 of a request: what it is about, the module's layers, tensors and buffers, the names of the
    tensors that count, and the inputs. That is all that a result depends on but for the module's code."""
    from ntkengine.empirical.subject import mapped

    parts: list[str | Tensor] = [f"{about} {module} {list(tensors)}"]
    parts += [*module.parameters(), *module.buffers()]

    def note(tensor: Tensor) -> Tensor:
        parts.append(tensor)
        return tensor

    for each in inputs:
        parts.append("inputs")
        mapped(each, note)
    return identity(*parts)
