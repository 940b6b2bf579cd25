"""Empirical kernels of a network at its present weights: one frame of blocks for every implementation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ntkengine.blocks import sum_in_place
from ntkengine.empirical.identity import digest_of
from ntkengine.empirical.implementation import Implementation, Work, layer_of
from ntkengine.empirical.plan import IMPLEMENTATIONS, MEMORY_BUDGET, Plan, entry_of, plan_with_tiles
from ntkengine.errors import SpecError
from ntkengine.gram import StoredGram, TilePlan, gram, gram_to_store, mirrored
from ntkengine.gram.compute import Progress, ignore, never
from ntkengine.outputs import OUTPUT_FORMS, OutputForm, Outputs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ntkengine.empirical.subject import Inputs, Subject


def empirical_ntk(
    network: nn.Module,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    outputs: Outputs = "mean",
    implementation: str = "auto",
    parameters: Sequence[str] | None = None,
    with_rates: bool = False,
    budget: int = MEMORY_BUDGET,
) -> Tensor:
    """The NTK of a network at its present weights, `Theta[i, j, a, b] = sum_p df_a(x1_i)/dp df_b(x2_j)/dp`.

    Args:
        network: any torch module, with outputs (n, k), further axes being part of k; frozen tensors do not
            count, tied ones count once. Its weights, gradients, buffers and mode are left as they are.
        x1: inputs (n1, ...); a tuple or dict of such for a module that takes several.
        x2: inputs (n2, ...); None is x1 with itself, whose kernel is made symmetric to the last bit.
        outputs: `full` (n1, n2, k, k); `trace` (n1, n2), the sum over a = b; `mean`, the trace over k;
            `diagonal` (n1, n2, k).
        implementation: a name from `IMPLEMENTATIONS`, or `auto`.
        parameters: names of tensors, or of layers that hold them, whose share is wanted; all by default.
        with_rates: weight each tensor's share by its learning rate's factor N^-c: the kernel that the
            outputs follow in training; for networks of a `Model`.
        budget: bytes that may be held, the result included.

    Raises:
        UnsupportedError: outputs depend on chance or on other rows (dropout, batch norm in training mode).
        ResourceError: the result, or the derivatives of one row, do not fit the budget.
        SpecError: no trained tensor has such a name.

    Source: Jacot et al. (2018), equation 4; Novak et al. (2022) for the structured form.

    >>> import torch
    >>> from ntkengine import Dense, Model, Quadratic
    >>> weights = {"layers.0.W": [[1.0]], "layers.0.b": [0.5], "layers.2.W": [[2.0]]}
    >>> model = Model(layers=(Dense(width=1, b_std=1.0), Quadratic(), Dense(width=1)))
    >>> x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    >>> empirical_ntk(model.network((1,), weights=weights), x).tolist()
    [[77.0625, 0.5625], [0.5625, 8.0625]]
    """
    blocks = Blocks.of(network, x1, x2, outputs, implementation, parameters, with_rates, budget)
    return gram(blocks.total, {"ntk": entry_of(blocks.work)}, with_all_threads(blocks.tiles))["ntk"]


def empirical_ntk_by_layer(
    network: nn.Module,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    outputs: Outputs = "mean",
    implementation: str = "auto",
    parameters: Sequence[str] | None = None,
    budget: int = MEMORY_BUDGET,
) -> dict[str, Tensor]:
    """The shares of the layers in the NTK, by path; they add up to `empirical_ntk`. Arguments and errors as
    there; the budget is for the shares of all layers together."""
    blocks = Blocks.of(network, x1, x2, outputs, implementation, parameters, False, budget, by_layer=True)
    entries = dict.fromkeys(blocks.weights_by_layer(), entry_of(blocks.work))
    return gram(blocks.by_layer, entries, with_all_threads(blocks.tiles))


def empirical_gram(
    network: nn.Module,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    directory: Path,
    outputs: Outputs = "mean",
    implementation: str = "auto",
    parameters: Sequence[str] | None = None,
    budget: int = MEMORY_BUDGET,
    key: str = "",
    progress: Progress = ignore,
    cancelled: Callable[[], bool] = never,
) -> StoredGram:
    """The same NTK in a chunked store on disk, for matrices larger than memory.

    A call that finds part of them there computes the rest, with the same result to the last bit. Slices can
    be read while it runs, from any process, with `StoredGram(directory)`. A directory is continued only with
    the same module, weights, inputs and arguments.

    Args:
        directory: of this kernel alone.
        key: what else tells it from others: the code of the module, whose text alone is compared.
        progress: is told tiles done, their number, and seconds.
        cancelled: is asked between tiles.

    Other arguments and errors as in `empirical_ntk`; also `Cancelled`, a SpecError for a directory of
    something else, and ResourceError for a full disk.
    """
    blocks = Blocks.of(network, x1, x2, outputs, implementation, parameters, False, budget, in_memory=False)
    entries = {"ntk": entry_of(blocks.work)}
    about = f"ntk {outputs} {blocks.plan.implementation} {key}"
    inputs = (x1,) if x2 is None else (x1, x2)
    return gram_to_store(
        blocks.total,
        entries,
        with_all_threads(blocks.tiles),
        directory,
        key=digest_of(about, network, blocks.subject.tensors, *inputs),
        progress=progress,
        cancelled=cancelled,
    )


def empirical_plan(
    network: nn.Module,
    x1: Inputs,
    x2: Inputs | None = None,
    *,
    outputs: Outputs = "mean",
    implementation: str = "auto",
    parameters: Sequence[str] | None = None,
    budget: int = MEMORY_BUDGET,
) -> Plan:
    """How `empirical_ntk` would compute a kernel with these arguments, without doing it."""
    return Blocks.of(network, x1, x2, outputs, implementation, parameters, False, budget).plan


def empirical_nngp(
    network: nn.Module, x1: Inputs, x2: Inputs | None = None, *, outputs: Outputs = "mean"
) -> Tensor:
    """The second moment of this network's outputs, `f_a(x1_i) f_b(x2_j)`, in the shapes of `outputs`.

    Its average over initialisations is the NNGP. Arguments as in `empirical_ntk`.
    """
    import torch

    from ntkengine.empirical.subject import call, flat

    form = OUTPUT_FORMS[outputs]
    with torch.no_grad():
        f1 = flat(call(network, x1))[..., None]
        f2 = f1 if x2 is None else flat(call(network, x2))[..., None]
    product = form.contraction.product(f1, f2)
    if x2 is None:
        product = (product + mirrored(product)) / 2
    return product / f1.shape[1] if form.divide else product


@dataclass
class Blocks:
    """A kernel, block by block; the derivatives of the last rows are kept for the next block."""

    subject: Subject
    x1: Inputs
    x2: Inputs | None
    work: Work
    plan: Plan
    tiles: TilePlan
    weights: Mapping[str, float]
    last: dict[tuple[int, int], Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        network: nn.Module,
        x1: Inputs,
        x2: Inputs | None,
        outputs: Outputs,
        implementation: str,
        parameters: Sequence[str] | None,
        with_rates: bool,
        budget: int,
        *,
        in_memory: bool = True,
        by_layer: bool = False,
    ) -> Blocks:
        """Look at the network, and choose an implementation."""
        from ntkengine.empirical.subject import Subject, length

        subject = Subject.of(network, x1, parameters)
        n1, n2 = length(x1), length(x1 if x2 is None else x2)
        itemsize = next(iter(subject.tensors.values())).element_size()
        work = Work(
            n1,
            n2,
            subject.outputs,
            itemsize,
            OUTPUT_FORMS[outputs],
            symmetric=x2 is None,
            batched=subject.batched,
        )
        chosen, tiles = plan_with_tiles(
            subject.layers,
            work,
            implementation=implementation,
            budget=budget,
            in_memory=in_memory,
            kernels=len({layer_of(name) for name in subject.tensors}) if by_layer else 1,
        )
        rates = rates_of(network) if with_rates else dict.fromkeys(subject.tensors, 1.0)
        weights = {name: rates[name] for name in subject.tensors}
        return cls(subject, x1, x2, work, chosen, tiles, weights)

    @property
    def implementation(self) -> Implementation:
        return IMPLEMENTATIONS[self.plan.implementation]

    @property
    def form(self) -> OutputForm:
        return self.work.form

    def total(self, rows: slice, columns: slice) -> dict[str, Tensor]:
        """The kernel of some rows of x1 and some of x2."""
        if self.x2 is None and rows == columns == slice(0, self.work.n1):
            form = self.form.contraction
            shares = self.implementation.square(self.subject, self.x1, self.work, form, self.weights)
            return {"ntk": self.finished(sum_in_place(shares), True)}
        block = self.contracted(self.sides(rows, columns), self.weights)
        return {"ntk": self.finished(block, rows == columns)}

    def by_layer(self, rows: slice, columns: slice) -> dict[str, Tensor]:
        """The same, by layer."""
        sides = self.sides(rows, columns)
        blocks = {path: self.contracted(sides, own) for path, own in self.weights_by_layer().items()}
        return {path: self.finished(block, rows == columns) for path, block in blocks.items()}

    def weights_by_layer(self) -> dict[str, dict[str, float]]:
        """The weights of each layer's tensors, by its path."""
        layers: dict[str, dict[str, float]] = {}
        for name, weight in self.weights.items():
            layers.setdefault(layer_of(name), {})[name] = weight
        return layers

    def sides(self, rows: slice, columns: slice) -> tuple[Any, Any]:
        """What the implementation knows of some rows of x1 and some of x2."""
        left = self.kept(rows)
        same = self.x2 is None and rows == columns
        return left, left if same else self.derivatives(self.x1 if self.x2 is None else self.x2, columns)

    def contracted(self, sides: tuple[Any, Any], weights: Mapping[str, float]) -> Tensor:
        """The block of the tensors that have a weight, each times it."""
        contract = self.implementation.contract
        return sum_in_place(contract(self.subject, *sides, self.form.contraction, weights))

    def finished(self, block: Tensor, on_diagonal: bool) -> Tensor:
        """Divided where the form says so; symmetric where both sides are the same rows."""
        if on_diagonal and self.x2 is None:
            block = (block + mirrored(block)) / 2
        return block / self.work.k if self.form.divide else block

    def kept(self, rows: slice) -> Any:
        """The derivatives of some rows of x1, those of one slice at a time."""
        key = rows.start, rows.stop
        if key not in self.last:
            self.last = {key: self.derivatives(self.x1, rows)}
        return self.last[key]

    def derivatives(self, x: Inputs, rows: slice) -> Any:
        """Of some rows."""
        from ntkengine.empirical.subject import rows_of

        return self.implementation.derivatives(self.subject, rows_of(x, rows), self.work)


def rates_of(network: nn.Module) -> dict[str, float]:
    """The factors on learning rates that a network of a model knows."""
    from ntkengine.network import Network

    if not isinstance(network, Network):
        raise SpecError(
            "with_rates needs the network of a Model, which knows its parameterization",
            hint="leave it out; weight the shares of empirical_ntk_by_layer instead",
        )
    return network.rates()


def with_all_threads(tiles: TilePlan) -> TilePlan:
    """One block at a time, on all of torch's threads."""
    import torch

    return replace(tiles, threads=torch.get_num_threads())
