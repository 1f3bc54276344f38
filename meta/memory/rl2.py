"""RL2 and E-RL2: the configuration and the losses, as pure functions of whole trials.

Sources: Duan et al., "RL^2: Fast Reinforcement Learning via Slow Reinforcement Learning", arXiv 1611.02779, 2016; Wang
et al., "Learning to reinforcement learn", arXiv 1611.05763, 2016; Stadie et al., "Some Considerations on Learning to
Explore via Meta-Reinforcement Learning", 2018 (E-RL2); Schulman et al., "Proximal Policy Optimization Algorithms",
2017.

A trial is one long episode for the learner: returns and advantages run on across the boundaries of its episodes, and
its end is the only terminal, whatever ended the episodes. Where an episode begins is an input of the networks, nothing
else.

Departures: PPO where Duan et al. use TRPO (`update` chooses); the value function is learned on returns of mean 0 and
standard deviation 1 (a running estimate), and advantages are standardised over the batch, so that one learning rate
and one weight of the entropy serve rewards of any scale; gamma may grow from `first_discount` on, and
exploration episodes may count at first (`exploration_from`); a memory in slots may stand beside the GRU (`slots`).

Axes: R trials, T decisions of a trial.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..advantage import compute_advantage
from ..policy_gradient import clipped_surrogate
from ..trial import TrialBatch
from .config import Rl2Config


def discount_at(config: Rl2Config, progress: float) -> float:
    """The gamma of an iteration: in each the horizon 1 / (1 - gamma) grows by the same factor, up to `discount`'s.

    A first gamma of 0 asks for the reward of each decision alone. A policy that remembers which choices paid is found
    quickly by that, and what it has to remember serves all longer horizons; from the start, the gain of remembering is
    lost in the noise of a hundred later rewards.

    Args:
        config: Of the learner.
        progress: Part of the iterations that is done, in [0, 1].
    """
    if config.first_discount is None:
        return config.discount
    grown = min(1.0, progress / config.discount_growth)
    shortfall: float = (1.0 - config.first_discount) ** (1.0 - grown) * (1.0 - config.discount) ** grown
    return 1.0 - shortfall


def uncounted_episodes(config: Rl2Config, progress: float) -> int:
    """How many first episodes of a trial do not count after this part of the training, in [0, 1]."""
    return config.trial.exploration_episodes if progress >= config.exploration_from else 0


def objective_reward(batch: TrialBatch, exploration_episodes: int) -> Tensor:
    """r_t chi(t): the rewards that count, 0 in exploration episodes (Eq. 8 of Stadie et al. 2018), shape (R, T)."""
    return torch.where(batch.episode >= exploration_episodes, batch.reward, torch.zeros_like(batch.reward))


def trial_advantage(
    reward: Tensor, value: Tensor, valid: Tensor, discount: float, trace: float
) -> tuple[Tensor, Tensor]:
    """GAE over the whole trial and the returns that it implies (the targets of V), each (R, T).

    Args:
        reward: Those that count, shape (R, T).
        value: V(h_(t+1)), shape (R, T), in units of the reward.
        valid: Shape (R, T): not padding. The last valid decision is the only terminal one.
        discount: gamma.
        trace: lambda.
    """
    later = torch.cat((valid[:, 1:], torch.zeros_like(valid[:, :1])), dim=1)
    next_value = torch.cat((value[:, 1:], torch.zeros_like(value[:, :1])), dim=1) * later
    advantage = compute_advantage(reward, value, next_value, later, discount, trace)
    return advantage, advantage + value


def valid_mean(value: Tensor, valid: Tensor) -> Tensor:
    """Mean over what is not padding, a scalar; both (R, T)."""
    return torch.where(valid, value, torch.zeros_like(value)).sum() / valid.sum()


def ppo_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, valid: Tensor, clip: float) -> Tensor:
    """-mean of PPO's clipped surrogate over all decisions, a scalar; inputs (R, T)."""
    return -valid_mean(clipped_surrogate(log_prob, old_log_prob, advantage, clip), valid)


def value_loss(value: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error of V, both (R, T) in units of the standardised return."""
    return valid_mean((value - target).square(), valid)
