"""Guards around updates: what they measure, limit and undo, and that they do nothing where all is well."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks.poison import EPISODES, NearPoints, adapt_poisoned, make_bundle
from supple.adapt.bundle import Bundle
from supple.adapt.guard_config import GuardConfig
from supple.adapt.guards import GUARD, GuardedAgent, Outcome, Play, Signals, compute_drop, compute_t, find_worse
from supple.adapt.host.hosts import make_hosted
from supple.adapt.loop import Adapter, run_episode
from supple.adapt.policy_change import PolicyChange, choose_states, take_learned, with_learned
from supple.adapt.runtime_agent import RandomNoise, RowEpisodes, RuntimeAgent
from supple.adapt.updates import UpdateFault
from supple.errors import ConfigError, RobotFault, RunError
from supple.robots.task import Task

TASK = (Task("corner", (4.0, 3.0)),)
GOALS = np.array([TASK[0].goal], np.float32)
CONFIG = GuardConfig()


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "spirl")


class Cell:
    """A robot, a guarded agent and what was held."""

    def __init__(self, bundle: Bundle, config: GuardConfig = CONFIG, seed: int = 0, guarded: bool = True) -> None:
        self.robot, rng = NearPoints(1), np.random.default_rng(seed)
        self.held: list[str] = []
        self.speeds: list[float] = []
        self.signals = Signals()
        agent: RuntimeAgent = make_hosted(bundle, RandomNoise(rng))
        if guarded:
            agent = self.guards = GuardedAgent(
                agent,
                bundle.make_agent,
                bundle.weights,
                config,
                moves=True,
                exploring=0,
                play=self.play,
                read_signals=lambda: self.signals,
                hold=self.held.append,
                control_period=0.1,
                seed=seed,
            )
        self.adapter = Adapter(agent, self.robot, TASK, bundle.contract.budget, EPISODES, rng)

    def play(self, copy: RuntimeAgent, speed: float, rng: np.random.Generator) -> Play:
        self.speeds.append(speed)
        return Play(run_episode(self.robot, copy, GOALS, rng), self.signals)


def run_rounds(cell: Cell, count: int) -> None:
    for _ in range(count):
        cell.adapter.round()


def events(cell: Cell) -> list[str]:
    return [event["event"] for event in cell.guards.events]


def test_quantiles_agree_with_a_table() -> None:
    table = {2: 9.925, 4: 4.604, 6: 3.707, 8: 3.355, 13: 3.012, 30: 2.750}
    for freedom, value in table.items():
        assert compute_t(freedom) == pytest.approx(value, rel=0.16 if freedom < 4 else 0.02)


def test_a_drop_is_the_one_worked_by_hand() -> None:
    reference, recent = np.array([1.0, 2.0, 3.0]), np.array([-9.0, -8.0, -10.0])
    # means 2 and -9, pooled variance (2 + 2) / 4 = 1, half = t(4) sqrt(1 (1/3 + 1/3))
    assert compute_drop(reference, recent) == pytest.approx(11.0 - compute_t(4) * np.sqrt(2 / 3), abs=1e-4)
    assert compute_drop(recent, reference) < 0.0
    assert compute_drop(np.ones(5), np.zeros(3)) > 0.0
    assert compute_drop(np.ones(5), np.ones(3)) <= 0.0
    assert compute_drop(np.array([np.nan] * 5), np.zeros(3)) == 0.0


values = arrays.arrays(np.float64, st.integers(1, 8), elements=st.floats(-100, 100, width=32))


@given(values, values, st.floats(-50, 50))
def test_a_drop_does_not_depend_on_where_zero_is(one: Any, other: Any, shift: float) -> None:
    assert compute_drop(one + shift, other + shift) == pytest.approx(compute_drop(one, other), abs=1e-3)
    if compute_drop(one, other) > 0.0:
        assert compute_drop(other, one) <= 0.0


def test_intervals_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    alarms = [compute_drop(*np.split(rng.standard_normal(8), [5])) > 0.0 for _ in range(4000)]
    assert np.mean(alarms) < 0.0075  # one side of 99 %, two standard errors included


def test_each_number_that_is_worse_is_named() -> None:
    good = np.array([[1.0, 1.0, 0.0, 2.0]] * 5)
    for column, (name, value) in enumerate((("return", 0.0), ("success", 0.0), ("clamps", 0.9), ("unknown", 9.0))):
        recent = good[:3].copy()
        recent[:, column] = value
        assert str(find_worse(good, recent, CONFIG)).startswith(name)
        assert find_worse(good, recent[:, :], CONFIG, returns=False) is None or column > 1
    assert find_worse(good, good[:3], CONFIG) is None
    assert find_worse(good, np.array([[0.0, 0.0, 0.04, 2.0]]), CONFIG) is None  # one episode, and within the margin


def test_nothing_changes_where_nothing_is_wrong(bundle: Bundle) -> None:
    """With caps and canaries out of the way the guarded agent does what the bare one does, bit for bit."""
    wide = GuardConfig(step_kl=1e9, prior_kl=1e9, canary=False, max_rollbacks=1000)
    guarded, bare = Cell(bundle, wide), Cell(bundle, guarded=False)
    records = [[cell.adapter.round() for _ in range(9)] for cell in (guarded, bare)]
    assert events(guarded) == ["baseline"]
    assert guarded.guards.counts["updates"] > 4
    assert records[0] == records[1]
    state = {name: value for name, value in guarded.guards.state().items() if not name.startswith(GUARD)}
    other = bare.adapter.agent.state()
    assert state.keys() == other.keys()
    assert all(np.array_equal(state[name], other[name]) for name in state)


def test_updates_stay_within_both_caps(bundle: Bundle) -> None:
    tight = GuardConfig(step_kl=0.002, prior_kl=0.005, canary=False, max_rollbacks=1000)
    cell = Cell(bundle, tight)
    prior = take_learned(cell.adapter.agent.state())
    for _ in range(8):
        cell.adapter.play()
        played = cell.adapter._played
        assert played is not None
        before = cell.adapter.agent.state()
        cell.adapter.learn()
        after = cell.adapter.agent.state()
        change = PolicyChange(bundle.make_agent, choose_states(played))
        assert (change.compute_kl(after, with_learned(after, take_learned(before))) <= 0.002 + 1e-9).all()
        assert (change.compute_kl(after, with_learned(after, prior)) <= 0.005 + 1e-9).all()
    assert "limited" in events(cell)
    assert cell.guards.kl["prior"] > 0.0


def test_kl_is_that_of_gaussians_worked_by_hand(bundle: Bundle) -> None:
    state = Cell(bundle, guarded=False).adapter.agent.state()
    shifted = {name: value.copy() for name, value in state.items()}
    last = max(name for name in shifted if name.startswith("params.layers.") and name.endswith("bias"))
    shifted[last][:, 0] += 0.5  # the mean of the first latent, whose scale the raw space's prior gives as 1
    rows = np.zeros((1, 3, 2), np.float32)
    agent: Any = bundle.make_agent(RandomNoise(np.random.default_rng(0)))
    agent.load_state({name: value for name, value in state.items() if not name.startswith("host.")})
    seen = PolicyChange(bundle.make_agent, rows)
    scale = seen.describe(state)[1][0, 0]
    assert seen.compute_kl(shifted, state) == pytest.approx(0.5 * (0.5 / scale) ** 2, rel=1e-4)
    assert seen.compute_kl(state, state) == pytest.approx(0.0, abs=1e-12)


def test_a_state_goes_on_exactly_also_between_playing_and_learning(bundle: Bundle) -> None:
    whole = Cell(bundle)
    states, records = [], []
    for episode in range(8):
        whole.adapter.play()
        whole.guards.keep_signals()
        states.append(whole.adapter.state() if episode % 2 else None)
        records.append(whole.adapter.learn())
    for episode in (3, 7):
        taken = states[episode]
        assert taken is not None
        again = Cell(bundle, seed=9)
        again.guards._seed = whole.guards._seed
        again.adapter.load_state({name: value.copy() for name, value in taken[0].items()}, taken[1])
        found = []
        while again.adapter.episode < 8:
            again.adapter.play()
            found.append(again.adapter.learn())
        assert found == records[episode:]
        one, other = whole.adapter.state()[0], again.adapter.state()[0]
        assert one.keys() == other.keys()
        one.pop("agent.output"), other.pop("agent.output")  # at the last observation; nothing acts by it
        assert [n for n in one if not np.array_equal(one[n], other[n], equal_nan=one[n].dtype.kind == "f")] == []


def spoil(cell: Cell, **fields: Any) -> None:
    """Lets every later episode of the adapter be another one, as far as the guards can see."""
    observe = cell.guards.observe
    cell.adapter.agent.observe = lambda seen: observe(seen._replace(**fields))  # type: ignore[method-assign]


def test_worse_returns_roll_back_then_fall_back_then_hold(bundle: Bundle) -> None:
    cell = Cell(bundle, GuardConfig(max_rollbacks=1, canary=False))
    for _ in range(7):
        cell.adapter.round()
    prior = {name: value.copy() for name, value in bundle.weights.items() if name.startswith("policy.")}
    played: RowEpisodes = run_episode(cell.robot, bundle_agent(bundle), GOALS, np.random.default_rng(0))
    spoil(cell, reward=np.full_like(played.reward, -9.0), reward_range=np.array([[-9.0, 1.0]], np.float32))
    while not cell.guards.counts["fallen"]:
        cell.adapter.round()
    assert cell.guards.counts["rollbacks"] == 2
    for name, value in cell.guards.params.items():
        np.testing.assert_array_equal(value[0], prior[f"policy.{name}"])
    updates = cell.guards.counts["updates"]
    with pytest.raises(RobotFault, match="expected the prior policy to do as it did, got return"):
        run_rounds(cell, 9)
    assert len(cell.held) == 1
    assert cell.guards.counts["updates"] == updates
    assert events(cell)[-3:] == ["rollback", "prior", "hold"]


def bundle_agent(bundle: Bundle) -> RuntimeAgent:
    agent = bundle.make_agent(RandomNoise(np.random.default_rng(0)))
    agent.begin_task(1)
    return agent


def test_a_canary_plays_slowly_and_takes_back_what_clamps_more(bundle: Bundle) -> None:
    cell = Cell(bundle, GuardConfig(canary_kl=0.0, max_rollbacks=100))
    while "canary" not in events(cell):
        cell.adapter.round()
    assert cell.speeds[-1] == CONFIG.canary_speed
    assert set(cell.speeds[:-1]) == {1.0}
    cell.signals, kept = Signals(clamped=0.9), cell.guards.state()
    cell.guards._recent = np.zeros((0, 4))
    cell.guards._update(lambda: cell.guards.set_params(shift(cell.guards.params)))
    assert "clamps 0.9" in cell.guards.events[-1]["reason"]
    assert events(cell)[-2:] == ["canary", "rollback"]
    anchor = {n.removeprefix(f"{GUARD}anchor."): v for n, v in kept.items() if n.startswith(f"{GUARD}anchor.")}
    for name, value in take_learned(cell.guards.state()).items():
        np.testing.assert_array_equal(value, anchor[name])


def shift(params: dict[str, Any]) -> dict[str, Any]:
    return {name: value + np.float32(0.05) for name, value in params.items()}


def test_numbers_that_are_not_finite_are_undone(bundle: Bundle) -> None:
    cell = Cell(bundle)
    for _ in range(4):
        cell.adapter.round()
    broken = {name: np.full_like(value, np.nan) for name, value in cell.guards.params.items()}
    cell.guards._update(lambda: cell.guards.set_params(broken))
    assert all(np.isfinite(value).all() for value in cell.guards.params.values())
    assert "is not finite" in cell.guards.events[-1]["reason"]


def test_weights_that_may_not_change_are_looked_after(bundle: Bundle) -> None:
    own = replace(bundle, weights={name: value.copy() for name, value in bundle.weights.items()})
    cell = Cell(own)
    cell.adapter.round()
    own.weights["space.std"][0] += 1.0
    with pytest.raises(RunError, match="expected the weights of the bundle as they were loaded"):
        run_rounds(cell, 3)


def test_budgets_end_learning_and_motion(bundle: Bundle) -> None:
    cell = Cell(bundle, GuardConfig(max_updates=2, max_robot_seconds=12.0))
    while not cell.guards.exhausted:
        cell.adapter.round()
    assert cell.guards.counts["updates"] == 2
    assert 12.0 <= cell.guards.robot_seconds < 14.0
    with pytest.raises(ConfigError, match="step_kl"):
        GuardConfig(step_kl=0.0)


def play_all(cell: Cell, count: int) -> None:
    """As the stage does: rounds until no budget is left, then the last judgement."""
    while cell.adapter.episode < count and not cell.guards.exhausted:
        cell.adapter.round()
    cell.guards.finish()


@pytest.mark.parametrize("canary", [False, True])
@pytest.mark.parametrize("seconds", [0.5, 2.0, 3.5, 5.0, 6.5, 8.0, 9.5, 11.0, 12.5, 14.0])
def test_no_extra_episode_begins_once_the_seconds_are_used_up(bundle: Bundle, seconds: float, canary: bool) -> None:
    config = GuardConfig(max_robot_seconds=seconds, canary=canary, canary_kl=0.0, step_kl=1e9, prior_kl=1e9)
    cell = Cell(bundle, config)
    before: list[float] = []
    play = cell.play

    def count(*args: Any) -> Play:
        before.append(cell.guards.robot_seconds)
        return play(*args)

    cell.guards._play = count
    play_all(cell, 6)
    longest = cell.robot.spec.episode_steps * cell.robot.spec.control_period
    assert all(moved < seconds for moved in before)
    assert cell.guards.robot_seconds < seconds + longest
    assert cell.guards.counts["unjudged"] == 0
    baseline = len(cell.guards._baseline)
    if baseline < config.baseline:  # the prior policy has no interval: no other one may act
        assert cell.guards._anchor == {}
        learned = take_learned(cell.guards.state())
        assert all(np.array_equal(learned[name], value) for name, value in cell.guards._first.items())


@pytest.mark.parametrize("canary", [False, True])
def test_a_policy_that_cannot_be_judged_any_more_is_undone(bundle: Bundle, canary: bool) -> None:
    cell = Cell(bundle, GuardConfig(canary=canary, canary_kl=0.0, step_kl=1e9, prior_kl=1e9))
    run_rounds(cell, 6)
    assert cell.guards.counts["updates"] > 1
    before = take_learned(cell.guards.state())
    cell.guards._counts["unjudged"] = 0  # as after an episode
    left = cell.guards.robot_seconds + 1e-3  # enough to begin one more episode
    cell.guards.config = replace(cell.guards.config, max_robot_seconds=left)
    params = {name: value + np.float32(0.05) for name, value in cell.guards.params.items()}
    cell.guards._update(lambda: cell.guards.set_params(params))
    if not canary:  # the canary uses up what is left, else the last judgement does
        assert cell.guards.counts["unjudged"] == 1
        before = take_learned(cell.guards._anchor)
        cell.guards.finish()
    assert events(cell)[-1] == "budget"
    now = take_learned(cell.guards.state())
    assert all(np.array_equal(now[name], value) for name, value in before.items())
    assert cell.guards.counts["unjudged"] == 0
    extra = cell.guards.counts["extra"]
    cell.guards.finish()
    assert cell.guards.counts["extra"] == extra


def test_the_last_policy_is_judged_too(bundle: Bundle) -> None:
    cell = Cell(bundle, GuardConfig(canary=False))
    for _ in range(6):
        cell.adapter.round()
    cell.guards.set_params({name: np.zeros_like(value) - 1.0 for name, value in cell.guards.params.items()})
    cell.guards._counts["unjudged"] = 1
    cell.guards.finish()
    assert events(cell)[-1] == "rollback"
    extra = cell.guards.counts["extra"]
    cell.guards.finish()
    assert cell.guards.counts["extra"] == extra


def test_a_state_without_guards_is_refused(bundle: Bundle) -> None:
    bare = Cell(bundle, guarded=False).adapter.agent.state()
    with pytest.raises(RunError, match="guards: expected a whole state"):
        Cell(bundle).guards.load_state(bare)


@pytest.mark.parametrize("poison", ["nan", "inverted", "constant"])
def test_poisoned_rewards_leave_a_policy_that_is_no_worse(bundle: Bundle, tmp_path: Path, poison: Any) -> None:
    found = adapt_poisoned(bundle, poison, tmp_path, 0, guards=CONFIG)
    assert found.drop <= 0.0
    if poison == "inverted":
        bare = adapt_poisoned(bundle, poison, tmp_path, 1, guards=None)
        assert bare.drop > 0.0  # the poison works


def test_what_nobody_measured_is_no_number_in_a_record(bundle: Bundle) -> None:
    cell = Cell(bundle)
    cell.adapter.round()
    assert "unknown" not in cell.guards.describe()
    assert Outcome(1.0, np.nan, 0.0, np.nan)._asdict().keys() >= {"returned", "clamped"}


def test_updates_that_do_not_come_to_their_end_change_nothing_and_count_as_roll_backs(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = Cell(bundle, replace(CONFIG, max_rollbacks=1, canary=False))
    while not cell.guards.counts["updates"]:
        run_rounds(cell, 1)
    good, updates = take_learned(cell.adapter.agent.state()), cell.guards.counts["updates"]

    def die(episodes: Any) -> None:
        raise UpdateFault("update: expected a child that learns, got its end by signal 9")

    monkeypatch.setattr(cell.guards._acting, "observe", die)
    run_rounds(cell, 1)
    assert events(cell)[-1] == "failed"
    assert "signal 9" in cell.guards.events[-1]["reason"]
    assert cell.guards.counts["rollbacks"] == 1
    assert cell.guards.counts["updates"] == updates
    now = take_learned(cell.adapter.agent.state())
    assert all(np.array_equal(now[name], value) for name, value in good.items())
    run_rounds(cell, 1)
    assert events(cell)[-1] == "prior"  # a machine that cannot learn does not go on with a policy that it cannot mend
    assert cell.guards.fallen
    run_rounds(cell, 1)  # nothing is learned any more, and nothing fails
    assert not cell.held
