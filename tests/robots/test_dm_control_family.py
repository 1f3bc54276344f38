import subprocess
import sys
from dataclasses import replace
from functools import partial
from typing import Any

import dm_env
import numpy as np
import pytest
from dm_control import manipulation, suite
from dm_control.rl.control import PhysicsError
from dm_env import specs

from supple.errors import ConfigError, RobotFault
from supple.robots.dm_control_family import DmControlFamily
from supple.robots.gymnasium_batch import GymnasiumBatch
from supple.robots.robot import Float
from supple.robots.spec import Axis
from supple.robots.testing import RobotContract


class Point(dm_env.Environment):  # type: ignore[misc] # dm_env ships no types
    """A point that moves by its action from near 0 and ends at its place, or after `clock` steps."""

    def __init__(self, place: float = 0.0, clock: int = 100) -> None:
        self.place, self.clock, self.seed = place, clock, 0

    def reset(self) -> dm_env.TimeStep:
        self.x, self.count = np.random.default_rng(self.seed).uniform(-0.1, 0.1), 0
        return dm_env.restart(self.seen())

    def seen(self) -> dict[str, Any]:
        return {"x": np.array([self.x]), "place": self.place, "slow": np.array(True)}

    def step(self, action: Any) -> dm_env.TimeStep:
        self.x += float(action[0])
        self.count += 1
        reward = -abs(self.x - self.place)
        if reward > -0.5:
            return dm_env.termination(reward, self.seen())
        if self.count == self.clock:
            return dm_env.truncation(reward, self.seen())
        return dm_env.transition(reward, self.seen())

    def observation_spec(self) -> dict[str, specs.Array]:
        array = specs.Array((), np.float64)
        return {
            "x": specs.Array((1,), np.float64),
            "place": array,
            "slow": specs.BoundedArray((), np.bool_, False, True),
        }

    def action_spec(self) -> specs.Array:
        return specs.BoundedArray((1,), np.float32, -1.0, 1.0)


def set_place(environment: Point, goal: Float) -> None:
    environment.place = float(goal[0])


def set_seed(environment: Point, seed: int) -> None:
    environment.seed = seed


POINT = DmControlFamily(
    name="point",
    environment=Point,
    goal=(Axis("place", "m", -15.0, 15.0),),
    set_seed=set_seed,
    hide=("place",),
    success="terminated",
    episode_steps=30,
)


def set_size(environment: Any, goal: Float) -> None:
    environment.task._target_size = float(goal[0])


REACHER = DmControlFamily(
    name="reacher",
    environment=partial(suite.load, "reacher", "easy"),
    goal=(Axis("size", "m", 0.01, 0.1),),
    set_task=set_size,
    success=1.0,
    episode_steps=25,
)


class TestPointContract(RobotContract):
    near_goal = (0.0,)
    far_goal = (14.0,)
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> GymnasiumBatch:
        return replace(POINT, set_task=set_place, episode_steps=episode_steps).make(rows)


def test_spec_of_the_environment() -> None:
    spec = REACHER.spec()
    assert spec.observation.names == ("position0", "position1", "to_target0", "to_target1", "velocity0", "velocity1")
    assert (spec.action.low.tolist(), spec.action.high.tolist()) == ([-1.0, -1.0], [1.0, 1.0])
    assert (spec.control_period, spec.episode_steps, spec.name) == (0.02, 25, "reacher")
    assert replace(REACHER, hide=("to_target",)).spec().observation.shape == (4,)
    point = POINT.spec()
    assert [(axis.name, axis.low, axis.high) for axis in point.observation.axes] == [
        ("slow", 0.0, 1.0),
        ("x", -np.inf, np.inf),
    ]
    assert point.control_period == 1.0
    assert REACHER.libraries() == ("dm-env", "dm-control", "mujoco")


def test_a_row_is_the_environment_of_its_task() -> None:
    batch, rows = REACHER.make(2), np.arange(2)
    goals = np.array([[0.02], [0.09]], np.float32)
    first = batch.reset(rows, goals, np.random.default_rng(5))
    seeds = np.random.default_rng(5).integers(2**31, size=2).tolist()
    envs = [suite.load("reacher", "easy") for _ in rows]
    for row, (env, seed) in enumerate(zip(envs, seeds, strict=True)):
        env.task.random.seed(seed)
        env.task._target_size = float(goals[row, 0])
        assert np.array_equal(_flat(env.reset()), first[row])
    rng = np.random.default_rng(0)
    for _ in range(25):
        action = rng.uniform(-1.0, 1.0, (2, 2)).astype(np.float32)
        step = batch.step(rows, action)
        for row, env in enumerate(envs):
            expected = env.step(action[row])
            assert np.array_equal(step.observation[row], _flat(expected))
            assert step.reward[row] == np.float32(expected.reward)
        assert step.success is not None
        assert np.array_equal(step.success, step.reward >= 1.0)


