"""Hand-worked numbers of the open loop, with a linear policy u = o on the scale of the limits."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from supple.adapt.action_limits import ActionLimits
from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.runtime_agent import SeenRows
from supple.adapt.spaces import RowSpace, SpaceSettings
from supple.datasets import Episode, Feature, Schema, write_store
from supple.pipeline.replay.dry_limits import BRAKING, NONE, count_clamps, find_clamps, list_clamps, name_kinds
from supple.pipeline.replay.forced import find_memory, force_choice
from supple.pipeline.replay.open_loop import (
    compute_change,
    compute_cosine,
    compute_departures,
    compute_spreads,
    find_half,
    force_episode,
    play_log,
)
from supple.pipeline.replay.section import Replay
from supple.pipeline.replay.sections import make_open_loop
from supple.pipeline.replay.skills import cut
from supple.pipeline.settings.replay import OpenLoopConfig
from supple.robots.limits import RobotLimits
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec

from .conftest import SPEC, Silent, make_bundle

Make = Callable[..., Replay]


def test_commands_are_those_of_the_policy_on_the_logged_observations(replay_of: Make) -> None:
    observation = [[0.5, -0.25], [0.25, 0.5], [3.0, 0.0]]
    replay = replay_of([(observation, np.zeros((3, 2)), None)])
    for timed in (False, True):
        forced = force_episode(replay, 4, 0, replay.store.episode(0), timed=timed)
        # vx = 2 u_x, vy = u_y, within the limits
        np.testing.assert_allclose(forced.action, [[1.0, -0.25], [0.5, 0.5], [2.0, 0.0]], atol=1e-6)
        np.testing.assert_allclose(forced.loc, observation, atol=1e-6)
        np.testing.assert_allclose(forced.scale, 0.5, atol=1e-6)
        assert forced.samples.shape == (4, 3, 2)
        assert (forced.seconds > 0).all() == timed
    again = force_episode(replay, 4, 0, replay.store.episode(0))
    np.testing.assert_array_equal(again.samples, forced.samples)


def test_the_record_of_an_episode_by_hand(replay_of: Make) -> None:
    """The log commands (1, 0) everywhere; the policy commands (2 x, y)."""
    observation = np.array([[0.5, 0.0], [1.0, 0.0], [0.0, 0.0], [0.5, 0.5]])
    replay = replay_of([(observation, np.tile([1.0, 0.0], (4, 1)), None)])
    (record,) = play_log(replay, OpenLoopConfig(samples=0, horizon=2), RobotLimits.of(SPEC))
    one, two = record["horizons"]["1"], record["horizons"]["2"]
    # departures in vx: 0, 1, -1, 0; in vy: 0, 0, 0, .5
    assert one["windows"] == 4
    np.testing.assert_allclose(one["square"], [0.5, 0.0625])
    np.testing.assert_allclose(one["absolute"], [0.5, 0.125])
    # over two steps: .5 and -.5 in vx; 0 and .25 in vy
    assert two["windows"] == 2
    np.testing.assert_allclose(two["square"], [0.25, 0.03125])
    np.testing.assert_allclose(two["absolute"], [0.5, 0.125])
    assert "20" not in record["horizons"], "the episode is shorter than 10 H"
    # cosines: 1, 1, the third command is 0; the last is (.5, .5) against (.5, 0) on the scale of the limits
    assert record["cosine"] == pytest.approx((1.0 + 1.0 + math.sqrt(0.5)) / 3)
    # u of the log is (.5, 0): distances in x 0, .5, -.5, 0 and in y 0, 0, 0, -.5, of a standard deviation of .5
    expected = 2 * (math.log(0.5) + 0.5 * math.log(2 * math.pi)) + 0.5 * (0 + 1 + 1 + 1) / 4
    assert record["nll"] == pytest.approx(expected, abs=1e-6)
    assert record["limits"]["steps"] == {"policy": 0, "log": 0}
    assert record["faults"] == 0
    assert record["latency"]["steps"] == 4


def test_steps_that_are_not_valid_are_compared_with_nothing(replay_of: Make) -> None:
    """As above, with a command that nobody sent amid the log and an episode without any valid step before it."""
    observation = np.array([[0.5, 0.0], [1.0, 0.0], [2.0, 1.0], [0.0, 0.0], [0.5, 0.0], [0.5, 0.5]])
    action = np.array([[1.0, 0.0]] * 2 + [[-2.0, -1.0]] + [[1.0, 0.0]] * 3)
    marks = [[0] * 6, [1, 1, 0, 1, 1, 1]]
    replay = replay_of([(observation, action, None)] * 2, valid=marks)
    (record,) = play_log(replay, OpenLoopConfig(samples=0, horizon=2), RobotLimits.of(SPEC))
    assert record["number"] == 1
    one, two = record["horizons"]["1"], record["horizons"]["2"]
    # departures in vx: 0, 1, -, -1, 0, 0; in vy: 0, 0, -, 0, 0, .5
    assert one["windows"] == 5
    np.testing.assert_allclose(one["absolute"], [0.4, 0.1])
    # over two steps: .5 in vx, nothing of the second window, 0 in vx and .25 in vy
    assert two["windows"] == 2
    np.testing.assert_allclose(two["absolute"], [0.25, 0.125])
    assert record["cosine"] == pytest.approx((1.0 + 1.0 + 1.0 + math.sqrt(0.5)) / 4)
    # changes of the log between valid neighbours: none; of the policy in vx: 1, 1, 0 in .1 s
    assert record["change"]["log"] == [0.0, 0.0]
    np.testing.assert_allclose(record["change"]["policy"], [(100.0 + 100.0 + 0.0) / 3, 25.0 / 3])
    np.testing.assert_allclose(compute_spreads([record]), [0.0, 0.0])
    section = make_open_loop(replay, OpenLoopConfig(samples=0), [record])
    assert "7 steps of the log have valid = 0: they are compared with nothing." in section.warnings


def test_skills_are_told_by_windows_of_valid_steps_alone(replay_of: Make) -> None:
    steps = np.arange(14.0).reshape(7, 2) / 10
    replay = replay_of([(steps, 0.1 * steps, None)], valid=[[1, 1, 1, 0, 1, 1, 1]])
    space = SimpleNamespace(horizon=2)
    seen = SimpleNamespace(store=replay.store, bundle=SimpleNamespace(contract=SimpleNamespace(space=space)))
    observation, _, places = cut(seen, 0, replay.store.episode(0))  # type: ignore[arg-type]
    assert places.tolist() == [0, 2]
    np.testing.assert_allclose(observation, [steps[:2], steps[4:6]], atol=1e-6)


def test_the_density_does_not_depend_on_the_scale_of_the_space(replay_of: Make) -> None:
    """The same policy in robot's units: loc and scale are doubled in vx, where the density is halved."""
    observation, action = np.array([[0.5, 0.1], [0.2, 0.4]]), np.array([[0.3, 0.2], [0.1, 0.0]])
    config = OpenLoopConfig(samples=0)
    unit = play_log(replay_of([(observation, action, None)]), config, None)[0]["nll"]
    raw = make_bundle("raw", np.diag([2.0, 1.0]).astype(np.float32))
    raw.weights["policy.log_scale"][:] = np.log([1.0, 0.5])  # type: ignore[index]
    assert play_log(replay_of([(observation, action, None)], raw), config, None)[0]["nll"] == pytest.approx(
        unit, abs=1e-6
    )


