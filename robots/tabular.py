"""Random tabular MDPs.

Source: Duan et al., "RL2: Fast Reinforcement Learning via Slow Reinforcement Learning", arXiv 1611.02779, 2016, section
3.2, after Osband et al., "(More) Efficient Reinforcement Learning via Posterior Sampling", NeurIPS 2013: 10 states, 5
actions, episodes of 10 steps from the first state; transitions from a flat Dirichlet distribution; rewards of unit
variance whose means are drawn from N(1, 1).

The observation is the state, one-hot. The goal of a task is its tables, flattened: the transition probabilities
P[s, a, s'] and then the mean rewards r[s, a].

Axes: R rows, r rows of this call, S states, A actions, T steps of an episode, N tasks.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SpecError
from .array_robots import ArrayRobots, Index
from .family import ONLY_TASKS
from .robot import Bool, Float, Rows
from .spec import ArraySpec, Axis, RobotSpec, make_choice_spec
from .task import TaskSet
from .task_draws import draw_tasks

STATES = 10
ACTIONS = 5
EPISODE_STEPS = 10
SUM_TOLERANCE = 1e-4
"""Largest difference from 1 of the sum of a row of transition probabilities; float32 tables are closer by far."""


class Tables(NamedTuple):
    """Tabular MDPs."""

    transition: Float
    """P(s' | s, a), shape (N, S, A, S)."""
    reward: Float
    """Mean reward of (s, a), shape (N, S, A)."""


def pack_tables(tables: Tables) -> Float:
    """Goals, shape (N, S A S + S A), of these tables."""
    count = len(tables.reward)
    return np.concatenate([tables.transition.reshape(count, -1), tables.reward.reshape(count, -1)], axis=1)


def unpack_tables(goals: Float, *, states: int = STATES, actions: int = ACTIONS) -> Tables:
    """The tables of goals, shape (N, S A S + S A); views."""
    transition, reward = np.split(goals, [states * actions * states], axis=1)
    return Tables(transition.reshape(-1, states, actions, states), reward.reshape(-1, states, actions))


def tabular_spec(*, states: int = STATES, actions: int = ACTIONS, episode_steps: int = EPISODE_STEPS) -> RobotSpec:
    """The contract of tabular MDPs of this size.

    Raises:
        ConfigError: There are no states.
        SpecError: There are fewer than two actions, or no steps.
    """
    if states < 1:
        raise ConfigError(f"tabular states: expected at least 1, got {states}; a task has a first state")
    pairs = [(state, action) for state in range(states) for action in range(actions)]
    transition = [Axis(f"next_{s}_{a}_{n}", "1", 0.0, 1.0) for s, a in pairs for n in range(states)]
    reward = [Axis(f"reward_{s}_{a}", "1", -np.inf, np.inf) for s, a in pairs]
    choices = tuple(f"action{action}" for action in range(actions))
    return RobotSpec(
        name="tabular",
        observation=ArraySpec("observation", tuple(Axis(f"state{s}", "1", 0.0, 1.0) for s in range(states))),
        action=make_choice_spec(choices),
        goal=ArraySpec("goal", (*transition, *reward)),
        control_period=1.0,
        episode_steps=episode_steps,
        choices=choices,
    )


@final
class TabularBatch(ArrayRobots):
    """Rows of tabular MDPs.

    Args:
        rows: Number of MDPs, R.
        states: Number of states, S.
        actions: Number of actions, A; 2 or more.
        episode_steps: Time limit, T.

    Raises:
        ConfigError: There are no rows or no states.
        SpecError: There are fewer than two actions, or no steps.
    """

    def __init__(
        self, rows: int, *, states: int = STATES, actions: int = ACTIONS, episode_steps: int = EPISODE_STEPS
    ) -> None:
        super().__init__(tabular_spec(states=states, actions=actions, episode_steps=episode_steps), rows)
        self._sizes = {"states": states, "actions": actions}
        self._state = np.zeros(rows, np.int64)
        self._cumulative = np.zeros((rows, states, actions, states), np.float32)
        self._reward = np.zeros((rows, states, actions), np.float32)
        self._uniform = np.zeros((rows, episode_steps), np.float32)
        self._normal = np.zeros((rows, episode_steps), np.float32)
        self._one_hot = np.eye(states, dtype=np.float32)

    def _check_goals(self, goals: Float, where: str) -> None:
        total = unpack_tables(goals, **self._sizes).transition.sum(axis=-1)
        wrong = np.abs(total - 1.0) > SUM_TOLERANCE
        if wrong.any():
            row, state, action = np.argwhere(wrong)[0]
            raise SpecError(
                f"{where}: expected probabilities that sum to 1, got {total[row, state, action]:g} for state {state} "
                f"and action {action}; normalise the table"
            )

    def _begin(self, index: Index, goals: Float, rng: np.random.Generator) -> Float:
        tables = unpack_tables(goals, **self._sizes)
        cumulative = np.cumsum(tables.transition, axis=-1)
        cumulative[..., -1] = 1.0  # rounding must not leave a gap below the largest uniform number
        self._cumulative[index] = cumulative
        self._reward[index] = tables.reward
        shape = (len(goals), self._spec.episode_steps)
        self._uniform[index] = rng.random(shape, np.float32)
        self._normal[index] = rng.standard_normal(shape, np.float32)
        self._state[index] = 0
        return self._one_hot[np.zeros(len(goals), np.int64)]

    def _advance(self, rows: Rows, index: Index, action: NDArray[Any], elapsed: Rows) -> tuple[Float, Float, Bool]:
        before = self._state[index]
        reward = self._reward[rows, before, action] + self._normal[rows, elapsed]
        passed = self._uniform[rows, elapsed][:, None] >= self._cumulative[rows, before, action]
        state = np.count_nonzero(passed, axis=1)
        self._state[index] = state
        return self._one_hot[state], reward, np.zeros(len(rows), np.bool_)


def draw_tabular_goals(count: int, rng: np.random.Generator, *, states: int = STATES, actions: int = ACTIONS) -> Float:
    """Flat Dirichlet transitions and mean rewards from N(1, 1), shape (count, S A S + S A)."""
    transition = rng.dirichlet(np.ones(states), (count, states, actions)).astype(np.float32)
    reward = 1.0 + rng.standard_normal((count, states, actions), np.float32)
    return pack_tables(Tables(transition, reward))


def make_tabular_tasks(
    num_train: int, num_test: int, seed: int, *, states: int = STATES, actions: int = ACTIONS
) -> TaskSet:
    """Random tabular MDPs; see `draw_tasks`."""
    return draw_tasks(
        f"tabular-{states}-{actions}",
        lambda count, rng: draw_tabular_goals(count, rng, states=states, actions=actions),
        num_train,
        num_test,
        seed,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TabularMdps:
    """The random MDPs of Duan et al.: 10 states, 5 actions, episodes of 10 steps."""

    num_train: int = field(default=4096, metadata=ONLY_TASKS)
    """Train tasks; Duan et al. draw new ones for each trial."""
    num_test: int = field(default=512, metadata=ONLY_TASKS)
    task_seed: int = field(default=0, metadata=ONLY_TASKS)

    @property
    def name(self) -> str:
        """See `RobotFamily.name`."""
        return "tabular"

    def spec(self) -> RobotSpec:
        """See `RobotFamily.spec`."""
        return tabular_spec()

    def make(self, rows: int, threads: int = 1) -> TabularBatch:
        """See `RobotFamily.make`; there is no physics, so that threads do not count."""
        return TabularBatch(rows)

    def tasks(self) -> TaskSet:
        """See `RobotFamily.tasks`."""
        return make_tabular_tasks(self.num_train, self.num_test, self.task_seed)
