from pathlib import Path

import h5py
import mujoco
import numpy as np
import pytest

from supple.datasets.d4rl import D4RLReader
from supple.errors import ConfigError, SourceError, SpecError
from supple.robots import kitchen, kitchen_robots
from supple.robots.families import FAMILIES
from supple.robots.family import make_robots
from supple.robots.kitchen import START, SUBTASKS, compute_shown_goal, is_complete
from supple.robots.kitchen_family import Kitchen
from supple.robots.kitchen_robots import KitchenRobots
from supple.robots.robot import FirstRow, RobotRow, compute_path_reward
from supple.robots.task import Task, goals_of
from supple.robots.testing import RobotContract

ROW = np.arange(1)
STILL = np.zeros((1, 9), np.float32)
BURNER, SWITCH, SLIDE, HINGE, MICROWAVE, KETTLE = 0, 2, 3, 4, 5, 6


def start_with(*done: int) -> np.ndarray:
    """The start with some subtasks complete, shape (30,)."""
    qpos = np.array(START)
    for index in done:
        qpos[list(SUBTASKS[index].columns)] = SUBTASKS[index].goal
    return qpos


def make_one(start: np.ndarray, order: tuple[int, ...], **settings: object) -> KitchenRobots:
    """One kitchen without noise that begins like this."""
    robot = KitchenRobots(1, start=start, noise_ratio=0.0, **settings)  # type: ignore[arg-type]
    robot.reset(ROW, np.array([order], np.float32), np.random.default_rng(0))
    return robot


class TestKitchenContract(RobotContract):
    """Where two doors and two more are done from the start, the task of these ends at once."""

    near_goal = (MICROWAVE, SLIDE, SWITCH, BURNER)
    far_goal = (KETTLE, MICROWAVE, HINGE, BURNER)
    max_rows = 2
    rewards_observation = False

    def make_batch(self, rows: int, episode_steps: int) -> KitchenRobots:
        start = start_with(*map(int, self.near_goal))
        return KitchenRobots(rows, start=start, start_jitter=0.05, episode_steps=episode_steps)


def test_state_for_state_as_the_package_does(monkeypatch: pytest.MonkeyPatch) -> None:
    # the package compares enums of MuJoCo with numpy integers, which MuJoCo >= 3.12 says are never equal
    for kind in (mujoco.mjtJoint, mujoco.mjtEq):
        equal = kind.__eq__
        monkeypatch.setattr(
            kind, "__eq__", lambda self, other, e=equal: e(self, int(other) if isinstance(other, np.integer) else other)
        )
    module = pytest.importorskip("gymnasium_robotics.envs.franka_kitchen.kitchen_env")
    peer = module.KitchenEnv(robot_noise_ratio=0.0, object_noise_ratio=0.0)
    ours = KitchenRobots(2, noise_ratio=0.0, threads=2, show_goal=False)
    peer.reset(seed=0)
    ours.reset(np.arange(2), np.array([[5, 6, 0, 2], [0, 1, 3, 4]], np.float32), np.random.default_rng(0))
    rng, moved = np.random.default_rng(1), 0.0
    for _ in range(40):
        action = rng.uniform(-1.2, 1.2, (2, 9)).astype(np.float32)
        seen = peer.step(action[0].astype(np.float64))[0]["observation"]
        step = ours.step(np.arange(2), action)
        assert np.array_equal(peer.data.qpos, ours.qpos[0])
        assert np.array_equal(peer.data.qvel, ours.bind("qvel")[0])
        assert np.array_equal(step.observation[0], np.concatenate([seen[:9], seen[18:39]]).astype(np.float32))
        moved = max(moved, float(np.abs(ours.qpos[0, :9] - np.array(START[:9])).max()))
    assert moved > 0.3
    peer.close()


def test_the_goals_are_those_of_the_package() -> None:
    module = pytest.importorskip("gymnasium_robotics.envs.franka_kitchen.kitchen_env")
    for subtask in SUBTASKS:
        assert subtask.columns == tuple(module.OBS_ELEMENT_INDICES[subtask.name])
        assert subtask.goal == tuple(module.OBS_ELEMENT_GOALS[subtask.name])
    assert module.BONUS_THRESH == kitchen.RADIUS


