"""Networks of the meta-learner: stacked MLPs, the residual policy and the task encoders.

Sources: Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022 (policy, encoder); Lee et al., "Set
Transformer", ICML 2019 (published encoder); Zaheer et al., "Deep Sets", NeurIPS 2017 (our encoder).

Axes: S stacked networks, B batch, O observation, Z latent, E task embedding, M tasks, C context, F token features.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...skills.gaussian import Gaussian
from ...skills.network import MLP
from .pool import Transitions

MIN_SCALE = 1e-3
"""Smallest standard deviation of a policy or an embedding."""


def inverse_softplus(value: Tensor) -> Tensor:
    """log(exp(v) - 1), stable for large v."""
    return value + torch.log(-torch.expm1(-value))


class StackedMLP(nn.Module):
    """S ReLU MLPs of one shape, run by one batched product per layer; weights (S, in, out), biases (S, 1, out)."""

    def __init__(self, stack: int, sizes: Sequence[int], generator: torch.Generator, *, norm: bool = False) -> None:
        """Draws the weights of `stack` networks independently, U(-1/sqrt(in), 1/sqrt(in)) like torch's own.

        Args:
            stack: S.
            sizes: Widths from input to output.
            generator: Source of the weights.
            norm: Hidden layers are normalised before the ReLU, without a gain and a bias (Ba, Kiros, Hinton, "Layer
                Normalization", 2016). What a critic says of actions that nobody took is bounded by it (Ball et al.,
                "Efficient Online Reinforcement Learning with Offline Data", ICML 2023, section 4.2).
        """
        super().__init__()
        self.norm = norm
        self.weights = nn.ParameterList()
        self.biases = nn.ParameterList()
        for inputs, outputs in pairwise(sizes):
            bound = 1.0 / math.sqrt(inputs)
            for store, shape in ((self.weights, (stack, inputs, outputs)), (self.biases, (stack, 1, outputs))):
                store.append(nn.Parameter((torch.rand(shape, generator=generator) * 2.0 - 1.0) * bound))

    def forward(self, value: Tensor) -> Tensor:
        """Outputs (S, B, out) of inputs (S, B, in); the last layer is float32 also under autocast."""
        *hidden, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in hidden:
            value = torch.baddbmm(bias, value, weight)
            if self.norm:
                value = functional.layer_norm(value, value.shape[-1:])
            value = value.relu_()  # in place: one pass less through memory
        with torch.autocast(value.device.type, enabled=False):
            if last[0].shape[-1] == 1:  # a product with one column runs at a tenth of the speed of this sum
                return torch.add((value.float() * last[0].mT).sum(-1, keepdim=True), last[1])
            return torch.baddbmm(last[1], value.float(), last[0])


def residual_policy(residual: Tensor, prior: Gaussian) -> Gaussian:
    """pi(z | s, e) as a correction of the prior: the mean is shifted and the pre-softplus scale is shifted.

    Args:
        residual: Network output, shape (..., 2 Z).
        prior: Each (..., Z).
    """
    shift, scale_shift = residual.chunk(2, dim=-1)
    return Gaussian(prior.loc + shift, MIN_SCALE + functional.softplus(inverse_softplus(prior.scale) + scale_shift))


def embedding_of(output: Tensor) -> Gaussian:
    """q(e | c) of an encoder's output (..., 2 E): at output zero it is close to N(0, I)."""
    loc, pre_scale = output.chunk(2, dim=-1)
    offset = math.log(math.expm1(1.0))
    return Gaussian(loc, MIN_SCALE + functional.softplus(pre_scale + offset))


def context_tokens(context: Transitions, normalise: Callable[[Tensor], Tensor]) -> Tensor:
    """[s, z, r, terminated, s'] of each transition, shape (M, C, F)."""
    return torch.cat(
        (
            normalise(context.observation),
            context.latent,
            context.reward[..., None],
            context.terminated[..., None],
            normalise(context.next_observation),
        ),
        dim=-1,
    )


class MeanMaxEncoder(nn.Module):
    """q(e | c): an MLP per token, the mean and the maximum over tokens, an MLP on both (Deep Sets)."""

    def __init__(self, features: int, hidden: int, embedding_dim: int, generator: torch.Generator) -> None:
        """Two layers before the pooling, two after."""
        super().__init__()
        self.token = MLP((features, hidden, hidden), generator=generator)
        self.head = MLP((2 * hidden, hidden, 2 * embedding_dim), generator=generator)

    def forward(self, tokens: Tensor) -> Gaussian:
        """Tokens (M, C, F) -> Gaussian, each (M, E)."""
        hidden = self.token(tokens).relu()
        return embedding_of(self.head(torch.cat((hidden.mean(1), hidden.amax(1)), dim=-1)))


class AttentionBlock(nn.Module):
    """MAB of Lee et al. 2019 without layer norm; attention is scaled by the full width, as in SiMPL's code."""

    def __init__(self, query: int, key: int, hidden: int, heads: int, generator: torch.Generator) -> None:
        """Widths of queries, keys and output."""
        super().__init__()
        self.heads = heads
        self.query = MLP((query, hidden), generator=generator)
        self.key = MLP((key, hidden), generator=generator)
        self.value = MLP((key, hidden), generator=generator)
        self.output = MLP((hidden, hidden), generator=generator)

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """Queries (M, U, query) attend to keys (M, C, key); returns (M, U, hidden)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer, x in ((self.query, query), (self.key, key), (self.value, key))
        )
        scale = 1.0 / math.sqrt(self.heads * q.shape[-1])
        mixed = q + functional.scaled_dot_product_attention(q, k, v, scale=scale)
        hidden = mixed.transpose(1, 2).flatten(-2)
        attended: Tensor = hidden + self.output(hidden).relu()
        return attended


class SetTransformer(nn.Module):
    """q(e | c) as published: two induced self-attention blocks (32 points), pooling by attention, an MLP."""

    def __init__(self, features: int, hidden: int, embedding_dim: int, generator: torch.Generator) -> None:
        """4 heads, 32 inducing points."""
        super().__init__()
        heads, points = 4, 32

        def draw(count: int) -> nn.Parameter:
            bound = math.sqrt(6.0 / (count + hidden))
            return nn.Parameter((torch.rand((1, count, hidden), generator=generator) * 2.0 - 1.0) * bound)

        self.points = nn.ParameterList([draw(points), draw(points)])
        self.seed = draw(1)
        self.gather = nn.ModuleList(
            [AttentionBlock(hidden, width, hidden, heads, generator) for width in (features, hidden)]
        )
        self.spread = nn.ModuleList(
            [AttentionBlock(width, hidden, hidden, heads, generator) for width in (features, hidden)]
        )
        self.pool = AttentionBlock(hidden, hidden, hidden, heads, generator)
        self.head = MLP((hidden, hidden, hidden, 2 * embedding_dim), generator=generator)

    def forward(self, tokens: Tensor) -> Gaussian:
        """Tokens (M, C, F) -> Gaussian, each (M, E)."""
        for points, gather, spread in zip(self.points, self.gather, self.spread, strict=True):
            tokens = spread(tokens, gather(points.expand(len(tokens), -1, -1), tokens))
        pooled = self.pool(self.seed.expand(len(tokens), -1, -1), tokens)
        return embedding_of(self.head(pooled[:, 0]))


ENCODERS: dict[str, type[MeanMaxEncoder] | type[SetTransformer]] = {
    "mean-max": MeanMaxEncoder,
    "set-transformer": SetTransformer,
}
