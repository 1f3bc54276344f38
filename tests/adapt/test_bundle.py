"""A bundle of a learner is loaded as it was written, or refused with the reason."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supple.adapt.bundle import Bundle, load_bundle, require_robot, write_bundle
from supple.adapt.bundle_folder import FILES, MANIFEST
from supple.adapt.contract import Budget
from supple.adapt.golden_trial import GOLDEN_TOLERANCE, ROUND, require_close
from supple.adapt.host import export
from supple.adapt.host.export import write_exported
from supple.adapt.host.hosts import make_hosted, require_adaptation
from supple.adapt.host.maml import export_maml
from supple.adapt.host.rl2 import export_rl2
from supple.adapt.host.torch_rows import NoiseRecorder
from supple.adapt.runtime_agent import RandomNoise
from supple.errors import BundleError
from supple.meta.gradient.config import MamlConfig
from supple.meta.gradient.maml_learner import MamlLearner
from supple.meta.memory.config import Rl2Config
from supple.meta.memory.rl2_learner import Rl2Learner
from supple.meta.space import ChoiceSpace, UnitSpace
from supple.robots.navigation import NAVIGATION_2D, NavigationBatch
from supple.robots.tabular import TabularBatch, make_tabular_tasks
from supple.robots.task import goals_of

BUDGET = Budget(episodes=2, adapt_steps=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of RL2."""
    robot, goals = TabularBatch(2), goals_of(make_tabular_tasks(2, 1, 0).train)
    learner = Rl2Learner(ChoiceSpace(robot.spec), robot, goals, Rl2Config(trials=2, hidden=7, iterations=1))
    with torch.no_grad():
        head = learner.network.policy_head  # drawn so small that the choices would hardly depend on it
        head.weight.mul_(100.0)
        head.bias.copy_(torch.linspace(-1.0, 1.0, len(head.bias)))
    exported = export_rl2(learner, greedy=False)
    write_exported(tmp_path / "bundle", exported, robot.spec, BUDGET, simulator=None, provenance={})
    return tmp_path / "bundle"


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_any_changed_byte_is_refused(folder: Path, name: str) -> None:
    good = (folder / name).read_bytes()
    rng = np.random.default_rng(0)
    for position in {0, len(good) // 2, len(good) - 1, *rng.integers(0, len(good), 8).tolist()}:
        bad = bytearray(good)
        bad[position] ^= 1
        (folder / name).write_bytes(bytes(bad))
        with pytest.raises(BundleError, match=r"expected .*, got .*; "):
            load_bundle(folder)
    (folder / name).write_bytes(good)
    load_bundle(folder)


def test_any_changed_weight_is_found_by_the_golden_trial(folder: Path, sealed: Callable[..., None]) -> None:
    weights = {name: value.copy() for name, value in load_bundle(folder).weights.items()}
    for name, value in weights.items():
        sealed(folder, weights=weights | {name: value * np.float32(1.01)})
        with pytest.raises(BundleError, match="golden 'out"):
            load_bundle(folder)


def test_any_changed_number_of_the_golden_trial_is_found(folder: Path, sealed: Callable[..., None]) -> None:
    golden = {name: value.copy() for name, value in load_bundle(folder).golden.items()}
    for name, value in golden.items():
        if name == "in.terminated":
            continue  # RL2 does not read it
        if name.startswith(("in.noise.", "out.state.")) and not name.endswith(("0001.uniform", ".6.hidden")):
            continue  # one of each will do
        changed = value.copy()
        changed.flat[0] += np.float32(0.25 if "noise" not in name else -2.0)
        for wrong in (changed, value[:1] if len(value) > 1 else value[:0], np.full_like(value, np.nan)):
            sealed(folder, golden=golden | {name: np.ascontiguousarray(wrong)})
            if "noise" in name and wrong is changed:
                continue  # a draw may change without changing the choice
            with pytest.raises(BundleError, match="expected"):
                load_bundle(folder)
        sealed(folder, golden={key: kept for key, kept in golden.items() if key != name})
        with pytest.raises(BundleError, match="expected"):
            load_bundle(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "recurrent"}, r"kind: expected one of maesn, maml, mlsh, .*, got 'recurrent'"),
        ({"kind": "simpl"}, r"learner: expected only the fields"),
        ({"kind": 3}, r"kind: expected one of .*, got 3"),
        ({"kind": "maml"}, r"learner: expected only the fields"),
        (
            {"kind": "varibad", "learner": {"hidden": 7, "greedy": False}},
            r"learner: expected the field 'boundaries', got 'none'",
        ),
        ({"schema_version": 4}, r"schema_version: expected 1 or 2 or 3, got 4"),
        ({"schema_version": 3}, r"keys: expected exactly .*'eye'"),
        ({"extra": 1}, r"keys: expected exactly .*extra"),
        ({"robot": {"name": "grid"}}, r"robot"),
        ({"learner": {"hidden": 7}}, r"learner: expected the field 'greedy'"),
        ({"learner": {"hidden": True, "greedy": False}}, r"learner.hidden: expected an integer, got True"),
        ({"learner": {"hidden": 0, "greedy": False}}, r"learner.hidden: expected a whole number from 1 .*, got 0"),
        (
            {"learner": {"hidden": 7, "greedy": False, "slots": -1}},
            r"learner.slots: expected a whole number from 0 .*, got -1",
        ),
        ({"learner": {"hidden": 7, "greedy": False, "slots": 2}}, r"tensors: expected"),
        ({"learner": {"hidden": 8, "greedy": False}}, r"expected 'gru.weight_ih_l0' of shape \(24, 17\)"),
        ({"space": {"name": "torque"}}, r"space: expected the field"),
        ({"budget": {"episodes": 0, "exploration_episodes": 0, "adapt_steps": 0}}, r"budget: expected 0 <= "),
        ({"simulator": 3}, r"simulator: expected an object or null, got 3"),
    ],
)
def test_a_wrong_contract_is_refused_with_the_reason(
    folder: Path, sealed: Callable[..., None], change: dict[str, Any], message: str
) -> None:
    data = json.loads((folder / "bundle.json").read_text())
    (folder / "bundle.json").write_text(json.dumps(data | change))
    sealed(folder)
    with pytest.raises(BundleError, match=message):
        load_bundle(folder)


