import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from supple.errors import SpecError
from supple.robots.gymnasium_view import GymnasiumRobot
from supple.robots.maze import MazeBatch
from supple.robots.maze_layout import make_layout
from supple.robots.robot import FirstRow, Robot, RobotRow

NEAR, FAR = (10.0, 10.0), (3.0, 4.0)
STILL = np.zeros(2, np.float32)


def make_robot(episode_steps: int = 20) -> Robot:
    return FirstRow(MazeBatch(make_layout(20, 0), 1, episode_steps=episode_steps))


def make_env(goal: tuple[float, ...] = FAR, *, episode_steps: int = 20) -> GymnasiumRobot:
    return GymnasiumRobot(make_robot(episode_steps), goal)


# The checker calls a velocity without limits suspicious; the maze's velocity has none.
@pytest.mark.filterwarnings("ignore:.*Box observation space (minimum|maximum) value is -?infinity.*:UserWarning")
@pytest.mark.parametrize("goal", [NEAR, FAR])
def test_gymnasiums_own_checker_passes(goal: tuple[float, ...]) -> None:
    check_env(make_env(goal), skip_render_check=True)


@pytest.mark.filterwarnings("ignore:.*Box observation space (minimum|maximum) value is -?infinity.*:UserWarning")
def test_a_view_of_a_single_robot_as_a_row_passes_too() -> None:
    check_env(GymnasiumRobot(FirstRow(RobotRow(make_robot())), FAR), skip_render_check=True)


def test_spaces_are_the_specs() -> None:
    env = make_env()
    assert env.observation_space.dtype == env.action_space.dtype == np.float32
    assert env.action_space == gymnasium.spaces.Box(-1.0, 1.0, (2,), np.float32)
    assert env.observation_space.shape == (4,)
    assert env.robot_spec.name == "maze"


def test_truncation_at_the_time_limit() -> None:
    env = make_env(episode_steps=3)
    env.reset(seed=0)
    ends = [env.step(STILL)[2:4] for _ in range(3)]
    assert ends == [(False, False), (False, False), (False, True)]


def test_termination_at_the_goal() -> None:
    env = make_env(NEAR, episode_steps=1)  # the time ends in the same step
    env.reset(seed=0)
    observation, reward, terminated, truncated, info = env.step(STILL)
    assert env.observation_space.contains(observation)
    assert (reward, terminated, truncated, info) == (1.0, True, False, {})


def test_goal_is_an_option_of_one_episode() -> None:
    env = make_env()
    _, info = env.reset(seed=0, options={"goal": [10, 10]})
    assert info["goal"].tolist() == [10.0, 10.0]
    assert env.step(STILL)[2]
    _, info = env.reset(seed=0)
    assert info["goal"].tolist() == list(FAR)
    assert not env.step(STILL)[2]


def test_seed_decides_the_start_and_no_seed_goes_on() -> None:
    env = make_env()
    first, second, again = env.reset(seed=1)[0], env.reset()[0], env.reset(seed=1)[0]
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_step_without_an_episode_is_refused() -> None:
    env = make_env(NEAR)
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a running episode, got none; call reset first"):
        env.step(STILL)
    env.reset(seed=0)
    env.step(STILL)
    with pytest.raises(gymnasium.error.ResetNeeded, match="expected a running episode"):
        env.step(STILL)


def test_wrong_goals_options_and_actions_are_named() -> None:
    with pytest.raises(SpecError, match=r"robot goal: expected goal with 2 axes \['x', 'y'\], got shape \(3,\)"):
        make_env((1.0, 2.0, 3.0))
    env = make_env()
    with pytest.raises(SpecError, match=r"robot goal: expected goal axis 'y' within -1 \.\. 22, got 50 cell"):
        env.reset(options={"goal": (1.0, 50.0)})
    with pytest.raises(SpecError, match=r"reset options: expected 'goal' only, got 'gaol'; drop it"):
        env.reset(options={"gaol": (1.0, 1.0)})
    env.reset(seed=0)
    with pytest.raises(SpecError, match=r"expected finite action, got nan 100 N in axis 'force_y'"):
        env.step(np.array([0.0, np.nan], np.float32))


def test_close_closes_the_robot() -> None:
    closed = []

    class Closing(FirstRow):
        def close(self) -> None:
            closed.append(True)

    GymnasiumRobot(Closing(MazeBatch(make_layout(20, 0), 1)), FAR).close()
    assert closed == [True]
