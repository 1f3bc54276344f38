"""The recurrent network f_phi that emits parameters: what it reads, its step, and theta from what it knows.

    h_(t+1) = GRU([x_t, z_t], h_t),   z_(t+1) = z_t + W h_(t+1) + b,   theta_(t+1) = theta_0 + z_(t+1) B

An x_t is a whole episode, the mean over an embedding of its transitions. Emitting all P numbers of theta from H hidden
units would take H P weights; here are K coefficients z and a learned basis B of K directions in the space of
parameters. z_t is all of theta_t that can change, so it stands for theta_t in the input. One more coefficient is 0
before the first x and 1 from then on: what it brings is common to all tasks, so that the policy after the first x need
not be near theta_0. At first W, b and that common row are zero: every task starts from the same sane theta_0, and f is
the identity (Beck et al., "Hypernetworks in Meta-Reinforcement Learning", CoRL 2022, on why this start matters).

Sources: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation",
EMNLP 2014 (GRU); Beck et al., "Recurrent Hypernetworks are Surprisingly Strong in Meta-RL", NeurIPS 2023.

Axes: N tasks, E episodes, T decisions, F features of a transition, X embedding, H hidden, K coefficients, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ...skills.gaussian import Gaussian
from ..collect import Episodes
from ..policy import Params
from ..recurrent import ActionCode
from ..space import ActionSpace
from ..trpo import flatten


class Support(NamedTuple):
    """Episodes of N tasks as they are read."""

    transition: Tensor
    """[o, a, r, o', terminated], shape (N, E, T, F); zeros in the padding."""
    valid: Tensor
    """Shape (N, E, T) bool: not padding."""


class Memory(NamedTuple):
    """What the recurrent network knows of N tasks."""

    hidden: Tensor
    """h, shape (N, H)."""
    coefficient: Tensor
    """z with the common one at its end, shape (N, K + 1)."""


def make_support(rounds: Sequence[Episodes], space: ActionSpace, tasks: int) -> Support:
    """The episodes of one or more rounds, each with N x E' task-major rows, as they are read; choices are encoded."""
    code = ActionCode(space)

    def join(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([value.reshape(tasks, -1, *value.shape[1:]) for value in values], dim=1)

    observation = space.normalise(join([episodes.observation for episodes in rounds]))
    prior = [Gaussian(episodes.prior.loc[:, :-1], episodes.prior.scale[:, :-1]) for episodes in rounds]
    choice = join([code.to_choice(episodes.latent, there) for episodes, there in zip(rounds, prior, strict=True)])
    reward = join([episodes.reward for episodes in rounds])[..., None]
    length = join([episodes.length for episodes in rounds])[..., None]
    steps = torch.arange(reward.shape[2], device=reward.device)
    ended = join([episodes.terminated for episodes in rounds])[..., None] & (steps == length - 1)
    parts = (
        observation[..., :-1, :],
        code.encode(choice),
        reward,
        observation[..., 1:, :],
        ended[..., None].to(reward),
    )
    valid = steps < length
    value = torch.cat(parts, dim=-1)
    return Support(torch.where(valid[..., None], value, torch.zeros_like(value)), valid)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentUpdater:
    """f_phi; its parameters phi are a dict."""

    inputs: int
    """F."""
    embedding: int
    """X."""
    memory: int
    """H."""
    rank: int
    """K."""

    def init(self, first: Params, generator: torch.Generator) -> Params:
        """The first phi: f is the identity, and a coefficient of 1 will move theta about as far as its first weights.

        Args:
            first: theta_0.
            generator: Source of the weights.
        """
        embedding, memory, rank = self.embedding, self.memory, self.rank
        phi: Params = {}
        for name, inputs, outputs in (
            ("embed.0", self.inputs, embedding),
            ("embed.1", embedding, embedding),
            ("gru.input", embedding + rank + 1, 3 * memory),
            ("gru.hidden", memory, 3 * memory),
        ):
            bound = 1.0 / math.sqrt(memory if name.startswith("gru") else inputs)
            phi[f"{name}.weight"] = bound * _uniform((outputs, inputs), generator)
            phi[f"{name}.bias"] = bound * _uniform((outputs,), generator)
        phi["head.weight"] = torch.zeros(rank, memory, device=generator.device)
        phi["head.bias"] = torch.zeros(rank, device=generator.device)
        # a direction is as large as a draw of first weights; biases and scales take the width of their layer's output
        rows = [
            _uniform((rank, value.numel()), generator) * math.sqrt((6.0 if value.dim() > 1 else 1.0) / sum(value.shape))
            for value in first.values()
        ]
        basis = torch.cat(rows, dim=1) / math.sqrt(rank)
        phi["basis"] = torch.cat((basis, torch.zeros_like(basis[:1])))
        return phi

    def begin(self, phi: Params, tasks: int) -> Memory:
        """Knows nothing: h_0 = 0, z_0 = 0."""
        like = phi["basis"]
        return Memory(like.new_zeros(tasks, self.memory), like.new_zeros(tasks, self.rank + 1))

    def embed(self, phi: Params, support: Support) -> Tensor:
        """The x of each episode, the mean over its transitions, shape (N, E, X): their order is not read."""
        value = torch.relu(_linear(phi, "embed.0", support.transition))
        value = torch.relu(_linear(phi, "embed.1", value)) * support.valid[..., None]
        return value.sum(2) / support.valid.sum(2).clamp(min=1)[..., None]

    def step(self, phi: Params, value: Tensor, memory: Memory) -> Memory:
        """Reads one x_t of each task, (N, X): the gated recurrent unit and the head."""
        both = torch.cat((value, memory.coefficient), dim=-1)
        # written out, since fused cells have no second derivative
        reset_in, update_in, new_in = _linear(phi, "gru.input", both).chunk(3, dim=-1)
        reset_of, update_of, new_of = _linear(phi, "gru.hidden", memory.hidden).chunk(3, dim=-1)
        keep = torch.sigmoid(update_in + update_of)
        new = torch.tanh(new_in + torch.sigmoid(reset_in + reset_of) * new_of)
        hidden = keep * memory.hidden + (1.0 - keep) * new
        coefficient = memory.coefficient[:, :-1] + _linear(phi, "head", hidden)
        return Memory(hidden, torch.cat((coefficient, torch.ones_like(coefficient[:, :1])), dim=-1))

    def read(self, phi: Params, support: Support, memory: Memory) -> Memory:
        """Reads all episodes, one after the other."""
        for value in self.embed(phi, support).unbind(1):
            memory = self.step(phi, value, memory)
        return memory

    def emit(self, phi: Params, first: Params, memory: Memory) -> Params:
        """The parameters theta_0 + z B of each task, (N, ...); `first` has no task axis."""
        vector = flatten(list(first.values())) + memory.coefficient @ phi["basis"]
        parts = torch.split(vector, [value.numel() for value in first.values()], dim=1)
        return {name: part.reshape(-1, *first[name].shape) for name, part in zip(first, parts, strict=True)}


def _linear(phi: Params, name: str, value: Tensor) -> Tensor:
    return torch.nn.functional.linear(value, phi[f"{name}.weight"], phi[f"{name}.bias"])


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1]."""
    return 2.0 * torch.rand(shape, generator=generator, device=generator.device) - 1.0
