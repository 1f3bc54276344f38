import mujoco
import numpy as np
import pytest

from supple.errors import ConfigError
from supple.robots import kitchen_play
from supple.robots.kitchen_family import Kitchen
from supple.robots.kitchen_play import (
    DemonstrationConfig,
    Kinematics,
    Pose,
    compute_velocities,
    demonstrate,
    draw_orders,
    make_demonstrated,
    turn_about,
)
from supple.robots.kitchen_robots import KitchenRobots, load_kitchen_model
from supple.robots.task import goals_of

ORDERS = np.array([[5, 6, 0, 2], [1, 3, 4, 0]])


def test_velocities_move_the_hand_as_asked() -> None:
    robots = make_demonstrated(DemonstrationConfig(), 2)
    scene, rows = Kinematics(robots), np.arange(2)
    for row in range(2):
        robots.reset(np.array([row]), ORDERS[[row]].astype(np.float32), np.random.default_rng(row))
    place, turn = scene.hand(rows)
    asked = [
        Pose(place[0] + [0.0, 0.01, 0.0], turn[0], 1.0, 0.05),
        Pose(place[1], turn_about(2, 0.1) @ turn[1], 1.0, 0.05),
    ]
    velocities = compute_velocities(scene, rows, asked)
    data = mujoco.MjData(load_kitchen_model())
    data.qpos[:] = robots.qpos[0]
    mujoco.mj_forward(load_kitchen_model(), data)
    data.qpos[:7] += 0.01 * velocities[0]
    mujoco.mj_forward(load_kitchen_model(), data)
    site = scene.sites["end_effector"]
    moved = data.site_xpos[site] + 0.03 * data.site_xmat[site].reshape(3, 3)[:, 2] - place[0]
    # .05 m/s along y, at most, for .01 s; damping leaves a little of it
    assert np.allclose(moved, [0.0, 0.0005, 0.0], atol=1e-4)
    data.qpos[:] = robots.qpos[1]
    data.qpos[:7] += 0.01 * velocities[1]
    mujoco.mj_forward(load_kitchen_model(), data)
    spun = data.site_xmat[site].reshape(3, 3) @ turn[1].T
    assert spun[1, 0] == pytest.approx(0.005, abs=0.003)  # .1 rad / .08 s * .4, for .01 s, about z


@pytest.fixture(scope="module")
def episodes() -> list:
    config = DemonstrationConfig()
    return demonstrate(make_demonstrated(config, 2, threads=2), ORDERS, config, [3, 4])


def test_all_seven_subtasks_are_demonstrated(episodes: list) -> None:
    assert [episode.paid for episode in episodes] == [4, 4]
    for episode, order in zip(episodes, ORDERS, strict=True):
        chunk = episode.chunk
        assert chunk.reward.sum() == 4.0
        assert chunk.reward.shape[1] <= 280
        assert np.abs(chunk.action).max() <= 1.0
        assert np.array_equal(chunk.infos["goal"][0, 0], order)
        assert sorted(set(chunk.infos["doing"].ravel())) == [0, 1, 2, 3]
        assert np.abs(chunk.observation[0, :, :7] - chunk.infos["qpos"][0, :, :7]).max() <= 0.0101  # the noise
    assert np.abs(episodes[0].chunk.observation[0, 0, :7] - episodes[1].chunk.observation[0, 0, :7]).max() > 0.03


def test_actions_are_those_that_moved_the_robot(episodes: list) -> None:
    chunk = episodes[0].chunk
    robot = make_demonstrated(DemonstrationConfig(), 1)
    now = robot.reset(np.arange(1), ORDERS[:1].astype(np.float32), np.random.default_rng(3))
    for step in range(60):
        assert np.array_equal(now, chunk.observation[:, step])
        now = robot.step(np.arange(1), chunk.action[:, step]).observation


def test_a_demonstration_does_not_depend_on_the_others(episodes: list) -> None:
    config = DemonstrationConfig()
    alone = demonstrate(make_demonstrated(config, 1), ORDERS[1:], config, [4])[0].chunk
    assert np.array_equal(alone.action, episodes[1].chunk.action)


def test_test_orders_and_slide_after_hinge_never_occur() -> None:
    held_out = goals_of(Kitchen().tasks().test)
    orders = draw_orders(5000, held_out, np.random.default_rng(0)).tolist()
    drawn = {tuple(order) for order in orders}
    # of 7 * 6 * 5 * 4 orders, 10 * 24 have both slide and hinge, half of them the wrong way round
    assert len(drawn) == 840 - 120 - len(held_out)
    assert not drawn & {tuple(goal) for goal in held_out.astype(int).tolist()}
    assert all(order.index(3) < order.index(4) for order in orders if 3 in order and 4 in order)


def test_play_yields_complete_episodes_with_their_origin() -> None:
    family = Kitchen(observation="state", demonstrations=DemonstrationConfig(action_noise=0.0))
    chunk = next(family.play(1, 0))
    assert chunk.observation.shape[::2] == (1, 30)
    assert chunk.reward.sum() == 4.0
    assert "scripted" in family.play_origin
    assert isinstance(family.make(1), KitchenRobots)


def test_play_that_never_is_complete_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kitchen_play, "MOST_FAILURES", 3)
    with pytest.raises(ConfigError, match=r"within 2 actions, got none in 3 one after the other; raise --robot\.epi"):
        next(Kitchen(episode_steps=2).play(2, 0))
