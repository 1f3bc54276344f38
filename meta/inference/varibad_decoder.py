"""The decoders of variBAD: what a latent of a task says about the rewards and the transitions of a trial.

Source: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR 2020, with the
architectures of the authors' code. They are for training and for looking at a belief; no agent carries them.

Axes: ... any leading axes, R trials, S beliefs, D predicted decisions, O observation, M latent of a task, C cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ...robots.spec import ArraySpec
from ...skills.network import MLP, make_linear
from ..recurrent import ActionCode
from ..space import ActionSpace
from .config import VaeConfig
from .varibad import reward_log_prob, state_log_prob
from .varibad_networks import Transitions

MOST_CELLS = 4096
"""A table of more predictions than this is refused."""


class CellTable(nn.Module):
    """An output for each cell of an observation whose axes take few whole values (multihead, in the authors' words).

    Cells are numbered along the axes in order, the last one fastest: x, y in 5 x 5 is cell 5 x + y.
    """

    low: Tensor
    stride: Tensor

    def __init__(self, spec: ArraySpec, config: VaeConfig, *, generator: torch.Generator) -> None:
        """Counts the cells.

        Raises:
            ConfigError: An axis of the observation has no whole limits, or there are too many cells.
        """
        super().__init__()
        counts: list[int] = []
        for axis in spec.axes:
            if not (math.isfinite(axis.low) and math.isfinite(axis.high) and (axis.high - axis.low).is_integer()):
                raise ConfigError(
                    f"VaeConfig.decoder 'cells': expected whole limits of observation axis '{axis.name}', got "
                    f"{axis.low:g} .. {axis.high:g}; use the decoder 'state'"
                )
            counts.append(int(axis.high - axis.low) + 1)
        self.count = math.prod(counts)
        if self.count > MOST_CELLS:
            raise ConfigError(
                f"VaeConfig.decoder 'cells': expected at most {MOST_CELLS} cells, got {self.count}; use the decoder "
                "'state'"
            )
        self.register_buffer("low", torch.from_numpy(spec.low.copy()), persistent=False)
        strides = [math.prod(counts[index + 1 :]) for index in range(len(counts))]
        self.register_buffer("stride", torch.tensor(strides), persistent=False)
        self.net = MLP((config.latent, *config.decoder_hidden, self.count), generator=generator)

    def cell_of(self, observation: Tensor) -> Tensor:
        """Number of the cell of raw observations, (..., O) -> (...)."""
        return ((observation - self.low).round().long() * self.stride).sum(-1)

    def table(self, latent: Tensor) -> Tensor:
        """The outputs of all cells, (..., M) -> (..., C)."""
        output: Tensor = self.net(latent)
        return output

    def forward(self, latent: Tensor, next_observation: Tensor) -> Tensor:
        """The outputs of the cells of s', (R, S, D), of m (R, S, M) and raw s' (R, D, O)."""
        cell = self.cell_of(next_observation)[:, None, :].expand(-1, latent.shape[1], -1)
        return self.table(latent).gather(2, cell)


class PairDecoder(nn.Module):
    """A prediction of each pair of a latent and a transition."""

    def __init__(self, inputs: int, outputs: int, config: VaeConfig, *, generator: torch.Generator) -> None:
        """Takes this many inputs from a transition."""
        super().__init__()
        width = config.decoder_hidden[0]
        self.embed = make_linear(inputs, config.embedding, generator)
        self.from_transition = make_linear(config.embedding, width, generator)
        self.from_latent = make_linear(config.latent, width, generator)
        self.rest = MLP((*config.decoder_hidden, outputs), generator=generator)

    def forward(self, latent: Tensor, value: Tensor) -> Tensor:
        """Predictions (R, S, D, outputs) of m (R, S, M) and parts of transitions (R, D, inputs)."""
        # the first layer of [m, transition] is a sum of one of each, so that no pair has to be written out before it
        first = self.from_transition(self.embed(value).relu())[:, None] + self.from_latent(latent)[:, :, None]
        output: Tensor = self.rest(first.relu())
        return output


class TrialDecoder(nn.Module):
    """log p(r, s' | s, a, m) of all decisions of a trial under each latent."""

    def __init__(self, space: ActionSpace, spec: ArraySpec, config: VaeConfig, *, generator: torch.Generator) -> None:
        """Draws all weights from `generator`, on the CPU; `spec` is of the observation.

        Raises:
            ConfigError: See `CellTable`.
        """
        super().__init__()
        self.space, self.config = space, config
        self.code = ActionCode(space)
        dim = spec.shape[0]
        self.cells = CellTable(spec, config, generator=generator) if config.decoder == "cells" else None
        inputs = dim if config.reward_of == "next" else 2 * dim + self.code.width
        self.reward = None if self.cells is not None else PairDecoder(inputs, 1, config, generator=generator)
        moves = config.transition_weight > 0.0
        self.state = PairDecoder(dim + self.code.width, dim, config, generator=generator) if moves else None

    def predict_reward(self, latent: Tensor, transitions: Transitions) -> Tensor:
        """What `reward_model` takes, (R, S, D), of m (R, S, M) and decisions (R, D, .)."""
        if self.reward is None:
            assert self.cells is not None
            predicted: Tensor = self.cells(latent, transitions.next_observation)
            return predicted
        value = self.space.normalise(transitions.next_observation)
        if self.config.reward_of == "transition":
            before, action = self._before(transitions)
            value = torch.cat((before, action, value), dim=-1)
        prediction: Tensor = self.reward(latent, value)
        return prediction.squeeze(-1)

    def forward(self, latent: Tensor, transitions: Transitions) -> tuple[Tensor, Tensor]:
        """Log probabilities of rewards and of next observations, each (R, S, D); the second 0 where not decoded.

        Next observations are predicted as a change from s, on the scale that networks see.
        """
        predicted = self.predict_reward(latent, transitions)
        reward = reward_log_prob(predicted, transitions.reward[:, None], self.config.reward_model)
        if self.state is None:
            return reward, torch.zeros_like(reward)
        before, action = self._before(transitions)
        change = self.state(latent, torch.cat((before, action), dim=-1))
        after = self.space.normalise(transitions.next_observation)
        return reward, state_log_prob(before[:, None] + change, after[:, None])

    def _before(self, transitions: Transitions) -> tuple[Tensor, Tensor]:
        return self.space.normalise(transitions.observation), self.code.encode(transitions.choice)
