"""The loop that adapts any agent: budgets, records, evaluation on a fork, and going on exactly after any episode."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supple.adapt.audit import AuditLog
from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget
from supple.adapt.host.export import write_exported
from supple.adapt.host.exported import Exported
from supple.adapt.host.hosts import make_hosted
from supple.adapt.host.maml import export_maml
from supple.adapt.host.mlsh import export_mlsh
from supple.adapt.host.pearl import export_pearl
from supple.adapt.host.rl2 import export_rl2
from supple.adapt.host.simpl import export_simpl, export_spirl
from supple.adapt.loop import Adapter, Record
from supple.adapt.runtime_agent import RandomNoise, SeenRows
from supple.adapt.safety import SafetyLimits
from supple.errors import BundleError, ConfigError, RobotFault, RunError
from supple.meta.gradient.config import MamlConfig
from supple.meta.gradient.maml_learner import MamlLearner
from supple.meta.hierarchy.config import MlshConfig
from supple.meta.hierarchy.mlsh_learner import MlshLearner
from supple.meta.inference.config import PearlConfig
from supple.meta.inference.pearl_learner import PearlLearner
from supple.meta.memory.config import Rl2Config
from supple.meta.memory.rl2_learner import Rl2Learner
from supple.meta.simpl.config import FinetuneConfig, SimplConfig, SpirlConfig
from supple.meta.simpl.deployment import DeploymentConfig
from supple.meta.simpl.learner import SimplLearner
from supple.meta.simpl.spirl import SpirlLearner
from supple.meta.space import RawSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.robots.robot import Holds, StepRows
from supple.robots.task import Task

STEPS, EPISODES = 5, 6
TASKS = (Task("here", (0.0, 0.0)), Task("near", (1.5, 1.0)), Task("never", (500.0, 0.0)))
"""Reached at once, now and then, and not at all."""
GOALS = np.array([task.goal for task in TASKS], np.float32)
TUNING = FinetuneConfig(batch=8, min_transitions=4, reuse_rate=8.0, pool_episodes=16)


class TellingPoints(PointBatch):
    """Points that tell success."""

    def step(self, rows: Any, action: Any) -> StepRows:
        step = super().step(rows, action)
        return step._replace(success=step.reward > 0.0)


def make_robot(rows: int = 3, tells: bool = True) -> PointBatch:
    return (TellingPoints if tells else PointBatch)(rows, episode_steps=STEPS, radius=1.5)


def export(kind: str) -> Exported:
    robot = make_robot(8)
    raw = RawSpace(robot.spec, torch.zeros(2), torch.full((2,), 4.0))
    unit = UnitSpace(robot.spec)
    if kind == "simpl":
        config = SimplConfig(embedding_dim=2, hidden=(8, 8), encoder_hidden=8, epochs=1, success_batch=2, batch=8)
        deployment = DeploymentConfig(exploration_episodes=3, context=16, candidates=8, finetune=TUNING)
        return export_simpl(SimplLearner(raw, robot, GOALS, config), deployment)
    if kind == "spirl":
        return export_spirl(SpirlLearner(raw, robot, GOALS, SpirlConfig(hidden=(8, 8), finetune=TUNING, tasks=2)))
    if kind == "rl2":
        return export_rl2(Rl2Learner(unit, robot, GOALS, Rl2Config(trials=2, hidden=7, iterations=1)), greedy=False)
    if kind == "pearl":
        config_of_pearl = PearlConfig(embedding_dim=3, encoder_hidden=(5,), rollouts=1, tasks=2, iterations=1)
        return export_pearl(PearlLearner(unit, robot, GOALS, config_of_pearl), prior_episodes=1, greedy=False)
    if kind == "mlsh":
        mlsh = MlshConfig(sub_policies=3, hold=2, groups=2, rollouts=2, warmup=1, joint=1, iterations=1, hidden=(7,))
        return export_mlsh(MlshLearner(unit, robot, GOALS, mlsh), random_choice=0.0)
    maml = MamlConfig(hidden=(5,), tasks=2, episodes=2, iterations=1, step_size=0.1)
    return export_maml(MamlLearner(unit, robot, GOALS, maml), later_scale=1.0)


BUDGETS = {
    "simpl": Budget(episodes=EPISODES, exploration_episodes=3),
    "spirl": Budget(episodes=EPISODES),
    "rl2": Budget(episodes=EPISODES, exploration_episodes=1),
    "pearl": Budget(episodes=EPISODES),
    "mlsh": Budget(episodes=2, adapt_steps=2),
    "maml": Budget(episodes=2, adapt_steps=2),
}
KINDS = tuple(BUDGETS)


@pytest.fixture(scope="module")
def bundle_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    folder, made = tmp_path_factory.mktemp("bundles"), {}

    def find(kind: str) -> Bundle:
        if kind not in made:
            spec = make_robot(1).spec
            made[kind] = write_exported(
                folder / kind, export(kind), spec, BUDGETS[kind], simulator=None, provenance={"seed": 0}
            )
        return made[kind]

    return find


def make_adapter(
    bundle: Bundle, seed: int = 0, rows: int = 3, tasks: tuple[Task, ...] = TASKS, tells: bool = True
) -> Adapter:
    rng = np.random.default_rng(seed)
    agent = make_hosted(bundle, RandomNoise(rng))
    robot = make_robot(rows, tells)
    return Adapter(agent, robot, tasks, bundle.contract.budget, EPISODES, rng, make_fork=bundle.make_agent)


def snapshot(adapter: Adapter) -> tuple[dict[str, Any], dict[str, Any]]:
    arrays, facts = adapter.state()
    return {name: value.copy() for name, value in arrays.items()}, facts


def assert_same(one: Adapter, other: Adapter) -> None:
    (arrays, facts), (others, other_facts) = one.state(), other.state()
    assert arrays.keys() == others.keys()
    assert [name for name in arrays if not np.array_equal(arrays[name], others[name])] == []
    assert facts == other_facts


@pytest.mark.parametrize("kind", KINDS)
def test_it_goes_on_exactly_after_any_episode(kind: str, bundle_of: Callable[[str], Bundle]) -> None:
    whole = make_adapter(bundle_of(kind))
    states, records = [snapshot(whole)], []
    for round_records in whole.run():
        records.append(round_records)
        states.append(snapshot(whole))
    assert len(records) == EPISODES
    for rounds in (0, 2, 3, 5, 6):
        again = make_adapter(bundle_of(kind), seed=9)
        again.load_state(*states[rounds])
        assert list(again.run()) == records[rounds:]
        assert_same(whole, again)


@pytest.mark.parametrize("kind", KINDS)
def test_evaluating_disturbs_nothing(kind: str, bundle_of: Callable[[str], Bundle]) -> None:
    plain, evaluated = (make_adapter(bundle_of(kind), rows=7) for _ in range(2))
    results = [evaluated.evaluate(3, 1, greedy=True)]
    records = []
    for round_records in evaluated.run():
        records.append(round_records)
        results.append(evaluated.evaluate(3, 1, greedy=False))
        evaluated.evaluate(3, 1, greedy=True)
    assert records == list(plain.run())
    assert_same(plain, evaluated)
    for found in results:
        assert found.success is not None
        assert found.returns.shape == found.success.shape == (3, 3)
        assert found.success[0].all()
        assert not found.success[2].any()
        assert (found.returns[2] == 0.0).all()


@pytest.mark.parametrize("kind", KINDS)
def test_evaluations_are_repeatable_and_greedy_ones_differ(kind: str, bundle_of: Callable[[str], Bundle]) -> None:
    adapter = make_adapter(bundle_of(kind), rows=12)
    for _ in range(4):
        adapter.round()
    paths: list[Any] = []
    robot_step = adapter.robot.step

    def step(rows: Any, action: Any) -> StepRows:
        paths.append(action.copy())
        return robot_step(rows, action)

    adapter.robot.step = step  # type: ignore[method-assign]
    played = []
    for greedy in (False, False, True):
        paths.clear()
        adapter.evaluate(4, 5, greedy=greedy)
        played.append(np.concatenate(paths))
    np.testing.assert_array_equal(played[0], played[1])
    assert played[2].shape != played[0].shape or not np.array_equal(played[2], played[0])


@pytest.mark.parametrize("kind", ["simpl", "maml", "mlsh", "rl2"])
def test_the_rows_of_a_fork_act_as_the_row_of_their_task(kind: str, bundle_of: Callable[[str], Bundle]) -> None:
    adapter = make_adapter(bundle_of(kind))
    for _ in range(5):
        adapter.round()
    actions = []
    for repeats, rows in ((1, 3), (2, 6)):
        adapter.robot = NoiselessPoints(rows)
        log: list[Any] = []
        adapter.robot.log = log
        adapter.evaluate(repeats, 3, greedy=True)
        actions.append(log[0])
    settled = slice(None, 4 if kind == "simpl" else None)  # the last task is inferred anew, from a context drawn anew
    np.testing.assert_allclose(actions[1][settled], np.repeat(actions[0], 2, axis=0)[settled], rtol=1e-5, atol=1e-6)


class NoiselessPoints(TellingPoints):
    """Points that all start at the origin, and note what they are told."""

    log: list[Any]

    def __init__(self, rows: int) -> None:
        super().__init__(rows, episode_steps=STEPS, radius=0.01, noise=0.0)

    def step(self, rows: Any, action: Any) -> StepRows:
        self.log.append(action.copy())
        return super().step(rows, action)


def by_task(rounds: list[list[Record]], index: int) -> list[Record]:
    return [records[index] for records in rounds]


def test_records_by_task(bundle_of: Callable[[str], Bundle]) -> None:
    rounds = list(make_adapter(bundle_of("simpl")).run())
    for index, task in enumerate(TASKS):
        records = by_task(rounds, index)
        assert [record["episode"] for record in records] == list(range(1, EPISODES + 1))
        assert [record["stage"] for record in records] == ["explore"] * 3 + ["play"] * 3
        assert {(record["task"], tuple(record["goal"])) for record in records} == {(task.name, task.goal)}
        assert all(record["success"] == (record["return"] > 0.0) for record in records)
        assert all((record["steps"] < STEPS) <= record["success"] for record in records)
    assert all(record["success"] and record["steps"] == 1 for record in by_task(rounds, 0))
    assert all(not record["success"] and record["steps"] == STEPS for record in by_task(rounds, 2))


def test_success_stands_only_where_it_is_told(bundle_of: Callable[[str], Bundle]) -> None:
    adapter = make_adapter(bundle_of("rl2"), tells=False)
    assert all("success" not in record for record in adapter.round())
    assert adapter.evaluate(2, 0, greedy=False).success is None


def test_the_same_seed_gives_the_same_records_and_another_does_not(
    bundle_of: Callable[[str], Bundle],
) -> None:
    one, other, third = (list(make_adapter(bundle_of("simpl"), seed=seed).run()) for seed in (0, 0, 1))
    assert one == other != third


def test_one_row_of_a_real_robot_is_enough(bundle_of: Callable[[str], Bundle]) -> None:
    records = list(make_adapter(bundle_of("simpl"), rows=1, tasks=TASKS[:1]).run())
    assert [len(round_records) for round_records in records] == [1] * EPISODES


@pytest.mark.parametrize("fault", [RobotFault("not finite"), KeyboardInterrupt(), ValueError("shape")])
def test_an_agent_that_fails_in_the_middle_of_an_episode_stops_the_robot(
    bundle_of: Callable[[str], Bundle], tmp_path: Path, fault: BaseException
) -> None:
    adapter = make_adapter(bundle_of("simpl"), rows=1, tasks=TASKS[2:])
    told: list[str] = []
    log = AuditLog(tmp_path / "audit.jsonl")
    adapter.robot = SafetyLimits(adapter.robot, log, on_stop=told.append)
    act, calls = adapter.agent.act, []

    def fail_later(seen: SeenRows) -> Any:
        calls.append(seen)
        if len(calls) > 1:
            raise fault
        return act(seen)

    adapter.agent.act = fail_later  # type: ignore[method-assign]
    with pytest.raises(type(fault)):
        adapter.round()
    assert len(told) == 1
    assert f"cut off: {type(fault).__name__}" in str(adapter.robot.stop_reason)
    log.close()
    assert AuditLog(tmp_path / "audit.jsonl").stop_reason == adapter.robot.stop_reason


@pytest.mark.parametrize("fault", [KeyboardInterrupt(), ValueError("shape")])
def test_a_stop_that_does_not_reach_the_robot_stands_beside_the_first_error(
    bundle_of: Callable[[str], Bundle], tmp_path: Path, fault: BaseException
) -> None:
    """Before, it took its place: a Ctrl-C became a fault, and nobody was told what had gone wrong at first."""
    adapter = make_adapter(bundle_of("simpl"), rows=1, tasks=TASKS[2:])

    def cut(reason: str) -> None:
        raise OSError("no link")

    def fail(seen: SeenRows) -> Any:
        raise fault

    adapter.robot = SafetyLimits(adapter.robot, AuditLog(tmp_path / "audit.jsonl"), on_stop=cut)
    adapter.agent.act = fail  # type: ignore[method-assign]
    with pytest.raises(type(fault)) as caught:
        adapter.round()
    (note,) = caught.value.__notes__
    assert "the robot could not be told to stop: OSError no link; cut its power" in note


def test_what_is_not_there_is_refused(bundle_of: Callable[[str], Bundle]) -> None:
    bundle = bundle_of("rl2")
    adapter = make_adapter(bundle)
    arrays, facts = snapshot(adapter)
    with pytest.raises(RunError, match="expected this run's tasks"):
        make_adapter(bundle, tasks=TASKS[::-1]).load_state(arrays, facts)
    for name in ("episode", "rng"):
        with pytest.raises(RunError, match="expected a whole state"):
            make_adapter(bundle).load_state(arrays, {key: value for key, value in facts.items() if key != name})
    with pytest.raises(RunError, match="expected a whole state"):
        make_adapter(bundle).load_state({k: v for k, v in arrays.items() if k != "agent.hidden"}, facts)
    with pytest.raises(ConfigError, match="adaptation to 3 tasks: expected as many robot rows, got 2"):
        make_adapter(bundle, rows=2)
    alone = Adapter(adapter.agent, adapter.robot, TASKS, adapter.budget, 2, adapter.rng)
    with pytest.raises(RunError, match="expected an agent that can be forked"):
        alone.evaluate(1, 0, greedy=False)


def test_settings_may_be_changed_after_export(bundle_of: Callable[[str], Bundle], tmp_path: Path) -> None:
    bundle = bundle_of("simpl").with_settings({"search": "blind", "keep_searching": False})
    adapter = make_adapter(bundle)  # its golden trial was played with the settings of the export
    for _ in range(3):
        adapter.round()
    state = adapter.agent.state()
    assert state["visited"].shape == (3, 0, 2)
    assert state["settled"].all()
    with pytest.raises(BundleError, match=r"settings: expected some of .*, got 'speed'"):
        bundle.with_settings({"speed": 1})
    with pytest.raises(BundleError, match=r"learner\.search: expected blind or directed, got 'deep'"):
        bundle.with_settings({"search": "deep"})
    with pytest.raises(BundleError, match=r"learner\.candidates: expected an integer, got 'many'"):
        bundle.with_settings({"candidates": "many"})


class HeldPoints(PointBatch, Holds):
    """Points that can be held; they note how far an episode was when they were."""

    def __init__(self) -> None:
        super().__init__(1, episode_steps=STEPS, radius=0.0)
        self.steps, self.held = 0, list[int]()

    def step(self, rows: Any, action: Any) -> StepRows:
        self.steps += 1
        return super().step(rows, action)

    def hold(self) -> None:
        self.held.append(self.steps)


def test_a_robot_is_held_at_the_end_of_every_episode_and_before_anything_is_learned(
    bundle_of: Callable[[str], Bundle], tmp_path: Path
) -> None:
    robot, rng = HeldPoints(), np.random.default_rng(0)
    bundle = bundle_of("rl2")
    agent = make_hosted(bundle, RandomNoise(rng))
    log = AuditLog(tmp_path / "audit.jsonl", simulator=True)
    adapter = Adapter(agent, SafetyLimits(robot, log), TASKS[2:], bundle.contract.budget, 2, rng)
    adapter.play()
    assert robot.held == [STEPS]
    adapter.learn()
    adapter.round()
    assert robot.held == [STEPS, 2 * STEPS]
    log.close()
