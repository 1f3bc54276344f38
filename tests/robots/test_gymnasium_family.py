import os
import signal
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, Text, Tuple

from supple.errors import ConfigError, RobotFault, SpecError, SuppleError
from supple.pipeline.robots import RobotChoice
from supple.robots.gymnasium_batch import GymnasiumBatch
from supple.robots.gymnasium_family import GymnasiumFamily
from supple.robots.robot import Float
from supple.robots.spec import ArraySpec, Axis
from supple.robots.task import goals_of
from supple.robots.testing import RobotContract

PENDULUM = GymnasiumFamily(
    name="pendulum",
    environment="Pendulum-v1",
    goal=(Axis("g", "m/s^2", 5.0, 15.0),),
    observation_axes=(Axis("cos", "1", -1.0, 1.0), Axis("sin", "1", -1.0, 1.0), Axis("speed", "rad/s", -8.0, 8.0)),
    action_axes=(Axis("torque", "N m", -2.0, 2.0),),
    control_period=0.05,
    success=-0.1,
)


class Point(gymnasium.Env[Any, Any]):
    """A point that moves by its action from near 0, ends at its place or beyond `edge`, and shows its place."""

    observation_space = Box(-20.0, 20.0, (2,), np.float64)
    action_space = Box(-1.0, 1.0, (1,), np.float64)

    def __init__(self, place: float = 0.0, edge: float = 20.0) -> None:
        self.place, self.edge = place, edge

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return np.array([self.x, self.place]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += float(action[0])
        over = abs(self.x - self.place) < 0.5 or abs(self.x) > self.edge
        return np.array([self.x, self.place]), 0.0, over, False, {"success": abs(self.x - self.place) < 0.5}


def set_place(env: Any, goal: Float) -> None:
    env.place = float(goal[0])


POINT = GymnasiumFamily(
    name="point",
    environment=Point,
    goal=(Axis("place", "m", -15.0, 15.0),),
    hide=(1,),
    success="info",
    episode_steps=30,
)


class TestPendulumContract(RobotContract):
    near_goal = (10.0,)
    far_goal = (6.0,)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> GymnasiumBatch:
        return replace(PENDULUM, episode_steps=episode_steps).make(rows)


class TestPointContract(RobotContract):
    near_goal = (0.0,)
    far_goal = (14.0,)
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> GymnasiumBatch:
        class Rewarded(Point):
            def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
                observation, _, *rest = super().step(action)
                return (observation, -abs(self.x - self.place), *rest)

        return replace(POINT, environment=Rewarded, set_task=set_place, episode_steps=episode_steps).make(rows)


def test_the_spec_says_what_the_user_knows() -> None:
    spec = PENDULUM.spec()
    assert (spec.name, spec.control_period, spec.episode_steps) == ("pendulum", 0.05, 200)
    assert (spec.observation.axes, spec.action.axes, spec.goal.axes) == (
        PENDULUM.observation_axes,
        PENDULUM.action_axes,
        PENDULUM.goal,
    )
    assert PENDULUM.make(2).spec == spec
    assert replace(PENDULUM, episode_steps=300).spec().episode_steps == 300
    assert POINT.spec().observation.names == ("observation0",)
    assert POINT.spec().control_period == 1.0
    mujoco = GymnasiumFamily(
        name="reacher",
        environment="Reacher-v5",
        goal=(Axis("reward_dist_weight", "1", 0.5, 2.0),),
        hide=(4, 5, 8, 9),
        packages=("numpy",),
    )
    assert mujoco.spec().control_period == pytest.approx(0.02)
    assert len(mujoco.spec().observation.axes) == 6
    assert mujoco.libraries() == ("gymnasium", "mujoco", "numpy")
    assert [file.name for file in mujoco.files()] == ["reacher.xml"], "it says so itself"


class Furnished(Point):
    """A point that reads files, and says of one of them that it does."""

    def __init__(self, place: float = 0.0, **arguments: Any) -> None:
        super().__init__(place)
        self.fullpath = "own.xml"


def test_files_that_an_environment_reads_count_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = {
        "xml_file": str(tmp_path / "room.xml"),
        "nested": {"scales": ["a.txt", 0.5, None, "no file", "x" * 5000]},
        "meshes": Path("meshes"),
        "folder": "kept",
    }
    files = {
        "room.xml": '<mujoco><include file="parts/door.xml"/></mujoco>',
        "parts/door.xml": '<mujoco><compiler meshdir="m"/><asset><mesh file="handle.obj"/></asset></mujoco>',
        "m/handle.obj": "v 0 0 0",
        "a.txt": "1",
        "meshes/deep/b.stl": "1",
        "own.xml": "<mujoco/>",
        "given.xml": "<include file='beside.xml'",
        "beside.xml": "",
        "bound.txt": "",
    }
    for name, text in {**files, "kept/c.txt": "", "other.txt": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    family = replace(
        POINT,
        environment=partial(Furnished, bound=Path("bound.txt")),
        arguments=arguments,
        model_files=(tmp_path / "given.xml",),
    )
    assert {str(file.relative_to(tmp_path)) for file in family.files()} == set(files)
    choice = RobotChoice("my.py:POINT", family, Path(__file__))
    digest = choice.record["digest"]
    for name in files:
        (tmp_path / name).write_text(files[name] + " ")
        assert choice.record["digest"] != digest, name
        (tmp_path / name).write_text(files[name])
    assert choice.record["digest"] == digest
    with pytest.raises(ConfigError, match=r"point model_files: expected a file, got nothing at none\.xml; check"):
        replace(POINT, model_files=(Path("none.xml"),)).files()


def test_episodes_go_on_for_as_long_as_the_family_says() -> None:
    batch, row = replace(PENDULUM, episode_steps=230).make(1), np.arange(1)
    batch.reset(row, np.array([[10.0]], np.float32), np.random.default_rng(0))
    ends = [batch.step(row, np.zeros((1, 1), np.float32)).truncated[0] for _ in range(230)]
    assert not any(ends[:-1])
    assert ends[-1]


def test_tasks_are_uniform_in_the_box_and_enter_the_environment() -> None:
    family = replace(PENDULUM, num_train_tasks=300, num_test_tasks=20)
    tasks = family.tasks()
    goals = goals_of(tasks.train)
    family.spec().goal.require_within(goals, "test")
    assert (len(tasks.train), len(tasks.test)) == (300, 20)
    assert goals.mean() == pytest.approx(10.0, abs=0.5)
    assert goals.std() == pytest.approx(10.0 / np.sqrt(12.0), abs=0.3)
    assert tasks == family.tasks()
    assert tasks != replace(family, task_seed=1).tasks()
    batch = family.make(2)
    rows = np.arange(2)
    for row in rows:
        batch.reset(rows[row : row + 1], np.array([[5.0 + 10.0 * row]], np.float32), np.random.default_rng(0))
    first, second = batch.step(rows, np.zeros((2, 1), np.float32)).observation
    assert first[2] != second[2]  # the same start under another gravity


@pytest.mark.parametrize("set_task", [None, set_place])
@pytest.mark.parametrize("processes", [0, 2])
def test_success_and_play(set_task: Callable[[Any, Float], None] | None, processes: int) -> None:
    family = replace(POINT, set_task=set_task, processes=processes)
    batch, rows = family.make(2), np.arange(2)
    batch.reset(rows, np.array([[1.0], [9.0]], np.float32), np.random.default_rng(0))
    step = batch.step(rows, np.ones((2, 1), np.float32))
    assert step.success is not None
    assert step.success.tolist() == step.terminated.tolist() == [True, False]
    batch.close()
    chunks, plays = [], family.play(4, 0)
    while sum(len(chunk.reward) for chunk in chunks) < 12:
        chunks.append(next(plays))
    plays.close()
    assert family.play_steps == 30
    assert max(chunk.reward.shape[1] for chunk in chunks) == 30
    for chunk in chunks:
        family.spec().action.require_within(chunk.action, "play")
        moved = chunk.observation[:, 1:, 0] - chunk.observation[:, :-1, 0]
        assert np.allclose(moved, chunk.action[:, :-1, 0], atol=1e-5)
    same = next(replace(POINT, set_task=set_place).play(4, 0))
    assert np.array_equal(same.action, chunks[0].action)
    assert np.array_equal(same.observation, chunks[0].observation)


def draw_nothing(place: float) -> Any:
    """As an environment that opens a window where there is no screen; its message has two lines."""
    raise RuntimeError("no screen,\nno film")


class Speechless(Exception):
    """An error whose text fails, too."""

    def __str__(self) -> str:
        raise KeyError("text")


def fail_without_text(place: float) -> Any:
    raise Speechless


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"environment": "Pendulum-v99"},
            r"point environment: expected one that is made with \['place'\], got .*Pendulum",
        ),
        ({"environment": "nobody_knows/It-v0"}, "point environment: .* got "),
        ({"arguments": {"colour": "red"}}, r"made with \['colour', 'place'\], got TypeError: .*'colour'; correct"),
        ({"goal": (Axis("plaice", "m", 0.0, 1.0),)}, r"made with \['plaice'\], got TypeError: .*'plaice'"),
        ({"environment": draw_nothing}, r"got RuntimeError: no screen, no film \(line \d+ of \w+.py\); correct"),
        ({"environment": fail_without_text}, "got Speechless: a Speechless that has no text .*; correct"),
        ({"hide": (2,)}, "point hide: expected an index below 2, got 2"),
        ({"commanded": (0, 0)}, r"point commanded: expected distinct indices .* got \[0, 0\]"),
        ({"episode_steps": None}, "point episode_steps: expected a time limit, got none registered"),
    ],
)
def test_what_does_not_fit_the_environment_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        replace(POINT, **changes).spec()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"goal": ()}, "point goal: expected at least one axis, got none"),
        ({"goal": (Axis("place", "m", 0.0, np.inf),)}, r"point goal: expected limits, got 0.0 .. inf m for 'place'"),
        ({"success": "solved"}, "point success: expected 'info', 'terminated', a number or a call, got 'solved'"),
        ({"control_period": 0.0}, "GymnasiumFamily.control_period: expected a number above 0 .* got 0.0"),
        ({"episode_steps": 0}, "GymnasiumFamily.episode_steps: expected a whole number from 1 .* got 0"),
        ({"num_train_tasks": 0}, "GymnasiumFamily.num_train_tasks: expected a whole number from 1 .* got 0"),
        ({"num_test_tasks": 0}, "GymnasiumFamily.num_test_tasks: expected a whole number from 1 .* got 0"),
        ({"task_seed": -1}, "GymnasiumFamily.task_seed: expected a whole number from 0 .* got -1"),
        ({"processes": -1}, "GymnasiumFamily.processes: expected a whole number from 0 .* got -1"),
    ],
)
def test_fields_that_no_family_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(POINT, **changes)


