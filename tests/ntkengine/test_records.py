"""What runs record of kernels and weights, against other ways to the same numbers."""

from typing import Any

import numpy as np
import pytest
import torch

from ntkengine import SpecError, empirical_ntk_by_layer
from ntkengine.dynamics.records.sharpness import largest_eigenvalue
from ntkengine.model import Model
from ntkengine.spec import from_jsonable
from tests.cases import UNIFORM
from tests.compare import assert_close
from tests.ntkengine.test_dynamics import (
    DESCENT,
    FLOW,
    assert_same,
    interrupted,
    points,
    quadratic,
    series,
    spec,
)

KERNEL_MEASURES = ("kernel_distance", "kernel_velocity", "alignment", "cka", "spectrum", "layer_share")
WEIGHT_MEASURES = ("weights", "displacement", "sharpness", "path")
TANH = {
    "layers": [
        {"kind": "dense", "width": 5, "b_std": 0.3},
        {"kind": "tanh"},
        {"kind": "dense", "width": 2},
    ]
}
THREE = {"x": [[1.0, 0.2], [-1.0, 0.5], [0.3, -0.7]], "y": [[1.0, 0.0], [0.5, -1.0], [0.0, 0.3]]}


def records(*names: str, points: int = 5, **fields: Any) -> list[dict[str, Any]]:
    return [{"what": name, "schedule": {"kind": "linear", "points": points}} | fields for name in names]


def network_at(point: Any, model: dict[str, Any], inputs: int) -> Any:
    built: Model = from_jsonable(Model, model)
    return built.network((inputs,), weights=point.values["weights"])


def test_the_neuron_of_the_notes_moves_its_kernel_by_four_fifths() -> None:
    training = FLOW | {"stop": {"loss_below": 1e-18}}
    last = points(spec(training, record=records("kernel_distance", "displacement", "weights")))[-1]
    assert last.values["kernel_distance"] == pytest.approx(0.79992, abs=5e-6)
    start, end = np.array([1.0, 0.5, 2.0]), np.array([0.72412, 0.0, 1.9071])
    expected = np.linalg.norm(end - start) / np.linalg.norm(start)
    assert last.values["displacement"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("outputs", ["mean", "full"])
def test_measures_of_the_kernel(outputs: str) -> None:
    """Each from its definition in numpy, on Jacobians by autograd at the recorded weights."""
    run = spec(
        FLOW | {"t_end": 1.0}, model=TANH, data=THREE, weights=None,
        record=[*records("kernel_distance", "alignment", "cka", "spectrum", outputs=outputs),
                *records("layer_share", "weights")],
    )  # fmt: skip
    recorded = points(run)
    x = torch.tensor(THREE["x"], dtype=torch.float64)
    y = np.array(THREE["y"])
    first, last = (
        kernel_by_autograd(network_at(p, TANH, 2), x, outputs) for p in (recorded[0], recorded[-1])
    )
    values: Any = recorded[-1].values
    k = 1 if outputs == "mean" else 2
    target = y @ y.T if outputs == "mean" else np.outer(y.ravel(), y.ravel())
    h = np.kron(np.eye(3) - 1 / 3, np.eye(k))
    assert_close(values["kernel_distance"], np.linalg.norm(last - first) / np.linalg.norm(first), rtol=1e-10)
    assert_close(values["alignment"], cosine(last, target), rtol=1e-10)
    assert_close(values["cka"], cosine(h @ last @ h, h @ first @ h), rtol=1e-10)
    eigenvalues = np.linalg.eigvalsh(last)[::-1]
    assert_close(values["spectrum"]["eigenvalues"], eigenvalues, rtol=1e-10)
    assert_close(values["spectrum"]["condition_number"], eigenvalues[0] / eigenvalues[-1], rtol=1e-9)
    shares = values["layer_share"]
    assert set(shares) == {"layers.0", "layers.2"}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-14)
    by_layer = empirical_ntk_by_layer(network_at(recorded[-1], TANH, 2), x, outputs="full")
    trace = {path: float(torch.einsum("iiaa->", part)) for path, part in by_layer.items()}
    assert shares["layers.0"] == pytest.approx(trace["layers.0"] / sum(trace.values()), rel=1e-12)