def test_a_bundle_from_before_there_were_slots_has_none(folder: Path, sealed: Callable[..., None]) -> None:
    data = json.loads((folder / "bundle.json").read_text())
    assert data["learner"].pop("slots") == 0
    del data["learner"]["slot_content"]
    (folder / "bundle.json").write_text(json.dumps(data))
    sealed(folder)
    load_bundle(folder)


def test_a_space_must_be_that_of_the_robot(folder: Path, sealed: Callable[..., None]) -> None:
    data = json.loads((folder / "bundle.json").read_text())
    for change, message in (
        ({"name": "unit", "latent_dim": 2}, "latent_dim: expected 1, got 2"),
        ({"horizon": 3}, "1 and no networks without skills"),
        ({"name": "skill"}, "prior: expected 10 inputs and 2 outputs"),
        ({"name": "torque"}, "name: expected choice or unit or raw or skill, got 'torque'"),
    ):
        (folder / "bundle.json").write_text(json.dumps(data | {"space": data["space"] | change}))
        sealed(folder)
        with pytest.raises(BundleError, match=message):
            load_bundle(folder)


def test_a_host_that_adapts_otherwise_is_refused(tmp_path: Path) -> None:
    robot = NavigationBatch(NAVIGATION_2D, 4)
    config = MamlConfig(hidden=(5,), tasks=2, episodes=2, iterations=1, step_size=0.1)
    learner = MamlLearner(UnitSpace(robot.spec), robot, np.zeros((2, 2), np.float32), config)
    exported = export_maml(learner, later_scale=0.5)
    bundle = write_exported(tmp_path / "bundle", exported, robot.spec, BUDGET, simulator=None, provenance={})
    contract = replace(bundle.contract, learner={**bundle.contract.learner, "step_size": 0.11})
    other = write_bundle(
        tmp_path / "other", contract=contract, weights=bundle.weights, golden=bundle.golden
    )  # numpy alone does not adapt, and cannot tell
    with pytest.raises(BundleError, match=r"host of a bundle of kind maml: expected golden 'out"):
        make_hosted(other, RandomNoise(np.random.default_rng(0)))


