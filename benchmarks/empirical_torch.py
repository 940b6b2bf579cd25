"""Torch's other ways to an empirical kernel:
python -m benchmarks.empirical_torch NAME TOOL [OUT.npy].
"""

import sys
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.empirical_cases import EMPIRICAL_BY_NAME, Outputs
from benchmarks.empirical_networks import built
from benchmarks.measure import measure

TUTORIAL = {"full": "naf,mbf->nmab", "trace": "naf,maf->nm"}  # its einsums


def by_the_tutorial(module: nn.Module, x: Tensor, outputs: Outputs) -> Tensor:
    """As torch's documentation computes NTKs: whole Jacobians by vmap, contracted tensor by tensor."""
    params = {name: p.detach() for name, p in module.named_parameters()}

    def single(params: dict[str, Tensor], row: Tensor) -> Tensor:
        y: Tensor = functional_call(module, params, (row[None],))
        return y[0]

    jacobians = vmap(jacrev(single), (None, 0))(params, x)
    flat = [jacobian.flatten(2) for jacobian in jacobians.values()]
    return torch.stack([torch.einsum(TUTORIAL[outputs], each, each) for each in flat]).sum(0)


def by_a_loop(module: nn.Module, x: Tensor, outputs: Outputs) -> Tensor:
    """One gradient after the other, and one product of matrices."""
    parameters = list(module.parameters())
    gradients = []
    for row in x:
        values = module(row[None])[0].unbind()
        for value in values:
            found = torch.autograd.grad(value, parameters, retain_graph=True)
            gradients.append(torch.cat([each.flatten() for each in found]))
    jacobian = torch.stack(gradients)
    if outputs == "trace":
        jacobian = jacobian.reshape(len(x), -1)
        return jacobian @ jacobian.T
    return (jacobian @ jacobian.T).reshape(len(x), -1, len(x), len(jacobian) // len(x)).transpose(1, 2)


def by_nngeometry(module: nn.Module, x: Tensor, outputs: Outputs) -> Tensor:
    """All blocks, of which a trace is taken: it has no other form."""
    from nngeometry import GramMatrix  # type: ignore[import-not-found]

    gram = GramMatrix(module, DataLoader(TensorDataset(x), batch_size=len(x)), function=module)
    full: Tensor = gram.to_torch().permute(1, 3, 0, 2)
    return full.diagonal(dim1=2, dim2=3).sum(-1) if outputs == "trace" else full


TOOLS: Mapping[str, Callable[[nn.Module, Tensor, Outputs], Tensor]] = {
    "torch.func": by_the_tutorial,
    "autograd loop": by_a_loop,
    "nngeometry": by_nngeometry,
}


def main(name: str, tool: str, out: str = "") -> None:
    """Print one line of JSON."""
    case = EMPIRICAL_BY_NAME[name]
    module, x = built(case.network), torch.from_numpy(case.inputs())
    measure(lambda: TOOLS[tool](module, x, case.outputs), lambda found: found.detach().numpy(), out)


if __name__ == "__main__":
    main(*sys.argv[1:])
