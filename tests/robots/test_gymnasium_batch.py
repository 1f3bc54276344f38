import math
import re
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete, MultiDiscrete, Sequence
from gymnasium.utils.env_checker import check_env

from supple.errors import ConfigError, RobotFault, SpecError
from supple.robots.family import SuccessRows, TellsSuccess
from supple.robots.gymnasium_batch import GymnasiumBatch
from supple.robots.gymnasium_view import GymnasiumRobot
from supple.robots.robot import FirstRow, Float
from supple.robots.spec import ArraySpec, Axis
from supple.robots.testing import RobotContract

PLACE = ArraySpec("goal", (Axis("x", "m", -20.0, 20.0),))
GRAVITY = ArraySpec("goal", (Axis("gravity", "m/s^2", 0.0, 20.0),))


class Line(gymnasium.Env[Any, Any]):
    """A point on a line that moves by its action and ends within 1 m of its place; it starts within 0.1 m of 0."""

    def __init__(self, place: float, *, wide: bool = False) -> None:
        self.place, self.closed = place, False
        self.observation_space = Dict({"far": Discrete(2), "x": Box(-100.0, 100.0, (2 if wide else 1,), np.float64)})
        self.action_space = Box(-0.5, 0.5, (1, 1), np.float64)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = self.np_random.uniform(-0.1, 0.1)
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        x = np.full(self.observation_space["x"].shape, self.x)
        return {"far": np.int64(abs(self.x) > 0.2), "x": x}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert action.shape == (1, 1)
        self.x += float(action[0, 0])
        return self.seen(), -abs(self.x - self.place), bool(abs(self.x - self.place) < 1.0), False, {}

    def close(self) -> None:
        self.closed = True


def make_lines(rows: int, episode_steps: int) -> GymnasiumBatch:
    return GymnasiumBatch(
        lambda goal: Line(float(goal[0])), PLACE, rows, example=[0.0], name="line", episode_steps=episode_steps
    )


class TestLineContract(RobotContract):
    near_goal = (0.0,)
    far_goal = (18.0,)
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> GymnasiumBatch:
        return make_lines(rows, episode_steps)


class TestProcessContract(TestLineContract):
    """Two processes for five rows: one of the six places is never run."""

    def make_batch(self, rows: int, episode_steps: int) -> GymnasiumBatch:
        batch = GymnasiumBatch(
            lambda goal: Line(float(goal[0])),
            PLACE,
            rows,
            example=[0.0],
            name="line",
            episode_steps=episode_steps,
            processes=2,
        )
        self.opened.append(batch)
        return batch

    @pytest.fixture(autouse=True)
    def close(self) -> Iterator[None]:
        self.opened: list[GymnasiumBatch] = []
        yield
        for batch in self.opened:
            batch.close()


class TestPendulumContract(RobotContract):
    near_goal = (10.0,)
    far_goal = (2.0,)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> GymnasiumBatch:
        return make_pendulums(rows, episode_steps)


