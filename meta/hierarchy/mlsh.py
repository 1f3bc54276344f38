"""MLSH: the configuration, and what the two levels of the hierarchy learn from, as pure functions.

Source: Frans, Ho, Chen, Abbeel, Schulman, "Meta Learning Shared Hierarchies", ICLR 2018, arXiv 1710.09767, Algorithm 1;
numbers of the authors' code where the paper has none. PPO: Schulman et al., "Proximal Policy Optimization Algorithms",
2017.

K sub-policies are shared by all tasks. In each task a master, begun anew, chooses every N decisions which of them acts.
A task lasts a warm-up of W updates, in which only the master learns, and then U joint updates, in which sub-policies
learn as well, from what they did in the hands of a master that knows its task. That is why they become different: under
masters that know nothing, every sub-policy is taught to be good at everything.

To the master the problem is a semi-Markov one: one transition per N decisions, whose reward is their plain sum. To the
sub-policies it is the ordinary problem, each learning from the decisions that it took itself. Advantages at both levels
run on to the end of the episode, whoever acts.

Departures: many groups, each in a task of its own, stand at different phases of it, so that the joint updates of one
iteration mix tasks (the authors' workers do this in separate processes); groups that begin a task at the same time draw
theirs without replacement as far as the train tasks go; a master's moments of Adam are cleared with it (the authors'
are not); value functions see the elapsed share of the episode, and learn returns of mean 0 and standard deviation 1 (a
running estimate).

Axes: R rows (groups x rollouts), T decisions of an episode, N decisions per master's choice, M = T / N master's choices
rounded up, B samples, K sub-policies, L samples of the sub-policy that has most.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from .config import MlshConfig


def first_ages(config: MlshConfig) -> list[int]:
    """Age of each group at the begin: minus the updates by which its first task is longer than the others.

    The age counts updates in the task; sub-policies learn from a group whose age is W or more, and at W + U it gets a
    new task. Spread over one period, the groups' joint updates are spread over the iterations.
    """
    return [-(group * config.period // config.groups) for group in range(config.groups)]


def macro_rewards(reward: Tensor, hold: int) -> Tensor:
    """Sums of the rewards of each N decisions, undiscounted, shape (R, M), of rewards (R, T); padding is zero."""
    missing = -reward.shape[1] % hold
    return functional.pad(reward, (0, missing)).reshape(len(reward), -1, hold).sum(2)


def macro_lengths(length: Tensor, hold: int) -> Tensor:
    """Choices of the master in an episode of `length` decisions; any shape. The last may be held for fewer than N."""
    return (length + hold - 1).div(hold, rounding_mode="floor")


def explore(choice: Tensor, share: float, sub_policies: int, generator: torch.Generator) -> Tensor:
    """The master's choices, any shape, a share of them replaced by uniform draws from all K."""
    uniform = torch.rand(choice.shape, generator=generator, device=choice.device)
    drawn = torch.randint(sub_policies, choice.shape, generator=generator, device=choice.device)
    return torch.where(uniform < share, drawn.to(choice.dtype), choice)


def split_by_sub_policy(active: Tensor, sub_policies: int) -> tuple[Tensor, Tensor]:
    """Which samples are of which sub-policy: indices (K, L) into the B samples, in order, and which of them count.

    Args:
        active: The sub-policy of each sample, shape (B,) int64; B > 0.
        sub_policies: K.
    """
    order = active.argsort(stable=True)
    count = torch.bincount(active, minlength=sub_policies)
    place = torch.arange(int(count.max()), device=active.device)
    valid = place < count[:, None]
    begin = count.cumsum(0) - count
    index = order[torch.where(valid, begin[:, None] + place, torch.zeros_like(place))]
    return index, valid