class Faulty(Point):
    """A point that does something else than Gymnasium says."""

    def __init__(self, place: float, fault: str) -> None:
        super().__init__(place)
        self.fault = fault

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        found = super().reset(seed=seed)
        return {"bare": found[0], "wide": (np.zeros(3), {}), "nothing": None}.get(self.fault, found)

    def step(self, action: Any) -> Any:
        if self.fault == "raise":
            raise OSError("the motor\nis hot")
        observation, reward, over, cut, info = super().step(action)
        if self.fault == "old":
            return observation, reward, over, info
        if self.fault in ODD:
            reward, over, cut = (ODD[self.fault].get(*pair) for pair in (("r", reward), ("e", over), ("c", cut)))
        return (observation, np.array([reward]) if self.fault == "array" else reward, over, cut, info)


ODD: dict[str, dict[str, Any]] = {
    "text": {"r": "1.0"},
    "never": {"r": None},
    "nan end": {"e": float("nan")},
    "text end": {"e": "no"},
    "no cut": {"c": None},
}
"""What is no number and no truth value; Python takes most of it for one or the other."""


@pytest.mark.parametrize("processes", [0, 1])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("bare", r"point: expected an observation of 2 numbers as in Box.*, got 1 in row 0; repair"),
        ("wide", r"point: expected an observation of 2 numbers .*, got 3 in row 0"),
        (
            "nothing",
            r"point reset: expected reset\(seed=...\) to give an .* and an info, got TypeError: .* in row 0; repair",
        ),
        ("raise", r"step: .* got OSError: the motor is hot \(line \d+ of test_gymnasium_family.py\) in row 0; repair"),
        ("old", r"point step: .* terminated, truncated and an info, got ValueError: not enough values .* in row 0"),
        ("text", r"point step: .* got TypeError: str 1.0 as reward, no number in row 0"),
        ("never", r"point step: .* got TypeError: NoneType None as reward, no number"),
        ("nan end", r"point step: .* got TypeError: float nan as terminated, no truth value"),
        ("text end", r"point step: .* got TypeError: str no as terminated, no truth value"),
        ("no cut", r"point step: .* got TypeError: NoneType None as truncated, no truth value"),
        ("array", r"point step: .* a reward, .* got ValueError: setting an array element with a sequence"),
    ],
)
def test_what_an_environment_does_wrong_is_one_line(fault: str, message: str, processes: int) -> None:
    family = replace(POINT, environment=Faulty, arguments={"fault": fault}, hide=(), processes=processes)
    with pytest.raises(RobotFault, match=message) as error:
        next(iter(family.play(1, 0)))
    assert "\n" not in str(error.value)