class Levers(gymnasium.Env[Any, Any]):
    """Two levers, numbered 3 and 4; the reward is the number pulled times the task's parameter, plus some luck."""

    observation_space = Box(np.array([0.0, 0.0], np.float32), np.array([100.0, 0.0], np.float32))
    action_space = Discrete(2, start=3)

    def __init__(self, scale: float = 1.0, luck: float = 0.0) -> None:
        self.scale, self.luck, self.pulls = scale, luck, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.pulls = 0
        return np.zeros(2, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.pulls += 1
        reward = float(action) * self.scale + self.luck * self.np_random.random()
        return np.array([self.pulls, 0.0], np.float32), reward, False, False, {}


class TestLeversContract(RobotContract):
    near_goal = (1.0,)
    far_goal = (2.0,)
    ends_at_goal = False
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> GymnasiumBatch:
        return GymnasiumBatch(
            lambda goal: Levers(float(goal[0]), luck=0.1), PLACE, rows, example=[0.0], episode_steps=episode_steps
        )


def make_pendulums(rows: int, episode_steps: int | None = None) -> GymnasiumBatch:
    return GymnasiumBatch(
        lambda goal: gymnasium.make("Pendulum-v1", g=float(goal[0])),
        GRAVITY,
        rows,
        example=[10.0],
        episode_steps=episode_steps,
    )


def test_the_toy_environment_is_one_and_survives_there_and_back() -> None:
    check_env(Line(3.0), skip_render_check=True)
    check_env(GymnasiumRobot(FirstRow(make_lines(1, 20)), [3.0]), skip_render_check=True)


@pytest.mark.parametrize("processes", [1, 2, 3, 9])
def test_processes_change_nothing(processes: int) -> None:
    def make(goal: Float) -> Levers:
        return Levers(float(goal[0]), luck=0.1)

    batches = [
        GymnasiumBatch(
            make,
            PLACE,
            4,
            example=[0.0],
            episode_steps=6,
            success=lambda seen, reward, goals: reward > 20.0,
            processes=n,
        )
        for n in (0, processes)
    ]
    goals = np.array([[1.0], [3.0], [5.0], [7.0]], np.float32)
    for _ in range(2):
        first, second = (batch.reset(np.arange(4), goals, np.random.default_rng(0)) for batch in batches)
        assert np.array_equal(first, second)
        for rows in (np.arange(4), np.array([1, 3]), np.array([2]), np.arange(4)):
            action = rows[:, None] % 2
            here, there = (batch.step(rows, action.astype(np.float32)) for batch in batches)
            assert all(np.array_equal(a, b) for a, b in zip(here, there, strict=True))
            assert here.success is not None
            assert np.array_equal(here.success, here.reward > 20.0)
    for batch in batches:
        batch.close()
        with pytest.raises(SpecError, match="expected a running episode"):
            batch.step(np.arange(1), np.zeros((1, 1), np.float32))
        batch.reset(np.arange(1), goals[:1], np.random.default_rng(0))  # it can begin again
        batch.close()


def test_spec_of_the_spaces() -> None:
    spec = make_lines(2, 20).spec
    # flattened in the order of the keys: `far` one-hot, then x
    assert spec.observation.names == ("far0", "far1", "x")
    assert spec.observation.low.tolist() == [0.0, 0.0, -100.0]
    assert spec.observation.high.tolist() == [1.0, 1.0, 100.0]
    assert (spec.action.low.tolist(), spec.action.high.tolist()) == ([-0.5], [0.5])
    assert (spec.name, spec.episode_steps, spec.goal) == ("line", 20, PLACE)
    pendulum = make_pendulums(1).spec
    assert (pendulum.name, pendulum.episode_steps, pendulum.action.high.tolist()) == ("Pendulum-v1", 200, [2.0])


def test_a_row_is_the_environment_of_its_task() -> None:
    batch, rows = make_pendulums(2), np.arange(2)
    goals = np.array([[3.0], [12.0]], np.float32)
    first = batch.reset(rows, goals, np.random.default_rng(5))
    seeds = np.random.default_rng(5).integers(2**31, size=2).tolist()
    envs = [gymnasium.make("Pendulum-v1", g=gravity) for gravity in (3.0, 12.0)]
    for row, (env, seed) in enumerate(zip(envs, seeds, strict=True)):
        assert np.array_equal(env.reset(seed=seed)[0], first[row])
    rng = np.random.default_rng(0)
    for count in range(200):
        action = rng.uniform(-2.0, 2.0, (2, 1)).astype(np.float32)
        step = batch.step(rows, action)
        for row, env in enumerate(envs):
            observation, reward, terminated, truncated, _ = env.step(action[row])
            assert np.array_equal(step.observation[row], observation)
            assert step.reward[row] == np.float32(reward)
            assert (step.terminated[row], step.truncated[row]) == (terminated, truncated) == (False, count == 199)


def test_an_environment_is_kept_while_the_task_is_the_same() -> None:
    made: list[Line] = []

    def make(goal: Float) -> Line:
        made.append(Line(float(goal[0])))
        return made[-1]

    batch = GymnasiumBatch(make, PLACE, 1, example=[0.0], episode_steps=5)
    assert made[0].closed  # it only told the spaces
    for goal, count in ((3.0, 2), (3.0, 2), (4.0, 3)):
        batch.reset(np.arange(1), np.array([[goal]], np.float32), np.random.default_rng(0))
        assert len(made) == count
    assert [line.closed for line in made] == [True, True, False]
    batch.close()
    assert made[2].closed


def set_place(env: Line, goal: Float) -> None:
    env.place = float(goal[0])


class TestSetTaskContract(TestLineContract):
    def make_batch(self, rows: int, episode_steps: int) -> GymnasiumBatch:
        return GymnasiumBatch(
            lambda goal: Line(float(goal[0])),
            PLACE,
            rows,
            example=[0.0],
            set_task=set_place,
            episode_steps=episode_steps,
        )


def test_an_environment_that_takes_tasks_is_made_once() -> None:
    made: list[float] = []

    def make(goal: Float) -> Line:
        made.append(float(goal[0]))
        return Line(made[-1])

    batch, row = GymnasiumBatch(make, PLACE, 1, example=[0.0], set_task=set_place, episode_steps=5), np.arange(1)
    for goal in (3.0, 3.0, 4.0):
        batch.reset(row, np.array([[goal]], np.float32), np.random.default_rng(0))
        assert batch.step(row, np.zeros((1, 1), np.float32)).reward[0] == pytest.approx(-goal, abs=0.1)
    assert made == [0.0, 3.0]


class Cut(Line):
    """Ends by its own clock after two steps; `both` says that the task ends then, too."""

    def __init__(self, both: bool) -> None:
        super().__init__(50.0)
        self.both, self.count = both, 0

    def reset(self, **arguments: Any) -> tuple[Any, dict[str, Any]]:
        self.count = 0
        return super().reset(**arguments)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.count += 1
        over = self.count == 2
        return *super().step(action)[:2], over and self.both, over, {}


@pytest.mark.parametrize("both", [False, True])
def test_an_environments_own_end_is_kept_apart_and_nothing_follows_it(both: bool) -> None:
    batch, row = GymnasiumBatch(lambda goal: Cut(both), PLACE, 1, example=[0.0], episode_steps=9), np.arange(1)
    still = np.zeros((1, 1), np.float32)
    with pytest.raises(SpecError, match="Cut step: expected a running episode, got row 0 after its end; reset"):
        batch.step(row, still)
    for _ in range(2):
        batch.reset(row, np.zeros((1, 1), np.float32), np.random.default_rng(0))
        steps = [batch.step(row, still) for _ in range(2)]
        ends = [(bool(step.terminated[0]), bool(step.truncated[0])) for step in steps]
        assert ends == [(False, False), (both, not both)]
        with pytest.raises(SpecError, match="Cut step: expected a running episode, got row 0 after its end; reset"):
            batch.step(row, still)


def test_choices_that_do_not_begin_at_zero_and_blanked_observations() -> None:
    batch, row = GymnasiumBatch(lambda goal: Levers(), PLACE, 1, example=[0.0], episode_steps=9), np.arange(1)
    assert batch.spec.choices == ("choice3", "choice4")
    assert batch.spec.observation.high.tolist() == [100.0, np.inf]
    batch.reset(row, np.zeros((1, 1), np.float32), np.random.default_rng(0))
    rewards = [batch.step(row, np.array([[index]], np.float32)).reward[0] for index in (0.0, 1.0)]
    assert rewards == [3.0, 4.0]


def test_environments_that_do_not_fit_are_named() -> None:
    class Odd(Levers):
        action_space = MultiDiscrete([2, 2])

    class Words(Levers):
        observation_space = Sequence(Discrete(3))

    for env, text in ((Odd(), "Odd: expected actions in a Box or Discrete"), (Words(), "Words: expected observations")):
        with pytest.raises(ConfigError, match=text):
            GymnasiumBatch(lambda goal, env=env: env, PLACE, 1, example=[0.0], episode_steps=9)
    with pytest.raises(ConfigError, match="Levers episode_steps: expected a time limit, got none registered"):
        GymnasiumBatch(lambda goal: Levers(), PLACE, 1, example=[0.0])
    with pytest.raises(SpecError, match="example task: expected goal axis 'x' within"):
        GymnasiumBatch(lambda goal: Levers(), PLACE, 1, example=[50.0], episode_steps=9)
    batch = GymnasiumBatch(lambda goal: Line(0.0, wide=goal[0] > 1.0), PLACE, 1, example=[0.0], episode_steps=9)
    with pytest.raises(SpecError, match=r"Line reset: expected the spaces .* got .* for the task \[2\.0\]"):
        batch.reset(np.arange(1), np.array([[2.0]], np.float32), np.random.default_rng(0))


@pytest.mark.parametrize("processes", [0, 2])
@pytest.mark.parametrize("part", ["observation", "reward"])
def test_an_environment_that_breaks_is_a_fault(part: str, processes: int) -> None:
    class Broken(Levers):
        def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            observation, reward, *rest = super().step(action)
            return (observation * np.nan, reward, *rest) if part == "observation" else (observation, np.inf, *rest)

    batch = GymnasiumBatch(lambda goal: Broken(), PLACE, 3, example=[0.0], episode_steps=9, processes=processes)
    batch.reset(np.arange(3), np.zeros((3, 1), np.float32), np.random.default_rng(0))
    with pytest.raises(RobotFault, match=rf"Broken.*: expected a finite {part}, got (nan|inf) in row 2; repair"):
        batch.step(np.array([2]), np.zeros((1, 1), np.float32))
    batch.close()


class Robot(gymnasium.Env[Any, Any]):
    """Shows where it is, how fast, and its goal; `info` says whether it is there."""

    observation_space = Dict(
        {"at": Box(-5.0, 5.0, (2,), np.float64), "goal": Box(-5.0, 5.0, (2,), np.float64), "speed": Discrete(2)}
    )
    action_space = Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self, key: str = "is_success", says: Any = None) -> None:
        self.key, self.says = key, says

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = np.zeros(2)
        return self.seen(), {}

    def seen(self) -> dict[str, Any]:
        return {"at": self.at.copy(), "goal": np.full(2, 3.0), "speed": np.int64(1)}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at = np.clip(self.at + action, -5.0, 5.0)
        return self.seen(), -float(self.at.sum()), bool(self.at[1] > 1.5), False, self.info()

    def info(self) -> dict[str, Any]:
        return {self.key: self.at[0] > 1.5 if self.says is None else self.says}


