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

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ...bounds import Batch, Bounded, Count, CountFromZero, Layers, NonNegative, Positive, Share, Width
from ..policy import Activation


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoPasses(Bounded):
    """How one of the levels is updated; numbers of the authors' code are those of the master's defaults."""

    learning_rate: Positive = 0.01
    """Of Adam."""
    epochs: Count = 10
    """Passes over the samples."""
    minibatches: Count = 4
    """Parts into which a pass divides the samples of each network."""
    clip: Positive = 0.2
    """PPO's clip of the ratio (published)."""
    entropy_weight: NonNegative = 0.0
    """Of the mean entropy, in units of the standardised advantage (published: 0)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MlshConfig(Bounded):
    """MLSH. With one sub-policy and no warm-up it is PPO on all tasks by one policy that never adapts."""

    sub_policies: Width = 2
    """K (published: 2 for MovementBandits, 4 for FourRooms)."""
    hold: Count = 10
    """N, decisions for which the master's choice is held (published: 10 for MovementBandits)."""
    groups: Batch = 40
    """Tasks side by side, each with a master of its own (published: 10 groups of 12 workers)."""
    rollouts: Count = 40
    """Episodes of a group before each update (published: 2000 decisions)."""
    warmup: CountFromZero = 9
    """W, updates of a new master before the sub-policies learn with it (published: 9)."""
    joint: Count = 1
    """U, updates of a master and the sub-policies, after which the task ends (published: 1)."""
    iterations: Count = 400
    """Updates of every group in the whole training."""
    hidden: Layers = (64, 64)
    """Widths of all networks: masters, sub-policies and their value functions (published)."""
    activation: Activation = "tanh"
    """Of all networks."""
    discount: Share = 0.99
    """gamma of both levels, each per its own transition."""
    trace: Share = 0.98
    """lambda of both levels."""
    random_choice: Share = 0.1
    """Share of the master's choices in training that are uniform; they are learned from like all others (the code)."""
    master: PpoPasses = PpoPasses()
    """Updates of the masters."""
    sub_policy: PpoPasses = PpoPasses(learning_rate=3e-4)
    """Updates of the sub-policies."""

    @property
    def period(self) -> int:
        """W + U, updates of a group in one task."""
        return self.warmup + self.joint


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
