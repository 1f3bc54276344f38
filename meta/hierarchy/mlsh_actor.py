"""How a master and its sub-policies act together, and what each level learns from the episodes.

Axes: R rows (S tasks x E rollouts, task-major), r rows still running, T decisions of an episode, M master's choices, O
observation, Z latent, K sub-policies, B decisions that sub-policies learn from.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...skills.gaussian import Gaussian
from ..collect import Episodes, Seen
from ..distribution import Distribution, log_prob, mode, sample
from ..memory.rl2 import trial_advantage
from ..policy import MlpPolicy, make_policy
from ..space import ActionSpace
from .config import MlshConfig
from .mlsh import explore, macro_lengths, macro_rewards, split_by_sub_policy
from .mlsh_networks import ActorCritics, Samples


class Played(NamedTuple):
    """Finished episodes, and who acted in them."""

    episodes: Episodes
    """Of all rows."""
    macro: Tensor
    """The sub-policy that each of the master's choices fell on, shape (R, M) int64; 0 in the padding."""


class HierarchyActor:
    """Acts in R rows: every N decisions the master of each row's task chooses a sub-policy, which acts until then."""

    def __init__(
        self,
        masters: ActorCritics,
        sub_policies: ActorCritics,
        space: ActionSpace,
        config: MlshConfig,
        rollouts: int,
        generator: torch.Generator,
        *,
        random_choice: float = 0.0,
        greedy: bool = False,
    ) -> None:
        """Acts with the networks as they are at each call.

        Args:
            masters: One for each task.
            sub_policies: K, shared by all.
            space: What sub-policies choose.
            config: Of the learner.
            rollouts: E, rows of each task.
            generator: Source of all draws.
            random_choice: Share of the master's choices that are uniform instead.
            greedy: Both levels act by their modes; nothing is drawn then, but for the uniform choices.
        """
        self._masters, self._sub_policies, self._space, self._config = masters, sub_policies, space, config
        self._rollouts, self._generator = rollouts, generator
        self._random_choice, self._greedy = random_choice, greedy
        self.begin_episode()

    def begin_episode(self) -> None:
        """The next call of `act` is the first of an episode in every row: the master chooses."""
        self._decision = 0
        self._active = torch.zeros(self._masters.stack * self._rollouts, dtype=torch.int64)
        self._macros: list[Tensor] = []

    @torch.no_grad()
    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        rows = torch.from_numpy(seen.rows).to(seen.observation.device)
        observation = self._space.normalise(seen.observation)
        if self._decision % self._config.hold == 0:
            self._active = self._active.to(rows.device).index_copy(0, rows, self._choose(rows, observation))
            self._macros.append(self._active)
        self._decision += 1
        index, valid = split_by_sub_policy(self._active[rows], self._config.sub_policies)
        choice = self._draw(self._sub_policies.distribution(observation[index]))
        taken = choice.new_empty(len(rows), choice.shape[-1])
        taken[index[valid]] = choice[valid]
        return self._sub_policies.policy.to_latent(taken, seen.prior)

    def _choose(self, rows: Tensor, observation: Tensor) -> Tensor:
        """The master's choices in some rows, shape (r,) int64."""
        table = observation.new_zeros(self._masters.stack * self._rollouts, observation.shape[-1])
        table = table.index_copy(0, rows, observation).view(self._masters.stack, self._rollouts, -1)
        choice = self._draw(self._masters.distribution(table)).view(-1)[rows]
        if self._random_choice:
            choice = explore(choice, self._random_choice, self._config.sub_policies, self._generator)
        return choice.long()

    def _draw(self, distribution: Distribution) -> Tensor:
        return mode(distribution) if self._greedy else sample(distribution, self._generator)

    def finish(self, episodes: Episodes) -> Played:
        """The episodes that were just acted, with the master's choices in them."""
        choices = int(macro_lengths(torch.tensor(episodes.latent.shape[1]), self._config.hold))
        macro = torch.stack(self._macros, dim=1)
        macro = torch.nn.functional.pad(macro, (0, choices - macro.shape[1]))
        valid = torch.arange(choices, device=macro.device) < macro_lengths(episodes.length, self._config.hold)[:, None]
        return Played(episodes, torch.where(valid, macro, torch.zeros_like(macro)))


