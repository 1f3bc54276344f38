from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError
from supple.robots.array_robots import ArrayRobots
from supple.robots.play import NoiseConfig, Script, draw_coloured_noise, draw_commands, play_noise
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec

PLACE = Axis("x", "m", -np.inf, np.inf)
LINE = RobotSpec(
    "line",
    ArraySpec("observation", (PLACE, Axis("goal", "m", -np.inf, np.inf))),
    ArraySpec("action", (Axis("speed", "m/s", -1.0, 3.0), Axis("other", "1", 0.0, 0.1))),
    ArraySpec("goal", (Axis("end", "m", 0.0, 100.0),)),
    0.1,
    40,
)
LEVERS = RobotSpec("levers", LINE.observation, make_choice_spec("abc"), LINE.goal, 0.1, 300, tuple("abc"))


class Lines(ArrayRobots):
    """A point that moves by its speed and ends the episode beyond its goal; it observes both."""

    closed = False

    def _begin(self, index, goals, rng):  # type: ignore[no-untyped-def]
        self.x = np.zeros(self.rows)
        return self._seen(index)

    def _seen(self, index):  # type: ignore[no-untyped-def]
        return np.stack([self.x[index], self._goal[index, 0]], axis=1).astype(np.float32)

    def _advance(self, rows, index, action, elapsed):  # type: ignore[no-untyped-def]
        self.x[rows] += 0.1 * action[:, 0]
        return self._seen(rows), self.x[rows].astype(np.float32), self.x[rows] > self._goal[rows, 0]

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_has_its_spectrum_and_variance(exponent: float) -> None:
    noise = draw_coloured_noise(np.full(200, exponent), 512, 2, 100, np.random.default_rng(0))
    assert noise.shape == (200, 512, 2)
    assert noise.var() == pytest.approx(1.0, rel=0.05)
    power = (np.abs(np.fft.rfft(noise, axis=1)) ** 2).mean(axis=(0, 2))
    low, high = power[10:14].mean(), power[80:84].mean()  # near 12 and 82 / 512 per step
    assert np.log(low / high) / np.log(82 / 12) == pytest.approx(exponent, abs=0.25)
    # flat below a period of 100 steps, 5.12 / 512
    assert power[1:4].mean() / power[5] < 2.0


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 5), st.integers(1, 60), st.integers(0, 1000))
def test_commands_lie_within_the_limits_and_repeat_with_the_seed(rows: int, steps: int, seed: int) -> None:
    drawn = [draw_commands(LINE, rows, steps, NoiseConfig(), np.random.default_rng(seed)) for _ in range(2)]
    assert np.array_equal(*drawn)
    assert drawn[0].shape == (rows, steps, 2)
    assert drawn[0].dtype == np.float32
    LINE.action.require_within(drawn[0], "test")


def test_commands_reach_both_limits_of_each_axis() -> None:
    drawn = draw_commands(LINE, 50, 200, NoiseConfig(), np.random.default_rng(0))
    assert (drawn.min(axis=(0, 1)) == LINE.action.low).all()
    assert (drawn.max(axis=(0, 1)) == LINE.action.high).all()
    assert np.allclose(drawn.mean(axis=(0, 1)), [1.0, 0.05], atol=[0.2, 0.005])


def test_choices_are_held() -> None:
    drawn = draw_commands(LEVERS, 40, 300, NoiseConfig(hold=9), np.random.default_rng(0))[..., 0]
    LEVERS.require_choices(drawn.reshape(-1, 1), drawn.size, "test")
    assert np.allclose(np.bincount(drawn.astype(int).ravel()) / drawn.size, 1.0 / 3.0, atol=0.03)
    # held for 5 steps in the mean, and then for another choice in two of three cases
    assert (np.diff(drawn, axis=1) != 0).mean() == pytest.approx(2.0 / 3.0 / 5.0, abs=0.01)


def test_a_robot_without_limits_does_not_play() -> None:
    free = RobotSpec("free", LINE.observation, ArraySpec("action", (PLACE,)), LINE.goal, 0.1, 40)
    with pytest.raises(ConfigError, match=r"free play: expected limits .* got -inf .. inf m for 'x'"):
        draw_commands(free, 1, 10, NoiseConfig(), np.random.default_rng(0))


def test_episodes_hold_what_was_commanded_and_seen() -> None:
    robots = Lines(LINE, 6)
    play = play_noise(robots, np.array([[50.0], [60.0]], np.float32), NoiseConfig(), seed=1)
    chunk = next(play)
    assert chunk.observation.shape == (6, 40, 2)
    assert (chunk.observation[:, 0, 0] == 0.0).all()
    assert np.allclose(np.diff(chunk.observation[..., 0]), 0.1 * chunk.action[:, :-1, 0], atol=1e-5)
    assert np.allclose(chunk.reward[:, :-1], chunk.observation[:, 1:, 0])
    assert set(chunk.observation[..., 1].ravel().tolist()) == {50.0, 60.0}
    assert not np.array_equal(next(play).action, chunk.action)
    again = next(play_noise(Lines(LINE, 6), np.array([[50.0], [60.0]], np.float32), NoiseConfig(), seed=1))
    assert np.array_equal(again.observation, chunk.observation)
    play.close()
    assert robots.closed