def make_robot(rows: int, **arguments: Any) -> GymnasiumBatch:
    return GymnasiumBatch(lambda goal: Robot(), PLACE, rows, example=[0.0], episode_steps=9, **arguments)


def test_components_of_the_observation_can_be_hidden_and_named() -> None:
    whole, part = make_robot(1), make_robot(1, hide=("goal", 0))
    assert whole.spec.observation.names == ("at0", "at1", "goal0", "goal1", "speed0", "speed1")
    assert part.spec.observation.names == ("at1", "speed0", "speed1")
    row, goal = np.arange(1), np.zeros((1, 1), np.float32)
    for batch, expected in ((whole, [0, 0, 3, 3, 0, 1]), (part, [0, 0, 1])):
        assert batch.reset(row, goal, np.random.default_rng(0)).tolist() == [expected]
    moved = part.step(row, np.array([[0.5, -0.25]]))
    assert moved.observation.tolist() == [[-0.25, 0.0, 1.0]]
    axes = (Axis("y", "m", -5.0, 5.0), Axis("slow", "1", 0.0, 1.0), Axis("fast", "1", 0.0, 1.0))
    drive = (Axis("x_speed", "m/s", -1.0, 1.0), Axis("y_speed", "m/s", -1.0, 1.0))
    named = make_robot(1, hide=("goal", 0), observation_axes=axes, action_axes=drive).spec
    assert (named.observation.axes, named.action.axes) == (axes, drive)
    for arguments, message in (
        ({"hide": ("gaol",)}, r"Robot hide: expected one of \['at', 'goal', 'speed'\] or an index below 6, got 'gaol'"),
        ({"hide": (6,)}, "Robot hide: expected .* an index below 6, got 6"),
        ({"hide": tuple(range(6))}, "Robot hide: expected something left to observe"),
        (
            {"observation_axes": axes},
            r"Robot observation_axes: expected 6 axes like \['at0', .* got \['y', 'slow'",
        ),
        ({"action_axes": axes}, r"Robot action_axes: expected 2 axes like \['action0', 'action1'\]"),
        ({"processes": -1}, "Robot processes: expected 0 or more, got -1"),
    ):
        with pytest.raises(ConfigError, match=message):
            make_robot(1, **arguments)
    with pytest.raises(ConfigError, match="Levers hide: expected an index below 2, got 'x'"):
        GymnasiumBatch(lambda goal: Levers(), PLACE, 1, example=[0.0], episode_steps=9, hide=("x",))


