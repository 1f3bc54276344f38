"""Recurrent actor-critics: what they read, and a gated recurrent unit (GRU) run step by step or over whole sequences.

Sources: Duan et al., "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning", 2016 (input, GRU); Cho et
al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation", EMNLP 2014 (GRU).

The heads read h_(t+1), the state after x_t was consumed: a head on h_t would choose without having seen o_t.

A Gaussian policy chooses in units of the space's prior, u = (z - mean) / std; a choice is its own index.

Axes: ... any leading axes, R rows, T decisions of a trial, O observation, Z latent, C choices, A encoded action (C, or
Z), F = O + A + 2 inputs, H hidden, M numbers remembered.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ..skills.gaussian import Gaussian, split
from ..skills.network import MLP, make_linear
from .distribution import Categorical, Distribution
from .slots import SlotMemory
from .space import ActionSpace, ChoiceSpace
from .trial import TrialBatch

FIRST_POLICY = 0.01
"""Factor on the policy head's first weights, so that the first policy hardly depends on what it sees."""


class ActionCode:
    """How the choices of a space look to a recurrent network, and what its policy head gives."""

    def __init__(self, space: ActionSpace) -> None:
        """Takes the kind of choice from `space`."""
        self._space = space
        self._choices = space.count if isinstance(space, ChoiceSpace) else 0

    @property
    def width(self) -> int:
        """A."""
        return self._choices or self._space.latent_dim

    @property
    def outputs(self) -> int:
        """Outputs of the policy head: a logit per choice, or mean and log scale per axis."""
        return self._choices or 2 * self._space.latent_dim

    def distribution(self, output: Tensor) -> Distribution:
        """What the policy head's output (..., outputs) says, in units of the prior."""
        return Categorical(output) if self._choices else split(output)

    def to_choice(self, latent: Tensor, prior: Gaussian) -> Tensor:
        """U of a latent, both (..., Z)."""
        return latent if self._choices else (latent - prior.loc) / prior.scale

    def to_latent(self, choice: Tensor, prior: Gaussian) -> Tensor:
        """The latent of u, both (..., Z)."""
        return choice if self._choices else prior.loc + prior.scale * choice

    def encode(self, choice: Tensor) -> Tensor:
        """U as the network reads it, (..., Z) -> (..., A): one-hot, or as it is."""
        if not self._choices:
            return choice
        return functional.one_hot(choice.squeeze(-1).long(), self._choices).to(choice.dtype)


def compose_input(observation: Tensor, action: Tensor, reward: Tensor, first: Tensor) -> Tensor:
    """x_t = [o_t, a_(t-1), r_(t-1), d_(t-1)], shape (..., F).

    Args:
        observation: On the scale that networks see, (..., O).
        action: Encoded, of the previous decision of the trial, (..., A); zeros at the first.
        reward: Of the previous decision of the trial, (...); 0 at the first.
        first: d: an episode begins here, (...); also at the trial's first decision.
    """
    return torch.cat((observation, action, reward[..., None], first.to(observation.dtype)[..., None]), dim=-1)


def inputs_of(batch: TrialBatch, space: ActionSpace, choice: Tensor) -> Tensor:
    """The inputs of whole trials, (R, T, F), with u as `choice`, (R, T, Z); rewards that do not count are seen too."""
    action = ActionCode(space).encode(choice)
    return compose_input(space.normalise(batch.observation), _previous(action), _previous(batch.reward), batch.first)


def _previous(value: Tensor) -> Tensor:
    """value[:, t - 1], zero at t = 0; shape (R, T, ...)."""
    return torch.cat((torch.zeros_like(value[:, :1]), value[:, :-1]), dim=1)


def make_gru(inputs: int, hidden: int, generator: torch.Generator) -> nn.GRU:
    """A GRU with torch's default initialisation, U(-1/sqrt(H), 1/sqrt(H)), drawn from the given generator."""
    gru = nn.GRU(inputs, hidden, batch_first=True, device="meta").to_empty(device="cpu")
    bound = 1.0 / math.sqrt(hidden)
    with torch.no_grad():
        for parameter in gru.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return gru


def step_gru(gru: nn.GRU, value: Tensor, hidden: Tensor) -> Tensor:
    """h_(t+1) of x_t (r, F) and h_t (r, H): one step of what `gru` does to a sequence."""
    weights = gru.all_weights[0]
    return torch.gru_cell(value, hidden, *weights)