def test_the_published_observation_ends_with_a_constant_goal() -> None:
    robot = Kitchen().make(1)
    for order in ((5, 6, 0, 2), (1, 3, 4, 0)):
        seen = robot.reset(ROW, np.array([order], np.float32), np.random.default_rng(0))
        assert np.array_equal(seen[0, 30:], compute_shown_goal().astype(np.float32))
    goal = compute_shown_goal()
    assert goal[[11, 12, 17, 18, 22]].tolist() == [-0.88, -0.01, -0.69, -0.05, -0.75]
    assert goal[23:].tolist() == [-0.23, 0.75, 1.62, 0.99, 0.0, 0.0, -0.06]
    assert not goal[[*range(11), 13, 14, 15, 16, 19, 20, 21]].any()
    assert len(Kitchen(observation="state").spec().observation.axes) == 30


def test_data_that_end_with_another_goal_are_refused() -> None:
    data = np.concatenate([np.zeros((3, 30)), np.tile(compute_shown_goal(), (3, 1))], axis=1).astype(np.float32)
    Kitchen().require_data(data, "mixed")
    Kitchen(observation="state").require_data(data[:, :30], "state")
    data[:, 30 + 19] = 0.37  # the slide cabinet, as in D4RL's kitchen-partial and kitchen-complete
    with pytest.raises(SpecError, match=r"^partial: expected 'goal_slide_cabinet' to be 0 m .*, got 0.37 in row 0;"):
        Kitchen().require_data(data, "partial")


def test_noise_is_a_tenth_of_the_amplitudes() -> None:
    rows = np.arange(200)
    robot = KitchenRobots(200)
    seen = robot.reset(rows, np.tile(np.array([[5, 6, 0, 2]], np.float32), (200, 1)), np.random.default_rng(0))
    most = np.abs(seen[:, :30] - np.array(START)).max(axis=0)
    # .1 rad of the arm, .005 and .0005 of most objects, .1 of hinges and of the microwave (D4RL's configuration)
    assert np.allclose(most[:9], 0.01, rtol=0.05)
    assert np.allclose(most[[9, 10, 17, 18, 19, 23, 24, 25]], 0.0005, rtol=0.05)
    assert np.allclose(most[11:17], 0.00005, rtol=0.05)
    assert np.allclose(most[20:23], 0.01, rtol=0.05)


def test_the_arm_is_sent_on_from_its_last_noisy_reading() -> None:
    robot = KitchenRobots(1)
    seen = robot.reset(ROW, np.array([[5, 6, 0, 2]], np.float32), np.random.default_rng(0))
    action = np.array([[0.5, 0.5, 0.1, 0.2, -0.2, 0.3, 1.0, 1.0, -1.0]], np.float32)
    robot.step(ROW, action)
    sent = robot.bind("ctrl")[0]
    assert np.allclose(sent[:7], seen[0, :7] + 0.16 * action[0, :7], atol=1e-6)
    assert sent[7:].tolist() == [0.04, 0.0]  # the limits of the fingers


def test_subtasks_are_paid_in_their_order_and_early_ones_when_their_turn_comes() -> None:
    # slide, switch and burner are done; the burner is the second and the slide the third of the task
    robot = make_one(start_with(SLIDE, SWITCH, BURNER), (MICROWAVE, BURNER, SLIDE, KETTLE))
    assert robot.step(ROW, STILL).reward.tolist() == [0.0]
    robot.bind("qpos")[0, 22] = -0.75
    step = robot.step(ROW, STILL)
    assert step.reward.tolist() == [3.0]
    assert not step.terminated.any()
    assert robot.step(ROW, STILL).reward.tolist() == [0.0]  # each is paid once
    robot.bind("qpos")[0, 22] = 0.0  # what was paid need not stay
    robot.bind("qpos")[0, 23:] = SUBTASKS[KETTLE].goal
    step = robot.step(ROW, STILL)
    assert step.reward.tolist() == [1.0]
    assert step.terminated.all()