def elapsed_share(decisions: int, hold: int, like: Tensor) -> Tensor:
    """Share of T decisions that is over at every `hold`-th, shape (M,)."""
    return torch.arange(0, decisions, hold, device=like.device, dtype=like.dtype) / decisions


@torch.no_grad()
def master_samples(played: list[Played], masters: ActorCritics, space: ActionSpace, config: MlshConfig) -> Samples:
    """What each task's master learns from: its choices, with macro rewards, in units of (S, E M) for E rows in all."""
    parts = [_master_part(one, masters, space, config) for one in played]
    return Samples(*(torch.cat(values, dim=1) for values in zip(*parts, strict=True)))


def _master_part(played: Played, masters: ActorCritics, space: ActionSpace, config: MlshConfig) -> Samples:
    episodes, macro = played
    stack = masters.stack
    reward = macro_rewards(episodes.reward, config.hold)
    valid = torch.arange(macro.shape[1], device=macro.device) < macro_lengths(episodes.length, config.hold)[:, None]
    observation = space.normalise(episodes.observation[:, : -1 : config.hold])
    elapsed = elapsed_share(episodes.latent.shape[1], config.hold, reward).expand_as(reward)
    # (R, M, ...) as (S, E M, ...)
    shown, over, choice = (
        value.reshape(stack, -1, *value.shape[2:]) for value in (observation, elapsed, macro[..., None].to(reward))
    )
    value = masters.value(shown, over).view_as(reward)
    advantage, target = trial_advantage(reward, value, valid, config.discount, config.trace)
    return Samples(
        observation=shown,
        elapsed=over,
        choice=choice,
        old_log_prob=log_prob(masters.distribution(shown), choice),
        advantage=advantage.reshape(stack, -1),
        target=target.reshape(stack, -1),
        valid=valid.reshape(stack, -1),
    )


@torch.no_grad()
def sub_policy_samples(
    played: Played, rows: Tensor, sub_policies: ActorCritics, space: ActionSpace, config: MlshConfig
) -> Samples:
    """What each sub-policy learns from: the decisions that it took itself in these rows.

    Advantages run on where another sub-policy takes over, through the value function of the one that acts.
    """
    episodes = played.episodes
    length, reward = episodes.length[rows], episodes.reward[rows]
    valid = torch.arange(reward.shape[1], device=reward.device) < length[:, None]
    active = played.macro[rows].repeat_interleave(config.hold, dim=1)[:, : reward.shape[1]]
    observation = space.normalise(episodes.observation[rows, :-1])
    prior = Gaussian(episodes.prior.loc[rows, :-1], episodes.prior.scale[rows, :-1])
    choice = sub_policies.policy.to_choice(episodes.latent[rows], prior)
    elapsed = elapsed_share(reward.shape[1], 1, reward).expand_as(reward)

    index, kept = split_by_sub_policy(active[valid], config.sub_policies)
    shown, over, chosen = (value[valid][index] for value in (observation, elapsed, choice))
    of_active = reward.new_empty(int(valid.sum()))
    of_active[index[kept]] = sub_policies.value(shown, over)[kept]
    value = torch.zeros_like(reward).masked_scatter(valid, of_active)
    advantage, target = trial_advantage(reward, value, valid, config.discount, config.trace)
    return Samples(
        observation=shown,
        elapsed=over,
        choice=chosen,
        old_log_prob=log_prob(sub_policies.distribution(shown), chosen),
        advantage=advantage[valid][index],
        target=target[valid][index],
        valid=kept,
    )


def make_stacks(
    space: ActionSpace, observation_dim: int, config: MlshConfig, tasks: int, device: torch.device
) -> tuple[ActorCritics, ActorCritics]:
    """The master of each task, and the sub-policies; all weights are zero until they are drawn."""
    master = MlpPolicy(
        inputs=observation_dim,
        outputs=config.sub_policies,
        discrete=True,
        hidden=config.hidden,
        activation=config.activation,
    )
    sub_policy = make_policy(space, observation_dim, config.hidden, config.activation)
    return ActorCritics(master, tasks, device), ActorCritics(sub_policy, config.sub_policies, device)