class Far(Robot):
    """A robot whose last action is never 0, and that takes three."""

    action_space = Box(np.array([-1.0, -1.0, 0.25]), np.array([1.0, 1.0, 0.5]), dtype=np.float64)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.at = np.asarray(action[1:], np.float64)
        return self.seen(), float(action[0]), False, False, {}


@pytest.mark.parametrize("processes", [0, 2])
def test_actions_can_be_commanded_in_part_and_in_another_order(processes: int) -> None:
    """The others are 0 where that is within their limits, and the nearest limit where it is not."""
    rows, goals = np.arange(2), np.zeros((2, 1), np.float32)
    slow = (Axis("y", "m", -0.5, 0.5), Axis("x", "m", -1.0, 1.0))
    batch = GymnasiumBatch(
        lambda goal: Far(),
        PLACE,
        2,
        example=[0.0],
        episode_steps=9,
        commanded=(1, 0),
        action_axes=slow,
        processes=processes,
    )
    assert batch.spec.action.axes == slow
    batch.reset(rows, goals, np.random.default_rng(0))
    step = batch.step(rows, np.array([[0.9, 0.125], [-0.25, 0.75]]))
    # 0.9 is beyond the narrower limit
    assert step.observation[:, :2].tolist() == [[0.5, 0.25], [-0.25, 0.25]]
    assert step.reward.tolist() == [0.125, 0.75]
    batch.close()