def test_episodes_that_end_early_come_by_themselves() -> None:
    play = play_noise(Lines(LINE, 8), np.array([[2.0]], np.float32), NoiseConfig(), seed=0)
    chunks = []
    while sum(len(chunk.reward) for chunk in chunks) < 8:
        chunks.append(next(play))
    assert len({chunk.reward.shape[1] for chunk in chunks}) == len(chunks) > 2
    for chunk in chunks:
        assert chunk.observation.shape[:2] == chunk.action.shape[:2] == chunk.reward.shape
        beyond = chunk.reward > 2.0
        assert not beyond[:, :-1].any()
        assert beyond[:, -1].all() or chunk.reward.shape[1] == 40


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("exponent", (2.0, 1.0), r"NoiseConfig.exponent: expected low <= high, got \(2.0, 1.0\)"),
        ("amplitude", (-1.0, 1.0), r"NoiseConfig.amplitude\[0\]: expected a number from 0 .* got -1.0"),
        ("longest_period", 1, "NoiseConfig.longest_period: expected a whole number from 2 .* got 1"),
        ("hold", 0, "NoiseConfig.hold: expected a whole number from 1 .* got 0"),
    ],
)
def test_noise_out_of_range_is_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        NoiseConfig(**{field: value})


def go(observation: np.ndarray, waypoint: np.ndarray) -> np.ndarray:
    """A tenth of the way in every second; the other axis rests at 0."""
    return np.concatenate([waypoint - observation[:, :1], np.zeros_like(waypoint)], axis=1)


def test_a_script_goes_from_waypoint_to_waypoint() -> None:
    """A waypoint is kept for 15 to 20 steps, in which the way to it shrinks by .9 a step, within -1 .. 3 m/s."""
    script = Script(steer=go, low=(-5.0,), high=(5.0,), steps=(15, 20), command_noise=0.0)
    chunk = next(play_noise(Lines(LINE, 200), np.array([[50.0]], np.float32), NoiseConfig(), 0, script))
    aimed = (chunk.observation[..., 0] + chunk.action[..., 0])[np.abs(chunk.action[..., 0] - 1.0) < 1.9]
    assert aimed.min() >= -5.0 - 1e-5
    assert aimed.max() <= 5.0 + 1e-5
    assert aimed.max() > 4.5
    for row, action in zip(chunk.observation[..., 0], chunk.action[..., 0], strict=True):
        kept = np.flatnonzero(np.abs(np.diff(row + action)) > 1e-3)  # the waypoint changes, or a limit ends
        changed = [k for k in kept if -1.0 < action[k] < 3.0]
        assert all(b - a >= 2 for a, b in pairwise(changed))
        assert len(changed) <= 2
    assert (chunk.action[..., 1] == 0.0).all()


def test_a_script_has_noise_on_it_within_the_limits() -> None:
    def play(noise: float) -> np.ndarray:
        script = Script(steer=go, low=(0.0,), high=(1.0,), command_noise=noise)
        return next(play_noise(Lines(LINE, 50), np.array([[50.0]], np.float32), NoiseConfig(), 0, script)).action

    still, noisy = play(0.0), play(0.2)
    LINE.action.require_within(noisy, "test")
    assert not np.array_equal(still, noisy)
    # of the first step, before the way is another: a fifth of noise of .3 to 1 half widths, which are 2 m/s
    assert 0.1 < (noisy - still)[:, 0, 0].std() < 0.4
    assert np.array_equal(noisy, play(0.2))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"low": (0.0,), "high": (0.0,)}, r"Script.low, high: expected low < high .* got \(0.0,\) and \(0.0,\)"),
        ({"low": (0.0, 1.0), "high": (2.0,)}, r"Script.low, high: expected low < high .* got \(0.0, 1.0\)"),
        ({"steps": (9, 3)}, r"Script.steps: expected low <= high, got \(9, 3\); swap them"),
        ({"command_noise": 2.0}, "Script.command_noise: expected a number from 0 .* got 2.0"),
    ],
)
def test_a_script_that_cannot_be_is_refused(fields: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Script(**{"steer": go, "low": (0.0,), "high": (1.0,), **fields})  # type: ignore[arg-type]


def test_a_script_of_another_robot_is_refused() -> None:
    script = Script(steer=lambda observation, waypoint: waypoint, low=(0.0,), high=(1.0,))
    with pytest.raises(ConfigError, match=r"line play: expected commands \(3, 2\) of the script, got \(3, 1\)"):
        next(play_noise(Lines(LINE, 3), np.array([[50.0]], np.float32), NoiseConfig(), 0, script))
