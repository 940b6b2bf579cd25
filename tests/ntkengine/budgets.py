"""Kernels of random specs under random budgets, and the memory that each took.

python -m tests.ntkengine.budgets SEED ...

Prints a line of JSON for each seed. Every kernel is computed in a child forked from a process that has loaded
torch and computed next to nothing, so that no memory of another one is used again.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ntkengine import EngineError, Model, ResourceError, empirical_ntk, infinite_kernel
from ntkengine.empirical import IMPLEMENTATIONS, empirical_plan
from ntkengine.infinite.kernel import Work
from ntkengine.spec import from_jsonable
from tests.cases import LAYER_KINDS

MIB = 1024**2
BLOCKS = 40  # at most, so that a kernel takes seconds


def dense_net(rng: random.Random) -> tuple[tuple[int, ...], list[Any]]:
    """Some hidden layers of some widths."""
    hidden: list[Any] = []
    for _ in range(rng.randint(1, 4)):
        hidden += [{"kind": "dense", "width": rng.choice([32, 100, 300, 700])}, {"kind": "relu"}]
    return (rng.choice([5, 60, 500]),), [*hidden, {"kind": "dense", "width": rng.randint(1, 12)}]


def conv_net(rng: random.Random) -> tuple[tuple[int, ...], list[Any]]:
    """Some convolutions of images that are not tiny, flattened or averaged."""
    hidden: list[Any] = []
    for _ in range(rng.randint(1, 3)):
        conv = {"kind": "conv", "width": rng.choice([4, 16, 40]), "filter_shape": [3, 3], "padding": "SAME"}
        hidden += [conv, {"kind": rng.choice(["relu", "erf"])}]
    end = {"kind": rng.choice(["flatten", "global_avg_pool"])}
    return (rng.randint(4, 20), rng.randint(4, 16), 3), [
        *hidden,
        end,
        {"kind": "dense", "width": rng.randint(1, 6)},
    ]


def attention_net(rng: random.Random) -> tuple[tuple[int, ...], list[Any]]:
    """Attention between so many positions that scores are what takes room."""
    heads, channels = rng.choice([2, 8]), rng.choice([8, 32])
    attention = {
        "kind": "attention",
        "width": heads * channels,
        "n_heads": heads,
        "n_chan_key": channels,
        "n_chan_val": channels,
        "linear_scaling": rng.choice([True, False]),
        "pos_emb_type": rng.choice([None, "sum", "concat"]),
    }
    end = {"kind": rng.choice(["flatten", "global_avg_pool"])}
    return (rng.randint(8, 250), 16), [attention, {"kind": "relu"}, end, {"kind": "dense", "width": 5}]


def any_kind(rng: random.Random) -> tuple[tuple[int, ...], list[Any]]:
    """A network with some kind of layer."""
    name = rng.choice(sorted(LAYER_KINDS))
    if name == "attention":
        return attention_net(rng)
    shape, layers = LAYER_KINDS[name]
    return shape, layers(rng.choice([16, 64, 160]))


@dataclass(frozen=True)
class Request:
    """A kernel of some inputs with themselves or with others, under a budget."""

    words: str
    x1: Tensor
    x2: Tensor | None
    call: Callable[[Tensor, Tensor | None, int], object]
    count: Callable[[Tensor, Tensor | None, int], int]  # of the blocks that a budget allows

    def least(self) -> int:
        """What it is refused below."""
        try:
            self.count(self.x1, self.x2, 1)
        except ResourceError as refused:
            return int(refused.estimate["bytes"])
        raise AssertionError("a byte was enough")

    def first(self, rows: int) -> Request:
        """The same for some of the inputs."""
        return replace(self, x1=self.x1[:rows], x2=None if self.x2 is None else self.x2[:rows])

    def within(self, budget: int) -> Request:
        """The same for as many inputs as take few blocks."""
        few = self
        while few.count(few.x1, few.x2, budget) > BLOCKS:
            few = few.first(len(few.x1) * 2 // 3)
        return few


def request(rng: random.Random) -> Request:
    """A kernel of a random spec: its kind, layers, sizes, outputs, implementation and precision."""
    shape, layers = rng.choice([dense_net, dense_net, conv_net, any_kind])(rng)
    dtype, most = rng.choice([torch.float32, torch.float64]), 1000 if len(shape) == 1 else 60
    n1, n2 = rng.randint(2, most), rng.choice([None, rng.randint(1, most)])
    x1, x2 = inputs(n1, shape, dtype), None if n2 is None else inputs(n2, shape, dtype)
    model = from_jsonable(Model, {"layers": layers})
    words = f"{[layer['kind'] for layer in layers]} on {shape}, {dtype}"
    kind = infinite(model) if rng.random() < 0.35 else empirical(model, shape, dtype, rng)
    return Request(f"{kind[0]} {words}", x1, x2, *kind[1:])


Kind = tuple[str, Callable[[Tensor, Tensor | None, int], object], Callable[[Tensor, Tensor | None, int], int]]


def infinite(model: Model) -> Kind:
    """Both kernels of the limit."""
    return (
        "infinite",
        lambda x1, x2, budget: infinite_kernel(model, x1, x2, budget=budget),
        lambda x1, x2, budget: Work.of(model, x1, x2, "limit", ("nngp", "ntk")).plan(budget).count,
    )


def empirical(model: Model, shape: tuple[int, ...], dtype: torch.dtype, rng: random.Random) -> Kind:
    """The NTK of a network in some form by some implementation."""
    network = model.network(shape, seed=0, dtype=dtype)
    how: dict[str, Any] = {
        "outputs": rng.choice(["full", "trace", "mean", "diagonal"]),
        "implementation": rng.choice(["auto", "auto", "structured_derivatives", "jacobian_contraction"]),
    }

    def count(x1: Tensor, x2: Tensor | None, budget: int) -> int:
        chunk = empirical_plan(network, x1, x2, budget=budget, **how).chunk
        return -(-len(x1) // chunk) * -(-len(x1 if x2 is None else x2) // chunk)

    return (
        f"empirical {how}",
        lambda x1, x2, budget: empirical_ntk(network, x1, x2, budget=budget, **how),
        count,
    )


def inputs(n: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(n, *shape, dtype=dtype, generator=torch.Generator().manual_seed(n))


def measured(seed: int) -> dict[str, Any]:
    """The kernel of a seed under a budget that is as small as it may be, or a little larger."""
    rng = random.Random(seed)  # noqa: S311  # no secret
    asked = request(rng)
    least = asked.least()
    budget = int(least * rng.choice([1.0, 1.1, 2.0])) + rng.choice([0, 0, rng.randint(0, 100 * MIB)])
    asked = asked.within(budget)
    two = asked.first(2)
    two.call(two.x1, two.x2, 2**31)  # loads what is loaded once
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before, start = resident("VmRSS"), time.perf_counter()
    asked.call(asked.x1, asked.x2, budget)
    peak = resident("VmHWM") - before
    words = f"{asked.words}, {len(asked.x1)} x {None if asked.x2 is None else len(asked.x2)}"
    seconds = round(time.perf_counter() - start, 2)
    return {"seed": seed, "request": words, "budget": budget, "peak": peak, "seconds": seconds}


def resident(field: str) -> int:
    """Bytes of this process in memory now, or at its peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def in_a_child(seed: int) -> None:
    """Measure in a process of its own, which writes its line."""
    if os.fork() == 0:
        try:
            facts = measured(seed)
        except EngineError as refused:
            facts = {"seed": seed, "refused": str(refused)}
        except BaseException:  # noqa: BLE001  # told to the parent, whatever it is
            facts = {"seed": seed, "error": traceback.format_exc()}
        os.write(1, (json.dumps(facts) + "\n").encode())
        os._exit(0)
    os.wait()


def load() -> None:
    """What torch imports when it first differentiates in some way, which is no part of a kernel's memory."""
    model = from_jsonable(Model, {"layers": [{"kind": "dense", "width": 1}]})
    for name in IMPLEMENTATIONS:
        empirical_ntk(model.network((1,), seed=0), torch.ones(1, 1, dtype=torch.float64), implementation=name)


if __name__ == "__main__":
    load()
    for each in sys.argv[1:]:
        in_a_child(int(each))