def test_an_earlier_subtask_that_was_undone_holds_up_the_later_ones() -> None:
    robot = make_one(start_with(SLIDE), (SLIDE, SWITCH, BURNER, KETTLE))
    assert robot.step(ROW, STILL).reward.tolist() == [1.0]
    robot.bind("qpos")[0, list(SUBTASKS[BURNER].columns)] = SUBTASKS[BURNER].goal
    assert robot.step(ROW, STILL).reward.tolist() == [0.0]


def test_gymnasiums_task_pays_in_any_order() -> None:
    robot = make_one(start_with(SLIDE, SWITCH, BURNER), (MICROWAVE, BURNER, SLIDE, KETTLE), credit="any")
    assert robot.step(ROW, STILL).reward.tolist() == [2.0]
    assert robot.step(ROW, STILL).reward.tolist() == [0.0]
    robot.bind("qpos")[0, 22] = -0.75
    assert robot.step(ROW, STILL).reward.tolist() == [1.0]


@pytest.mark.parametrize("credit", ["ordered", "any"])
def test_the_reward_of_a_path_is_that_of_its_steps(credit: str) -> None:
    # three rows of ten steps, in which things are done and undone at random; row 2 is asked about other tasks too
    rng = np.random.default_rng(3)
    goals = np.array([[5, 6, 0, 2], [2, 0, 6, 5], [3, 5, 6, 0]], np.float32)
    robot = KitchenRobots(3, credit=credit, episode_steps=10)  # type: ignore[arg-type]
    robot.reset(np.arange(3), goals, rng)
    qpos, path, reward, terminated = robot.bind("qpos"), [], [], []
    for _ in range(10):
        for row in range(3):
            for index in rng.permutation(7)[:2]:
                done = rng.random() < 0.6
                columns = list(SUBTASKS[index].columns)
                qpos[row, columns] = SUBTASKS[index].goal if done else np.array(START)[columns]
        step = robot.step(np.arange(3), np.zeros((3, 9), np.float32))
        path.append(step.observation)
        reward.append(step.reward)
        terminated.append(step.terminated)
    found, ends = compute_path_reward(make_robots(Kitchen(credit=credit), 1), np.stack(path, 1), goals)  # type: ignore[arg-type]
    assert found.shape == ends.shape == (3, 10, 3)
    rows = np.arange(3)
    assert np.array_equal(found[rows, :, rows], np.stack(reward, 1))
    assert np.array_equal(ends[rows, :, rows], np.stack(terminated, 1))
    assert found.sum() > np.stack(reward).sum() > 3  # something was done, and other tasks pay for it otherwise


def test_credit_does_not_depend_on_which_rows_are_stepped() -> None:
    goals = np.tile(np.array([[SLIDE, SWITCH, BURNER, KETTLE]], np.float32), (2, 1))
    for rows in ([np.arange(2)], [np.array([0]), np.array([1])]):
        robot = KitchenRobots(2, start=start_with(SLIDE, SWITCH), noise_ratio=0.0)
        robot.reset(np.arange(2), goals, np.random.default_rng(0))
        paid = np.concatenate([robot.step(some, np.zeros((len(some), 9), np.float32)).reward for some in rows])
        assert paid.tolist() == [2.0, 2.0]


def test_distances_by_hand() -> None:
    qpos = np.array([start_with(), start_with(), start_with(KETTLE)], np.float32)
    qpos[0, 22] = -0.46  # .29 from -.75
    qpos[1, 22] = -0.44
    qpos[2, 23] += 0.31  # m and quaternion count alike
    assert is_complete(qpos)[:, [MICROWAVE, KETTLE]].tolist() == [[True, False], [False, False], [False, False]]


