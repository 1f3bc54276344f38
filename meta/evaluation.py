"""The one evaluation protocol of all meta-learners, on held-out tasks.

It gives returns per episode, per step of adaptation and per environment step, and puts them on a scale from a reference
policy to an oracle where both are known; `pipeline/intervals.py` gives the statistics over tasks and seeds.

Every learner is judged by the same loop. In each task the agent forgets, plays `trial.episodes` episodes, may adapt,
plays again, up to `adapt_steps` times. A memory learner shows what it learned along the episodes of one trial
(adapt_steps = 0, several episodes), a gradient learner along the steps of adaptation. Exploration episodes are reported
like all others and left out of `final_return`.

What a result rests on stands in it: tasks that the learner never saw, every episode that was run, and every
environment step that the agent was given, also those whose reward does not count.

Axes: N tasks, M independent trials of a task, S + 1 rounds (before the first and after each of S steps of adaptation),
E episodes of a round, B rollouts side by side that adapt together, G goal, T tasks of one meta-training.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..errors import ConfigError
from ..robots.robot import RobotBatch
from .adaptive import AdaptiveAgent
from .config import EvaluationConfig
from .space import ActionSpace
from .trial import run_episodes

Scores = NDArray[np.float64]


class Evaluation(NamedTuple):
    """All episodes of one agent on some tasks."""

    returns: Scores
    """Undiscounted return of each episode, shape (N, M, S + 1, E, B)."""
    steps: NDArray[np.int64]
    """Low-level steps of each episode, shape (N, M, S + 1, E, B)."""
    terminated: NDArray[np.bool_]
    """Whether the task ended the episode (at a goal, or a death), not the time limit, shape (N, M, S + 1, E, B)."""
    exploration_episodes: int
    """Number of first episodes of each round that do not count."""

    def per_episode(self) -> Scores:
        """Mean return of each episode of each round, shape (N, S + 1, E)."""
        scores: Scores = self.returns.mean(axis=(1, 4))
        return scores

    def per_round(self) -> Scores:
        """Mean return of the episodes that count of each round, shape (N, S + 1)."""
        scores: Scores = self.per_episode()[:, :, self.exploration_episodes :].mean(axis=2)
        return scores

    def trial_return(self) -> Scores:
        """Sum of the returns of a round's episodes that count, shape (N, S + 1): the aim of memory learners."""
        scores: Scores = self.per_episode()[:, :, self.exploration_episodes :].sum(axis=2)
        return scores

    def final_return(self) -> Scores:
        """Mean return of the episodes that count of the last round, shape (N,)."""
        return self.per_round()[:, -1]

    def environment_steps(self) -> Scores:
        """Environment steps in one task up to the end of each episode, mean over trials, shape (N, S + 1, E)."""
        taken = self.steps.sum(axis=4).mean(axis=1)
        total: Scores = taken.reshape(len(taken), -1).cumsum(axis=1).reshape(taken.shape)
        return total


def evaluate_agent(
    agent: AdaptiveAgent,
    robot: RobotBatch,
    space: ActionSpace,
    goals: NDArray[np.float32],
    config: EvaluationConfig,
    rng: np.random.Generator,
    *,
    device: torch.device,
) -> Evaluation:
    """Runs the protocol on all tasks side by side.

    Args:
        agent: Told of each new task, episode and step of adaptation; its `rollouts` consecutive rows adapt together.
        robot: At least N * M * B rows.
        space: What the agent chooses.
        goals: Held-out tasks, shape (N, G).
        config: See `EvaluationConfig`.
        rng: Source of what is random in the robot.
        device: Where agent and rollouts live.

    Raises:
        ConfigError: The robot has too few rows.
    """
    rows = len(goals) * config.trials * agent.rollouts
    if rows > robot.rows or rows == 0:
        raise ConfigError(
            f"evaluation of {len(goals)} tasks x {config.trials} trials x {agent.rollouts} rollouts: expected 1 to "
            f"{robot.rows} robot rows, got {rows}; make a robot of more rows or evaluate fewer tasks"
        )
    repeated = np.repeat(goals, config.trials * agent.rollouts, axis=0)
    played = []
    agent.begin_task(rows)
    for step in range(config.adapt_steps + 1):
        if step:
            agent.adapt()
        for episodes in run_episodes(robot, space, agent, repeated, config.trial.episodes, rng, device=device):
            played.append((episodes.reward.double().sum(1), episodes.steps, episodes.terminated))
    shape = (len(goals), config.trials, agent.rollouts, config.adapt_steps + 1, config.trial.episodes)
    returns, steps, terminated = (
        np.moveaxis(torch.stack(part, dim=1).cpu().numpy().reshape(shape), 2, 4) for part in zip(*played, strict=True)
    )
    return Evaluation(returns, steps, terminated, config.trial.exploration_episodes)


def normalise_scores(scores: ArrayLike, reference: ArrayLike, oracle: ArrayLike) -> Scores:
    """(score - reference) / (oracle - reference) of each task: 0 at the reference policy, 1 at the oracle.

    Args:
        scores: Shape (T, ...).
        reference: Return of the reference policy (uniform random actions, as a rule) in each task, shape (T,) or ().
        oracle: Return of the best policy that knows the task, shape (T,) or ().

    Raises:
        ConfigError: The oracle is not better than the reference in some task.
    """
    table = np.asarray(scores, np.float64)
    low, high = (np.broadcast_to(np.asarray(anchor, np.float64), table.shape[:1]) for anchor in (reference, oracle))
    if not (high > low).all():
        worst = int(np.flatnonzero(~(high > low))[0])
        raise ConfigError(
            f"normalised scores: expected an oracle above the reference, got {high[worst]} and {low[worst]} in task "
            f"{worst}; leave the task out, nothing can be learned in it"
        )
    shape = (-1,) + (1,) * (table.ndim - 1)
    normalised: Scores = (table - low.reshape(shape)) / (high - low).reshape(shape)
    return normalised
