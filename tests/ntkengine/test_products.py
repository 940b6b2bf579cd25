import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.sparse.linalg import aslinearoperator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ntkengine import NumericalError, SpecError, UnsupportedError, empirical_ntk
from ntkengine.empirical.features import Projection, gradient_features, gradient_features_to_store
from ntkengine.empirical.jacobian import Jacobian
from ntkengine.empirical.products import NTKOperator, largest, ntk_vector_product, ritz, top_eigenvalues
from ntkengine.errors import ResourceError
from ntkengine.gram import StoredGram
from tests.cases import inputs, quadratic
from tests.compare import assert_close
from tests.ntkengine import slow_features

ROOT = Path(__file__).parents[2]


class LastState(nn.Module):
    """A recurrent network that reads a sequence."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.GRU(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.cells(x.reshape(-1, 4, 3))
        y: Tensor = self.head(states[:, -1])
        return y


class Attention(nn.Module):
    """Fused attention, which has no forward derivative."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, 3, 4)
        y: Tensor = self.heads(rows, rows, rows, need_weights=False)[0]
        return y.mean(1)


class Transformer(nn.Module):
    """A layer that in eval mode is one fused operation where no gradient is wanted."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.reshape(-1, 3, 4))
        return y.mean(1)


class Tied(nn.Module):
    """One matrix used twice under two names, and a frozen layer between."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 12)
        self.frozen = nn.Linear(12, 12).requires_grad_(False)
        self.second = nn.Linear(12, 12)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(torch.tanh(self.frozen(torch.tanh(self.first(x)))))
        return y[:, :3]


class Counting(nn.Module):
    """A network that counts its passes in a buffer, which enters its outputs."""

    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 2)
        self.register_buffer("passes", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x) ** 2 * self.passes.clone()
        self.passes += 1
        return y


