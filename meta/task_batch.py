"""Samples of several tasks side by side, with what a policy gradient needs of them.

Axes: N tasks, E episodes of a task, T decisions of an episode, O observation, Z latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..skills.gaussian import Gaussian
from .advantage import compute_advantage, compute_features, compute_returns, fit_linear_baseline, standardise
from .collect import Episodes
from .distribution import Distribution, detach, log_prob
from .policy import Params, Policy
from .space import ActionSpace


class TaskBatch(NamedTuple):
    """Episodes of N tasks, sampled by one policy per task; padding after the end of an episode."""

    observation: Tensor
    """Shape (N, E, T, O), on the scale that networks see."""
    choice: Tensor
    """Shape (N, E, T, Z): what the policy chose, see `policy`."""
    reward: Tensor
    """Shape (N, E, T)."""
    advantage: Tensor
    """Shape (N, E, T)."""
    valid: Tensor
    """Shape (N, E, T) bool: not padding."""
    old: Distribution
    """The policy that sampled, each (N, E, T, ...)."""
    old_log_prob: Tensor
    """Its log probability of `choice`, shape (N, E, T)."""
    objective: Tensor
    """Shape (N,): mean discounted return per decision that an episode may have."""

    def returns(self) -> Tensor:
        """Undiscounted return of each episode, shape (N, E)."""
        return self.reward.sum(-1)


def make_task_batch(
    rounds: Sequence[Episodes],
    policy: Policy,
    params: Params,
    space: ActionSpace,
    *,
    discount: float,
    trace: float,
    normalise: bool,
) -> TaskBatch:
    """The episodes of one or more rounds, with advantages over a linear baseline fitted to each task's own samples.

    Episodes end at their time limit for good: the objective is the return within it, and the baseline knows the time.
    So nothing is bootstrapped there.

    Args:
        rounds: Each with N x E' rows, task-major; the result has all E = E' x rounds episodes of a task.
        policy: Sampled the episodes.
        params: With these parameters, one set per task (N, ...).
        space: What was chosen.
        discount: gamma, per decision.
        trace: lambda of GAE.
        normalise: Advantages get mean 0 and standard deviation 1 within each task.
    """
    tasks = len(params["layers.0.bias"])

    def join(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([value.reshape(tasks, -1, *value.shape[1:]) for value in values], dim=1)

    observation = space.normalise(join([episodes.observation[:, :-1] for episodes in rounds]))
    choice = join([policy.to_choice(episodes.latent, _until_last(episodes)) for episodes in rounds])
    reward = join([episodes.reward for episodes in rounds])
    steps = torch.arange(reward.shape[-1], device=reward.device)
    length = join([episodes.length for episodes in rounds])[..., None]
    valid = steps < length
    # a choice in the padding is not the policy's: zeros keep its log probability finite
    choice = torch.where(valid[..., None], choice, torch.zeros_like(choice))
    continues = steps < length - 1
    target = compute_returns(reward, continues, discount)
    advantage = _advantage(observation, reward, target, continues, valid, discount, trace)
    if normalise:
        advantage = standardise(advantage.flatten(1), valid.flatten(1)).view_as(advantage)
    with torch.no_grad():
        old = detach(policy(params, observation))
    return TaskBatch(
        observation=observation,
        choice=choice,
        reward=reward,
        advantage=advantage,
        valid=valid,
        old=old,
        old_log_prob=log_prob(old, choice),
        objective=target[..., 0].mean(1) / reward.shape[-1],
    )


def first_tasks(batch: TaskBatch, tasks: int) -> TaskBatch:
    """The samples of the first tasks, this many."""
    fields = batch._asdict()
    old = fields.pop("old")
    return TaskBatch(
        old=type(old)(*(value[:tasks] for value in old)), **{name: value[:tasks] for name, value in fields.items()}
    )


def _until_last(episodes: Episodes) -> Gaussian:
    """The prior where decisions were taken."""
    return Gaussian(episodes.prior.loc[:, :-1], episodes.prior.scale[:, :-1])


def _advantage(
    observation: Tensor,
    reward: Tensor,
    target: Tensor,
    continues: Tensor,
    valid: Tensor,
    discount: float,
    trace: float,
) -> Tensor:
    """GAE over the linear baseline of each task; zero in the padding."""
    features = compute_features(observation, torch.arange(reward.shape[-1], device=reward.device).expand_as(reward))
    flat = features.flatten(1, 2)
    coefficients = fit_linear_baseline(flat, target.flatten(1), valid.flatten(1))
    value = (flat @ coefficients[..., None]).squeeze(-1).view_as(reward) * valid
    next_value = torch.cat((value[..., 1:], torch.zeros_like(value[..., :1])), dim=-1) * continues
    return compute_advantage(reward, value, next_value, continues, discount, trace) * valid