def run_gru(gru: nn.GRU, value: Tensor, valid: Tensor | None = None) -> Tensor:
    """h_1 ... h_T of whole sequences (R, T, F), shape (R, T, H); 0 where `valid`, (R, T), says that there is none."""
    if valid is None or bool(valid.all()):
        after: Tensor = gru(value)[0]
        return after
    packed = pack_padded_sequence(value, valid.sum(1).cpu(), batch_first=True, enforce_sorted=False)
    return pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=value.shape[1])[0]


class RecurrentActorCritic(nn.Module):
    """A policy and a value function of the trial so far; the value function has a memory of its own, or the policy's.

    The memory is a GRU, read by linear heads, or a GRU with slots (`SlotMemory`), both read by heads with one hidden
    layer.
    """

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        hidden: int,
        *,
        slots: int = 0,
        slot_content: int = 32,
        separate_value: bool = False,
        generator: torch.Generator,
    ) -> None:
        """Draws all weights from `generator`, on the CPU.

        Args:
            space: What the policy chooses.
            observation_dim: O.
            hidden: H, of the GRU and of the heads' layer.
            slots: K; 0 for a GRU alone.
            slot_content: V.
            separate_value: The value function shares nothing with the policy.
            generator: Source of the weights.
        """
        super().__init__()
        self.code = ActionCode(space)
        self.hidden = hidden
        inputs = observation_dim + self.code.width + 2

        def make_memory() -> tuple[nn.GRU, SlotMemory | None]:
            gru = make_gru(inputs, hidden, generator)
            return gru, SlotMemory(inputs, hidden, slots, slot_content, generator) if slots else None

        def make_head(outputs: int) -> nn.Module:
            if not slots:
                return make_linear(hidden, outputs, generator)
            return MLP((hidden + slot_content, hidden, outputs), generator=generator)

        self.gru, self.slots = make_memory()
        self.policy_head = make_head(self.code.outputs)
        self.value_gru: nn.GRU | None = None
        self.value_slots: SlotMemory | None = None
        if separate_value:
            self.value_gru, self.value_slots = make_memory()
        self.value_head = make_head(1)
        last = [part for part in self.policy_head.modules() if isinstance(part, nn.Linear)][-1]
        with torch.no_grad():
            last.weight.mul_(FIRST_POLICY)
            last.bias.zero_()

    @property
    def memory_size(self) -> int:
        """Numbers that a row remembers, 0 at the begin of a trial: H, and the slots' behind them."""
        return self.hidden + (0 if self.slots is None else self.slots.size)

    def step(self, value: Tensor, memory: Tensor) -> tuple[Distribution, Tensor]:
        """pi(. | the trial so far) and the memory after it, (r, M), of x_t (r, F) and the memory before."""
        after = step_gru(self.gru, value, memory[:, : self.hidden])
        if self.slots is not None:
            after = torch.cat((after, self.slots.step(value, after, memory[:, self.hidden :])), dim=-1)
        return self.code.distribution(self.policy_output(after)), after

    def policy_output(self, memory: Tensor) -> Tensor:
        """What the policy head says, (r, outputs), of a memory (r, M)."""
        known = memory[:, : self.hidden]
        if self.slots is not None:
            known = torch.cat((known, self.slots.read(memory[:, self.hidden :])), dim=-1)
        output: Tensor = self.policy_head(known)
        return output

    def forward(self, value: Tensor, valid: Tensor | None = None) -> tuple[Distribution, Tensor]:
        """Policies, (R, T, .), and values, (R, T), of trials from their begin.

        Args:
            value: Inputs, shape (R, T, F).
            valid: Shape (R, T) bool, False for the padding behind the end of a trial, which costs no time in the GRU
                then and of which nothing that is said means anything; None where there is none.
        """
        policy = _recall(self.gru, self.slots, value, valid)
        critic = policy if self.value_gru is None else _recall(self.value_gru, self.value_slots, value, valid)
        return self.code.distribution(self.policy_head(policy)), self.value_head(critic).squeeze(-1)


def _recall(gru: nn.GRU, slots: SlotMemory | None, value: Tensor, valid: Tensor | None) -> Tensor:
    """What the heads read of whole trials: h_1 ... h_T, (R, T, H), and what the slots add, (R, T, H + V)."""
    hidden = run_gru(gru, value, valid)
    return hidden if slots is None else torch.cat((hidden, slots(value, hidden)), dim=-1)
