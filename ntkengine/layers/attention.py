"""Self-attention over all positions: its finite map and its infinite-width rule for many heads."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ntkengine.blocks import LinearMap, Sums
from ntkengine.errors import SpecError, pointer_of
from ntkengine.features import SinceFork
from ntkengine.graded import ZERO, Graded
from ntkengine.laws import Normal
from ntkengine.layer import Layer, Part, Position, Recorder, RowStreams, Site
from ntkengine.layers.windows import known_sizes
from ntkengine.parameterizations import HALF, AnyParameterization, Scaling
from ntkengine.positions import Extent, Needs
from ntkengine.rounding import largest
from ntkengine.spec import Count, NonNegative, spec
from ntkengine.state import KernelState

if TYPE_CHECKING:
    from torch import Tensor

# The random streams; each head has its own, so that the tensors of more heads hold those of fewer.
QUERY, KEY, VALUE, OUT, B, EMBEDDING, STREAMS = range(7)


class Mechanism(ABC):
    """How scores (..., P, P) become weights of the positions."""

    @abstractmethod
    def weights(self, scores: Tensor, visible: Tensor) -> Tensor:
        """The weights; a position p does not see q where `visible[p, q]` is false."""

    @abstractmethod
    def sensitivity(self, scores: Tensor) -> float:
        """The relative error of the weights over that of the scores, where it is small."""


class Softmax(Mechanism):
    """`exp(s_pq) / sum_r exp(s_pr)` over the positions that are seen."""

    def weights(self, scores: Tensor, visible: Tensor) -> Tensor:
        return scores.masked_fill(~visible, -math.inf).softmax(-1)

    def sensitivity(self, scores: Tensor) -> float:
        return 2.0 * largest(scores)


class Homogeneous(Mechanism):
    """A function of each score, of degree one; 0 where a position is not seen."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def weights(self, scores: Tensor, visible: Tensor) -> Tensor:
        return self.function(scores) * visible

    def sensitivity(self, scores: Tensor) -> float:
        return 1.0


MECHANISMS: Mapping[str, Mechanism] = {
    "softmax": Softmax(),
    "relu": Homogeneous(lambda scores: scores.relu()),
    "abs": Homogeneous(lambda scores: scores.abs()),
    "identity": Homogeneous(lambda scores: scores),
}

# The shares of the features and of the embeddings in the second moments, where both have as many channels.
EMBEDDED = {"sum": 1.0, "concat": 0.5}


class Both:
    """Matrices of each row (n1 + n2, P, P), on either side of its moments: `A1 K A2^T`."""

    def __init__(self, matrices: Tensor, state: KernelState) -> None:
        self._of_rows = matrices
        self._of_pairs = state.of_each(matrices)
        self._paired = state.paired

    def __call__(self, moments: Graded) -> Graded:
        """Those moments, on all pairs."""
        if moments.vanishes:
            return moments
        own = (self._of_rows @ each @ self._of_rows.mT for each in moments.own)
        return replace(moments, values=(self._on_pairs(moments.pair), *own))

    def _on_pairs(self, pair: Tensor) -> Tensor:
        first, second = self._of_pairs
        if self._paired:
            return first @ pair @ second.mT
        # one product for each row, then one for each column: a small one for each pair takes longer
        n1, n2, here, there = pair.shape
        left = first[:, 0] @ pair.transpose(1, 2).reshape(n1, here, n2 * there)
        both = left.reshape(n1 * here, n2, there).transpose(0, 1) @ second[0].mT
        return both.reshape(n2, n1, here, there).transpose(0, 1)


class Moments(NamedTuple):
    """NNGP and NTK of some features."""

    nngp: Graded
    ntk: Graded