def kernel_by_autograd(network: Any, x: torch.Tensor, outputs: str) -> np.ndarray:
    """`J J^T` over pairs (input, output), row by row; or its mean over outputs."""
    rows = []
    for f in network(x).flatten():
        gradient = torch.autograd.grad(f, list(network.parameters()), retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in gradient]))
    kernel = (torch.stack(rows) @ torch.stack(rows).T).numpy()
    n = len(x)
    mean = np.einsum("iaja->ij", kernel.reshape(n, -1, n, len(kernel) // n)) / (len(kernel) // n)
    return np.asarray({"full": kernel, "mean": mean}[outputs])


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.vdot(first, second) / np.linalg.norm(first) / np.linalg.norm(second))


def test_kernel_velocity_is_the_slope_of_the_recorded_kernel() -> None:
    """Fourth-order differences of kernels that a flow recorded, at rtol 1e-10."""
    step = 2e-3
    times = (step * np.arange(12)).tolist()
    record = [
        {"what": what, "schedule": {"kind": "at", "at": times}} for what in ("kernel", "kernel_velocity")
    ]
    recorded = points(spec(FLOW | {"t_end": times[-1]}, record=record, model=quadratic(3), weights=None))
    kernel = series(recorded, "kernel")
    slope = (kernel[:-4] - 8 * kernel[1:-3] + 8 * kernel[3:-1] - kernel[4:]) / (12 * step)
    expected = np.linalg.norm(slope, axis=(1, 2)) / np.linalg.norm(kernel[0])
    assert_close(series(recorded, "kernel_velocity")[2:-2], expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["half_sum", "mean"])
@pytest.mark.parametrize(("width", "seed"), [(2, 0), (12, 1), (30, 2)])
def test_sharpness_is_that_of_the_dense_hessian(kind: str, width: int, seed: int) -> None:
    model = quadratic(width)
    run = spec(
        DESCENT | {"loss": {"kind": kind}, "learning_rate": 0.05, "steps": 20},
        model=model, weights=None, seed=seed, record=records("sharpness", "weights", points=3),
    )  # fmt: skip
    x = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    for point in points(run):
        hessian = dense_hessian(network_at(point, model, 1), x, torch.ones(2, 1, dtype=torch.float64), kind)
        assert point.values["sharpness"] == pytest.approx(np.linalg.eigvalsh(hessian)[-1], rel=1e-6)


def dense_hessian(network: Any, x: torch.Tensor, y: torch.Tensor, kind: str) -> np.ndarray:
    """By second derivatives of the network as a torch function of one vector."""
    tensors = dict(network.named_parameters())
    sizes = [p.numel() for p in tensors.values()]

    def loss(theta: torch.Tensor) -> torch.Tensor:
        parts = torch.split(theta, sizes)
        named = {name: part.view(p.shape) for (name, p), part in zip(tensors.items(), parts, strict=True)}
        f = torch.func.functional_call(network, named, (x,))
        squares = (f - y) ** 2
        return torch.as_tensor({"half_sum": squares.sum() / 2, "mean": squares.mean()}[kind])

    theta = torch.cat([p.detach().flatten() for p in tensors.values()])
    hessian: Any = torch.func.hessian(loss)(theta)
    return np.asarray(hessian.numpy())


@pytest.mark.parametrize("size", [1, 5, 60])
@pytest.mark.parametrize("shift", [0.0, -3.0])
def test_largest_eigenvalue_with_its_sign(size: int, shift: float) -> None:
    """Not the largest in size: an operator that is negative has its largest one near 0."""
    root = np.random.default_rng(size).standard_normal((size, size)) / np.sqrt(size)
    matrix = root @ root.T + shift * np.linalg.norm(root, 2) ** 2 * np.eye(size)
    expected = np.linalg.eigvalsh(matrix)[-1]
    found = largest_eigenvalue(lambda v: np.asarray(matrix @ v), size)
    assert found == pytest.approx(expected, abs=1e-6 * float(np.linalg.norm(matrix, 2)))
    assert largest_eigenvalue(np.zeros_like, size) == 0.0


def test_a_path_by_hand() -> None:
    """Its length and turning from the recorded weights, of the whole and of each neuron."""
    names = ("layers.0.W", "layers.0.b", "layers.2.W")
    recorded = points(
        spec(DESCENT, model=quadratic(3), weights=None, record=records("path", "weights", points=7))
    )
    neurons = np.stack(
        [series(recorded, "weights", name).reshape(len(recorded), 3) for name in names], axis=-1
    )  # (moments, neurons, 3)
    for track, found in (
        (neurons.reshape(len(recorded), 1, 9), ("path",)),
        (neurons, ("path", "neurons")),
    ):
        steps = np.diff(track, axis=0)
        sizes = np.linalg.norm(steps, axis=-1)
        cosines = (steps[1:] * steps[:-1]).sum(-1) / (sizes[1:] * sizes[:-1])
        expected = {
            "length": sizes.sum(0),
            "displacement": np.linalg.norm(track[-1] - track[0], axis=-1),
            "curvature": np.arccos(cosines).sum(0),
        }
        for name, value in expected.items():
            assert_close(series(recorded[-1:], *found, name).ravel(), value, rtol=1e-6)


def test_what_a_path_obeys() -> None:
    """It is no shorter than its displacement and never becomes shorter; a finer schedule finds more of it;
    and the squares of the neurons' displacements add up to that of the whole."""
    runs = {
        count: points(spec(FLOW, model=quadratic(4), weights=None, record=records("path", points=count)))
        for count in (6, 51, 501)
    }
    length, displacement, curvature = (
        series(runs[501], "path", name) for name in ("length", "displacement", "curvature")
    )
    assert (length >= displacement * (1 - 1e-12)).all()
    assert (np.diff(length) >= 0).all()
    assert (np.diff(curvature) >= 0).all()
    each = series(runs[501], "path", "neurons", "displacement")
    assert_close((each**2).sum(1), displacement**2)
    ends = [series(runs[count][-1:], "path", "length")[0] for count in runs]
    assert ends[0] < ends[1] < ends[2]
    assert ends[2] - ends[1] < 0.05 * (ends[1] - ends[0])


def test_a_straight_path_has_no_curvature_though_it_converges() -> None:
    """One data point and a linear network of one layer: weights move along one line, to rounding."""
    run = spec(
        {"kind": "gradient_descent", "learning_rate": 0.3, "steps": 200},
        model={"layers": [{"kind": "dense", "width": 1}]},
        data={"x": [[0.6, 0.8]], "y": [[1.0]]},
        weights={"layers.0.W": [[0.2], [-0.1]]},
        record=records("path", points=201),
    )
    path: Any = points(run)[-1].values["path"]
    assert path["curvature"] < 1e-9
    assert path["length"] == pytest.approx(path["displacement"], rel=1e-12)
    assert "neurons" not in path


def test_conserved_along_the_path() -> None:
    """Quadratic neurons without bias: `w_i^2 - 2 v_i^2` is conserved by the flow, neuron by neuron."""
    model = {
        "layers": [
            {"kind": "dense", "width": 4, "W_law": UNIFORM},
            {"kind": "quadratic"},
            {"kind": "dense", "width": 1, "W_law": UNIFORM},
        ]
    }
    training = FLOW | {"rtol": 1e-8}
    recorded = points(spec(training, model=model, weights=None, record=records("weights", "path", points=30)))
    w, v = (series(recorded, "weights", f"layers.{i}.W").reshape(len(recorded), 4) for i in (0, 2))
    invariant = w**2 - 2 * v**2
    assert np.abs(invariant - invariant[0]).max() < 1e-7
    assert series(recorded, "path", "length")[-1] > 0.1  # it did move


def test_wide_networks_go_shorter_and_straighter() -> None:
    """The notes' question: of 8 seeds, the medians of length and turning fall with the width, and a neuron's
    path is straighter too."""
    found = {}
    for width in (10, 1000):
        training = {"kind": "gradient_flow", "t_end": 20.0}
        run = {"model": quadratic(width), "weights": None, "record": records("path", points=100)}
        runs = [points(spec(training, **run, seed=seed))[-1].values["path"] for seed in range(8)]
        paths: Any = runs
        found[width] = (
            np.median([np.median(path["neurons"]["length"]) for path in paths]),
            np.median([path["curvature"] for path in paths]),
            np.median([path["length"] / path["displacement"] - 1 for path in paths]),
        )
    assert all(wide < 0.5 * narrow for narrow, wide in zip(found[10], found[1000], strict=True))


@pytest.mark.parametrize("training", [FLOW | {"t_end": 0.4}, DESCENT, DESCENT | {"learning_rate": 1.0}])
def test_records_of_a_resumed_run(training: dict[str, Any]) -> None:
    run = spec(
        training, model=quadratic(2), weights=None,
        record=[*records("path", points=40), *records(*KERNEL_MEASURES, "sharpness", "displacement")],
    )  # fmt: skip
    assert_same(interrupted(run), run)


def test_records_of_several_members() -> None:
    """Those of each, as if alone; the memory of paths is not shared."""
    names = (*KERNEL_MEASURES, *WEIGHT_MEASURES)
    training = {"kind": "gradient_descent", "learning_rate": 0.05, "steps": 12}
    whole: Any = spec(training, model=quadratic(3), weights=None, record=records(*names), seeds=[3, 5])
    together = points(whole)
    for member, seed in enumerate((3, 5)):
        alone = points(spec(training, model=quadratic(3), weights=None, record=records(*names), seed=seed))
        for a, b in zip(together, alone, strict=True):
            compare_member(a.values, b.values, member)


def compare_member(whole: Any, alone: Any, member: int) -> None:
    if isinstance(alone, dict):
        assert whole.keys() == alone.keys()
        for key in alone:
            compare_member(whole[key], alone[key], member)
    else:
        assert_close(np.asarray(whole)[member] + 1.0, np.asarray(alone) + 1.0, rtol=1e-9)


def test_large_networks_are_refused_what_is_costly() -> None:
    wide = {"layers": [{"kind": "dense", "width": 1000}, {"kind": "relu"}, {"kind": "dense", "width": 1000},
                       {"kind": "relu"}, {"kind": "dense", "width": 1}]}  # fmt: skip
    for what in ("weights", "sharpness"):
        with pytest.raises(SpecError, match="are recorded of at most") as caught:
            spec(DESCENT, model=wide, weights=None, record=records(what)).check()
        assert what in (caught.value.hint or "")


@pytest.mark.parametrize("what", [*KERNEL_MEASURES, *WEIGHT_MEASURES, "errors"])
def test_sizes_are_estimated_and_kept(what: str) -> None:
    run = spec(DESCENT, model=quadratic(4), weights=None, record=records(what, points=3))
    kept = run.plan()["bytes_kept"]
    recorded = points(run)
    assert kept >= 8 * sum(numbers(point.values) for point in recorded)


def numbers(value: Any) -> int:
    return sum(map(numbers, value.values())) if isinstance(value, dict) else int(np.size(value))


def test_errors_are_outputs_less_targets() -> None:
    data = {"x": [[1.0], [-1.0]], "y": [[1.0], [1.0]], "x_test": [[0.5]], "y_test": [[0.25]]}
    recorded = points(spec(DESCENT, data=data, record=records("errors", "outputs")))
    assert_close(series(recorded, "errors"), series(recorded, "outputs") - 1.0)
    assert_close(series(recorded, "errors_test"), series(recorded, "outputs_test") - 0.25)


def test_mean_field_kernels_move_while_the_loss_falls() -> None:
    """The notes' abrupt change, N = 10: the kernel's velocity peaks between the times at which the loss
    passes 90 % and 1 % of its start, in every one of 20 seeds; and the kernel's norm grows."""
    growth = []
    for seed in range(20):
        run = spec(
            {"kind": "gradient_flow", "t_end": 400.0, "rtol": 1e-7, "stop": {"loss_below": 1e-8}},
            model=quadratic(10, parameterization={"kind": "mean_field"}), weights=None, seed=seed,
            record=[*records("loss", "kernel_velocity", points=400), *records("kernel", points=2)],
        )  # fmt: skip
        recorded = [point for point in points(run) if "kernel_velocity" in point.values]
        loss, velocity = series(recorded, "loss"), series(recorded, "kernel_velocity")
        peak = int(velocity.argmax())
        assert loss[-1] < 1e-2 * loss[0]
        assert 0.01 * loss[0] <= loss[max(peak - 1, 0)]
        assert loss[min(peak + 1, len(loss) - 1)] <= 0.9 * loss[0]
        kernels: Any = [point.values["kernel"] for point in recorded if "kernel" in point.values]
        growth.append(np.linalg.norm(kernels[-1]) / np.linalg.norm(kernels[0]))
    assert np.median(growth) == pytest.approx(9.5, rel=0.4)  # of 20 of 600 seeds
    assert min(growth) > 2
