"""Losses of a recurrent meta-learner that outputs parameters, (theta_(t+1), h_(t+1)) = f_phi(theta_t, x_t, h_t).

A recurrent network (`updater_network`) reads the episodes that were seen in a task, one x_t after the other, and emits
the parameters of a policy. What it is trained for is the return of the emitted policy. The adapted artefact is a plain
parameter vector: unlike RL2 (Duan et al., 2016), nothing recurrent is needed once the task was learned, and unlike MAML
nothing is differentiated on the robot.

Training has the phases of evaluation. The first policy theta_0 samples episodes, f reads them and emits theta_1; where
there are more rounds, theta_1 samples again, f reads on and emits theta_2; and so on. The loss is PPO's, of all
policies that were emitted, each on its own samples.

Which gradient is exact: with one round, the episodes that are read come from theta_0 alone. While theta_0 is fixed
(`exploration` 0; it is the policy as it was drawn, which chooses about the prior) they do not depend on what is
learned, and the pathwise gradient of J(theta_1) by phi is the whole gradient. With more rounds the later episodes
depend on phi, and with `exploration` > 0 theta_0 is learned as well. Then the scores of the samples of every round
count too, weighted with what is gained after them, as in E-MAML (Stadie et al., "Some Considerations on Learning to
Explore via Meta-Reinforcement Learning", 2018, Eq. 4); here inside PPO's clip, since several steps are taken on the
same samples. With more rounds and `exploration` 0 they are left out: each policy is trained for its own return alone,
and what it finds out for the next is not credited.

Departure from Beck et al., "Recurrent Hypernetworks are Surprisingly Strong in Meta-RL", NeurIPS 2023, who emit
parameters in every step of a trial and train the whole as one recurrent policy: here the two phases of learners that
adapt by gradients stay.

Axes: N tasks, E episodes, T decisions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..baselines.ppo import take
from ..distribution import log_prob
from ..gradient.maml import exploration_signal
from ..policy import MlpPolicy, Params, for_tasks
from ..policy_gradient import clipped_surrogate, mean_kl, ppo_loss, task_sum
from ..task_batch import TaskBatch
from .config import RecurrentUpdaterConfig
from .updater_network import RecurrentUpdater, Support


class Read(NamedTuple):
    """The episodes of one round."""

    support: Support
    """As f reads them."""
    samples: TaskBatch
    """As samples of the policy of this round."""
    later: Tensor
    """J - b of the policies that were emitted afterwards, see `later_objective`, shape (N,)."""


def later_objective(batches: Sequence[TaskBatch]) -> Tensor:
    """The sum of J over some rounds, less that of the other tasks and over its standard deviation, shape (N,)."""
    total = torch.stack([batch.objective for batch in batches]).sum(0)
    return exploration_signal(batches[0]._replace(objective=total), True)


def take_tasks(read: Read, index: Tensor, order: Tensor) -> Read:
    """Some tasks of a round; f reads their episodes in another order, (E,), each episode's transitions in their own."""
    support = Support(*(value[index][:, order] for value in read.support))
    return Read(support, take(read.samples, index, 0), read.later[index])


def evaluate(
    policy: MlpPolicy,
    updater: RecurrentUpdater,
    first: Params,
    phi: Params,
    reads: Sequence[Read],
    query: TaskBatch,
    config: RecurrentUpdaterConfig,
) -> tuple[Tensor, Tensor]:
    """Loss and mean KL(sampled || emitted) over the emitted policies, of each task, both (N,).

    Args:
        policy: What theta belongs to.
        updater: f.
        first: theta_0, without a task axis.
        phi: Of f.
        reads: The rounds.
        query: Sampled by the last policy.
        config: See `RecurrentUpdaterConfig`.
    """
    tasks = len(query.valid)
    params, memory = for_tasks(first, tasks), updater.begin(phi, tasks)
    loss = query.advantage.new_zeros(tasks)
    kl = torch.zeros_like(loss)
    for index, samples in enumerate((*(read.samples for read in reads), query)):
        emitted, scored = index > 0, config.exploration > 0.0 and index < len(reads)
        if emitted or scored:
            new = policy(params, samples.observation)
            log_probs = log_prob(new, samples.choice)
        if emitted:
            own = ppo_loss(log_probs, samples.old_log_prob, samples.advantage, samples.valid, config.clip)
            loss = loss + own / len(reads)
            kl = kl + mean_kl(samples.old, new, samples.valid) / len(reads)
        if scored:
            loss = loss + config.exploration * explore_loss(log_probs, samples, reads[index].later, config.clip)
        if index < len(reads):
            memory = updater.read(phi, reads[index].support, memory)
            params = updater.emit(phi, first, memory)
    return loss, kl


def explore_loss(log_probs: Tensor, samples: TaskBatch, later: Tensor, clip: float) -> Tensor:
    """-sum over the samples of a round of PPO's clipped surrogate with the advantage J - b, of each task, (N,).

    Where the policy is what sampled, its gradient is that of Eq. 4 of Stadie et al. 2018, -(sum of scores) (J - b).

    Args:
        log_probs: Of the samples, (N, E, T).
        samples: What was read.
        later: J - b of what follows, shape (N,); no gradient flows into it.
        clip: Of the ratio.
    """
    advantage = later.detach()[:, None, None].expand_as(log_probs)
    return -task_sum(clipped_surrogate(log_probs, samples.old_log_prob, advantage, clip), samples.valid)
