from dataclasses import replace

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, SpecError
from supple.robots.arm import (
    ARM_BOTH,
    ARM_DYNAMICS,
    ARM_TARGET,
    FRAME_SKIP,
    Arm,
    ArmBatch,
    Arms,
    Dynamics,
    draw_arm_goals,
    draw_targets,
    hand_place,
    make_arm_model,
)
from supple.robots.task import goals_of
from supple.robots.testing import RobotContract

VARIANTS = [ARM_TARGET, ARM_DYNAMICS, ARM_BOTH]
LOADED = Arm(name="loaded", hidden_target=True, hidden_dynamics=True, radius=0.1)


class TestArmTargetContract(RobotContract):
    near_goal = (0.5, 0.0, 0.4)
    far_goal = (-0.3, 0.5, 0.6)
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> ArmBatch:
        return ArmBatch(ARM_TARGET, rows, episode_steps=episode_steps)


class TestArmDynamicsContract(RobotContract):
    near_goal = (0.0, 1.0, 1.0, 0.0)
    far_goal = (0.8, 0.7, 1.5, 2.0)
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> ArmBatch:
        return ArmBatch(ARM_DYNAMICS, rows, episode_steps=episode_steps, threads=2)


class TestArmBothContract(RobotContract):
    near_goal = (0.5, 0.0, 0.4, 0.2, 1.2, 0.6, 3.0)
    far_goal = (-0.3, 0.5, 0.6, 0.8, 0.7, 1.5, 2.0)
    ends_at_goal = False

    def make_batch(self, rows: int, episode_steps: int) -> ArmBatch:
        return ArmBatch(ARM_BOTH, rows, episode_steps=episode_steps)


class TestLoadedArmContract(RobotContract):
    near_goal = (0.53, 0.0, 0.435, 0.2, 1.2, 0.6, 3.0)
    far_goal = (-0.3, 0.5, 0.6, 0.8, 0.7, 1.5, 2.0)
    ends_at_goal = True

    def make_batch(self, rows: int, episode_steps: int) -> ArmBatch:
        return ArmBatch(replace(LOADED, radius=0.2), rows, episode_steps=episode_steps)


def test_within_its_radius_a_target_pays_one_and_ends_the_task() -> None:
    """The hand at (.5, 0, .4): .09 and .11 m from the targets."""
    observation = np.zeros((1, 9), np.float32)
    observation[0, 6:] = 0.5, 0.0, 0.4
    goals = np.zeros((2, 7), np.float32)
    goals[:, :3] = (0.5, 0.09, 0.4), (0.5, 0.11, 0.4)
    reward, ended = ArmBatch(LOADED, 1).compute_reward(observation, goals)
    assert reward.tolist() == [[1.0, 0.0]]
    assert ended.tolist() == [[True, False]]
    with pytest.raises(ConfigError, match="arm radius: expected None or a distance > 0, got 0 m"):
        Arm(name="arm", hidden_target=True, hidden_dynamics=False, radius=0.0)


def test_play_goes_all_around_with_the_dynamics_of_train_tasks() -> None:
    chunk = next(Arms(variant=ARM_BOTH, num_train=20, num_test=5).play(100, 0))
    assert chunk.observation.shape == (100, 100, 9)
    assert np.isfinite(chunk.observation).all()
    angles = chunk.observation[..., :3].reshape(-1, 3)
    assert (angles.max(axis=0) - angles.min(axis=0) > [3.0, 1.4, 1.6]).all()


def test_hand_place_by_hand() -> None:
    assert np.allclose(hand_place(np.zeros(3)), [0.75, 0.0, 0.4])
    # turned by a quarter and bent down by a quarter at the elbow: .4 along y, then .35 down
    assert np.allclose(hand_place(np.array([np.pi / 2, 0.0, np.pi / 2])), [0.0, 0.4, 0.05])
    assert np.allclose(hand_place(np.array([0.0, -np.pi / 2, 0.0])), [0.0, 0.0, 1.15])


