"""Trips: where the robot went in one episode, before and after adaptation, played anew for the page.

Everything is computed from artefacts (bundle, adapted policies) with a fixed seed, so that stages need not store
trajectories and the same artefacts always give the same page.

Axes: T steps, N tasks, R rows, r rows of a call, O observation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.bundle import Bundle, load_bundle
from ...adapt.led_agent import STATE as LOG
from ...adapt.log_agent import AnyGuide, lead
from ...adapt.loop import run_episode
from ...adapt.runtime_agent import HOST, KEPT, PARAMS, RandomNoise, repeat_rows
from ...errors import RunError, describe_error
from ...robots.robot import Float, RobotBatch, Rows, StepRows, WrappedRobots
from ...robots.task import Task, goals_of
from ...skills.checkpoint import load_checkpoint
from ..stages.adapt import change_settings
from ..stages.export import NAME as BUNDLE_NAME
from .run_folder import StageView

Logs = Literal["on", "drive", "off"]
"""What logs are for, see `AdaptStageConfig.logs`."""


class Trip(NamedTuple):
    """Where one episode went."""

    path: Float
    """Observations, shape (T + 1, O); the start included."""
    total: float
    """Return: the sum of all rewards."""
    success: bool | None
    """Whether one of its steps solved the task; None where the robot's family does not tell."""


class TaskTrips(NamedTuple):
    """Episodes on one task, by what the policy was then: a key of `measure.MEANINGS`."""

    task: Task
    trips: dict[str, list[Trip]]


class Recorder(WrappedRobots):
    """Rows of robots that keep where each row went since its last reset; see `RobotBatch` for the contract."""

    def __init__(self, robot: RobotBatch) -> None:
        """Wraps the robots; whoever made them closes them."""
        super().__init__(robot)
        self._steps: list[list[tuple[Float, float, bool | None]]] = [[] for _ in range(robot.rows)]

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        observation = super().reset(rows, goals, rng)
        for place, row in enumerate(rows):
            self._steps[row] = [(observation[place].copy(), 0.0, None)]
        return observation

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        step = super().step(rows, action)
        for place, row in enumerate(rows):
            success = None if step.success is None else bool(step.success[place])
            self._steps[row].append((step.observation[place].copy(), float(step.reward[place]), success))
        return step

    def trips(self, count: int) -> list[Trip]:
        """The episodes of the first `count` rows."""
        trips = []
        for steps in self._steps[:count]:
            path, rewards, told = zip(*steps, strict=True)
            known = [one for one in told if one is not None]
            trips.append(Trip(np.stack(path), float(sum(rewards)), any(known) if known else None))
        return trips


class Counted(WrappedRobots):
    """Rows of robots that tell of each step which share of an episode it was, over all rows."""

    def __init__(self, robot: RobotBatch, tell: Callable[[float], None]) -> None:
        """Wraps the robots; `close` closes them."""
        super().__init__(robot)
        self._tell = tell

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        step = super().step(rows, action)
        self._tell(len(rows) / self.spec.episode_steps)
        return step


class Evaluated(NamedTuple):
    """The agent that `adapt` evaluates."""

    bundle: Bundle
    """With the settings that were changed for adaptation."""
    logs: Logs
    """What the logs in it are for."""

    def make_guide(self, adapted: Adapted | None) -> AnyGuide | None:
        """Of the logs; None where they do not lead, or did not when a run of an older version adapted."""
        if self.logs == "off" or (adapted is not None and not any(name.startswith(LOG) for name in adapted.state)):
            return None
        return self.bundle.make_guide(searches=self.logs == "on")


def load_evaluated(export: StageView, adapt: StageView | None) -> Evaluated:
    """The bundle of a run, and how its stage `adapt` acts by it: as it would by itself, where it has not begun."""
    config = {} if adapt is None else adapt.config.get("adapt", {})
    bundle = change_settings(load_bundle(export.folder / BUNDLE_NAME), config.get("settings", ()))
    return Evaluated(bundle, config.get("logs", "on"))


