"""Stage `explore`: skills play where the tasks are, and so make logs of it, `play.hdf5`, without any task in mind.

Skills that were learned elsewhere can be carried out in a new place, of which there are no logs yet. Drawn from the
skill prior they pass the same places again and again. So the robot returns to a place that was seldom visited, by a map
of its own episodes so far (`adapt/log_map.py`), and draws its skills from the prior there: Ecoffet, Huizinga, Lehman,
Stanley, Clune, "First return, then explore", Nature 590, 2021, with skills and without resets to stored states. A place
is drawn in proportion to 1 / sqrt(visits), as there.

Rewards are not read, and 0 in the file. Goals only tell the robots apart whose tasks change the robot itself.

Axes: R rows, r rows still running, T steps, O observation without features of pictures, Z latent, M places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...adapt.eye import open_eyes
from ...adapt.log_map import UNREACHED, LogMap, map_log
from ...datasets.d4rl_writer import write_d4rl
from ...errors import ConfigError
from ...robots.env_family import EnvFamily
from ...robots.family import OneRow, PlayChunk, make_robots
from ...robots.robot import Float, RobotBatch, Rows, StepRows, WrappedRobots
from ...robots.task import TaskSet, goals_of
from ...skills.config import load_skill_facts
from ..robots import RobotChoice
from ..settings.explore import ExploreConfig
from ..stage import Stage, Work
from .generate import NAME, make_arrays

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from ...meta.collect import Seen
    from ...meta.space import SkillSpace
    from ...skills.log_transitions import LogTransitions

ORIGIN = "skills that explored by themselves"
LATE = 2
"""A row gives up on the way to a place after so many times the skills that the map counts, plus `PATIENCE`."""
PATIENCE = 10
GROWN = 1.05
"""A map is made anew when there are so many times the states that it was made of; it costs seconds."""
STATES_OF_A_PLACE = 10
"""States that there have to be for each place, so that a map of few episodes has fewer places."""


def make_explore(skills: Path, config: ExploreConfig, robot: RobotChoice, tasks: TaskSet, seed: int) -> Stage:
    """The stage.

    Args:
        skills: A folder of `extract`.
        config: For how long.
        robot: To play with.
        tasks: Its tasks, of whose train goals the robots are reset with one each.
        seed: Of all that is random.

    Raises:
        RunError: There is no whole skill model at `skills`.
        SpecError: The skills are of another robot.
        ConfigError: The robot is a real one, or a log.
    """
    if isinstance(robot.family, OneRow):
        raise ConfigError(
            f"explore: expected a simulated robot, got '{robot.reference}'; record its own logs where the tasks are, "
            "and ingest them"
        )
    robot.spec.require_source(load_skill_facts(skills).robot, str(skills))
    return Stage(
        name="explore",
        config={"robot": robot.record, "explore": config, "goals": goals_of(tasks.train).tolist()},
        inputs={"skills": skills},
        seed=seed,
        module="pipeline/stages/explore.py",
        libraries=("numpy", "torch", "mujoco", "h5py"),
        body=partial(explore, config, robot, goals_of(tasks.train)),
    )


class RecordedRobots(WrappedRobots):
    """Robots whose observations and commands are kept until their next reset."""

    def __init__(self, robot: RobotBatch) -> None:
        """Wraps the robots."""
        super().__init__(robot)
        steps, spec = robot.spec.episode_steps, robot.spec
        self._observation = np.zeros((robot.rows, steps + 1, *spec.observation.shape), np.float32)
        self._action = np.zeros((robot.rows, steps, *spec.action.shape), np.float32)
        self._steps = np.zeros(robot.rows, np.int64)

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`."""
        observation = super().reset(rows, goals, rng)
        self._steps[rows] = 0
        self._observation[rows, 0] = observation
        return observation

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        step = super().step(rows, action)
        spec, at = self.spec.action, self._steps[rows]
        self._action[rows, at] = np.clip(action, spec.low, spec.high)  # as the robot carries them out
        self._observation[rows, at + 1] = step.observation
        self._steps[rows] += 1
        return step

    def take_episodes(self, rows: int) -> Iterator[PlayChunk]:
        """The last episode of each of the first rows."""
        for row, steps in enumerate(self._steps[:rows]):
            observation, action = (part[row : row + 1, :steps].copy() for part in (self._observation, self._action))
            yield PlayChunk(observation, action, np.zeros((1, steps), np.float32), {})