@settings(max_examples=20, deadline=None)
@given(st.tuples(st.floats(-2.6, 2.6), st.floats(-1.8, 1.2), st.floats(-0.1, 2.6)))
def test_hand_place_is_that_of_the_model(angles: tuple[float, float, float]) -> None:
    model = make_arm_model()
    data = mujoco.MjData(model)
    data.qpos[:] = angles
    mujoco.mj_kinematics(model, data)
    assert np.allclose(data.site("hand").xpos, hand_place(np.array(angles)), atol=1e-9)


def test_rows_with_dynamics_of_their_own_equal_arms_compiled_with_them() -> None:
    goals = draw_arm_goals(ARM_DYNAMICS, 6, np.random.default_rng(0))
    goals[0] = (0.0, 1.0, 1.0, 0.0)
    batch, rows, rng = ArmBatch(ARM_DYNAMICS, 6, threads=2), np.arange(6), np.random.default_rng(1)
    actions = rng.uniform(-1.0, 1.0, (60, 6, 3)).astype(np.float32)
    for _ in range(2):  # the second time other rows had these dynamics before
        batch.reset(rows, goals[::-1].copy(), np.random.default_rng(0))
        batch.reset(rows[::2], goals[::2], np.random.default_rng(2))
        batch.reset(rows, goals, np.random.default_rng(3))
        singles = []
        for row, goal in enumerate(goals.astype(np.float64)):
            model = make_arm_model(Dynamics(*goal))
            data = mujoco.MjData(model)
            data.qpos[:] = batch._qpos[row]
            mujoco.mj_forward(model, data)
            singles.append((model, data, int(goal[3])))
        for t, action in enumerate(actions):
            batch.step(rows, action)
            for row, (model, data, delay) in enumerate(singles):
                data.ctrl[:] = actions[t - delay, row] if t >= delay else 0.0
                mujoco.mj_step(model, data, nstep=FRAME_SKIP)
                assert np.allclose(batch._qpos[row], data.qpos, rtol=0.0, atol=1e-9)
                assert np.allclose(batch._qvel[row], data.qvel, rtol=0.0, atol=1e-8)


def path(goal: tuple[float, ...], actions: np.ndarray) -> np.ndarray:
    """Angles after each of these actions, shape (T, 3)."""
    batch, row = ArmBatch(ARM_DYNAMICS, 1, episode_steps=len(actions)), np.arange(1)
    batch.reset(row, np.array([goal], np.float32), np.random.default_rng(0))
    return np.array([batch.step(row, action[None]).observation[0, :3] for action in actions.astype(np.float32)])


def test_links_hold_their_weight_and_a_payload_pulls_down() -> None:
    still = np.zeros((20, 3))
    empty, loaded = path((0.0, 1.0, 1.0, 0.0), still), path((1.0, 1.0, 1.0, 0.0), still)
    assert np.abs(empty - empty[0]).max() < 1e-6
    assert loaded[-1, 1] > loaded[0, 1] + 0.1  # the shoulder sinks
    assert abs(loaded[-1, 0] - loaded[0, 0]) < 0.01


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_a_delay_shifts_the_motion(delay: int) -> None:
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (30, 3))
    now, late = path((0.0, 1.0, 1.0, 0.0), actions), path((0.0, 1.0, 1.0, float(delay)), actions)
    assert np.allclose(late[delay:], now[:-delay], atol=1e-5)  # without payload the arm waits where it is
    assert not np.allclose(late[:-delay], now[:-delay], atol=1e-3)


def test_gear_and_damping_act_as_they_should() -> None:
    push = np.tile([0.5, 0.0, 0.0], (40, 1))
    turned = [path((0.0, gear, damping, 0.0), push)[-1, 0] for gear, damping in ((1.0, 1.0), (0.5, 0.5), (0.5, 1.0))]
    assert turned[1] > turned[2]
    assert turned[0] > 1.5 * turned[2]


