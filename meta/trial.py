"""Trials: several episodes in one task, by an actor that may learn from one to the next.

A trial is what meta-learners of the memory family are trained on (Duan et al., "RL^2: Fast Reinforcement Learning via
Slow Reinforcement Learning", 2016): n episodes in one task, the actor's state kept across their boundaries. One
episode is the rollout loop of `collect.py`, for every learner and every action space.

Axes: R rows (tasks x rollouts), N episodes, K decisions of an episode, T decisions of a trial, O observation, Z latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..robots.robot import RobotBatch
from .collect import Episodes, Seen, collect
from .config import Trial
from .space import ActionSpace


class Actor(Protocol):
    """Acts in R rows side by side; its state says what it knows of each row's task."""

    def begin_task(self, rows: int) -> None:
        """Forgets everything: R new tasks."""
        ...

    def begin_episode(self) -> None:
        """Every row begins an episode of the task that it has."""
        ...

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        ...

    def observe(self, episodes: Episodes) -> None:
        """Takes in the episodes that every row just finished."""
        ...


def run_trial(
    robot: RobotBatch,
    space: ActionSpace,
    actor: Actor,
    goals: NDArray[np.float32],
    trial: Trial,
    rng: np.random.Generator,
    *,
    device: torch.device,
) -> list[Episodes]:
    """Runs a trial in the first R rows; returns its N rounds of episodes.

    Args:
        robot: At least R rows.
        space: What the actor chooses.
        actor: Told of the begin of the task and of each episode, and of each finished episode.
        goals: One task per row, shape (R, G).
        trial: How many episodes.
        rng: Source of what is random in the robot.
        device: Where actor and result live.
    """
    actor.begin_task(len(goals))
    return run_episodes(robot, space, actor, goals, trial.episodes, rng, device=device)


def run_episodes(
    robot: RobotBatch,
    space: ActionSpace,
    actor: Actor,
    goals: NDArray[np.float32],
    count: int,
    rng: np.random.Generator,
    *,
    device: torch.device,
) -> list[Episodes]:
    """`count` rounds of episodes in the tasks that the actor is in; the arguments are those of `run_trial`."""
    rounds = []
    for _ in range(count):
        actor.begin_episode()
        rounds.append(collect(robot, space, actor.act, goals, rng, device=device))
        actor.observe(rounds[-1])
    return rounds


def mean_returns(rounds: Sequence[Episodes], trial: Trial) -> dict[str, float]:
    """Metrics of trials: the mean return of the episodes that count, of the first episode and of the last."""
    returns = [float(episodes.reward.sum(1).mean()) for episodes in rounds]
    counting = returns[trial.exploration_episodes :]
    return {"return_trial": sum(counting), "return_first": returns[0], "return_last": returns[-1]}


class TrialBatch(NamedTuple):
    """Trials as sequences of decisions; a row's decisions come first, padding (zeros) after them."""

    observation: Tensor
    """Shape (R, T, O)."""
    latent: Tensor
    """Shape (R, T, Z)."""
    reward: Tensor
    """Shape (R, T)."""
    next_observation: Tensor
    """Shape (R, T, O): where the decision ended, also at the end of an episode."""
    first: Tensor
    """Shape (R, T) bool: the first decision of an episode."""
    last: Tensor
    """Shape (R, T) bool: the last decision of an episode."""
    terminated: Tensor
    """Shape (R, T) bool: the task ended with this decision."""
    episode: Tensor
    """Shape (R, T) int64: index of the episode in its trial."""
    valid: Tensor
    """Shape (R, T) bool: not padding."""


def join(rounds: Sequence[Episodes]) -> TrialBatch:
    """The trials of N rounds of episodes as sequences; T is the longest trial."""
    steps = torch.arange(rounds[0].latent.shape[1], device=rounds[0].latent.device)
    parts = []
    for index, episodes in enumerate(rounds):
        valid = steps < episodes.length[:, None]
        last = steps == episodes.length[:, None] - 1
        parts.append(
            TrialBatch(
                observation=episodes.observation[:, :-1],
                latent=episodes.latent,
                reward=episodes.reward,
                next_observation=episodes.observation[:, 1:],
                first=(steps == 0).expand_as(valid),
                last=last,
                terminated=last & episodes.terminated[:, None],
                episode=torch.full_like(valid, index, dtype=torch.int64),
                valid=valid,
            )
        )
    whole = TrialBatch(*(torch.cat(part, dim=1) for part in zip(*parts, strict=True)))
    if bool(whole.valid.all()):
        return whole
    order = whole.valid.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    order = order[:, : int(whole.valid.sum(1).max())]
    packed = [_pick(value, order) for value in whole]
    valid = packed[-1]
    return TrialBatch(*(torch.where(_like(valid, value), value, torch.zeros_like(value)) for value in packed))


def _pick(value: Tensor, order: Tensor) -> Tensor:
    """value[r, order[r, t]] along the second axis."""
    index = _like(order, value).expand(-1, -1, *value.shape[2:])
    return value.gather(1, index)


def _like(flags: Tensor, value: Tensor) -> Tensor:
    """(R, T) with as many axes as `value`."""
    return flags.reshape(*flags.shape, *(1,) * (value.dim() - 2))