class Explorer:
    """Chooses skills: the way to a place that was seldom visited, then draws of the prior."""

    def __init__(self, space: SkillSpace, config: ExploreConfig, seed: int) -> None:
        """Begins without a map.

        Args:
            space: The skills.
            config: Of the stage.
            seed: Of places and skills.
        """
        import torch

        self._space, self._config, self._seed = space, config, seed
        self._rng = np.random.default_rng(seed)
        self._generator: Generator = torch.Generator().manual_seed(seed)
        self._map: LogMap | None = None
        self._mapped = 0  # states in the map
        self._logs: list[LogTransitions] = []
        self.begin_episodes(0)

    def begin_episodes(self, rows: int) -> None:
        """Every row is at the start."""
        self._target = np.zeros(rows, np.int64)
        self._left: NDArray[np.int64] = np.zeros(rows, np.int64)  # skills of the way, then of the stay
        self._returns = np.zeros(rows, np.bool_)
        places = 0 if self._map is None else self._map.places
        self._stayed: Float = np.zeros((rows, places), np.float32)

    def choose(self, seen: Seen) -> Tensor:
        """Skills of the running rows, (r, Z)."""
        import torch

        drawn: Tensor = seen.prior.sample(self._generator)
        log, rows = self._map, seen.rows
        if log is None:
            return drawn
        state = self._space.model.normalise_state(seen.observation).numpy()
        near, _ = log.locate(state)
        here = near[:, 0]
        self._left[rows] -= 1
        arrived = self._returns[rows] & ((here == self._target[rows]) | (self._left[rows] < 0))
        self._returns[rows[arrived]], self._left[rows[arrived]] = False, self._config.stay
        for row, place in zip(rows, here, strict=True):
            if not self._returns[row] and self._left[row] <= 0:
                self._aim(row, place)
        way = self._returns[rows]
        led = log.choose(state, near, self._target[rows], self._stayed[rows])
        self._stayed[rows, here] += 1.0
        return torch.where(torch.from_numpy(way)[:, None], torch.from_numpy(led), drawn)

    def _aim(self, row: int, here: int) -> None:
        """The next place of a row, among those that the map knows a way to."""
        assert self._map is not None, "who has no map has no places"
        away = self._map.skills[here].astype(np.int64)
        weight = np.where((away > 0) & (away < UNREACHED), self._weight, 0.0)
        if not weight.any():
            self._left[row] = self._config.stay
            return
        self._target[row] = self._rng.choice(len(weight), p=weight / weight.sum())
        self._returns[row] = True
        self._left[row] = LATE * away[self._target[row]] + PATIENCE
        self._stayed[row] = 0.0

    def learn(self, episodes: Sequence[PlayChunk]) -> None:
        """Takes in these episodes, one for each chunk, and makes the map anew where there is much that is new."""
        import torch

        from ...skills.log_transitions import encode_log

        for episode in episodes:
            observation, action = episode.observation[0], episode.action[0]
            if len(action) > self._space.horizon:
                first, length = np.zeros(1, np.int64), np.full(1, len(action))
                self._logs.append(encode_log(self._space.model, observation, action, first, length))
        rows = np.array([len(log.state) for log in self._logs], np.int64)
        if rows.sum() - len(rows) < 2 or rows.sum() < GROWN * self._mapped:  # a map needs two skills
            return
        self._mapped = int(rows.sum())
        states = torch.from_numpy(np.concatenate([log.state for log in self._logs]))
        arrays = map_log(
            self._space.model.normalise_state(states).numpy(),
            np.concatenate([log.skill for log in self._logs]),
            np.cumsum(rows) - rows,
            min(self._config.places, max(len(states) // STATES_OF_A_PLACE, 1)),
            self._seed,
        )
        self._map = LogMap(arrays)
        visits = np.bincount(arrays["place_of"].astype(np.int64), minlength=self._map.places)
        self._weight = 1.0 / np.sqrt(visits + 1.0)

    @property
    def places(self) -> int:
        """Places of the map, M; 0 before there is one."""
        return 0 if self._map is None else self._map.places


def explore(config: ExploreConfig, choice: RobotChoice, goals: Float, work: Work) -> None:
    """Plays until there are enough episodes, then writes the file."""
    import torch

    from ...adapt.host.spaces import export_eye
    from ...meta.collect import collect
    from ...meta.space import SkillSpace
    from ...skills.checkpoint import load_skill_model

    work.start_afresh()
    torch.set_num_threads(work.machine.threads)
    model = load_skill_model(work.inputs["skills"])
    space, spec = SkillSpace(model), replace(choice.spec, image=None)
    rows = min(config.rows, config.episodes)
    recorded = RecordedRobots(make_robots(choice.family, rows, work.machine.threads))
    robot = open_eyes(recorded, export_eye(model, seed=0))
    explorer = Explorer(space, config, work.seed)
    rng, device = np.random.default_rng(work.seed), torch.device("cpu")
    ends = isinstance(choice.family, EnvFamily)  # whose episodes may end for good; others go on behind a goal
    chunks: list[PlayChunk] = []

    def play() -> Iterator[Mapping[str, Any]]:
        done = 0
        while done < config.episodes:
            count = min(rows, config.episodes - done)
            explorer.begin_episodes(count)
            some = goals[(done + np.arange(count)) % len(goals)]
            collect(robot, space, explorer.choose, some, rng, device=device, stop_at_goal=ends)
            chunks.extend(recorded.take_episodes(count))
            done += count
            if done < config.episodes:
                explorer.learn(chunks[-count:])
            steps = sum(chunk.reward.size for chunk in chunks)
            yield {"step": done, "places": explorer.places, "environment_steps": steps}

    try:
        work.consume(play(), total=config.episodes, unit="episode")
    finally:
        robot.close()
    steps = sum(chunk.reward.size for chunk in chunks)
    write_d4rl(work.folder / NAME, make_arrays(chunks, steps), spec, ORIGIN)