class Refuses(SuppleError):
    """An error of a user's own, which is made in its own way."""

    def __init__(self, where: str, place: float) -> None:
        super().__init__(f"{where}: expected a place below 5, got {place}; go there")


class Picky(Point):
    """A point that has no places beyond 5 m, and whose process can end at a step or at a reset."""

    def __init__(self, place: float = 0.0, fault: str = "") -> None:
        if abs(place) > 5.0 and fault == "own":
            raise Refuses("picky", place)
        if abs(place) > 5.0:
            raise ValueError("no such place")
        super().__init__(place)
        self.fault = fault

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        if self.fault == "reset":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().reset(seed=seed)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        if self.fault == "step" and self.place > 2.0:
            os._exit(3)
        return super().step(action)


@pytest.mark.parametrize("processes", [0, 2])
def test_a_task_that_an_environment_refuses_is_the_same_error_in_a_process(processes: int) -> None:
    rows, goals = np.arange(3), np.array([[0.0], [1.0], [9.0]], np.float32)
    robots = replace(POINT, environment=Picky, processes=processes).make(3)
    with pytest.raises(ConfigError, match=r"point environment: .* got ValueError: no such place .*; correct"):
        robots.reset(rows, goals, np.random.default_rng(0))
    robots.close()
    own = GymnasiumBatch(
        lambda goal: Picky(float(goal[0]), "own"),
        ArraySpec("goal", POINT.goal),
        3,
        example=[0.0],
        episode_steps=9,
        processes=processes,
    )
    with pytest.raises(Refuses, match=r"picky: expected a place below 5, got 9\.0; go there"):
        own.reset(rows, goals, np.random.default_rng(0))
    own.close()


