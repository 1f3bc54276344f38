"""The episode pool: finished episodes in stacked tensors, from which a batch of any tasks is one gather.

Every episode is stored once and read by task: a table says how many of its transitions count for each task, with which
rewards, and where the episode ended for it. As published, an episode counts for the task that it was run for. With
relabelling it counts for every train task, with the rewards that the task would have given and cut where the task would
have ended (the reward function of a simulated task can be asked about any state; compare Li et al., "Generalized
Hindsight for Reinforcement Learning", NeurIPS 2020). Both the replay buffer and the context are drawn from here; a
context only from episodes run with e ~ N(0, I), which do not depend on the task.

Axes: P episode slots, K decisions, O observation, Z latent, N tasks, M tasks of a batch, B transitions per task, C
context.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...skills.gaussian import Gaussian
from ..collect import Episodes


class Transitions(NamedTuple):
    """Transitions of M tasks; observations are raw."""

    observation: Tensor
    """Shape (M, B, O)."""
    latent: Tensor
    """Shape (M, B, Z)."""
    reward: Tensor
    """Shape (M, B)."""
    terminated: Tensor
    """Shape (M, B), 0 or 1."""
    next_observation: Tensor
    """Shape (M, B, O)."""
    prior: Gaussian
    """Prior at `observation`, each (M, B, Z)."""
    next_prior: Gaussian
    """Prior at `next_observation`, each (M, B, Z); meaningless where terminated."""


class TaskView(NamedTuple):
    """How R episodes look to each of N tasks."""

    length: Tensor
    """Shape (R, N): transitions that count; 0 where the episode is none of the task's."""
    reward: Tensor
    """Shape (R, K, N)."""
    terminated: Tensor
    """Shape (R, N) bool."""
    final_observation: Tensor
    """Shape (R, N, O): where the episode ended for the task."""


def view_of_own_task(episodes: Episodes, task: Tensor, num_tasks: int) -> TaskView:
    """Each episode counts for the task, (R,), that it was run for."""
    rows = torch.arange(len(task), device=task.device)
    own = torch.nn.functional.one_hot(task, num_tasks).bool()
    last = episodes.observation[rows, episodes.length]
    return TaskView(
        torch.where(own, episodes.length[:, None], 0),
        episodes.reward[:, :, None] * own[:, None],
        own & episodes.terminated[:, None],
        last[:, None].expand(-1, num_tasks, -1),
    )


