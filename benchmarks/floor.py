"""What no program on this machine beats by much: python -m benchmarks.floor NAME."""

import json
import math
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch

from benchmarks.cases import BY_NAME
from benchmarks.measure import REPEATS, seconds_of

PIECE = 2**16  # entries; four arrays of them are 1 MB


def main(name: str) -> None:
    """Print the floor of a dense ReLU network on n inputs, in float32, as JSON. It is the sum of

    - half the time of the product x x^T, since it is symmetric;
    - the time of reading n (n + 1) / 2 of its entries and, for each layer with ReLU, doing with them what the
      rule needs at least: with c the correlation, `s = sqrt(1 - c^2)`, `t = pi - arccos(c)`,
      `K' = (s + t c) / pi`, `Theta' = K' + t Theta / pi`. That is an arccosine, a square root, and nine
      additions and multiplications, all in place, on pieces that stay in a core's cache.

    Not counted are: writing the result, its other half, normalisation by the variances, biases, and pairs of
    inputs that nearly coincide. A program that joined the passes over a piece into one could still be faster.
    """
    case = BY_NAME[name]
    x = torch.from_numpy(case.inputs())
    threads = torch.get_num_threads()
    count = len(x) * (len(x) + 1) // 2
    correlations = (x @ x.T / x.shape[1]).flatten()[:count]
    shares = correlations.tensor_split(threads)

    def product() -> None:
        torch.matmul(x, x.T)

    def rules() -> None:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda share: elementwise(share, case.relu_layers), shares))

    def floor() -> float:
        torch.set_num_threads(threads)
        half = seconds_of(product) / 2
        torch.set_num_threads(1)  # each thread has pieces of its own
        return half + seconds_of(rules)

    floor()
    print(json.dumps({"seconds": [floor() for _ in range(REPEATS)]}))


def elementwise(correlations: torch.Tensor, layers: int) -> None:
    """All layers on some entries, piece by piece."""
    buffers = [torch.empty(PIECE) for _ in range(4)]
    for start, stop in pairwise([*range(0, len(correlations), PIECE), len(correlations)]):
        c, s, t, theta = (buffer[: stop - start] for buffer in buffers)
        torch.clamp(correlations[start:stop], -1.0, 1.0, out=c)
        theta.copy_(c)
        for _ in range(layers):
            relu(c, s, t, theta)


def relu(c: torch.Tensor, s: torch.Tensor, t: torch.Tensor, theta: torch.Tensor) -> None:
    """One layer in place: `c` and `theta` are K and Theta before and after, `s` and `t` are overwritten."""
    torch.mul(c, c, out=s)
    s.neg_().add_(1.0).sqrt_()
    torch.acos(c, out=t)
    t.neg_().add_(math.pi).mul_(1 / math.pi)
    theta.mul_(t)
    c.mul_(t).add_(s, alpha=1 / math.pi)
    theta.add_(c)


if __name__ == "__main__":
    main(*sys.argv[1:])