def _flat(step: dm_env.TimeStep) -> Float:
    return np.concatenate([step.observation[key] for key in sorted(step.observation)]).astype(np.float32)


def test_the_end_of_a_task_and_of_the_time_are_kept_apart() -> None:
    family = replace(POINT, arguments={"clock": 3})
    batch, rows, still = family.make(2), np.arange(2), np.zeros((2, 1), np.float32)
    batch.reset(rows, np.array([[0.3], [9.0]], np.float32), np.random.default_rng(0))
    step = batch.step(rows, still)
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([True, False], [False, False])
    assert step.success is not None
    assert step.success.tolist() == [True, False]
    batch.step(rows[1:], still[1:])
    last = batch.step(rows[1:], still[1:])
    assert (last.terminated.tolist(), last.truncated.tolist()) == ([False], [True])


@pytest.mark.parametrize("processes", [0, 2])
def test_play_repeats_with_the_seed(processes: int) -> None:
    plays = [replace(REACHER, processes=count).play(3, 1) for count in (0, processes)]
    chunk, same = (next(play) for play in plays)
    assert chunk.observation.shape == (3, 25, 6)
    assert np.array_equal(chunk.observation, same.observation)
    REACHER.spec().action.require_within(chunk.action, "play")
    assert np.ptp(chunk.observation[..., 0]) > 0.5
    for play in plays:
        play.close()


@pytest.mark.slow
def test_a_composer_environment() -> None:
    """The Jaco arm, whose observations are tables of one line."""
    family = DmControlFamily(
        name="jaco",
        environment=partial(manipulation.load, "reach_site_features"),
        goal=(Axis("unused", "1", 0.0, 1.0),),
        set_task=lambda environment, goal: None,
        hide=("target_position",),
        episode_steps=5,
    )
    spec = family.spec()
    assert spec.control_period == 0.04
    assert "target_position0" not in spec.observation.names
    batches = [family.make(1) for _ in range(2)]
    row, goal = np.arange(1), np.zeros((1, 1), np.float32)
    first, second = (batch.reset(row, goal, np.random.default_rng(3)) for batch in batches)
    assert np.array_equal(first, second)
    other = batches[1].reset(row, goal, np.random.default_rng(4))
    assert not np.array_equal(first, other)


def fail(*arguments: Any) -> Any:
    raise ValueError("no such task")


def need(**arguments: Any) -> Any:
    import nowhere_at_all

    return nowhere_at_all


class Words(Point):
    def observation_spec(self) -> dict[str, specs.Array]:
        return {"word": specs.StringArray(())}


def draw_nothing(place: float) -> Any:
    raise RuntimeError("no screen,\nno film")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"environment": fail}, "point environment: expected one .* got TypeError"),
        ({"environment": partial(fail), "set_task": set_place}, "point environment: .* got ValueError: no such task"),
        ({"environment": need}, r"got ModuleNotFoundError: .*; correct .*, or pip install 'supple\[dm-control\]'"),
        ({"arguments": {"colour": 1}}, r"made with \['colour', 'place'\], got TypeError: .*'colour'"),
        ({"set_seed": None}, "point set_seed: expected a way to seed Point, got none; pass set_seed"),
        ({"environment": Words}, "point word: expected an array of numbers, got StringArray"),
        ({"episode_steps": None}, "point episode_steps: expected a time limit"),
        (
            {"environment": draw_nothing},
            r"point environment: .* got RuntimeError: no screen, no film \(line \d+ of \w+.py\); correct",
        ),
        (
            {"hide": ("plaice",)},
            r"point hide: expected one of \['place', 'slow', 'x'\] or an index .* 'plaice'",
        ),
    ],
)
def test_what_does_not_fit_the_environment_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        replace(POINT, **changes).spec()
    assert "\n" not in str(error.value)


def test_physics_that_diverge_are_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, row = REACHER.make(1), np.arange(1)
    batch.reset(row, np.full((1, 1), 0.05, np.float32), np.random.default_rng(0))

    def diverge(self: Any, action: Any) -> dm_env.TimeStep:
        raise PhysicsError("Physics state is invalid.\nWarning(s) raised: BADQACC")

    monkeypatch.setattr("dm_control.rl.control.Environment.step", diverge)
    with pytest.raises(RobotFault, match=r"reacher step: expected finite physics, got Physics state is invalid\. W"):
        batch.step(row, np.zeros((1, 2), np.float32))


def test_dm_env_alone_is_enough_for_environments_of_other_libraries() -> None:
    code = (
        "import sys; sys.modules['dm_control'] = None\n"
        "import importlib.util as u; find = u.find_spec; import supple.robots.dm_control_family as family\n"
        "family.find_spec = lambda name: None if name == 'dm_control' else find(name)\n"
        "import dm_env\n"
        "print(family.is_dm_control(object()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "False\n", done.stderr
