"""Logs as finished episodes of the skill level, as if somebody had chosen those skills.

An episode of a log is cut into pieces of the robot's time limit; each piece is a path of whole skills, and what is left
behind the last one is dropped. The skills are the means of the encoder; see `skills.log_transitions`.

Axes: R pieces, K decisions, H low-level steps per decision, O observation, A action, Z latent, T steps of the log.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import SpecError
from ...robots.spec import RobotSpec
from ...skills.log_transitions import encode_log
from ..collect import Episodes
from ..space import ActionSpace, SkillSpace


def make_logged(
    space: ActionSpace,
    spec: RobotSpec,
    observation: NDArray[np.float32],
    action: NDArray[np.float32],
    start: NDArray[np.int64],
    length: NDArray[np.int64],
    device: torch.device,
) -> Episodes:
    """The episodes; their rewards are 0, and nothing ended them: a task has to be asked.

    Args:
        space: Of skills.
        spec: Of the robot, whose time limit cuts.
        observation: Of all steps, (T, O).
        action: Taken in them, (T, A).
        start: First step of each episode.
        length: Steps of each.
        device: Of the result.

    Raises:
        SpecError: The policy chooses no skills, or no episode holds a skill and the state behind it.
    """
    if not isinstance(space, SkillSpace):
        raise SpecError(
            "logs in meta-training: expected a policy that chooses skills, got one that chooses actions; use "
            "--action-space skill, or a log share of 0"
        )
    horizon = space.horizon
    limit = spec.episode_steps // horizon * horizon
    pieces = [
        (one + at, min(limit + 1, steps - at))
        for one, steps in zip(start, length, strict=True)
        for at in range(0, steps, limit)
    ]
    start, length = np.array([piece for piece in pieces if piece[1] > horizon], np.int64).reshape(-1, 2).T
    log = encode_log(space.model, observation, action, start, length)
    taken = (length - 1) // horizon
    decisions = -(-spec.episode_steps // horizon)
    rows, dim = len(taken), observation.shape[1]
    seen = np.zeros((rows, decisions + 1, dim), np.float32)
    latent = np.zeros((rows, decisions, space.latent_dim), np.float32)
    path = np.zeros((rows, decisions * horizon, dim), np.float32)
    for row, (first, at, count) in enumerate(zip(log.start, start, taken, strict=True)):
        seen[row, : count + 1] = log.state[first : first + count + 1]
        latent[row, :count] = log.skill[first : first + count]
        path[row, : count * horizon] = observation[at + 1 : at + 1 + count * horizon]
    states = torch.from_numpy(seen).to(device)
    with torch.no_grad():
        prior = space.prior_of(states)
    return Episodes(
        observation=states,
        latent=torch.from_numpy(latent).to(device),
        prior=prior,
        reward=torch.zeros((rows, decisions), device=device),
        length=torch.from_numpy(taken).to(device),
        terminated=torch.zeros(rows, dtype=torch.bool, device=device),
        steps=torch.from_numpy(taken * horizon).to(device),
        path=torch.from_numpy(path).to(device),
    )
