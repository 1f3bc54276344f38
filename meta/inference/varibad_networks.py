"""The networks of a variBAD agent: an encoder of transitions into beliefs, and a policy that reads the belief.

Source: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR 2020, with the
architecture of the authors' code: an embedding each of action, reward and next observation, a GRU, and a linear head
for mean and log variance; h_0 = 0, so that the head's bias is the belief before anything was seen.

Both are made of linear layers, one GRU cell, relu, tanh, and an affine scale with a clamp.

Axes: ... any leading axes, R trials, T decisions, S = T + 1 beliefs, O observation, Z latent of an action, A encoded
action, H hidden, M latent of a task, F inputs of the policy.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ...skills.gaussian import Gaussian
from ...skills.network import MLP, make_linear
from ..distribution import Distribution
from ..recurrent import FIRST_POLICY, ActionCode, make_gru, step_gru
from ..space import ActionSpace
from ..trial import TrialBatch
from .config import VaeConfig

LARGEST_INPUT = 10.0
"""Scaled inputs of the policy are clamped to this."""


class Transitions(NamedTuple):
    """Trials as the encoder and the decoders read them; padding after each trial."""

    observation: Tensor
    """Raw, shape (R, T, O)."""
    choice: Tensor
    """u, what was chosen in units of the space's prior, shape (R, T, Z)."""
    reward: Tensor
    """Shape (R, T)."""
    next_observation: Tensor
    """Raw, shape (R, T, O): where the decision ended, at the end of an episode too, and never a reset."""
    valid: Tensor
    """Shape (R, T) bool: not padding."""


def transitions_of(batch: TrialBatch, space: ActionSpace) -> Transitions:
    """The transitions of whole trials."""
    choice = ActionCode(space).to_choice(batch.latent, space.prior_of(batch.observation))
    return Transitions(batch.observation, choice, batch.reward, batch.next_observation, batch.valid)


class Belief(NamedTuple):
    """A diagonal Gaussian over the latent of a task, as the policy reads it."""

    mean: Tensor
    """Shape (..., M)."""
    log_variance: Tensor
    """Shape (..., M)."""

    def gaussian(self) -> Gaussian:
        """The distribution."""
        return Gaussian(self.mean, (0.5 * self.log_variance).exp())


class TaskEncoder(nn.Module):
    """q(m | tau_:t) from the transitions so far."""

    def __init__(
        self, space: ActionSpace, observation_dim: int, config: VaeConfig, *, generator: torch.Generator
    ) -> None:
        """Draws all weights from `generator`, on the CPU."""
        super().__init__()
        self.space = space
        self.code = ActionCode(space)
        self.hidden, self.latent = config.hidden, config.latent
        self.embed_action = make_linear(self.code.width, config.embedding, generator)
        self.embed_reward = make_linear(1, config.embedding, generator)
        self.embed_observation = make_linear(observation_dim, config.embedding, generator)
        self.gru = make_gru(3 * config.embedding, config.hidden, generator)
        self.head = make_linear(config.hidden, 2 * config.latent, generator)

    def begin(self, rows: int) -> Tensor:
        """h_0, shape (rows, H)."""
        return self.head.weight.new_zeros(rows, self.hidden)

    def belief_of(self, hidden: Tensor) -> Belief:
        """The belief of hidden states, (..., H) -> (..., M)."""
        return Belief(*self.head(hidden).chunk(2, dim=-1))

    def step(self, choice: Tensor, reward: Tensor, next_observation: Tensor, hidden: Tensor) -> Tensor:
        """h_(t+1), (r, H), of a transition, (r, Z), (r,), (r, O), and h_t, (r, H)."""
        return step_gru(self.gru, self._embed(choice, reward, next_observation), hidden)

    def forward(self, transitions: Transitions) -> Belief:
        """The beliefs of trials before, between and after their transitions, (R, S, M)."""
        value = self._embed(transitions.choice, transitions.reward, transitions.next_observation)
        hidden, _ = self.gru(value)
        return self.belief_of(torch.cat((torch.zeros_like(hidden[:, :1]), hidden), dim=1))

    def _embed(self, choice: Tensor, reward: Tensor, next_observation: Tensor) -> Tensor:
        parts = (
            self.embed_action(self.code.encode(choice)),
            self.embed_reward(reward[..., None]),
            self.embed_observation(self.space.normalise(next_observation)),
        )
        return torch.cat(parts, dim=-1).relu()