@spec
class Attention(Layer):
    """Multi-head self-attention over all positions p of n channels x[p]; h heads with v numbers each:

        s_k[p, q] = W_query_std W_key_std n^-1 d^-g (x[p] W_query[k]) . (x[q] W_key[k]),
        o_k[p] = W_value_std n^-1/2 sum_q weights(s_k[p, :])[q] x[q] W_value[k],
        y[p] = W_out_std (h v)^-1/2 (o_1[p], ..., o_h[p]) W_out + b_std b,

    where d is n_chan_key. With linear_scaling g is 1 and keys share the queries' tensor, else g is 1/2. All
    tensors are standard normal, with the ntk parameterization.

    The infinite-width rule is that of many heads and keys, with outputs that are Gaussian. With
    linear_scaling, scores become W_query_std W_key_std times the covariance between positions of an input,
    and their weights A are constants: with s = W_out_std W_value_std and the kernels K, Theta before,
    `nngp' = s^2 A1 K A2^T + b_std^2`, `ntk' = s^2 A1 Theta A2^T + 2 s^2 A1 K A2^T + b_std^2`. Without it only
    the identity has a closed form.

    Source: Hron et al., "Infinite attention: NNGP and NTK for deep attention networks" (2020).
    """

    kind: Literal["attention"] = "attention"
    width: Count | None = None
    """Number of output channels; may be left out, as all counts may, where only the infinite-width kernel is
    asked for."""
    n_heads: Count | None = None
    """Number of heads h."""
    n_chan_key: Count | None = None
    """Channels d of the keys and queries of a head."""
    n_chan_val: Count | None = None
    """Channels v of the values of a head."""
    linear_scaling: bool = True
    """Scores are divided by n_chan_key, and keys and queries share one tensor, `W_query`; else they are
    divided by its square root, as usual, and have a tensor each."""
    attention_mechanism: Literal["softmax", "relu", "abs", "identity"] = "softmax"
    """What makes weights of the scores; only `softmax` normalises them."""
    W_key_std: NonNegative = 1.0
    """Constant multiplier of the keys."""
    W_value_std: NonNegative = 1.0
    """Constant multiplier of the values."""
    W_query_std: NonNegative = 1.0
    """Constant multiplier of the queries."""
    W_out_std: NonNegative = 1.0
    """Constant multiplier of the map from the heads to the outputs."""
    b_std: NonNegative | None = None
    """Constant multiplier of the bias; null is no bias."""
    pos_emb_type: Literal["sum", "concat"] | None = None
    """Embeddings of the positions, trained, with as many channels as the inputs have: added to these, or
    further channels; null is none. The infinite-width rule takes these channels to be many."""
    W_pos_emb_std: NonNegative = 1.0
    """Constant multiplier of the embeddings."""
    val_pos_emb: bool = False
    """Values see the embeddings too, not keys and queries alone."""
    causal: bool = False
    """A position sees itself and those before it alone, counted row by row."""
    parameterization: AnyParameterization | None = None
    """Overrides the network's parameterization for this layer; ntk, or one with the same exponents here."""

    is_linear: ClassVar[bool] = False

    def any_weights(self) -> bool:
        return True

    def place(self, at: Position) -> Site:
        if len(at.shape) < 2:
            raise SpecError(
                f"{at.path}: attention needs inputs with positions, (n, positions, channels); these are "
                f"(n, {', '.join(map(str, at.shape))})",
                pointer=pointer_of(at.path),
                hint="give inputs with spatial axes, and flatten or pool after the attention",
            )
        scaling = at.scaling(self.parameterization)
        if scaling != Scaling(a=HALF):
            raise SpecError(
                f"{at.path}: attention has the ntk parameterization alone (a = 1/2, b = c = 0)",
                pointer=f"{pointer_of(at.path)}/parameterization",
                hint='give this layer "parameterization": {"kind": "ntk"}',
            )
        site = at.site(self, (*at.shape[:-1], self.width), at.lengths)
        return replace(site, role=at.role, only=at.only, scaling=scaling)

    def shapes(self, site: Site) -> dict[str, tuple[int, ...]]:
        heads, key, val = (self._count(site, name) for name in ("n_heads", "n_chan_key", "n_chan_val"))
        channels, width = site.known_size(site.in_shape), site.known_size(site.out_shape)
        seen = channels * (2 if self.pos_emb_type == "concat" else 1)
        result: dict[str, tuple[int, ...]] = {"W_query": (heads, seen, key)}
        if not self.linear_scaling:
            result["W_key"] = (heads, seen, key)
        result["W_value"] = (heads, seen if self.val_pos_emb else channels, val)
        result["W_out"] = (heads * val, width)
        if self.b_std is not None:
            result["b"] = (width,)
        if self.pos_emb_type is not None:
            result["pos_emb"] = (positions(site), channels)
        return result

    def draw(self, site: Site, rows: RowStreams) -> dict[str, NDArray[np.float64]]:
        shapes = self.shapes(site)
        heads = shapes["W_query"][0]
        streams = {"W_query": QUERY, "W_key": KEY, "W_value": VALUE, "W_out": OUT}
        drawn = {}
        for name in streams.keys() & shapes.keys():
            height, columns = math.prod(shapes[name][:-1]) // heads, shapes[name][-1]
            of_heads = [
                rows.matrix(Normal(), streams[name] + STREAMS * head, height, columns)
                for head in range(heads)
            ]
            drawn[name] = np.stack(of_heads).reshape(shapes[name])
        if "b" in shapes:
            drawn["b"] = rows.matrix(Normal(), B, 1, *shapes["b"])[0]
        if "pos_emb" in shapes:
            drawn["pos_emb"] = rows.matrix(Normal(), EMBEDDING, *shapes["pos_emb"])
        return drawn

    def apply(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        parts: tuple[Part, ...],
        lengths: Tensor | None = None,
    ) -> Tensor:
        return self.recorded(site, params, x, lengths, lambda _name, _h, y: y)

    def recorded(
        self,
        site: Site,
        params: Mapping[str, Tensor],
        x: Tensor,
        lengths: Tensor | None,
        record: Recorder,
    ) -> Tensor:
        def of_heads(name: str, h: Tensor) -> Tensor:
            """(n, heads, P, channels of a head), recorded with positions first."""
            return record(name, h, (h[:, None] @ params[name]).transpose(1, 2)).transpose(1, 2)

        features = x.flatten(1, -2)
        seen = self._with_embedding(features, params, record)
        content = seen if self.val_pos_emb else features
        queries = of_heads("W_query", seen)
        keys = queries if self.linear_scaling else of_heads("W_key", seen)
        divisor = seen.shape[-1] * queries.shape[-1] ** (1.0 if self.linear_scaling else 0.5)
        scores = queries @ keys.mT * (self.W_query_std * self.W_key_std / divisor)
        weights = self._mechanism().weights(scores, self._visible(site, site.present(lengths), x)[:, None])
        joined = (weights @ of_heads("W_value", content)).transpose(1, 2).flatten(2)
        y = joined @ params["W_out"] * self._multiplier(joined.shape[-1], content.shape[-1])
        if self.b_std is not None:
            y = y + params["b"] * self.b_std
        y = record("W_out", joined, y)
        return y.reshape(*x.shape[:-1], y.shape[-1])

    def needs(self, site: Site, wanted: Needs) -> Needs:
        return Needs(Extent.FULL, Extent.FULL)

    def rule(self, site: Site, state: KernelState) -> KernelState:
        if state.nngp.power != 0:
            raise site.unsupported(
                f"the inputs of attention scale as N^{state.nngp.power / 2}, so that its limit is trivial",
                "move it before the read-out, or use a parameterization that keeps them O(1)",
            )
        if not self.linear_scaling and self.attention_mechanism != "identity":
            raise site.unsupported(
                f"{self.attention_mechanism} of scores over the square root of n_chan_key has no "
                "infinite-width rule in closed form",
                'use "linear_scaling": true, the attention_mechanism identity, or the empirical kernel',
            )
        before = Moments(state.nngp, state.ntk)
        seen = Moments(*(self._embedded(each) for each in before))
        content = seen if self.val_pos_emb else before
        nngp, ntk = (self._constant if self.linear_scaling else self._random)(site, state, seen, content)
        error = state.nngp_error * 2.0 * self._mechanism().sensitivity(self._scores(seen))
        shift = (self.b_std or 0.0) ** 2
        return replace(
            state,
            nngp=nngp.plus_constant(shift, ZERO),
            ntk=ntk.plus_constant(shift, ZERO),
            size=state.features(self.width),
            inputs=None,
            gaussian=True,
            since_fork=SinceFork.FRESH,
            cumulants=None,
            det=None,
            nngp_error=state.nngp_error + error,
            ntk_error=np.maximum(state.ntk_error, state.nngp_error) + error,
        )

    def linear_maps(self, site: Site) -> tuple[LinearMap, ...]:
        shapes, places = self.shapes(site), positions(site)
        maps = []
        for name in ("W_query", "W_key", "W_value"):
            if name in shapes:
                heads, channels, numbers = shapes[name]
                scores = heads * places**2 if name == "W_query" else 0
                maps.append(LinearMap(Sums(places, channels, heads * numbers, scores=scores), {name: 1.0}))
        joined, width = shapes["W_out"]
        squares = {"W_out": self._multiplier(joined, shapes["W_value"][1]) ** 2}
        if self.b_std is not None:
            squares["b"] = self.b_std**2
        maps.append(LinearMap(Sums(places, joined, width), squares))
        if self.pos_emb_type is not None:
            embeddings = Sums(places, 1, shapes["pos_emb"][1], shared=False)
            maps.append(LinearMap(embeddings, {"pos_emb": self.W_pos_emb_std**2}))
        return tuple(maps)

    def read(self, site: Site, x: Tensor) -> Tensor:
        return x

    def _multiplier(self, joined: int, channels: int) -> float:
        """Of the outputs but for the bias, for so many numbers of all heads, made of so many channels."""
        return self.W_out_std * self.W_value_std / math.sqrt(joined * channels)

    def _constant(self, site: Site, state: KernelState, seen: Moments, content: Moments) -> Moments:
        """Without the bias, where scores are constant: no gradient comes through them, nor through keys."""
        visible = self._visible(site, state.present(site.in_lengths), state.nngp.pair)
        weights = self._mechanism().weights(self._scores(seen), visible)
        attended = Both(weights, state)
        nngp, ntk = (attended(each).scaled((self.W_out_std * self.W_value_std) ** 2) for each in content)
        return Moments(nngp, ntk + nngp.on_pairs().scaled(2.0))  # of W_out and of W_value

    def _random(self, site: Site, state: KernelState, seen: Moments, content: Moments) -> Moments:
        """Without the bias, where scores stay random and are the weights themselves:
        `K'[p, p'] = factor K[p, p'] sum_qq' K[q, q'] K[q, q']`, those of queries, of keys and of values."""
        seen_by = self._visible(site, state.present(site.in_lengths), state.nngp.pair).to(state.nngp.pair)
        summed = Both(seen_by.expand_as(state.nngp.own[0]), state)

        def over_keys(keys: Graded, values: Graded) -> Graded:
            return summed(keys.times(values))

        factor = (self.W_query_std * self.W_key_std * self.W_out_std * self.W_value_std) ** 2
        sums = over_keys(seen.nngp, content.nngp)
        through = over_keys(seen.ntk, content.nngp) + over_keys(content.ntk, seen.nngp)
        nngp = seen.nngp.times(sums).scaled(factor)
        ntk = (seen.ntk.times(sums) + seen.nngp.times(through)).scaled(factor)
        return Moments(nngp, ntk + nngp.on_pairs().scaled(4.0))  # of the four tensors

    def _scores(self, seen: Moments) -> Tensor:
        """The limit of the scores with linear_scaling, (n1 + n2, P, P)."""
        return seen.nngp.own[0] * (self.W_query_std * self.W_key_std)

    def _embedded(self, before: Graded) -> Graded:
        """Moments of the features with embeddings, which are uncorrelated between positions."""
        import torch

        if self.pos_emb_type is None:
            return before
        share = EMBEDDED[self.pos_emb_type]
        unit = torch.eye(before.pair.shape[-1], dtype=before.pair.dtype, device=before.pair.device)
        embeddings = Graded(tuple(unit.expand_as(each) for each in before.values))
        return before.scaled(share) + embeddings.scaled(share * self.W_pos_emb_std**2)

    def _with_embedding(self, features: Tensor, params: Mapping[str, Tensor], record: Recorder) -> Tensor:
        """The features (n, P, C) with embeddings: weights of each position's own, which multiply a 1."""
        import torch

        if self.pos_emb_type is None:
            return features
        ones = features.new_ones((*features.shape[:2], 1))
        embedding = record("pos_emb", ones, (params["pos_emb"] * self.W_pos_emb_std).expand_as(features))
        if self.pos_emb_type == "sum":
            return features + embedding
        return torch.cat((features, embedding), -1)

    def _visible(self, site: Site, present: Tensor | None, like: Tensor) -> Tensor:
        """(n, P, P): which positions each one sees; of one row where all rows are alike."""
        import torch

        everything = torch.ones(2 * (positions(site),), dtype=torch.bool, device=like.device)
        visible = everything.tril() if self.causal else everything
        return visible[None] if present is None else visible & present.flatten(1)[:, None]

    def _mechanism(self) -> Mechanism:
        return MECHANISMS[self.attention_mechanism]

    def _count(self, site: Site, name: str) -> int:
        """A number of heads or channels, which must not have been left out."""
        value: int | None = getattr(self, name)
        if value is None:
            raise SpecError(
                f"{site.path}: a finite network needs {name}",
                pointer=f"{pointer_of(site.path)}/{name}",
                hint=f"give {name}",
            )
        return value


def positions(site: Site) -> int:
    """The number of positions of a layer's inputs."""
    return math.prod(known_sizes(site.in_shape))