@pytest.mark.parametrize(("fault", "ended"), [("step", "code 3"), ("reset", "code the signal SIGKILL")])
@pytest.mark.filterwarnings("error")
def test_a_process_that_ends_is_a_fault_and_others_can_begin_again(fault: str, ended: str) -> None:
    rows, goals = np.arange(5), np.array([[0.0], [1.0], [2.0], [3.0], [4.0]], np.float32)
    robots = replace(POINT, environment=Picky, arguments={"fault": fault}, processes=2).make(5)
    place, first = (1, 3) if fault == "step" else (0, 0)
    message = (
        rf"point {fault}: .* the end of process {place} with rows {first} .. {first + 2} by exit {ended}; run with"
    )
    calls = [partial(robots.reset, rows, goals, np.random.default_rng(0)), partial(robots.step, rows, np.zeros((5, 1)))]
    if fault == "step":
        calls.pop(0)()
    with pytest.raises(RobotFault, match=message):
        calls[0]()
    if fault == "step":
        robots.reset(rows, goals[:1].repeat(5, 0), np.random.default_rng(0))
        assert robots.step(rows, np.ones((5, 1), np.float32)).observation.shape == (5, 1)
    robots.close()
    robots.close()


class Wanders(Point):
    """A point with a space that is smaller than its room, which may have parts that cannot move, or none."""

    def __init__(self, place: float = 0.0, start: float = 0.0, step: float = 1.0) -> None:
        super().__init__(place)
        self.observation_space = Box(np.array([-2.0, -20.0]), np.array([2.0, 20.0]), dtype=np.float64)
        self.start, self.scale = start, step

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x += self.start
        return np.array([self.x, self.place]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return super().step(action * self.scale)


def test_observations_outside_of_their_space_are_found_where_they_are_made() -> None:
    """The space has -2 .. 2 m, and a tenth of that more may be seen."""
    family, rows = replace(POINT, environment=Wanders, hide=(1,)), np.arange(2)
    goals = np.full((2, 1), 15.0, np.float32)
    message = r"point observation: expected axis 'observation0' within -2 .. 2, got [67]\.\d+ in row 0; correct the obs"
    with pytest.raises(RobotFault, match=message):
        replace(family, arguments={"start": 7.0}).make(2).reset(rows, goals, np.random.default_rng(0))
    robots = family.make(2)
    robots.reset(rows, goals, np.random.default_rng(0))
    moves = np.array([[0.0], [1.0]], np.float32)
    robots.step(rows, moves)
    robots.step(rows, moves)  # at 2.1 m at most
    with pytest.raises(
        RobotFault, match=r"got (2\.9|3\.0|3\.1)\d* in row 1; .* or give its true limits in observation_axes"
    ):
        robots.step(rows, moves)
    axes = (Axis("x", "m", -100.0, 100.0),)
    assert len(next(iter(replace(family, observation_axes=axes).play(2, 0))).observation) > 0
    late = replace(family, arguments={"step": 0.5}, episode_steps=300)
    with pytest.raises(RobotFault, match="point observation: expected axis"):
        for _ in zip(range(30), late.play(2, 0), strict=False):
            pass


class Odd(Point):
    """A point with the spaces that it is told."""

    def __init__(self, place: float = 0.0, seen: Any = Point.observation_space, acts: Any = Point.action_space) -> None:
        super().__init__(place)
        self.observation_space, self.action_space = seen, acts


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seen": Box(-1.0, 1.0, (0,))}, r"point: expected at least one number to observe, got none in Box"),
        ({"seen": Dict({})}, r"point: expected at least one number to observe, got none in Dict"),
        ({"seen": Text(5)}, r"point: expected observations that flatten to numbers, got Text"),
        ({"seen": Dict({"a": Tuple((Discrete(2), Text(3)))})}, r"expected observations that flatten to numbers, got D"),
        (
            {"acts": Box(np.array([-1.0, 0.0, 2.0]), np.array([1.0, 0.0, 2.0]), dtype=np.float64)},
            r"point commanded: expected components of the action that can move, got \[1, 2\] with equal limits, as "
            r"0 .. 0 of 1; pass commanded=\(0,\), so that the others are held",
        ),
        ({"acts": Box(1.0, 1.0, (1,))}, r"got \[0\] with equal limits, as 1 .. 1 of 0; give it components that do"),
    ],
)
def test_spaces_of_which_nothing_is_learned_are_refused_by_what_they_are(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(POINT, environment=Odd, arguments=arguments, hide=()).spec()


def test_components_with_equal_limits_are_held() -> None:
    acts = Box(np.array([-1.0, 2.0]), np.array([1.0, 2.0]), dtype=np.float64)
    family = replace(POINT, environment=Odd, arguments={"acts": acts}, commanded=(0,))
    assert family.spec().action.names == ("action0",)
    assert len(next(iter(family.play(1, 0))).action) == 1


def raise_key(*arguments: Any) -> Any:
    raise KeyError("x")


def work_in_place(observation: Any, goals: Any) -> Any:
    """Before, the policy saw what was left of its observation."""
    observation -= goals
    return observation[..., 0], observation[..., 0] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"environment": lambda place: None},
            r"environment: expected one of Gymnasium with an obs.*, got NoneType; ",
        ),
        ({"environment": lambda place: gymnasium.Env()}, r"environment: expected one of Gymnasium with .*, got Env; "),
        ({"environment": Point, "set_task": raise_key}, r"set_task: .* the task \[0.0\], got KeyError: 'x' \(line"),
        ({"reward": raise_key}, r"point reward: .*, got KeyError: 'x' .*; correct the function"),
        (
            {"reward": lambda seen, goals: (seen[..., :1], seen[..., :1] > 0)},
            r"point reward: expected a reward and an end, each of shape \(2,\) for observations \(2, 1\) and goals "
            r"\(2, 1\), got \(2, 1\) and \(2, 1\)",
        ),
        ({"reward": lambda seen, goals: 0.0}, r"point reward: .*, got TypeError: 'float' object is not iterable"),
        (
            {"reward": lambda seen, goals: (seen[..., 0] * 0, seen[..., 0] * np.nan)},
            r"point reward: .*, got TypeError: ends of type float32",
        ),
        ({"reward": work_in_place}, r"point reward: .*, got ValueError: output array is read-only"),
        ({"success": raise_key}, r"point success: .*, got KeyError: 'x' .*; correct the function"),
    ],
)
def test_what_a_function_of_the_user_does_wrong_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        next(iter(replace(POINT, **changes).play(2, 0)))