def test_reward_by_hand() -> None:
    batch, row = ArmBatch(ARM_TARGET, 1), np.arange(1)
    batch.reset(row, np.array([[0.1, 0.2, 0.3]], np.float32), np.random.default_rng(0))
    step = batch.step(row, np.zeros((1, 3), np.float32))
    hand = step.observation[0, 6:9]
    assert step.reward[0] == pytest.approx(-float(np.linalg.norm(hand - np.array([0.1, 0.2, 0.3]))), abs=1e-6)


def test_targets_are_drawn_anew_in_each_episode_and_shown_where_they_are_no_task() -> None:
    batch, rows = ArmBatch(ARM_DYNAMICS, 2), np.arange(2)
    goals, rng = np.tile(np.array([[0.0, 1.0, 1.0, 0.0]], np.float32), (2, 1)), np.random.default_rng(0)
    first, second = batch.reset(rows, goals, rng), batch.reset(rows, goals, rng)
    shown = np.concatenate([first[:, 9:], second[:, 9:]])
    assert len(np.unique(shown[:, 0])) == 4
    step = batch.step(rows, np.zeros((2, 3), np.float32))
    assert np.array_equal(step.observation[:, 9:], second[:, 9:])
    assert np.allclose(step.reward, -np.linalg.norm(step.observation[:, 6:9] - second[:, 9:], axis=1), atol=1e-6)
    assert [len(ArmBatch(variant, 1).spec.observation.axes) for variant in VARIANTS] == [9, 12, 9]
    assert [len(ArmBatch(variant, 1).spec.goal.axes) for variant in VARIANTS] == [3, 4, 7]


def test_variants_start_alike() -> None:
    starts = []
    for variant in VARIANTS:
        goals = draw_arm_goals(variant, 3, np.random.default_rng(1))
        starts.append(ArmBatch(variant, 3).reset(np.arange(3), goals, np.random.default_rng(0))[:, :9])
    assert np.array_equal(starts[0], starts[1])
    assert np.array_equal(starts[0], starts[2])


def test_a_part_of_a_period_is_no_delay() -> None:
    with pytest.raises(SpecError, match=r"arm_dynamics reset: expected delays as whole numbers, got 1\.5; round it"):
        ArmBatch(ARM_DYNAMICS, 1).reset(
            np.arange(1), np.array([[0.0, 1.0, 1.0, 1.5]], np.float32), np.random.default_rng(0)
        )


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(VARIANTS))
def test_goals_fit_the_robot_and_splits_are_disjoint(seed: int, variant: Arm) -> None:
    tasks = Arms(variant=variant, num_train=30, num_test=10, task_seed=seed).tasks()
    assert not {task.goal for task in tasks.train} & {task.goal for task in tasks.test}
    goals = goals_of((*tasks.train, *tasks.test))
    assert np.isfinite(ArmBatch(variant, 40).reset(np.arange(40), goals, np.random.default_rng(0))).all()


def test_goals_cover_their_limits() -> None:
    goals = draw_arm_goals(ARM_DYNAMICS, 4000, np.random.default_rng(0))
    assert np.allclose(goals.min(axis=0), [0.0, 0.5, 0.5, 0.0], atol=0.01)
    assert np.allclose(goals.max(axis=0), [1.0, 1.5, 2.0, 3.0], atol=0.01)
    assert np.allclose(np.bincount(goals[:, 3].astype(int)) / 4000, 0.25, atol=0.03)
    targets = draw_targets(4000, np.random.default_rng(0))
    assert (np.linalg.norm(targets - [0.0, 0.0, 0.4], axis=1) <= 0.75 + 1e-6).all()
    assert targets.std(axis=0).min() > 0.15


def test_half_the_torque_still_holds_the_largest_mass() -> None:
    model = make_arm_model(Dynamics(payload=1.0, gear=0.5))
    data = mujoco.MjData(model)  # stretched out: 1 kg * 9.81 * .75 m = 7.36 N m at the shoulder, 3.43 at the elbow
    mujoco.mj_forward(model, data)
    needed = data.qfrc_bias - data.qfrc_passive
    assert np.allclose(np.abs(needed), [0.0, 7.3575, 3.4335], atol=1e-4)
    assert (np.abs(needed) < model.actuator_gear[:, 0]).all()
