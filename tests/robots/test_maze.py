import mujoco
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, SpecError
from supple.robots.maze import MAX_SPEED, MazeBatch, is_within_goal, make_maze_model, maze_spec
from supple.robots.maze_layout import geodesic_distance, layout_to_text, make_layout, start_cell
from supple.robots.robot import FirstRow, RobotRow
from supple.robots.testing import RobotContract

PUBLISHED = make_layout(20, 0)
NO_GOALS = np.full((8, 2), 1.0, np.float32)


class TestMazeContract(RobotContract):
    near_goal = (10.0, 10.0)
    far_goal = (3.0, 4.0)

    def make_batch(self, rows: int, episode_steps: int) -> MazeBatch:
        return MazeBatch(PUBLISHED, rows, episode_steps=episode_steps)


class TestMazeContractOnTwoThreads(RobotContract):
    near_goal = (10.0, 10.0)
    far_goal = (3.0, 4.0)

    def make_batch(self, rows: int, episode_steps: int) -> MazeBatch:
        return MazeBatch(PUBLISHED, rows, threads=2, episode_steps=episode_steps)


class TestOneMazeRobotContract(RobotContract):
    near_goal = (10.0, 10.0)
    far_goal = (3.0, 4.0)
    max_rows = 1

    def make_batch(self, rows: int, episode_steps: int) -> RobotRow:
        return RobotRow(FirstRow(MazeBatch(PUBLISHED, rows, episode_steps=episode_steps)))