def test_the_published_tasks() -> None:
    tasks = Kitchen().tasks()
    assert (len(tasks.train), len(tasks.test)) == (23, 10)
    assert tasks.train[0] == Task("5603", (5.0, 6.0, 0.0, 3.0))
    assert [task.name for task in tasks.test] == [
        "5021",
        "5012",
        "6023",
        "5614",
        "6031",
        "6234",
        "6013",
        "5034",
        "0134",
        "5604",
    ]


def test_success_is_all_four_at_once() -> None:
    family = Kitchen(noise_ratio=0.0)
    robot = make_robots(family, 1)
    goals = goals_of(family.tasks().test)[:1]
    robot.reset(ROW, goals, np.random.default_rng(0))
    assert robot.step(ROW, STILL).success.tolist() == [False]  # type: ignore[union-attr]
    done = np.tile(start_with(5, 0, 2, 1).astype(np.float32), (2, 1))
    orders = np.array([[5, 0, 2, 1], [5, 0, 2, 3]], np.float32)
    assert family.compute_success(done, np.zeros(2, np.float32), orders).tolist() == [True, False]


def test_a_goal_is_four_distinct_whole_numbers() -> None:
    family = Kitchen()
    robot = family.make(1)
    with pytest.raises(SpecError, match=r"kitchen reset: expected 4 distinct subtasks, got \[5, 6, 5, 2\]"):
        robot.reset(ROW, np.array([[5, 6, 5, 2]], np.float32), np.random.default_rng(0))
    with pytest.raises(SpecError, match=r"expected subtasks as whole numbers, got 0\.5"):
        robot.reset(ROW, np.array([[5, 6, 0.5, 2]], np.float32), np.random.default_rng(0))
    with pytest.raises(SourceError, match=r"here: expected 4 distinct subtasks, got \[1, 1, 2, 3\]"):
        family.require_tasks([Task("a", (1.0, 1.0, 2.0, 3.0))], "here")


def test_a_state_can_be_set_from_what_is_observed() -> None:
    family = Kitchen(observation="state")
    robot, rows = family.make(3), np.array([0, 2])
    wanted = np.stack([start_with(MICROWAVE), start_with(SLIDE, KETTLE)]).astype(np.float32)
    assert np.array_equal(family.set_state(robot, rows, wanted), wanted)
    step = robot.step(rows, np.zeros((2, 9), np.float32))
    assert not step.reward.any()
    assert np.abs(step.observation - wanted).max() < 0.1
    with pytest.raises(SpecError, match=r"kitchen set_state: expected robots of this family, got RobotRow"):
        family.set_state(RobotRow(FirstRow(robot)), rows, wanted)
    assert family.place_axes == tuple(f"joint{index}" for index in range(1, 8))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kitchen_robots, "find_spec", lambda name: None)
    kitchen_robots.load_kitchen_model.cache_clear()
    family = FAMILIES["kitchen"]
    assert family.spec().name == "kitchen"  # needs no package
    with pytest.raises(ConfigError, match=r"gymnasium-robotics.* got none; pip install 'supple\[kitchen\]'"):
        family.make(1)


def test_a_file_of_the_published_layout_is_read_as_this_robots(tmp_path: Path) -> None:
    # kitchen-mixed-v0: flat arrays, 60 and 9 wide, episodes end by `terminals` alone
    rng, path = np.random.default_rng(0), tmp_path / "kitchen.hdf5"
    with h5py.File(path, "w") as file:
        file["observations"] = rng.normal(size=(12, 60)).astype(np.float32)
        file["actions"] = rng.uniform(-1.0, 1.0, (12, 9)).astype(np.float32)
        file["rewards"] = np.zeros(12, np.float32)
        file["terminals"] = np.arange(12) % 6 == 5
    reader = D4RLReader(path, Kitchen().spec())
    assert [len(episode.arrays["action"]) for episode in reader.episodes()] == [6, 6]
    assert reader.describe().schema.robot == Kitchen().spec()
    with pytest.raises(SourceError, match=r"observations: expected .*30"):
        D4RLReader(path, Kitchen(observation="state").spec()).describe()