@pytest.mark.parametrize("commanded", [(), (0, 0), (3,), (-1,)])
def test_components_that_cannot_be_commanded_are_refused(commanded: tuple[int, ...]) -> None:
    message = rf"Far commanded: expected distinct indices below 3, at least one, got {re.escape(str(list(commanded)))}"
    with pytest.raises(ConfigError, match=message):
        GymnasiumBatch(lambda goal: Far(), PLACE, 1, example=[0.0], episode_steps=9, commanded=commanded)
    with pytest.raises(ConfigError, match="Levers commanded: expected actions in a Box, got Discrete"):
        GymnasiumBatch(lambda goal: Levers(), PLACE, 1, example=[0.0], episode_steps=9, commanded=(0,))


@pytest.mark.parametrize(
    ("success", "expected"),
    [
        (None, None),
        ("info", [True, False, True]),
        ("terminated", [False, True, True]),
        (-2.5, [True, True, False]),
        (lambda seen, reward, goals: (seen[:, 0] > goals[:, 0]) & (reward < 0.0), [False, False, True]),
    ],
)
@pytest.mark.parametrize("processes", [0, 2])
def test_success_is_told_in_many_ways(success: Any, expected: list[bool] | None, processes: int) -> None:
    batch, rows = make_robot(3, success=success, processes=processes), np.arange(3)
    batch.reset(rows, np.array([[5.0], [3.0], [1.0]], np.float32), np.random.default_rng(0))
    action = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], np.float32)
    assert batch.step(rows, action).success is None or not batch.step(rows[:0], action[:0]).success.any()
    told = batch.step(rows, action).success
    assert (told if told is None else told.tolist()) == expected
    batch.close()


@pytest.mark.parametrize("part", ["reset", "step"])
def test_an_environment_that_ends_the_program_is_a_fault(part: str) -> None:
    class Ends(Levers):
        def leave(self, *_: Any, **__: Any) -> Any:
            raise SystemExit(0)

    batch = GymnasiumBatch(lambda goal: Ends(), PLACE, 1, example=[0.0], episode_steps=9)
    if part == "step":
        batch.reset(np.arange(1), np.zeros((1, 1), np.float32), np.random.default_rng(0))
    setattr(Ends, part, Ends.leave)
    said = rf"Ends {part}: expected .*, got SystemExit: 0 \(line \d+ of test_gymnasium_batch.py\) in row 0; repair"
    with pytest.raises(RobotFault, match=said):  # noqa: PT012 - whichever of the calls it is
        if part == "step":
            batch.step(np.arange(1), np.zeros((1, 1), np.float32))
        else:
            batch.reset(np.arange(1), np.zeros((1, 1), np.float32), np.random.default_rng(0))


@pytest.mark.parametrize("processes", [0, 2])
def test_info_without_success_is_a_fault(processes: int) -> None:
    batch = GymnasiumBatch(
        lambda goal: Robot("found"), PLACE, 1, example=[0.0], episode_steps=9, success="info", processes=processes
    )
    batch.reset(np.arange(1), np.zeros((1, 1), np.float32), np.random.default_rng(0))
    message = r"Robot step: expected info\['is_success'\] or info\['success'\], got \['found'\]; tell success"
    with pytest.raises(RobotFault, match=message):
        batch.step(np.arange(1), np.zeros((1, 2), np.float32))
    batch.close()