def draw_pushes(rows: int, steps: int) -> np.ndarray:
    """Full pushes held for 30 steps, so that the robots run into walls; shape (steps, rows, 2)."""
    rng = np.random.default_rng(7)
    return np.repeat(rng.uniform(-1.5, 1.5, (steps // 30 + 1, rows, 2)), 30, axis=0)[:steps].astype(np.float32)


def start_anywhere(batch: MazeBatch) -> tuple[np.ndarray, np.ndarray]:
    """Puts every row into a cell of its own with a velocity beyond the clip; returns positions and velocities."""
    rng = np.random.default_rng(1)
    cells = rng.permutation(np.argwhere(~PUBLISHED))[: batch.rows]
    position = cells - 0.2 + rng.uniform(-0.3, 0.3, (batch.rows, 2))
    velocity = rng.uniform(-8.0, 8.0, (batch.rows, 2))
    batch.reset_to(np.arange(batch.rows), NO_GOALS[: batch.rows], position, velocity)
    return position, velocity


def step_plainly(
    model: mujoco.MjModel, position: np.ndarray, velocity: np.ndarray, pushes: np.ndarray
) -> tuple[np.ndarray, int]:
    """The published loop, one MjData per row: observations (steps, rows, 4) in float64 and the number of contacts."""
    simulations = []
    for start, speed in zip(position, velocity, strict=True):
        data = mujoco.MjData(model)
        data.qpos[:], data.qvel[:] = start, speed
        simulations.append(data)
    observation = np.empty((*pushes.shape[:2], 4))
    contacts = 0
    for step, push in enumerate(np.clip(pushes, -1.0, 1.0)):
        for row, data in enumerate(simulations):
            data.ctrl[:] = push[row]
            data.qvel[:] = np.clip(data.qvel, -MAX_SPEED, MAX_SPEED)
            mujoco.mj_step(model, data)
            observation[step, row] = [*data.qpos, *data.qvel]
            contacts += data.ncon
    return observation, contacts


@pytest.mark.parametrize("threads", [1, 2])
def test_batch_is_bit_identical_to_a_plain_loop(threads: int) -> None:
    batch = MazeBatch(PUBLISHED, 8, threads=threads, terminate_at_goal=False)
    position, velocity = start_anywhere(batch)
    pushes = draw_pushes(8, 400)
    expected, contacts = step_plainly(make_maze_model(PUBLISHED), position, velocity, pushes)
    assert contacts > 500
    for push, plain in zip(pushes, expected, strict=True):
        assert np.array_equal(batch.step(np.arange(8), push).observation, plain.astype(np.float32))
        assert np.array_equal(np.hstack([batch._qpos, batch._qvel]), plain)


def test_partial_rows_are_bit_identical_to_a_plain_loop() -> None:
    batch = MazeBatch(PUBLISHED, 8, threads=2, terminate_at_goal=False)
    position, velocity = start_anywhere(batch)
    pushes = draw_pushes(8, 300)
    expected, _ = step_plainly(make_maze_model(PUBLISHED), position, velocity, pushes)
    rng = np.random.default_rng(2)
    taken = np.zeros(8, np.int64)
    while (taken < 300).all():
        rows = np.flatnonzero(rng.random(8) < 0.6)
        got = batch.step(rows, pushes[taken[rows], rows]).observation
        assert np.array_equal(got, expected[taken[rows], rows].astype(np.float32))
        taken[rows] += 1
    assert taken.min() > 100


def test_reset_leaves_nothing_of_the_episode_before() -> None:
    batch = MazeBatch(PUBLISHED, 8, terminate_at_goal=False)
    start_anywhere(batch)
    for push in draw_pushes(8, 100):
        batch.step(np.arange(8), push)
    # pressed into the wall at the border, so that a warm start of the solver left from before would show in the bits
    position = np.tile([0.39, 1.0], (8, 1)) + np.linspace(0.0, 0.008, 8)[:, None] * [1.0, 0.0]
    velocity, pushes = np.zeros((8, 2)), np.tile([-0.7, 0.3], (20, 8, 1))
    batch.reset_to(np.arange(8), NO_GOALS, position, velocity)
    expected, contacts = step_plainly(make_maze_model(PUBLISHED), position, velocity, pushes.astype(np.float32))
    assert contacts >= 8 * 20
    for push, plain in zip(pushes, expected, strict=True):
        batch.step(np.arange(8), push)
        assert np.array_equal(np.hstack([batch._qpos, batch._qvel]), plain)


def test_ground_contact_does_not_change_the_motion_by_a_bit() -> None:
    position, velocity = start_anywhere(MazeBatch(PUBLISHED, 8))
    pushes = draw_pushes(8, 400)
    without, few = step_plainly(make_maze_model(PUBLISHED), position, velocity, pushes)
    published, many = step_plainly(make_maze_model(PUBLISHED, ground_contact=True), position, velocity, pushes)
    assert many == few + 8 * 400  # the ground touches every robot in every step
    assert np.array_equal(without, published)


def test_leaving_out_islands_does_not_change_the_motion_by_a_bit() -> None:
    position, velocity = start_anywhere(MazeBatch(PUBLISHED, 8))
    pushes = draw_pushes(8, 400)
    without, contacts = step_plainly(make_maze_model(PUBLISHED), position, velocity, pushes)
    published = make_maze_model(PUBLISHED)
    published.opt.disableflags = 0
    assert make_maze_model(PUBLISHED).opt.disableflags != 0
    assert contacts > 100
    assert np.array_equal(without, step_plainly(published, position, velocity, pushes)[0])


def test_published_model_constants() -> None:
    model = make_maze_model(PUBLISHED, ground_contact=True)
    assert model.body_mass[1] == pytest.approx(4.189, abs=5e-4)  # 4/3 pi 0.1^3 m^3 x 1000 kg / m^3
    assert model.opt.timestep == 0.01
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_EULER
    assert model.opt.iterations == 20
    assert not model.opt.gravity.any()
    assert model.dof_damping.tolist() == [1.0, 1.0]
    assert model.actuator_gear[:, 0].tolist() == [100.0, 100.0]
    assert model.ngeom == 192 + 2
    particle, walls = model.geom("particle"), [model.geom(f"wall_{i}_{j}") for i, j in np.argwhere(PUBLISHED)]
    assert (particle.contype[0], particle.conaffinity[0], particle.condim[0]) == (1, 1, 1)
    assert particle.size[0] == 0.1
    assert all((wall.contype[0], wall.conaffinity[0], wall.margin[0]) == (2, 1, 0.002) for wall in walls)
    assert all(wall.size.tolist() == [0.5, 0.5, 0.2] for wall in walls)
    assert model.geom("wall_0_3").pos.tolist() == [1.0, 4.0, 0.0]
    assert model.body("particle").pos.tolist() == [1.2, 1.2, 0.0]


def test_one_free_step_by_hand() -> None:
    batch = MazeBatch(PUBLISHED, 1)
    batch.reset_to(np.arange(1), NO_GOALS[:1], np.array([[10.0, 10.0]]), np.array([[0.0, 7.0]]))
    observation = batch.step(np.arange(1), np.array([[0.5, 0.0]], np.float32)).observation[0]
    # mass m = 4/3 pi 0.001 1000 = 4.18879 kg, damping d = 1 N s / m taken implicitly: v' = v + h (F - d v) / (m + h d)
    # x: v' = 0 + 0.01 x 50 / 4.19879 = 0.119082;  x' = 10 + 0.01 v' = 10.00119082
    # y: 7 is clipped to 5; v' = 5 - 0.01 x 5 / 4.19879 = 4.988092;  y' = 10 + 0.01 v' = 10.04988092
    assert observation == pytest.approx([10.00119082, 10.04988092, 0.119082, 4.988092], abs=1e-6)


@pytest.mark.parametrize(("distance", "reached"), [(0.999, True), (1.0, True), (1.001, False)])
def test_goal_counts_within_one_cell(distance: float, reached: bool) -> None:
    angle = np.array([np.cos(0.0), np.sin(0.0)])
    observation = np.array([[*(10.0 + distance * angle), 3.0, -3.0]], np.float32)
    goals = np.array([[10.0, 10.0], [15.0, 15.0]], np.float32)
    reward, terminated = MazeBatch(PUBLISHED, 1).compute_reward(observation, goals)
    assert reward.tolist() == [[float(reached), 0.0]]
    assert terminated.tolist() == [[reached, False]]
    assert is_within_goal(observation, goals[:1]).tolist() == [reached]


def test_reaching_the_goal_of_play_data_goes_on() -> None:
    batch = MazeBatch(PUBLISHED, 2, terminate_at_goal=False, episode_steps=3)
    batch.reset(np.arange(2), np.full((2, 2), 10.0, np.float32), np.random.default_rng(0))
    steps = [batch.step(np.arange(2), np.zeros((2, 2), np.float32)) for _ in range(3)]
    assert all((step.reward == 1.0).all() and not step.terminated.any() for step in steps)
    assert [step.truncated.tolist() for step in steps] == [[False, False], [False, False], [True, True]]
    assert not batch.compute_reward(steps[0].observation, np.full((1, 2), 10.0, np.float32))[1].any()


def test_a_simulated_robot_may_run_on_past_its_goal() -> None:
    batch, row = MazeBatch(PUBLISHED, 1, episode_steps=400), np.arange(1)
    batch.reset_to(row, np.array([[10.0, 10.0]], np.float32), np.array([[10.0, 10.0]]), np.zeros((1, 2)))
    steps = [batch.step(row, np.array([[0.3, -0.1]], np.float32)) for _ in range(400)]
    inside = np.array([np.hypot(*(step.observation[0, :2] - 10.0)) <= 1.0 for step in steps])
    assert inside[0]
    assert not inside[-1]
    assert [bool(step.terminated[0]) for step in steps] == inside.tolist()
    assert [bool(step.truncated[0]) for step in steps] == [False] * 399 + [True]


def test_reset_noise_has_the_published_ranges() -> None:
    batch = MazeBatch(PUBLISHED, 4000)
    goals = np.full((4000, 2), 1.0, np.float32)
    observation = batch.reset(np.arange(4000), goals, np.random.default_rng(0))
    offset = observation[:, :2] - 10.0
    assert np.abs(offset).max() <= 0.1 + 1e-6
    assert np.abs(offset).max() > 0.0999  # 8000 draws: this fails with probability e^-8
    # U(-.1, .1) has standard deviation .2 / sqrt(12) = .0577; the estimate's own is below .0006
    assert offset.std() == pytest.approx(0.0577, abs=0.003)
    assert observation[:, 2:].std() == pytest.approx(0.1, abs=0.005)
    assert np.abs(offset.mean()) < 0.004


def test_reset_draws_positions_before_velocities() -> None:
    batch, rng = MazeBatch(PUBLISHED, 1), np.random.default_rng(5)
    observation = batch.reset(np.arange(1), NO_GOALS[:1], np.random.default_rng(5))
    assert np.array_equal(observation[:, :2], np.float32(10.0 + rng.uniform(-0.1, 0.1, (1, 2))))
    assert np.array_equal(observation[:, 2:], np.float32(0.1 * rng.standard_normal((1, 2))))


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow])
def test_a_wall_cannot_be_crossed(layout_seed: int, seed: int) -> None:
    layout = make_layout(10, layout_seed)
    rng = np.random.default_rng(seed)
    cells = np.argwhere(geodesic_distance(layout, start_cell(layout)) >= 0)
    batch = MazeBatch(layout, len(cells), terminate_at_goal=False)
    rows = np.arange(len(cells))
    observation = batch.reset_to(rows, cells.astype(np.float32), cells - 0.2, rng.uniform(-5, 5, (len(cells), 2)))
    before = cells
    for step in range(150):
        if step % 50 == 0:
            push = rng.choice([-1.0, 1.0], (len(cells), 2)).astype(np.float32)
        observation = batch.step(rows, push).observation
        cell = np.rint(observation[:, :2] + 0.2).astype(np.int64)  # the centre of cell c is at c - 0.2
        assert not layout[tuple(cell.T)].any()
        moved = np.abs(cell - before).sum(axis=1)
        assert (moved <= 1).all() or _slips_by_a_corner(layout, before[moved > 1], cell[moved > 1])
        before = cell


def _slips_by_a_corner(layout: np.ndarray, before: np.ndarray, cell: np.ndarray) -> bool:
    """Whether each diagonal move in one step has a free cell beside it to pass through."""
    beside = ~layout[before[:, 0], cell[:, 1]] | ~layout[cell[:, 0], before[:, 1]]
    return bool(beside.all())


def test_spec_names_units_and_limits() -> None:
    spec = maze_spec(PUBLISHED)
    assert spec.observation.names == ("x", "y", "vx", "vy")
    assert [axis.unit for axis in spec.observation.axes] == ["cell", "cell", "cell/s", "cell/s"]
    assert spec.goal.high.tolist() == [22.0, 22.0]
    assert spec.action.low.tolist() == [-1.0, -1.0]
    assert (spec.control_period, spec.episode_steps) == (0.01, 2000)


def test_bad_batches_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"maze rows: expected at least 1, got 0;"):
        MazeBatch(PUBLISHED, 0)
    with pytest.raises(ConfigError, match=r"maze threads: expected at least 1, got 0;"):
        MazeBatch(PUBLISHED, 1, threads=0)
    with pytest.raises(ConfigError, match=r"maze start: expected a free cell, got \(0, 3\);"):
        MazeBatch(PUBLISHED, 1, start=(0, 3))
    with pytest.raises(ConfigError, match=r"maze start: expected a free cell, got \(10, 24\);"):
        MazeBatch(PUBLISHED, 1, start=(10, 24))
    with pytest.raises(SpecError, match=r"at least 1 episode step, got 0;"):
        MazeBatch(PUBLISHED, 1, episode_steps=0)


def test_bad_starts_are_refused() -> None:
    batch, row = MazeBatch(PUBLISHED, 1), np.arange(1)
    good, bad = np.array([[1.0, 1.0]]), np.array([[1.0, np.nan]])
    with pytest.raises(SpecError, match=r"finite position, got nan cell in axis 'y'"):
        batch.reset_to(row, NO_GOALS[:1], bad, good)
    with pytest.raises(SpecError, match=r"finite velocity, got nan cell/s in axis 'vy'"):
        batch.reset_to(row, NO_GOALS[:1], good, bad)
    with pytest.raises(SpecError, match=r"position of shape \(1, 2\), got \(2, 2\)"):
        batch.reset_to(row, NO_GOALS[:1], np.vstack([good, good]), good)


def test_another_layout_is_another_maze() -> None:
    assert layout_to_text(make_layout(20, 7)) != layout_to_text(PUBLISHED)
    batch = MazeBatch(make_layout(20, 7), 1)
    assert not batch.layout[batch.start]
