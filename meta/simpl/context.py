"""Contexts of tasks that are being adapted to, from the few episodes that were seen so far.

Axes: N tasks, k episodes so far, C context, O observation.
"""

from __future__ import annotations

import torch

from ...skills.gaussian import Gaussian
from ..collect import Episodes
from .pool import Transitions


def context_of(episodes: list[Episodes], size: int, generator: torch.Generator) -> Transitions:
    """Contexts of N tasks from their k episodes so far: the last transition of each episode, and random others of them.

    Args:
        episodes: k rounds of one episode per task.
        size: C, at least k.
        generator: Source of the draw.
    """
    observation = torch.stack([e.observation for e in episodes], 1)  # (N, k, K + 1, O)
    latent = torch.stack([e.latent for e in episodes], 1)
    reward = torch.stack([e.reward for e in episodes], 1)
    length = torch.stack([e.length for e in episodes], 1)
    ended = torch.stack([e.terminated for e in episodes], 1)
    num_tasks, rounds = length.shape
    task = torch.arange(num_tasks, device=length.device)[:, None]
    position = torch.arange(size, device=length.device)
    episode = (position % rounds).expand(num_tasks, -1)
    u = torch.rand((num_tasks, size), generator=generator, device=length.device)
    limit = length[task, episode]
    decision = torch.where(position < rounds, limit - 1, (u * limit).long())
    blank = latent.new_zeros((num_tasks, size, 0))
    return Transitions(
        observation[task, episode, decision],
        latent[task, episode, decision],
        reward[task, episode, decision],
        ((decision == limit - 1) & ended[task, episode]).float(),
        observation[task, episode, decision + 1],
        Gaussian(blank, blank),
        Gaussian(blank, blank),
    )