def test_commands_that_are_not_finite_are_counted_and_left_out(replay_of: Make) -> None:
    bundle = make_bundle(weight=np.full((2, 2), 1e38, np.float32))
    replay = replay_of([([[1e30, 1e30], [0.0, 0.0]], np.zeros((2, 2)), None)], bundle)
    (record,) = play_log(replay, OpenLoopConfig(), RobotLimits.of(SPEC))
    assert record["faults"] in (0, 1)
    assert np.isfinite(record["horizons"]["1"]["square"]).all()


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 5), st.integers(1, 23), st.integers(0, 4), st.integers(0, 2**16))
def test_departures_of_the_log_itself_are_zero_and_the_nearest_is_no_farther_than_any(
    steps: int, length: int, samples: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logged, wanted = rng.normal(size=(length, 2)), rng.normal(size=(length, 2))
    drawn, half = rng.normal(size=(samples, length, 2)), np.array([2.0, 1.0])
    every = np.ones(length, np.bool_)
    found = compute_departures(wanted, drawn, logged, half, steps, every)
    if length < steps:
        assert found is None
        return
    assert found is not None
    assert found["windows"] == length // steps
    same = compute_departures(logged, np.concatenate([drawn, logged[None]]), logged, half, steps, every)
    assert same is not None
    np.testing.assert_allclose([*same["square"], *same["absolute"], *same["nearest"]], 0.0, atol=1e-20)
    for one in drawn:
        alone = compute_departures(one, drawn, logged, half, steps, every)
        assert alone is not None
        assert (alone["nearest"] / half**2).sum() <= (alone["square"] / half**2).sum() + 1e-12
    assert ("nearest" in found) == (samples > 0)


def test_a_constant_departure_stays_and_an_alternating_one_vanishes() -> None:
    logged = np.zeros((8, 1))
    constant, alternating = np.full((8, 1), 0.3), np.tile([[0.3], [-0.3]], (4, 1))
    none = np.zeros((0, 8, 1))
    for wanted, expected in ((constant, 0.09), (alternating, 0.0)):
        found = compute_departures(wanted, none, logged, np.ones(1), 4, np.ones(len(wanted), np.bool_))
        assert found is not None
        np.testing.assert_allclose(found["square"], expected, atol=1e-12)


def test_smoothness_direction_and_spread_by_hand() -> None:
    np.testing.assert_allclose(compute_change(np.array([[0.0], [1.0], [0.0]]), 0.5, np.ones(3, np.bool_)), [4.0])
    assert compute_change(np.zeros((1, 2)), 0.5, np.ones(1, np.bool_)) == [0.0, 0.0]
    assert compute_cosine(np.array([[1.0, 0.0]]), np.array([[-2.0, 0.0]])) == pytest.approx(-1.0)
    assert compute_cosine(np.zeros((3, 2)), np.ones((3, 2))) is None
    records = [
        {"logged": {"steps": 2, "sum": [2.0], "square": [2.0]}},
        {"logged": {"steps": 2, "sum": [-2.0], "square": [2.0]}},
    ]
    np.testing.assert_allclose(compute_spreads(records), [1.0])
    np.testing.assert_allclose(find_half(SPEC), [2.0, 1.0])


class Memory:
    """An agent that remembers its last choice under `name`."""

    def __init__(self, name: str) -> None:
        bundle = make_bundle()
        self.space = RowSpace(bundle.contract.space, SPEC, bundle.weights)
        self.kept: dict[str, NDArray[np.float32]] = {name: np.full((3, 2), 9.0, np.float32)}

    def state(self) -> dict[str, NDArray[np.float32]]:
        return dict(self.kept)

    def load_state(self, arrays: dict[str, NDArray[np.float32]]) -> None:
        self.kept = dict(arrays)

    def act(self, seen: SeenRows) -> NDArray[np.float32]:
        raise AssertionError


def test_a_memory_is_told_the_logged_command() -> None:
    agent = Memory("choice")
    assert find_memory(agent) == "choice"  # type: ignore[arg-type]
    force_choice(agent, "choice", np.array([1.0, -0.5], np.float32))  # type: ignore[arg-type]
    np.testing.assert_allclose(agent.kept["choice"], np.tile([0.5, -0.5], (3, 1)))
    assert find_memory(Memory("hidden")) is None  # type: ignore[arg-type]


RATED = RobotSpec(
    name="rated",
    observation=ArraySpec("observation", (Axis("q", "rad", -1.0, 1.0),)),
    action=ArraySpec("action", (Axis("q", "rad", -1.0, 1.0, rate_limit=2.0),)),
    goal=ArraySpec("goal", (Axis("q", "rad", -1.0, 1.0),)),
    control_period=0.1,
    episode_steps=40,
)


def test_each_clamp_has_its_limit_axis_and_step() -> None:
    """0.2 rad a step are allowed: the second request jumps by .5, the last is beyond the range."""
    limits = RobotLimits.of(RATED)
    requested = np.array([[0.1], [0.6], [0.4], [0.5], [1.5]])
    clamps = find_clamps(ActionLimits.of(RATED, limits), np.zeros(1, np.float32), requested)
    assert clamps.kind[:, 0].tolist() == [NONE, 1, NONE, NONE, 0]
    # sent: .1, .3, .4, .5, .7
    np.testing.assert_allclose(clamps.excess[:, 0], [0.0, 0.3, 0.0, 0.0, 0.8], atol=1e-5)
    assert count_clamps(clamps, limits) == {"q": {"position": 1, "velocity": 1}}
    largest = list_clamps(clamps, limits, requested, 5)
    assert [(row["kind"], row["step"]) for row in largest] == [("position", 4), ("velocity", 1)]
    assert name_kinds(limits, 0)[BRAKING] == "braking"


def test_limits_without_rates_are_those_of_each_step() -> None:
    limits = RobotLimits.of(SPEC)
    clamps = find_clamps(ActionLimits.of(SPEC, limits), np.zeros(2, np.float32), np.array([[3.0, 0.0], [0.0, -1.5]]))
    np.testing.assert_array_equal(clamps.kind, [[0, NONE], [NONE, 0]])
    np.testing.assert_allclose(clamps.excess, [[1.0, 0.0], [0.0, 0.5]])


def test_a_command_that_was_rounded_beyond_a_limit_is_no_clamp() -> None:
    for spec in (SPEC, RATED):
        limits = ActionLimits.of(spec)
        axes = len(spec.action.axes)
        high = np.nextafter(np.float32(limits.high), np.float32(np.inf)).astype(np.float64)
        clamps = find_clamps(limits, limits.high.astype(np.float32), np.tile(high, (2, 1)))
        np.testing.assert_array_equal(clamps.kind, np.full((2, axes), NONE))
        assert not clamps.excess.any()


CHOICES = RobotSpec(
    name="switch",
    observation=SPEC.observation,
    action=make_choice_spec(("stay", "left", "right")),
    goal=SPEC.goal,
    control_period=0.1,
    episode_steps=40,
    choices=("stay", "left", "right"),
)
PROBABILITY = np.array([0.5, 0.3, 0.2])


def make_switch(tmp_path: Path, chosen: list[list[int]]) -> Replay:
    """A policy that chooses with the same probabilities everywhere, on a log of these choices."""
    contract = BundleContract(
        kind="policy",
        robot=CHOICES,
        space=SpaceSettings(name="choice"),
        learner={"hidden": [], "activation": "relu", "greedy": False, "scale": "parameter"},
        budget=Budget(episodes=1),
        provenance={},
    )
    bias = np.log(PROBABILITY).astype(np.float32)
    weights = {"policy.layers.0.weight": np.zeros((3, 2), np.float32), "policy.layers.0.bias": bias}
    features = [
        Feature(
            name=array.name,
            shape=array.shape,
            units=tuple(axis.unit for axis in array.axes),
            role=array.name,  # type: ignore[arg-type]
            axes=array.names,
        )
        for array in (CHOICES.observation, CHOICES.action)
    ]
    episodes = [
        Episode(
            {"observation": np.zeros((len(one), 2), np.float32), "action": np.array(one, np.float32)[:, None]},
            False,
            True,
        )
        for one in chosen
    ]
    schema = Schema(features=tuple(features), control_period=0.1, robot=CHOICES)
    store = write_store(tmp_path / "switch", episodes, schema, {})
    (tmp_path / "kept").mkdir()
    bundle = Bundle(contract, weights, {}, "0" * 64)
    return Replay(label="switch", bundle=bundle, store=store, spec=CHOICES, folder=tmp_path / "kept", view=Silent())


def test_named_choices_by_hand(tmp_path: Path) -> None:
    """The log chooses 0, 1, 2, 0; the policy's likeliest choice is 0."""
    replay = make_switch(tmp_path, [[0, 1, 2, 0], [0, 0, 0, 0]])
    config = OpenLoopConfig(samples=64, horizon=2)
    first, second = records = play_log(replay, config, None)
    assert first["nll"] == pytest.approx(-np.log(PROBABILITY[[0, 1, 2, 0]]).mean())
    found = first["choices"]
    assert found["counts"] == [[2, 0, 0], [1, 0, 0], [1, 0, 0]]
    # over 1 step 2 of 4 differ; over 2 steps half of each window does: {0, 1} and {2, 0} against {0, 0}
    assert found["windows"]["1"] == {"windows": 4, "distance": 0.5}
    assert found["windows"]["2"] == {"windows": 2, "distance": 0.5}
    assert "20" not in found["windows"]
    assert found["hits"] == 1.0  # of 64 draws one is each choice
    assert found["change"] == {"policy": 0.0, "log": pytest.approx(10.0)}
    assert second["choices"]["windows"]["1"]["distance"] == 0.0
    section = make_open_loop(replay, config, records)
    assert section.data["agreement"]["mean"] == pytest.approx(0.75)
    assert section.data["error_share"] == pytest.approx(0.25 / 0.25)  # 'stay' is 6 of 8 as well
    assert "'stay', the log's most frequent one, would in 75.0%" in section.findings[0]
    assert section.tables[1].table.groups[""][1] == ("left", "12.5%", "0%", "stay, 100%")
    json.dumps(section.data, allow_nan=False)


class Recorder:
    """An agent over skills of two steps, whose command is its latent times the observation; it notes what it sees."""

    def __init__(self, seen: list[tuple[float, float]]) -> None:
        self.space, self.seen = Doubled(), seen

    def begin_task(self, rows: int) -> None: ...

    def begin_episode(self, *, explore: bool = True) -> None: ...

    def state(self) -> dict[str, NDArray[np.float32]]:
        return {}

    def act(self, seen: SeenRows) -> NDArray[np.float32]:
        self.seen.append((float(seen.observation[0, 0]), float(seen.reward[0])))
        return np.arange(1, len(seen.rows) + 1, dtype=np.float32)[:, None]


class Doubled:
    horizon, latent_dim, choices = 2, 1, 0

    def hold(self, latent: NDArray[np.float32]) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
        return lambda observation: latent * observation


class Recorded:
    """A bundle of such agents."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def make_agent(self, noise: object) -> Recorder:
        return Recorder(self.seen)


def test_a_skill_lasts_for_its_steps_and_its_reward_is_that_of_all_of_them(replay_of: Make) -> None:
    observation = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50]], np.float32)
    replay, bundle = replay_of([(observation, np.zeros((5, 2)), np.arange(5) + 1)]), Recorded()
    for timed in (False, True):
        bundle.seen.clear()
        forced = force_episode(replace(replay, bundle=bundle), 3, 0, replay.store.episode(0), timed=timed)  # type: ignore[arg-type]
        # decisions at steps 0, 2 and 4, each of three agents; rewards 1 + 2 and 3 + 4
        assert bundle.seen == [*[(1.0, 0.0)] * 3, *[(3.0, 3.0)] * 3, *[(5.0, 7.0)] * 3]
        np.testing.assert_array_equal(forced.action, observation)
        np.testing.assert_array_equal(forced.samples, [observation, 2 * observation, 3 * observation])
