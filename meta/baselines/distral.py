"""Distral: policies of several tasks, each kept close to a centroid that is distilled from all of them.

Source: Teh et al., "Distral: Robust Multitask Reinforcement Learning", NeurIPS 2017. The objective (Eq. 1) of task
policies pi_i and the centroid pi_0 is

    J = sum_i E_(pi_i)[ sum_t gamma^t ( r_t - c_KL log(pi_i / pi_0) - c_Ent log pi_i ) ]
      = sum_i E_(pi_i)[ sum_t gamma^t ( r_t + (alpha / beta) log pi_0 - (1 / beta) log pi_i ) ],

with alpha = c_KL / (c_KL + c_Ent) and beta = 1 / (c_KL + c_Ent). A task policy climbs it by the policy gradient of the
reward in brackets: the direct derivative of log pi_i has mean zero under pi_i. The centroid climbs it by maximum
likelihood of what all task policies chose, which is the only term that it is in. That new tasks start from the centroid
and fine-tune it by PPO is ours. The factor gamma^t of both gradients is left out, as everywhere.

Departures: PPO, where the paper has soft Q-learning and A3C; separate networks (the paper's one-column variant), since
the sum of logits of the two-column variant has no counterpart for Gaussians with a learned scale.

Axes: N tasks, E episodes of a task, T decisions of an episode.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..collect import Episodes
from ..distribution import log_prob
from ..policy import MlpPolicy, Params
from ..policy_gradient import task_mean
from ..task_batch import TaskBatch
from .config import DistralConfig
from .ppo import Moments, adam_step, clip_gradient


def regularised_reward(
    reward: Tensor, task_log_prob: Tensor, centroid_log_prob: Tensor, kl_weight: float, entropy_weight: float
) -> Tensor:
    """The reward of Eq. 1, r + c_KL log pi_0 - (c_KL + c_Ent) log pi_i; any one shape."""
    return reward + kl_weight * centroid_log_prob - (kl_weight + entropy_weight) * task_log_prob


def centroid_log_prob(policy: MlpPolicy, centroid: Params, batch: TaskBatch) -> Tensor:
    """The log probability under pi_0 of what the task policies chose, shape (N, E, T)."""
    return log_prob(policy(centroid, batch.observation[None]), batch.choice[None])[0]


def regularise(
    episodes: Episodes, batch: TaskBatch, policy: MlpPolicy, centroid: Params, config: DistralConfig
) -> Episodes:
    """The same episodes with the regularised reward; no gradient flows through it.

    Args:
        episodes: One round of task-major rows.
        batch: The same as samples of the task policies.
        policy: What all parameters belong to.
        centroid: pi_0, with a task axis of length 1.
        config: With the weights.
    """
    with torch.no_grad():
        ours = centroid_log_prob(policy, centroid, batch)
        reward = regularised_reward(batch.reward, batch.old_log_prob, ours, config.kl_weight, config.entropy_weight)
        return episodes._replace(reward=torch.where(batch.valid, reward, batch.reward).flatten(0, 1))


def distillation_loss(policy: MlpPolicy, centroid: Params, batch: TaskBatch) -> Tensor:
    """-mean log pi_0 of what the task policies chose, a scalar (Eq. 7, first term, up to a positive factor).

    Every task has the same weight, whatever the length of its episodes.
    """
    return -task_mean(centroid_log_prob(policy, centroid, batch), batch.valid).mean()


def distil(
    policy: MlpPolicy, centroid: Params, moments: Moments, batch: TaskBatch, config: DistralConfig, share: float
) -> tuple[Params, Moments, float]:
    """Steps of Adam on `distillation_loss`; returns the centroid, the moments and the mean loss.

    Args:
        policy: What the parameters belong to.
        centroid: pi_0, with a task axis of length 1.
        moments: Of the centroid.
        batch: Samples of all task policies.
        config: See `DistralConfig`.
        share: Factor on the learning rate.
    """
    losses = []
    for _ in range(config.distillation_steps):
        leaves = {name: value.detach().requires_grad_() for name, value in centroid.items()}
        loss = distillation_loss(policy, leaves, batch)
        found = torch.autograd.grad(loss, list(leaves.values()))
        gradient = clip_gradient(dict(zip(leaves, found, strict=True)), config.training.max_gradient_norm)
        centroid = {name: value.detach() for name, value in leaves.items()}
        centroid, moments = adam_step(centroid, gradient, moments, config.distillation_rate * share)
        losses.append(loss.detach())
    return centroid, moments, float(torch.stack(losses).mean())
