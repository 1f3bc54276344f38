"""A recurrent meta-learner that outputs parameters, (theta_(t+1), h_(t+1)) = f_phi(theta_t, x_t, h_t).

A recurrent network reads the episodes that the first policy theta_0 sampled in a task, one x_t after the other, and
after each of them it emits the parameters of a policy. What it is trained for is the return of the last, J(theta_T).
The adapted artefact is theta_T, a plain parameter vector: unlike RL2 (Duan et al., 2016), nothing recurrent is needed
once the task was learned, and unlike MAML nothing is differentiated on the robot. Emitting parameters by a recurrent
network follows Beck et al., "Recurrent Hypernetworks are Surprisingly Strong in Meta-RL", NeurIPS 2023, and its
initialisation Beck et al., "Hypernetworks in Meta-Reinforcement Learning", CoRL 2022. They collect with the emitted
parameters and train the whole as one recurrent policy; here the two phases of gradient-based meta-learning stay.

Emitting all P numbers from H hidden units would take H P weights. Here

    h_(t+1) = GRU([x_t, z_t], h_t),   z_(t+1) = z_t + W h_(t+1) + b,   theta_(t+1) = theta_0 + z_(t+1) B

with K coefficients z and a learned basis B of K directions in the space of parameters. z_t is all of theta_t that can
change, so it stands for theta_t in the input. One more coefficient is 0 before the first x and 1 from then on: what it
brings is common to all tasks, so that the policy after the first x need not be near theta_0. At first W and b and that
common row are zero: every task starts from the same sane theta_0, and f is the identity.

Which gradient is exact: the episodes that are read come from theta_0. While theta_0 is fixed (`exploration` 0; it is
the policy as it was drawn, which chooses about the prior) they do not depend on what is learned, and the pathwise
gradient of J(theta_T) by phi is the whole gradient. With `exploration` > 0 theta_0 is learned too; then the scores of
its samples count as well, as in E-MAML (Stadie et al., "Some Considerations on Learning to Explore via
Meta-Reinforcement Learning", 2018, Eq. 4), here inside PPO's clip, since several steps are taken on the same samples.

Axes: N tasks, E episodes, T decisions, F features of a transition, X embedding, H hidden, K coefficients, P parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from ..skills.gaussian import Gaussian
from .collect import Episodes
from .distribution import log_prob
from .maml import exploration_signal
from .policy import ACTIVATIONS, MlpPolicy, Params, for_tasks
from .policy_gradient import clipped_surrogate, mean_kl, ppo_loss, task_sum
from .recurrent import ActionCode
from .space import ActionSpace
from .task_batch import TaskBatch
from .trpo import flatten

_POSITIVE = (
    "embedding",
    "memory",
    "rank",
    "iterations",
    "tasks",
    "support",
    "query",
    "epochs",
    "minibatch",
    "clip",
    "learning_rate",
    "max_gradient_norm",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentUpdaterConfig:
    """Meta-training of the recurrent updater. There are no published values for this objective; these are ours."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths of the policy."""
    activation: str = "tanh"
    """Of the policy."""
    embedding: int = 64
    """X, width of both layers that read a transition."""
    memory: int = 64
    """H, width of the recurrent network."""
    rank: int = 16
    """K, directions of change."""
    iterations: int = 300
    """Of the whole training."""
    tasks: int = 40
    """N, tasks of an iteration."""
    support: int = 20
    """Episodes of a task that are read, by theta_0."""
    query: int = 20
    """Episodes of a task by theta_T, whose return is the objective."""
    epochs: int = 4
    """Passes over an iteration's tasks; in each the episodes that are read come in another order."""
    minibatch: int = 10
    """Tasks in a minibatch."""
    clip: float = 0.2
    """PPO's clip of the ratio."""
    learning_rate: float = 1e-3
    """Of Adam at the begin; falls linearly to 0 at the end of the training."""
    max_gradient_norm: float = 1.0
    """Gradients of a minibatch are scaled down to this norm."""
    discount: float = 0.99
    """gamma per decision."""
    trace: float = 0.95
    """lambda of GAE."""
    exploration: float = 0.0
    """Weight of the scores of theta_0's samples. At 0 theta_0 stays as it was drawn; above, it is learned. The signal
    is J(theta_T) standardised over the tasks, summed over the decisions of the support."""

    def __post_init__(self) -> None:
        """Refuses values that cannot train.

        Raises:
            ConfigError: Naming the field.
        """
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise ConfigError(
                    f"RecurrentUpdaterConfig.{name}: expected a positive number, got {getattr(self, name)}; raise it"
                )
        for name in ("discount", "trace"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(
                    f"RecurrentUpdaterConfig.{name}: expected a value in [0, 1], got {getattr(self, name)}; correct it"
                )
        if self.activation not in ACTIVATIONS:
            raise ConfigError(
                f"RecurrentUpdaterConfig.activation: expected one of {', '.join(ACTIVATIONS)}, got "
                f"'{self.activation}'; choose a known name"
            )
        if not self.exploration >= 0.0:
            raise ConfigError(
                f"RecurrentUpdaterConfig.exploration: expected zero or more, got {self.exploration}; raise it"
            )


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


def reorder(support: Support, order: Tensor) -> Support:
    """The episodes of each task in another order, (E,); their transitions stay in theirs."""
    return Support(support.transition[:, order], support.valid[:, order])


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
        """Reads one x_t of each task, (N, X); a gated recurrent unit (Cho et al., EMNLP 2014) and the head."""
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


def evaluate(
    policy: MlpPolicy,
    updater: RecurrentUpdater,
    first: Params,
    phi: Params,
    support: Support,
    query: TaskBatch,
    clip: float,
) -> tuple[Tensor, Tensor]:
    """PPO's loss of J(theta_T), and the mean KL(sampled || theta_T), of each task, both (N,).

    Args:
        policy: What theta belongs to.
        updater: f.
        first: theta_0, without a task axis.
        phi: Of f.
        support: Read from the begin.
        query: Sampled by theta_T as it was.
        clip: Of the ratio.
    """
    memory = updater.read(phi, support, updater.begin(phi, len(support.valid)))
    new = policy(updater.emit(phi, first, memory), query.observation)
    loss = ppo_loss(log_prob(new, query.choice), query.old_log_prob, query.advantage, query.valid, clip)
    return loss, mean_kl(query.old, new, query.valid)


def explore_loss(policy: MlpPolicy, first: Params, sampled: TaskBatch, signal: Tensor, clip: float) -> Tensor:
    """-sum over theta_0's samples of PPO's clipped surrogate with the advantage J(theta_T) - b, of each task, (N,).

    Where theta_0 is what sampled, its gradient is that of Eq. 4 of Stadie et al. 2018, -(sum of scores) (J - b).

    Args:
        policy: What theta belongs to.
        first: theta_0, without a task axis.
        sampled: The episodes that were read, as samples.
        signal: J - b, see `exploration_signal`, shape (N,).
        clip: Of the ratio.
    """
    log_probs = log_prob(policy(for_tasks(first, len(signal)), sampled.observation), sampled.choice)
    advantage = signal.detach()[:, None, None].expand_as(log_probs)
    return -task_sum(clipped_surrogate(log_probs, sampled.old_log_prob, advantage, clip), sampled.valid)


def whole_loss(
    policy: MlpPolicy,
    updater: RecurrentUpdater,
    first: Params,
    phi: Params,
    sampled: tuple[Support, TaskBatch, TaskBatch],
    signal: Tensor,
    config: RecurrentUpdaterConfig,
) -> tuple[Tensor, Tensor]:
    """Loss and mean KL over tasks, scalars; `sampled` are the support twice (as read, as samples) and the query."""
    support, supported, query = sampled
    loss, kl = evaluate(policy, updater, first, phi, support, query, config.clip)
    if config.exploration > 0.0:
        loss = loss + config.exploration * explore_loss(policy, first, supported, signal, config.clip)
    return loss.mean(), kl.mean()


def standardised_objective(query: TaskBatch) -> Tensor:
    """J - b of each task, over the standard deviation of the tasks, shape (N,)."""
    return exploration_signal(query, True)


def _linear(phi: Params, name: str, value: Tensor) -> Tensor:
    return torch.nn.functional.linear(value, phi[f"{name}.weight"], phi[f"{name}.bias"])


def _uniform(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Uniform in [-1, 1]."""
    return 2.0 * torch.rand(shape, generator=generator, device=generator.device) - 1.0