class Adapted(NamedTuple):
    """What the stage `adapt` wrote."""

    tasks: tuple[Task, ...]
    state: dict[str, NDArray[Any]]
    """Of the agent: what it knows of the tasks, a row each, and the policies that it may have learned for them."""

    @property
    def known(self) -> NDArray[np.bool_]:
        """Tasks that adaptation has found out enough about, (N,)."""
        settled = self.state.get("settled")
        return np.ones(len(self.tasks), np.bool_) if settled is None else settled.astype(np.bool_)

    @property
    def has_policies(self) -> bool:
        """Whether policies were learned for tasks beside what was found out about them."""
        return bool(self.state.get(f"{KEPT}tuned", np.zeros(1)).any())

    @property
    def stages(self) -> tuple[str, ...]:
        """What the agent can be after adaptation; where policies were learned, it can also do without them.

        It cannot where logs led it: what these knew after inference is not kept.
        """
        if not self.has_policies:
            return ("known",)
        return ("adapted",) if any(name.startswith(LOG) for name in self.state) else ("inferred", "adapted")

    def only(self, index: int) -> Adapted:
        """The same of one task."""
        rows = {name: value[index : index + 1] for name, value in self.state.items() if not name.startswith(HOST)}
        return Adapted(self.tasks[index : index + 1], rows)

    def repeat(self, count: int, episodes: int, *, policies: bool) -> dict[str, NDArray[Any]]:
        """The state of an agent with so many rows for each of the first tasks, with or without the policies."""
        state = {name: value[:count] for name, value in self.state.items() if not name.startswith(HOST)}
        if not policies:
            state = {name: value for name, value in state.items() if not name.startswith(f"{KEPT}{PARAMS}")}
            state[f"{KEPT}tuned"] = np.zeros_like(state[f"{KEPT}tuned"])
        return repeat_rows(state, episodes)


def load_adapted(path: Path) -> Adapted:
    """What was learned of the tasks.

    Args:
        path: A file `adapted.safetensors`.

    Raises:
        RunError: It is damaged.
    """
    tensors, facts = load_checkpoint(path)
    try:
        records: Any = facts["tasks"]
        tasks = tuple(Task(record["name"], tuple(record["goal"])) for record in records)
    except (KeyError, TypeError) as error:
        raise RunError(f"{path}: expected adapted tasks, got {describe_error(error)}; run adapt again") from error
    return Adapted(tasks, {name: value.numpy() for name, value in tensors.items()})


def compute_trips(
    evaluated: Evaluated, robot: RobotBatch, tasks: Sequence[Task], adapted: Adapted | None, *, episodes: int, seed: int
) -> list[TaskTrips]:
    """Runs `episodes` episodes per task, each as good as the agent can: before it knows the task, and after.

    The agent is the one that `adapt` evaluates: where logs come along, they lead it before adaptation, too.

    Where policies were learned for the tasks, the agent without these is between: all that it does is to know the task.

    Args:
        evaluated: Of any learner.
        robot: At least N * `episodes` rows.
        tasks: N of them; the first of `adapted` where that is given.
        adapted: To these tasks; one that is not known, and in which no logs lead, has only the trips before.
        episodes: Per task and stage.
        seed: Of resets and of what the agent draws.

    Raises:
        RunError: What was learned is of another bundle.
    """
    found = [TaskTrips(task, {}) for task in tasks]
    goals = np.repeat(goals_of(tasks), episodes, axis=0)
    states: dict[str, dict[str, NDArray[Any]] | None] = {"before": None}
    if adapted is not None:
        for name in adapted.stages:
            states[name] = adapted.repeat(len(tasks), episodes, policies=name != "inferred")
    guide = evaluated.make_guide(adapted)
    for name, state in states.items():
        rng = np.random.default_rng(seed)
        agent = evaluated.bundle.make_agent(RandomNoise(rng))
        if guide is not None:
            agent = lead(agent, guide)
        if state is None:
            agent.begin_task(len(goals))
        else:
            agent.load_state(state)
        agent.begin_episode(explore=False)
        recorder = Recorder(robot)
        run_episode(recorder, agent, goals, rng)
        trips = recorder.trips(len(goals))
        for index, task in enumerate(found):
            if adapted is None or state is None or guide is not None or adapted.known[index]:
                task.trips[name] = trips[index * episodes : (index + 1) * episodes]
    return found
