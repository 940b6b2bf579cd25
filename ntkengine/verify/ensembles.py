"""Predictions in closed form against networks that were trained."""

from __future__ import annotations

import math

import numpy as np

from ntkengine.dynamics import (
    At,
    Data,
    GradientDescent,
    GradientFlow,
    LinearizedRecord,
    OutputsRecord,
    RunSpec,
)
from ntkengine.verify.claim import Claim, Effort, Found, below
from ntkengine.verify.runs import (
    AT_ONCE,
    LINE,
    Array,
    X,
    Y,
    array,
    gaussian_network,
    last_values,
    network,
    points,
)

TIME = 3.0


def steps_of_the_linearized(_: Effort) -> Found:
    """A linearized network trained by steps against `(1 - eta Theta)^i`."""
    import torch

    from ntkengine.empirical import empirical_ntk
    from ntkengine.predict import gradient_descent

    model, rate, steps = network(30), 0.05, (0, 1, 7, 50, 400)
    spec = RunSpec(
        model=model,
        data=Data(x=X, y=Y, x_test=LINE),
        training=GradientDescent(learning_rate=rate, steps=steps[-1]),
        record=(LinearizedRecord(schedule=At(at=steps)),),
        seed=0,
    )
    trained = np.array([point.values["linearized"]["outputs_test"] for point in points(spec)])
    x, y, line = (torch.tensor(each, dtype=torch.float64) for each in (X, Y, LINE))
    net = model.network((1,), seed=0)
    kernel = empirical_ntk(net, torch.cat([x, line]), x)
    with torch.no_grad():
        f0, f0_line = net(x), net(line)
    found = gradient_descent(
        kernel[:2], y, kernel[2:], learning_rate=rate, steps=steps, f0_train=f0, f0_test=f0_line
    )
    return below(float(np.abs(trained - array(found.test)).max()), 1e-8)


def ensemble_of_wide_networks(effort: Effort) -> Found:
    """Mean and covariance of outputs on the line, against NNGP and NTK of infinite width.

    A finite width adds a bias of order 1/N, which is measured (half the width has twice of it) and stated;
    the whole difference, with that bias, is held to 4 standard errors.
    """
    wide, narrow = (trained(width, effort.networks) for width in (effort.wide, effort.wide // 2))
    mean, covariance = predicted()
    parts = []
    for value, half, wanted, error in (
        (wide.mean(0), narrow.mean(0), mean, wide.std(0, ddof=1) / math.sqrt(len(wide))),
        (np.cov(wide.T), np.cov(narrow.T), covariance, errors_of_covariance(wide)),
    ):
        bias = value - half  # about what is left of it at the larger width, and noise
        worst = float((np.abs(value - wanted) / error).max())
        parts.append((worst, float(np.abs(bias).max() / np.abs(wanted).max())))
    (of_mean, bias_of_mean), (of_covariance, bias_of_covariance) = parts
    text = (
        f"mean {of_mean:.1f}, covariance {of_covariance:.1f} standard errors at most; "
        f"from half the width they move by {bias_of_mean:.1e} and {bias_of_covariance:.1e} of the largest"
    )
    return Found(text, of_mean <= 4 and of_covariance <= 4)


def trained(width: int, count: int) -> Array:
    """Outputs (count, 21) on the line at that time, of networks with Gaussian weights."""
    parts = []
    for start in range(0, count, AT_ONCE):
        spec = RunSpec(
            model=gaussian_network(width),
            data=Data(x=X, y=Y, x_test=LINE),
            training=GradientFlow(t_end=TIME),
            record=(OutputsRecord(schedule=At(at=(0.0,))),),
            seeds=tuple(range(start, min(start + AT_ONCE, count))),
        )
        parts.append(np.asarray(last_values(spec)["outputs_test"])[:, :, 0])
    return np.concatenate(parts)


def predicted() -> tuple[Array, Array]:
    """Mean (21,) and covariance (21, 21) on the line."""
    import torch

    from ntkengine.infinite import infinite_kernel
    from ntkengine.predict import Blocks, Flow, ensemble

    x, y, line = (torch.tensor(each, dtype=torch.float64) for each in (X, Y, LINE))
    found = infinite_kernel(gaussian_network(1), torch.cat([x, line]))
    kernels = {
        name: Blocks(kernel[:2, :2], kernel[2:, :2], kernel[2:, 2:]) for name, kernel in found.kernels.items()
    }
    result = ensemble(kernels, y, Flow(times=(TIME,)))
    return array(result.mean_test)[0, :, 0], array(result.covariance_test)[0]


def errors_of_covariance(samples: Array) -> Array:
    """Standard errors of the entries of a sample covariance."""
    centred = samples - samples.mean(0)
    products = centred[:, :, None] * centred[:, None, :]
    spread: Array = products.std(axis=0, ddof=1) / math.sqrt(len(samples))
    return spread


CLAIMS = (
    Claim("Linearized network, trained by steps, against the closed form", "1e-8", steps_of_the_linearized),
    Claim("Ensembles of wide networks: mean and covariance", "4 standard errors", ensemble_of_wide_networks),
)