class RunningScale(nn.Module):
    """Mean and variance of a stream of batches: of all of them at first, later with weight `rate` for the newest."""

    count: Tensor
    mean: Tensor
    variance: Tensor

    def __init__(self, dim: int, rate: float) -> None:
        """Starts at mean 0 and variance 1, which the first batch replaces."""
        super().__init__()
        self.rate = rate
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("variance", torch.ones(dim))

    @torch.no_grad()
    def update(self, value: Tensor) -> None:
        """Takes in a batch, (B, dim)."""
        self.count += 1.0
        rate = torch.clamp(1.0 / self.count, min=self.rate)
        shift = value.mean(0) - self.mean
        self.variance.mul_(1.0 - rate).add_(rate * value.var(0, correction=0) + rate * (1.0 - rate) * shift.square())
        self.mean.add_(rate * shift)

    @property
    def spread(self) -> Tensor:
        """Standard deviation, (dim,), at least 1e-3."""
        return self.variance.clamp(min=1e-6).sqrt()

    def forward(self, value: Tensor) -> Tensor:
        """On the scale of the stream, clamped, (..., dim)."""
        return ((value - self.mean) / self.spread).clamp(-LARGEST_INPUT, LARGEST_INPUT)


class BeliefActorCritic(nn.Module):
    """A policy and a value function of observation and belief, both without memory."""

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        latent: int,
        hidden: tuple[int, ...],
        *,
        boundaries: bool,
        generator: torch.Generator,
    ) -> None:
        """Draws all weights from `generator`, on the CPU; `boundaries` tells it where an episode begins."""
        super().__init__()
        self.space = space
        self.code = ActionCode(space)
        self.boundaries = boundaries
        self.input_scale = RunningScale(observation_dim + 2 * latent, rate=0.01)
        self.return_scale = RunningScale(1, rate=0.1)
        inputs = observation_dim + 2 * latent + boundaries
        self.policy = MLP((inputs, *hidden, self.code.outputs), "tanh", generator=generator)
        self.value = MLP((inputs, *hidden, 1), "tanh", generator=generator)
        with torch.no_grad():
            last = self.policy.layers[-1]
            assert isinstance(last, nn.Linear)
            last.weight.mul_(FIRST_POLICY)
            last.bias.zero_()

    def compose(self, observation: Tensor, belief: Belief) -> Tensor:
        """[o, mean, log variance], (..., O + 2 M), of raw observations: what the running scale is of.

        The belief is cut from its graph here: no gradient of the policy or the value function reaches the encoder.
        """
        parts = (self.space.normalise(observation), belief.mean.detach(), belief.log_variance.detach())
        return torch.cat(parts, dim=-1)

    def inputs(self, composed: Tensor, first: Tensor) -> Tensor:
        """The networks' inputs, (..., F); `first` (...) tells where an episode begins."""
        value = self.input_scale(composed)
        return torch.cat((value, first.to(value.dtype)[..., None]), dim=-1) if self.boundaries else value

    def distribution(self, value: Tensor) -> Distribution:
        """pi(. | s, q_t) of inputs (..., F)."""
        return self.code.distribution(self.policy(value))

    def forward(self, value: Tensor) -> tuple[Distribution, Tensor]:
        """Policies, (..., .), and standardised values, (...), of inputs (..., F)."""
        return self.distribution(value), self.value(value).squeeze(-1)