@pytest.mark.parametrize(
    ("says", "success"),
    [
        (1.0, True),
        (np.array([0.0]), False),
        (np.True_, True),
        (math.nan, None),
        ("False", None),
        (0.7, None),
        ([], None),
    ],
)
def test_success_is_true_or_false_and_nothing_else(says: Any, success: bool | None) -> None:
    """Before, NaN and any text passed for success."""
    batch = GymnasiumBatch(lambda goal: Robot(says=says), PLACE, 1, example=[0.0], episode_steps=9, success="info")
    batch.reset(np.arange(1), np.zeros((1, 1), np.float32), np.random.default_rng(0))
    if success is None:
        with pytest.raises(RobotFault, match=r"expected true or false as info\['is_success'\], got"):
            batch.step(np.arange(1), np.zeros((1, 2), np.float32))
    else:
        told = batch.step(np.arange(1), np.zeros((1, 2), np.float32)).success
        assert told is not None
        assert told.tolist() == [success]
    batch.close()


class Teller(TellsSuccess):
    def __init__(self, said: Any) -> None:
        self.said = said

    def compute_success(self, observation: Float, reward: Float, goals: Float) -> Any:
        return self.said


@pytest.mark.parametrize("said", [None, True, np.ones(3), np.ones(2, np.bool_), "no"])
def test_success_that_is_no_truth_value_for_each_row_is_refused(said: Any) -> None:
    """None would be taken for False, a text for True, and one truth value for all."""
    rows, action = np.arange(3), np.zeros((3, 2), np.float32)
    for batch in (make_robot(3, success=lambda *_: said), SuccessRows(make_robot(3), Teller(said))):
        batch.reset(rows, np.zeros((3, 1), np.float32), np.random.default_rng(0))
        with pytest.raises(SpecError, match="expected 3 truth values of success, got"):
            batch.step(rows, action)


def test_whole_numbers_of_an_action_are_rounded_and_not_cut_off() -> None:
    class Gears(Robot):
        action_space = Box(-2, 2, (2,), np.int64)

    batch = GymnasiumBatch(lambda goal: Gears(), PLACE, 1, example=[0.0], episode_steps=9)
    batch.reset(np.arange(1), np.zeros((1, 1), np.float32), np.random.default_rng(0))
    assert batch.step(np.arange(1), np.array([[1.9, -0.9]], np.float32)).observation[0, :2].tolist() == [2.0, -1.0]


def test_a_reward_that_is_a_function_of_the_observation_can_be_stated() -> None:
    def reward(observation: Float, goals: Float) -> tuple[Any, Any]:
        return -np.abs(observation[..., 0] - goals[..., 0]), observation[..., 0] > goals[..., 0]

    batch = make_robot(1, reward=reward)
    paid, ended = batch.compute_reward(np.array([[1.0, 0, 0, 0, 0, 0], [2.0, 0, 0, 0, 0, 0]]), np.array([[0.5]]))
    assert paid.tolist() == [[-0.5], [-1.5]]
    assert (paid.dtype, ended.dtype) == (np.float32, np.bool_)
    # it is what the robots pay, and they can go on past their goal; where the environment ends they are over
    rows, right = np.arange(1), np.array([[1.0, 0.0]], np.float32)
    batch.reset(rows, np.array([[1.5]], np.float32), np.random.default_rng(0))
    steps = [batch.step(rows, right) for _ in range(3)]
    assert [step.reward[0] for step in steps] == [-0.5, -0.5, -1.5]
    assert [step.terminated[0] for step in steps] == [False, True, True]
    up = np.array([[0.0, 1.0]], np.float32)
    assert [batch.step(rows, up).terminated[0] for _ in range(2)] == [True, True]
    with pytest.raises(SpecError, match="expected a running episode, got row 0 after its end"):
        batch.step(rows, up)
    with pytest.raises(SpecError, match=r"Robot compute_reward: .* not a function of the observation"):
        make_robot(1).compute_reward(np.zeros((1, 6), np.float32), np.zeros((1, 1), np.float32))
