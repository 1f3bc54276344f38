"""A replay buffer with one ring of transitions per task, from which a batch of many tasks is one gather.

An `EpisodePool` reads every episode by every task, which costs episodes x tasks. Here a transition belongs to one task,
and a ring can be emptied: PEARL (Rakelly et al., 2019) keeps two buffers, all transitions for the critics, and the
recent ones of each task for the encoder.

What is stored is what networks read: observations on their scale, actions as `ActionCode` writes them (u in units of
the space's prior, or one-hot).

Axes: N tasks, C capacity, M tasks of a batch, B transitions per task, R rows, K decisions, O observation, A encoded
action.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..errors import ConfigError
from ..skills.gaussian import Gaussian
from .collect import Episodes
from .recurrent import ActionCode
from .space import ActionSpace


class Steps(NamedTuple):
    """Transitions, on the scale that networks see."""

    observation: Tensor
    """Shape (..., O)."""
    action: Tensor
    """Encoded, shape (..., A)."""
    reward: Tensor
    """Shape (...)."""
    terminated: Tensor
    """Shape (...), 0 or 1."""
    next_observation: Tensor
    """Shape (..., O)."""


def steps_of(episodes: Episodes, space: ActionSpace) -> tuple[Steps, Tensor]:
    """The transitions of R episodes, (R, K, ...), and which are not padding, (R, K) bool; padding is finite."""
    position = torch.arange(episodes.latent.shape[1], device=episodes.length.device)
    valid = position < episodes.length[:, None]
    code = ActionCode(space)
    prior = Gaussian(episodes.prior.loc[:, :-1], episodes.prior.scale[:, :-1])
    choice = torch.where(valid[..., None], code.to_choice(episodes.latent, prior), 0.0)
    observation = space.normalise(episodes.observation)
    ended = (position == episodes.length[:, None] - 1) & episodes.terminated[:, None]
    steps = Steps(observation[:, :-1], code.encode(choice), episodes.reward, ended.to(choice.dtype), observation[:, 1:])
    return steps, valid


class TaskReplay:
    """N rings of C transitions."""

    def __init__(self, tasks: int, capacity: int, observation_dim: int, action_dim: int, device: torch.device) -> None:
        """Starts empty."""
        self._widths = [observation_dim, action_dim, 1, 1, observation_dim]
        self._data = torch.zeros((tasks, capacity, sum(self._widths)), device=device)
        self._added = torch.zeros(tasks, dtype=torch.int64, device=device)

    @property
    def capacity(self) -> int:
        """C."""
        return self._data.shape[1]

    def count(self) -> Tensor:
        """Transitions of each task, shape (N,)."""
        return self._added.clamp(max=self.capacity)

    def clear(self, task: Tensor) -> None:
        """Forgets the transitions of some tasks, shape (M,)."""
        self._added[task] = 0

    def add(self, task: Tensor, steps: Steps, valid: Tensor) -> None:
        """Stores the transitions of R rows in the rings of their tasks, in place of the oldest there.

        Args:
            task: Task index of each row, shape (R,).
            steps: Each (R, K, ...).
            valid: Which of them to store, shape (R, K).

        Raises:
            ConfigError: One task is given more transitions at once than a ring holds.
        """
        kept = valid.flatten()
        owner = task[:, None].expand_as(valid).flatten()[kept]
        fresh = torch.bincount(owner, minlength=len(self._added))
        if int(fresh.max()) > self.capacity:
            raise ConfigError(
                f"replay: expected at most {self.capacity} transitions of one task at once, got {int(fresh.max())}; "
                "raise the capacity"
            )
        # the rank of each transition among those of its task: its place in a stable order by task
        order = owner.argsort(stable=True)
        rank = torch.empty_like(owner)
        rank[order] = torch.arange(len(owner), device=owner.device) - (fresh.cumsum(0) - fresh)[owner[order]]
        slot = (self._added[owner] + rank) % self.capacity
        flags = steps._replace(reward=steps.reward[..., None], terminated=steps.terminated[..., None])
        self._data[owner, slot] = torch.cat(flags, dim=-1).flatten(0, 1)[kept]
        self._added += fresh

    def sample(self, task: Tensor, size: int, generator: torch.Generator) -> Steps:
        """Draws transitions uniformly, with replacement, each (M, B, ...); zeros for a task that has none.

        Args:
            task: Task indices, shape (M,).
            size: B.
            generator: Source of the draw.
        """
        uniform = torch.rand((len(task), size), generator=generator, device=task.device, dtype=torch.float64)
        count = self.count()[task][:, None]
        drawn = self._data[task[:, None], (uniform * count).long()] * (count > 0)[..., None]
        observation, action, reward, terminated, following = torch.split(drawn, self._widths, dim=-1)
        return Steps(observation, action, reward.squeeze(-1), terminated.squeeze(-1), following)

    def state(self) -> dict[str, Tensor]:
        """Everything, for a checkpoint."""
        return {"data": self._data, "added": self._added}

    def load_state(self, tensors: dict[str, Tensor]) -> None:
        """Restores what `state` gave; a missing part raises KeyError, another size RuntimeError."""
        self._data.copy_(tensors["data"])
        self._added.copy_(tensors["added"])