def view_of_all_tasks(episodes: Episodes, step_reward: Tensor, step_terminated: Tensor) -> TaskView:
    """Each episode counts for every task, relabelled.

    Args:
        episodes: With low-level paths of T = K * H steps.
        step_reward: Shape (R, T, N): what each task pays for each low-level step.
        step_terminated: Shape (R, T, N): where each task would end.
    """
    rows, total, num_tasks = step_reward.shape
    decisions = episodes.latent.shape[1]
    horizon = total // decisions
    time = torch.arange(total, device=step_reward.device)
    taken = time < episodes.steps[:, None]
    ends = step_terminated & taken[:, :, None]
    terminated = ends.any(1)
    steps = torch.where(terminated, ends.to(torch.uint8).argmax(1) + 1, episodes.steps[:, None])  # (R, N)
    counted = step_reward * (time[:, None] < steps[:, None]).to(step_reward.dtype)
    reward = counted.view(rows, decisions, horizon, num_tasks).sum(2)
    row = torch.arange(rows, device=steps.device)[:, None].expand_as(steps)
    return TaskView(-(-steps // horizon), reward, terminated, episodes.path[row, steps - 1])


class EpisodePool:
    """A ring of episodes; see the module's docstring."""

    def __init__(
        self,
        capacity: int,
        decisions: int,
        observation_dim: int,
        latent_dim: int,
        num_tasks: int,
        device: torch.device,
    ) -> None:
        """Room for `capacity` episodes of up to `decisions` transitions, for N tasks."""
        p, k, n = capacity, decisions, num_tasks

        def zeros(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.tensors = {
            "observation": zeros(p, k + 1, observation_dim),
            "latent": zeros(p, k, latent_dim),
            "prior_loc": zeros(p, k + 1, latent_dim),
            "prior_scale": zeros(p, k + 1, latent_dim),
            "reward": zeros(p, k, n),
            "length": zeros(p, n, dtype=torch.int64),
            "terminated": zeros(p, n, dtype=torch.bool),
            "final_observation": zeros(p, n, observation_dim),
            "explored": zeros(p, dtype=torch.bool),
            "reward_range": torch.tensor((torch.inf, -torch.inf), device=device),
        }
        self.added = 0
        """Episodes added so far; the next one goes to slot `added % capacity`."""
        self._index()

    @property
    def capacity(self) -> int:
        """Episode slots, P."""
        return len(self.tensors["explored"])

    def add(self, episodes: Episodes, view: TaskView, *, explored: bool) -> None:
        """Stores R episodes in place of the oldest.

        Args:
            episodes: At most `capacity` of them.
            view: How they look to each task.
            explored: They were run with e ~ N(0, I), so that they may serve as context of any task.
        """
        count = len(episodes.length)
        slot = (torch.arange(count, device=episodes.length.device) + self.added) % self.capacity
        for name, value in (
            ("observation", episodes.observation),
            ("latent", episodes.latent),
            ("prior_loc", episodes.prior.loc),
            ("prior_scale", episodes.prior.scale),
            ("reward", view.reward),
            ("length", view.length),
            ("terminated", view.terminated),
            ("final_observation", view.final_observation),
            ("explored", torch.full((count,), explored, device=slot.device)),
        ):
            self.tensors[name][slot] = value
        counts = torch.arange(view.reward.shape[1], device=slot.device)[:, None] < view.length[:, None, :]
        if bool(counts.any()):
            rewards, known = view.reward[counts], self.tensors["reward_range"]
            known.copy_(torch.stack((torch.minimum(known[0], rewards.min()), torch.maximum(known[1], rewards.max()))))
        self.added += count
        self._index()

    def _index(self) -> None:
        """Running totals over the slots, per task: what makes a uniform draw of a transition one search."""
        length = self.tensors["length"]
        self._transitions = length.cumsum(0).T.contiguous()
        context = length * self.tensors["explored"][:, None]
        self._context_transitions = context.cumsum(0).T.contiguous()
        self._context_episodes = (context > 0).cumsum(0).T.contiguous()
        last = self.tensors["reward"].gather(1, (length - 1).clamp(min=0)[:, None, :])[:, 0]
        paid = last > self.tensors["reward_range"][0]  # an end that pays no more than anything else is no success
        self._successes = (self.tensors["terminated"] & paid).cumsum(0).T.contiguous()

    def num_transitions(self) -> Tensor:
        """Transitions that count for each task, shape (N,)."""
        return self._transitions[:, -1]

    def num_context_transitions(self) -> Tensor:
        """Transitions that may serve as context of each task, shape (N,)."""
        return self._context_transitions[:, -1]

    def reward_share(self, reward: Tensor) -> Tensor:
        """Where rewards lie between the lowest, 0, and the highest, 1, that were ever added; 0 while all were equal.

        Rewards of 0 and 1 are as they were; dense, negative or shifted ones come to the same scale.
        """
        low, high = self.tensors["reward_range"]
        return (reward - low) / (high - low) if bool(high > low) else torch.zeros_like(reward)

    def sample(self, task: Tensor, batch: int, success_batch: int, generator: torch.Generator) -> Transitions:
        """Draws transitions uniformly, of which `success_batch` among those that solved the task, where there are any.

        A transition solved the task if it ended it and paid more than the lowest reward of all.

        Args:
            task: Task indices, shape (M,).
            batch: B.
            success_batch: Of these, how many solved the task; 0 as published.
            generator: Source of the draw.
        """
        episode, decision = _draw(self._transitions[task], self.tensors["length"], task, batch, generator)
        if success_batch > 0:
            found = self._successes[task]
            rank = _uniform_rank(found[:, -1:], success_batch, generator)
            success = torch.searchsorted(found, rank + 1).clamp(max=self.capacity - 1)
            last = self.tensors["length"][success, task[:, None]] - 1
            some = (found[:, -1:] > 0).expand_as(success)
            episode[:, :success_batch] = torch.where(some, success, episode[:, :success_batch])
            decision[:, :success_batch] = torch.where(some, last, decision[:, :success_batch])
        return self._gather(task, episode, decision)

    def sample_context(
        self, task: Tensor, size: int, num_episodes: Tensor | None, generator: torch.Generator
    ) -> Transitions:
        """Draws contexts from the episodes that were run with e ~ N(0, I).

        Args:
            task: Task indices, shape (M,).
            size: C.
            num_episodes: Shape (M,), at most C: episodes to draw from, the last transition of each among them;
                None draws transitions of all of them, as published.
            generator: Source of the draw.
        """
        if num_episodes is None:
            explored = self.tensors["length"] * self.tensors["explored"][:, None]
            return self._gather(task, *_draw(self._context_transitions[task], explored, task, size, generator))
        position = torch.arange(size, device=task.device)
        episodes = self._context_episodes[task]
        rank = _uniform_rank(episodes[:, -1:], size, generator)
        drawn = torch.searchsorted(episodes, rank + 1)
        episode = drawn.gather(1, position % num_episodes[:, None])
        length = self.tensors["length"][episode, task[:, None]]
        decision = _uniform_rank(length, length.shape[1], generator)
        decision = torch.where(position < num_episodes[:, None], length - 1, decision)
        return self._gather(task, episode, decision)

    def _gather(self, task: Tensor, episode: Tensor, decision: Tensor) -> Transitions:
        t = self.tensors
        task = task[:, None]
        last = decision == t["length"][episode, task] - 1
        terminated = last & t["terminated"][episode, task]
        following = torch.where(
            last[..., None], t["final_observation"][episode, task], t["observation"][episode, decision + 1]
        )
        return Transitions(
            t["observation"][episode, decision],
            t["latent"][episode, decision],
            t["reward"][episode, decision, task],
            terminated.to(torch.float32),
            following,
            Gaussian(t["prior_loc"][episode, decision], t["prior_scale"][episode, decision]),
            Gaussian(t["prior_loc"][episode, decision + 1], t["prior_scale"][episode, decision + 1]),
        )

    def state(self) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Everything, for a checkpoint."""
        return dict(self.tensors), {"added": self.added}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, int]) -> None:
        """Restores what `state` gave."""
        for name, value in self.tensors.items():
            value.copy_(tensors[name])
        self.added = facts["added"]
        self._index()


def _uniform_rank(total: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Integers uniform in [0, total), shape (M, size), for totals (M, 1) or (M, size); 0 where the total is 0."""
    u = torch.rand((len(total), size), generator=generator, device=total.device, dtype=torch.float64)
    return (u * total).to(torch.int64)


def _draw(
    cumulative: Tensor, length: Tensor, task: Tensor, size: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Uniform transitions of each task: episode slots and decisions, each (M, size).

    Args:
        cumulative: Running total of transitions over the slots, shape (M, P).
        length: Transitions of each slot and task, shape (P, N).
        task: Shape (M,).
        size: Transitions per task.
        generator: Source of the draw.
    """
    rank = _uniform_rank(cumulative[:, -1:], size, generator)
    episode = torch.searchsorted(cumulative, rank, right=True)
    before = cumulative.gather(1, episode) - length[episode, task[:, None]]
    return episode, rank - before