class Cube(torch.autograd.Function):
    """`x^3` with a first backward derivative alone, which says so."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = 3 * x**2 * gs[0]
        return result


class SilentCube(Cube):
    """The same, whose backward pass leaves the graph without a word."""

    @staticmethod
    def backward(ctx: Any, *gs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        result: Tensor = 3 * x**2 * gs[0].detach()
        return result


class Cubes(nn.Module):
    """A network with such a function on one of two branches."""

    def __init__(self, cube: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(12, 4), nn.Linear(12, 4)
        self.cube = cube

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.cube(self.first(x)) + torch.sin(self.second(x))
        return y


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(12, 9), nn.GELU(), nn.Linear(9, 7), nn.Tanh(), nn.Linear(7, 3))


def conv() -> nn.Module:
    """With a batch norm that has seen data."""
    body = nn.Sequential(
        nn.Unflatten(1, (1, 4, 3)), nn.Conv2d(1, 3, 2), nn.BatchNorm2d(3), nn.Softplus(), nn.Conv2d(3, 2, 2)
    )
    body(torch.randn(20, 12))
    return body.eval()


MODULES: dict[str, Callable[[], nn.Module]] = {
    "mlp": mlp,
    "conv, batch norm in eval mode": conv,
    "gru": LastState,
    "attention": Attention,
    "transformer": Transformer,
    "tied, frozen": Tied,
    "buffer": Counting,
    "once differentiable": lambda: Cubes(Cube.apply),
    "backward leaves the graph": lambda: Cubes(SilentCube.apply),
}


def made(name: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODULES[name]().to(dtype)


def jacobian_of(module: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """By definition: one gradient after the other, (n, k, p) by name."""
    trained = {name: p for name, p in module.named_parameters() if p.requires_grad}
    rows = []
    for row in x:
        before = {name: buffer.clone() for name, buffer in module.named_buffers()}
        y = module(row[None]).flatten()
        found = [torch.autograd.grad(value, list(trained.values()), retain_graph=True) for value in y]
        for name, buffer in module.named_buffers():
            buffer.copy_(before[name])
        rows.append([torch.stack(each).flatten(1) for each in zip(*found, strict=True)])
    return dict(zip(trained, map(torch.stack, zip(*rows, strict=True)), strict=True))


def dense(module: nn.Module, x1: Tensor, x2: Tensor | None = None) -> Tensor:
    """The NTK (n1, n2, k, k) by definition."""
    left = jacobian_of(module, x1)
    right = left if x2 is None else jacobian_of(module, x2)
    blocks = [torch.einsum("iap,jbp->ijab", left[name], right[name]) for name in left]
    return torch.stack(blocks).sum(0)


def as_matrix(kernel: Tensor) -> NDArray[Any]:
    n, _, k, _ = kernel.shape
    return kernel.permute(0, 2, 1, 3).reshape(n * k, n * k).numpy()


def budget_of(module: nn.Module, x: Tensor, rows: int) -> int:
    """What a product with so many rows at a time needs."""
    jacobian = Jacobian.of(module)
    more = jacobian.bytes_per_row(x)
    budget = 4 * jacobian.numbers * jacobian.dtype.itemsize + rows * more
    assert jacobian.rows_within(x, budget) == rows
    return budget


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("name", MODULES)
def test_product_is_the_kernel_times_a_vector(name: str, dtype: torch.dtype) -> None:
    module = made(name, dtype)
    x1, x2 = inputs(5, 12).to(dtype), inputs(4, 12, seed=1).to(dtype)
    for other in (None, x2):
        kernel = dense(made(name), x1.double(), None if other is None else other.double())
        v = torch.randn(kernel.shape[1], kernel.shape[3], generator=torch.Generator().manual_seed(2))
        expected = torch.einsum("ijab,jb->ia", kernel, v.double())
        product = ntk_vector_product(module, x1, v, other)
        assert product.dtype == dtype
        assert_close(product, expected)


@pytest.mark.parametrize("name", ["mlp", "conv, batch norm in eval mode", "gru", "tied, frozen"])
def test_every_way_forward_gives_the_same(name: str) -> None:
    module, x = made(name), inputs(4, 12)
    jacobian = Jacobian.of(module)
    tangents = {n: torch.randn_like(p) for n, p in jacobian.tensors.items()}
    rows = jacobian_of(module, x)
    expected = torch.stack([rows[n] @ t.flatten() for n, t in tangents.items()]).sum(0)
    for way in (jacobian._forward, jacobian._twice, jacobian._by_rows):
        assert_close(way(x, tangents), expected)


def test_a_backward_pass_that_leaves_the_graph_is_noticed() -> None:
    jacobian = Jacobian.of(made("backward leaves the graph"))
    with pytest.raises(RuntimeError, match="not differentiable"):
        jacobian._twice(inputs(3, 12), {name: p.detach() for name, p in jacobian.tensors.items()})


@pytest.mark.parametrize("name", MODULES)
def test_chunks_change_rounding_alone(name: str) -> None:
    module, x1, x2 = made(name), inputs(7, 12), inputs(5, 12, seed=1)
    v = torch.randn(5, Jacobian.of(module).width(x1), dtype=torch.float64)
    whole = ntk_vector_product(module, x1, v, x2)
    for rows in (1, 3):
        assert_close(ntk_vector_product(module, x1, v, x2, budget=budget_of(module, x1, rows)), whole)
    with pytest.raises(ResourceError, match="for one input"):
        ntk_vector_product(module, x1, v, x2, budget=budget_of(module, x1, 1) - 1)


@pytest.mark.parametrize("name", ["buffer", "conv, batch norm in eval mode"])
def test_nothing_of_the_module_changes(name: str) -> None:
    module, x = made(name), inputs(4, 12)
    before = {key: value.clone() for key, value in module.state_dict().items()}
    modes = [part.training for part in module.modules()]
    top_eigenvalues(module, x, 2)
    gradient_features(module, x, 8, seed=0)
    assert all(torch.equal(value, before[key]) for key, value in module.state_dict().items())
    assert [part.training for part in module.modules()] == modes
    assert all(p.grad is None for p in module.parameters())


def test_training_modes_that_mix_rows_are_refused() -> None:
    module = made("conv, batch norm in eval mode").train()
    with pytest.raises(UnsupportedError, match="training mode"):
        ntk_vector_product(module, inputs(4, 12), torch.ones(4, 4))


def test_rates_and_parameters_weigh_the_shares_of_tensors() -> None:
    module, x = made("mlp"), inputs(4, 12)
    v = torch.randn(4, 3, dtype=torch.float64)
    rows = jacobian_of(module, x)
    shares = {name: torch.einsum("iap,jbp,jb->ia", j, j, v) for name, j in rows.items()}
    rates = {name: 0.5 + i for i, name in enumerate(shares)}
    expected = torch.stack([rates[name] * share for name, share in shares.items()]).sum(0)
    assert_close(ntk_vector_product(module, x, v, rates=rates), expected)
    assert_close(ntk_vector_product(module, x, v, parameters=["2"]), shares["2.weight"] + shares["2.bias"])
    with pytest.raises(SpecError, match=r"rates are missing: 0\.weight"):
        ntk_vector_product(module, x, v, rates={name: 1.0 for name in shares if name != "0.weight"})
    with pytest.raises(SpecError, match=r"it needs \(4, 3\)"):
        ntk_vector_product(module, x, v[:, :2])


def test_a_network_of_a_model_with_its_rates() -> None:
    network, x = quadratic(20).network((2,), seed=0), inputs(5, 2)
    kernel = empirical_ntk(network, x, outputs="full", with_rates=True)
    v = torch.randn(5, 1, dtype=torch.float64)
    expected = torch.einsum("ijab,jb->ia", kernel, v)
    assert_close(ntk_vector_product(network, x, v, rates=network.rates()), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_operator_is_the_matrix_over_inputs_and_outputs(dtype: torch.dtype) -> None:
    module, x = made("mlp", dtype), inputs(5, 12).to(dtype)
    matrix = as_matrix(dense(made("mlp"), x.double()))
    kernel = NTKOperator(module, x)
    assert kernel.shape == matrix.shape
    assert kernel.dtype == torch.zeros(0, dtype=dtype).numpy().dtype
    identity = np.eye(15, dtype=kernel.dtype)
    assert_close(kernel @ identity, matrix)
    assert_close(aslinearoperator(kernel) @ identity[:, 3], matrix[:, 3])
    assert_close(aslinearoperator(kernel).T @ identity[:, 3], matrix[3])
    column = kernel.matvec(torch.from_numpy(identity[:, 4:5]))
    assert isinstance(column, Tensor)
    assert_close(column, matrix[:, 4:5])
    backwards = np.arange(15, dtype=kernel.dtype)[::-1]
    backwards.flags.writeable = False
    assert_close(kernel @ backwards, matrix @ backwards)
    with pytest.raises(SpecError, match="v has shape"):
        kernel.matvec(identity[:-1, 0])


@pytest.mark.parametrize("name", ["mlp", "conv, batch norm in eval mode", "gru", "tied, frozen"])
def test_eigenvalues(name: str) -> None:
    module, x = made(name), inputs(8, 12)
    matrix = as_matrix(dense(module, x))
    expected, rounding = np.linalg.eigvalsh(matrix)[::-1], 1e-13 * np.linalg.norm(matrix, 2)
    found = top_eigenvalues(module, x, 5)
    assert_close(found.values, expected[:5], rtol=1e-8)
    assert (np.abs(found.values - expected[:5]) <= found.residuals + rounding).all()
    assert (found.residuals <= 1e-10 * expected[0]).all()
    vectors = found.vectors.reshape(len(matrix), 5)
    assert_close(vectors.T @ vectors, np.eye(5))
    assert_close(matrix @ vectors, vectors * found.values, rtol=1e-8)
    again = top_eigenvalues(module, x, 5)
    assert found.values.tobytes() == again.values.tobytes()


@pytest.mark.parametrize("tol", [1e-1, 1e-2])
def test_residuals_bound_the_errors_of_loose_eigenvalues(tol: float) -> None:
    module, x = made("mlp"), inputs(40, 12)
    matrix = as_matrix(dense(module, x))
    expected = np.linalg.eigvalsh(matrix)
    found = top_eigenvalues(module, x, 8, tol=tol)
    nearest = np.abs(found.values[:, None] - expected).min(axis=1)
    assert (nearest <= found.residuals + 1e-13 * expected[-1]).all()
    vectors = found.vectors.reshape(len(matrix), -1)
    residuals = np.linalg.norm(matrix @ vectors - vectors * found.values, axis=0)
    assert_close(found.residuals, residuals, rtol=1e-6)


def test_float32_eigenvalues() -> None:
    found = top_eigenvalues(made("mlp", torch.float32), inputs(8, 12).float(), 4)
    assert found.values.dtype == np.float32
    expected = np.linalg.eigvalsh(as_matrix(dense(made("mlp"), inputs(8, 12).float().double())))[::-1]
    assert_close(found.values, expected[:4])


@pytest.mark.parametrize("tol", [0.0, 1e-4])
@pytest.mark.parametrize(("n", "d"), [(3, 8), (30, 8), (34, 34)])
def test_multiple_eigenvalues_are_all_found(n: int, d: int, tol: float) -> None:
    """A trained read-out alone: every eigenvalue k times, and of low rank for more inputs than features."""
    module = nn.Sequential(nn.Linear(12, d).requires_grad_(False), nn.Tanh(), nn.Linear(d, 4)).double()
    x = inputs(n, 12)
    expected = np.linalg.eigvalsh(as_matrix(dense(module, x)))[::-1]
    assert expected[0] - expected[3] < 1e-12 * expected[0] < expected[3] - expected[4]
    for count in (4, 9):
        found = top_eigenvalues(module, x, count, tol=tol)
        assert_close(found.values, expected[:count], rtol=max(1e-8, tol))


@pytest.mark.parametrize("seed", range(3))
def test_searches_for_further_eigenvalues_start_elsewhere(seed: int) -> None:
    """From the same start nothing is left of their eigenspaces outside the vectors found: these lack some."""
    points = np.random.default_rng(seed).standard_normal((34, 34))
    kernel = np.kron(points @ points.T, np.eye(3))
    basis = largest(lambda v: kernel @ v, 102, 3, 1e-4, np.dtype(np.float64))
    values, _, _ = ritz(lambda v: kernel @ v, basis, 3)
    assert_close(values, np.linalg.eigvalsh(kernel)[:-4:-1], rtol=1e-4)


def test_eigenvalues_that_there_are_not() -> None:
    module, x = made("mlp"), inputs(2, 12)
    for count in (0, 6):
        with pytest.raises(SpecError, match="the kernel has 6 eigenvalues"):
            top_eigenvalues(module, x, count)
    for p in module.parameters():
        p.detach().fill_(math.nan)
    with pytest.raises(NumericalError, match="not finite"):
        top_eigenvalues(module, x, 2)


def signs_by_definition(seed: int, sizes: list[int], dimension: int) -> NDArray[np.float64]:
    """P sqrt(dimension), bit by bit."""
    rows, block = [], 0
    for size in sizes:
        for start in range(0, size, 1024):
            generator = np.random.Philox(key=np.array([seed, block], dtype=np.uint64))
            count = min(1024, size - start) * dimension
            words = [int(word) for word in generator.random_raw(count // 64 + 1)]
            signs = [2 * (words[i // 64] >> i % 64 & 1) - 1 for i in range(count)]
            rows.append(np.array(signs, dtype=float).reshape(-1, dimension))
            block += 1
    return np.concatenate(rows)


@pytest.mark.parametrize("name", ["mlp", "gru", "tied, frozen", "buffer", "once differentiable"])
def test_features_are_projected_gradients(name: str) -> None:
    module, x = made(name), inputs(3, 12)
    rows = jacobian_of(module, x)
    p = signs_by_definition(7, [each.shape[2] for each in rows.values()], 5)
    expected = torch.cat(list(rows.values()), dim=2).numpy() @ p / math.sqrt(5)
    assert_close(gradient_features(module, x, 5, seed=7), expected)
    assert_close(gradient_features(module, x, 5, seed=7, output=1), expected[:, 1])
    single = gradient_features(made(name, torch.float32), x.float(), 5, seed=7)
    assert single.dtype == torch.float32
    assert_close(single, expected)


def test_blocks_of_a_large_tensor_have_seeds_of_their_own() -> None:
    module, x = nn.Linear(1500, 1).double(), inputs(2, 1500)
    p = signs_by_definition(2**64 - 1, [1500, 1], 3)
    rows = torch.cat([x, torch.ones(2, 1, dtype=torch.float64)], dim=1).numpy()
    assert_close(gradient_features(module, x, 3, seed=2**64 - 1)[:, 0], rows @ p / math.sqrt(3))
    assert (Projection(0, 3).signs(0, 1024)[:10] == Projection(0, 3).signs(0, 10)).all()


def test_features_are_unbiased_with_the_stated_variance() -> None:
    module, x = made("mlp"), inputs(3, 12)
    rows = torch.cat(list(jacobian_of(module, x).values()), dim=2)[:, 0]
    theta, squares = rows @ rows.T, rows**2 @ (rows**2).T
    dimension, seeds = 16, 1000
    found = torch.stack([gradient_features(module, x, dimension, seed=s, output=0) for s in range(seeds)])
    products = found @ found.mT
    variance = (torch.outer(theta.diag(), theta.diag()) + theta**2 - 2 * squares) / dimension
    deviations = (products.mean(0) - theta).abs() / (variance / seeds).sqrt()
    assert deviations.max() < 4
    squared = (products - theta) ** 2
    spread = squared.std(0) / math.sqrt(seeds)
    assert ((squared.mean(0) - variance).abs() / spread).max() < 4
    stated = torch.outer(theta.diag(), theta.diag()) * 2 / dimension
    assert (variance < stated).all()


@pytest.mark.parametrize("name", ["mlp", "gru"])
def test_features_depend_on_chunks_within_rounding(name: str) -> None:
    module, x = made(name), inputs(9, 12)
    whole = gradient_features(module, x, 32, seed=0)
    assert_close(torch.cat([gradient_features(module, part, 32, seed=0) for part in (x[:4], x[4:])]), whole)
    least = needed(module, x)
    assert_close(gradient_features(module, x, 32, seed=0, budget=least), whole)


def needed(module: nn.Module, x: Tensor) -> int:
    """The least budget, with which outputs are computed one by one."""
    with pytest.raises(ResourceError, match="these features need") as error:
        gradient_features(module, x, 32, seed=0, budget=1)
    budget: int = error.value.estimate["bytes"]
    return budget


def test_features_that_there_are_not() -> None:
    module, x = made("mlp"), inputs(3, 12)
    for dimension, seed, output in ((0, 0, 0), (4, -1, 0), (4, 2**64, 0), (4, 0, 3), (4, 0, -1)):
        with pytest.raises(SpecError):
            gradient_features(module, x, dimension, seed=seed, output=output)


def test_stored_features(tmp_path: Path) -> None:
    module, x = made("gru"), inputs(5, 12)
    stored = gradient_features_to_store(module, x, 6, directory=tmp_path / "f", seed=0)
    expected = gradient_features(module, x, 6, seed=0)
    assert_close(stored.rows("features", 0, 5), expected)
    one = gradient_features_to_store(module, x, 6, directory=tmp_path / "one", seed=0, output=1)
    assert_close(one.rows("features", 1, 3), expected[1:3, 1:])
    next(module.parameters()).detach()[0, 0] += 1e-9
    with pytest.raises(SpecError, match="holds another"):
        gradient_features_to_store(module, x, 6, directory=tmp_path / "f", seed=0)


@contextmanager
def storing(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that stores slowly, killed at the end if it still runs."""
    command = [sys.executable, "-m", "tests.ntkengine.slow_features", str(directory), "0.2"]
    process = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.faults
def test_killed_and_continued_to_the_last_bit(tmp_path: Path) -> None:
    directory = tmp_path / "killed"
    with storing(directory) as process:
        deadline = time.monotonic() + 60
        while not directory.exists() or StoredGram(directory).fraction() < 0.3:
            assert process.poll() is None, "ended early"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    killed = StoredGram(directory)
    done = killed.fraction()
    assert 0.3 <= done < 1
    assert killed.damaged() == []
    chunks = directory / "gram.zarr" / "features"
    first = min(chunks.glob("c.*"), key=lambda path: path.stat().st_mtime_ns)
    written = first.stat().st_mtime_ns
    finished = slow_features.store(directory, 0.0)
    assert first.stat().st_mtime_ns == written
    assert finished.fraction() == 1
    whole = slow_features.store(tmp_path / "whole", 0.0)
    assert finished.digest() == whole.digest()