def test_pictures_as_observations_take_no_minutes() -> None:
    """Every axis has a name that no other has: 21,168 of them were compared with each other for three minutes."""
    axes = tuple(Axis(f"pixel{index}", "1", 0.0, 255.0) for index in range(84 * 84 * 3))
    assert ArraySpec("observation", axes).shape == (21_168,)
    with pytest.raises(SpecError, match="'pixel7' twice"):
        ArraySpec("observation", (*axes, axes[7]))


def test_an_error_of_a_package_without_a_text_is_told_with_its_line() -> None:
    """As of a bare `assert` in it."""
    family = replace(POINT, environment=partial(np.testing.assert_, False), set_task=lambda env, goal: None)
    with pytest.raises(ConfigError, match=r"got AssertionError \(line \d+ of utils\.py\); correct environment"):
        family.spec()


class Goals(Point):
    """The point with the observation of a goal environment."""

    def __init__(self, place: float = 0.0, **arguments: Any) -> None:
        super().__init__(place, **arguments)
        box = self.observation_space
        self.observation_space = Dict({"achieved_goal": box, "desired_goal": box})


def test_a_goal_that_an_environment_shows_is_said(caplog: pytest.LogCaptureFixture) -> None:
    family = replace(POINT, environment=Goals, hide=("desired_goal",))
    family.spec()
    replace(family, hide=(1,)).spec()  # whoever names indices has looked
    assert not caplog.records
    replace(family, hide=()).spec()
    (record,) = caplog.records
    assert record.getMessage().startswith(
        "point hide: expected the goal of the environment to be hidden, got 'desired_"
    )