def test_a_trial_that_blows_rounding_up_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    robot = NavigationBatch(NAVIGATION_2D, 4)
    config = MamlConfig(hidden=(5,), tasks=2, episodes=2, iterations=1, step_size=0.1)
    learner = MamlLearner(UnitSpace(robot.spec), robot, np.zeros((2, 2), np.float32), config)
    tolerances: list[float] = []

    def write(name: str, unsteady: int) -> Bundle:
        def refuse_some(bundle: Bundle, tolerance: float) -> None:
            tolerances.append(tolerance)
            if len(tolerances) <= unsteady:
                raise BundleError("rounding")
            require_adaptation(bundle, tolerance)

        tolerances.clear()
        monkeypatch.setattr(export, "require_adaptation", refuse_some)
        exported = export_maml(learner, later_scale=0.5)
        return write_exported(tmp_path / name, exported, robot.spec, BUDGET, simulator=None, provenance={})

    steady, third = write("steady", 0), write("third", 2)
    assert len(tolerances) == 3
    assert tolerances == [pytest.approx(0.1 * GOLDEN_TOLERANCE)] * 3
    inputs = [bundle.golden["in.observation"] for bundle in (steady, third, write("again", 2))]
    assert not np.array_equal(inputs[0], inputs[1])
    np.testing.assert_array_equal(inputs[1], inputs[2])  # the same draws each time
    # where none is steady, the first with half of the tolerance is taken
    half = write("half", export.TRIALS)
    assert tolerances[export.TRIALS :] == [pytest.approx(0.5 * GOLDEN_TOLERANCE)]
    np.testing.assert_array_equal(half.golden["in.observation"], inputs[0])
    # and else a calm one, in which nothing is paid after the first round
    assert half.golden["in.reward"][ROUND:].any()
    calm = write("calm", 2 * export.TRIALS)
    assert calm.golden["in.reward"][:ROUND].any()
    assert not calm.golden["in.reward"][ROUND:].any()
    # of which the last one decides, with all of the tolerance
    write("last", 99)
    assert len(tolerances) == 4 * export.TRIALS


def test_a_policy_whose_steps_run_away_in_a_trial_is_exported(tmp_path: Path) -> None:
    """A step of 0.5 and deviations of 0.05, as of cloned data, are fine with an episode's decisions, not with ten."""
    robot = NavigationBatch(NAVIGATION_2D, 4)
    config = MamlConfig(tasks=2, episodes=2, iterations=1, step_size=0.5)
    learner = MamlLearner(UnitSpace(robot.spec), robot, np.zeros((2, 2), np.float32), config)
    with torch.no_grad():
        learner.meta["policy.log_scale"].fill_(-3.0)
    exported = export_maml(learner, later_scale=1.0)
    bundle = write_exported(tmp_path / "bundle", exported, robot.spec, BUDGET, simulator=None, provenance={})
    first, second = (bundle.golden[f"out.state.{episode}.params.layers.2.weight"] for episode in (0, ROUND))
    assert not np.array_equal(first, second)  # the step is looked at


def test_a_trial_that_runs_away_says_so() -> None:
    record = np.full(2, 1e9, np.float32)
    with pytest.raises(BundleError, match=r"numbers grow to 1.0e\+09 there.*the agent runs away when it adapts"):
        require_close("out.action", 2.0 * record, record, "host")


def test_the_robot_must_be_the_one_of_the_bundle(folder: Path) -> None:
    contract = load_bundle(folder).contract
    require_robot(contract, TabularBatch(1).spec)
    with pytest.raises(BundleError, match=r"expected choices .*, got"):
        require_robot(contract, NavigationBatch(NAVIGATION_2D, 1).spec)


def test_an_agent_that_draws_other_noise_cannot_be_exported() -> None:
    with NoiseRecorder(), pytest.raises(BundleError, match="calls multinomial"):
        torch.multinomial(torch.ones(3), 1)
