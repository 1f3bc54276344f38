"""Hosts of PPO and SAC take the trainer's own steps, and bundles that say otherwise are refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from supple.adapt.agents.pearl_ft import PEARL_FT
from supple.adapt.bundle import Bundle, load_bundle, write_bundle
from supple.adapt.contract import Budget
from supple.adapt.host.export import write_exported
from supple.adapt.host.exported import Exported
from supple.adapt.host.hosts import make_hosted
from supple.adapt.host.plain_policy import write_plain_policy
from supple.adapt.host.ppo import export_ppo
from supple.adapt.host.sac import export_pearl_ft, export_sac, fold_embedding, make_networks, read_sac_params
from supple.adapt.host.torch_rows import to_episodes
from supple.adapt.loop import run_episode
from supple.adapt.runtime_agent import RandomNoise, RowEpisodes
from supple.errors import BundleError, RunError
from supple.meta.baselines.config import PpoConfig, PpoSteps, SacConfig, TaskSacConfig
from supple.meta.baselines.ppo_learner import PpoLearner
from supple.meta.baselines.sac_learner import SacLearner
from supple.meta.baselines.sac_tasks import TaskSac
from supple.meta.inference.config import PearlConfig
from supple.meta.inference.pearl_learner import PearlLearner
from supple.meta.space import UnitSpace
from supple.robots.navigation import Navigation, NavigationBatch

ROWS = 3
ROBOT = NavigationBatch(
    Navigation(name="point", goals="square", goal_extent=0.5, episode_steps=5, end_extent=0.3), ROWS
)
GOALS = np.array([[0.3, 0.3], [-0.4, 0.4], [0.3, -0.4]], np.float32)
SPACE = UnitSpace(ROBOT.spec)
LONG = TaskSacConfig(sac=SacConfig(hidden=(6, 4), batch=4, learning_rate=1e-2), updates=12, replay=50)
"""More updates than a golden trial has time for."""


def make_ppo() -> PpoLearner:
    steps = PpoSteps(epochs=3, minibatches=2, learning_rate=1e-2, entropy_weight=0.1)
    config = PpoConfig(hidden=(6,), tasks=2, episodes=1, iterations=0, adaptation=steps)
    return PpoLearner(SPACE, ROBOT, GOALS, config, seed=3)


def make_pearl() -> PearlLearner:
    config = PearlConfig(
        sac=SacConfig(hidden=(6, 4)), embedding_dim=3, encoder_hidden=(5,), rollouts=1, tasks=2, iterations=1
    )
    return PearlLearner(SPACE, ROBOT, GOALS, config, seed=3)


def ppo() -> Exported:
    return export_ppo(make_ppo())


def sac() -> Exported:
    return export_sac(SacLearner(SPACE, ROBOT, GOALS, LONG, tasks=2, iterations=1))


def pearl_ft() -> Exported:
    return export_pearl_ft(make_pearl(), LONG, inference_episodes=4, prior_episodes=3, greedy=False)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """One of each kind."""
    folder, budget = tmp_path_factory.mktemp("bundles"), Budget(episodes=1, adapt_steps=5)
    return {
        make.__name__: write_exported(
            folder / make.__name__, make(), ROBOT.spec, budget, simulator=None, provenance={"seed": 3}
        )
        for make in (ppo, sac, pearl_ft)
    }


def begin(bundle: Bundle) -> Any:
    agent = make_hosted(bundle, RandomNoise(np.random.default_rng(1)))
    agent.begin_task(ROWS)
    return agent


def play(agent: Any, episodes: int) -> list[RowEpisodes]:
    played = []
    for episode in range(episodes):
        agent.begin_episode()
        played.append(run_episode(ROBOT, agent, GOALS, np.random.default_rng(episode)))
        agent.observe(played[-1])
    return played


def require_equal(found: dict[str, Any], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value.numpy(), err_msg=name)


def test_a_step_of_ppo_is_the_one_that_the_trainer_takes(bundles: dict[str, Bundle]) -> None:
    mine, trainer = begin(bundles["ppo"]), make_ppo().agent()
    trainer.begin_task(ROWS)
    before = {name: value.copy() for name, value in mine.params.items()}
    for step in range(2):
        for episodes in play(mine, 3):
            trainer.observe(to_episodes(episodes, SPACE))
        mine.adapt()
        trainer.generator.manual_seed(step)
        trainer.adapt()
        require_equal(mine.params, trainer.params)
    assert not np.array_equal(before["layers.0.weight"], mine.params["layers.0.weight"])


def test_a_step_of_sac_is_the_one_that_the_trainer_takes(bundles: dict[str, Bundle]) -> None:
    bundle = bundles["sac"]
    mine, generator = begin(bundle), torch.Generator()
    weights = {name: torch.tensor(value) for name, value in bundle.weights.items()}
    networks = make_networks(SPACE, 2, LONG.sac, weights).for_tasks(ROWS)
    trainer = TaskSac(SPACE, 2, networks, LONG.sac, rollouts=1, capacity=50, generator=generator)
    for step in range(2):
        for episodes in play(mine, 2):
            trainer.observe(to_episodes(episodes, SPACE))
        mine.adapt()
        generator.manual_seed(step)
        for _ in range(LONG.updates):
            trainer.update()
        tensors, _ = trainer.state()
        policy = {n.removeprefix("networks.policy."): v for n, v in tensors.items() if n.startswith("networks.policy.")}
        require_equal(mine.params, fold_embedding(policy, torch.zeros(ROWS, 0)))


def test_fine_tuning_is_what_the_trainer_does_after_as_many_episodes(bundles: dict[str, Bundle]) -> None:
    mine = begin(bundles["pearl_ft"])
    trainer = make_pearl().fine_tuned_agent(LONG, inference_episodes=4, prior_episodes=3)
    trainer.begin_task(ROWS)
    for step in range(6):
        for episodes in play(mine, 1):
            trainer.observe(to_episodes(episodes, SPACE))
        mine.adapt()
        trainer._pearl.generator.manual_seed(step)
        trainer.adapt()
        assert trainer.tuning == (step >= 3)
        expected = read_sac_params(trainer)
        assert bool(expected) == trainer.tuning
        if expected:
            require_equal(mine.params, expected)
        else:  # the first policy, under the mean of what numpy believes
            policy = trainer.state()[0]
            first = {n.removeprefix("sac.networks.policy."): v for n, v in policy.items() if "sac.networks.policy" in n}
            mean = policy["pearl.belief.weighted"] / policy["pearl.belief.precision"]
            for name, value in fold_embedding(first, mean).items():
                np.testing.assert_allclose(mine.params[name], value.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)


def test_a_folded_embedding_changes_no_output(bundles: dict[str, Bundle]) -> None:
    generator = torch.Generator().manual_seed(0)
    networks = make_pearl().sac.for_tasks(ROWS)
    observation, embedding = (torch.randn(ROWS, 5, n, generator=generator) for n in (2, 3))
    embedding = embedding[:, :1].expand(-1, 5, -1)
    expected = networks.policy(torch.cat((observation, embedding), dim=-1))
    params = fold_embedding(networks.policy.state_dict(), embedding[:, 0])
    value = observation
    for index in range(3):
        value = value @ params[f"layers.{index}.weight"].mT + params[f"layers.{index}.bias"][:, None]
        value = value.relu() if index < 2 else value
    torch.testing.assert_close(value, expected)


def test_a_golden_trial_reaches_what_takes_longer_than_it_has_time(bundles: dict[str, Bundle]) -> None:
    learner, golden = bundles["pearl_ft"].contract.learner, bundles["pearl_ft"].golden
    assert (learner["inference_episodes"], learner["pearl"]["prior_episodes"], learner["sac"]["updates"]) == (4, 3, 12)
    tuned = [e for e in range(7) if f"out.state.{e}.params.layers.0.weight" in golden]
    assert tuned == [4, 5, 6]
    assert bundles["sac"].contract.learner["updates"] == 12
    assert bundles["sac"].contract.learner["replay"] == 50


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("ppo", {"learning_rate": 1.1e-2}),
        ("ppo", {"clip": 1e-3}),
        ("ppo", {"epochs": 2}),
        ("ppo", {"discount": 0.5}),
        ("sac", {"learning_rate": 1.1e-2}),
        ("sac", {"discount": 0.5}),
        ("sac", {"batch": 3}),
        ("sac", {"temperature": 0.6}),
        ("sac", {"updates": 3}),
        ("pearl_ft", {"inference_episodes": 2}),
    ],
)
def test_a_host_with_other_settings_is_refused(
    bundles: dict[str, Bundle], tmp_path: Path, kind: str, change: dict[str, Any]
) -> None:
    bundle = bundles[kind]
    contract = replace(bundle.contract, learner={**bundle.contract.learner, **change})
    other = write_bundle(
        tmp_path / "other", contract=contract, weights=bundle.weights, golden=bundle.golden
    )  # numpy alone does not adapt, and cannot tell
    with pytest.raises(BundleError, match=r"host of a bundle of kind .*: expected "):
        make_hosted(other, RandomNoise(np.random.default_rng(0)))


@pytest.mark.parametrize(
    ("kind", "change"), [("sac", {"hidden": [7, 5]}), ("ppo", {"activation": "relu"}), ("ppo", {"hidden": [3]})]
)
def test_settings_that_say_what_the_weights_are_cannot_be_changed(
    bundles: dict[str, Bundle], kind: str, change: dict[str, Any]
) -> None:
    bundle = bundles[kind]
    (name,) = change
    with pytest.raises(BundleError, match=f"the networks that the weights belong to, got others by {name}"):
        bundle.with_settings(change)
    assert bundle.with_settings({name: bundle.contract.learner[name]}).contract.learner == bundle.contract.learner


@pytest.mark.parametrize("name", ["critic.weights.0", "critic.biases.1", "target.weights.2", "encoder.layers.0.bias"])
def test_weights_that_do_not_act_are_checked_by_the_host(bundles: dict[str, Bundle], tmp_path: Path, name: str) -> None:
    bundle = bundles["pearl_ft"]
    weights = {**bundle.weights, name: bundle.weights[name] + np.float32(0.3)}
    with pytest.raises(BundleError, match="expected golden 'out"):
        make_hosted(
            write_bundle(tmp_path / "other", contract=bundle.contract, weights=weights, golden=bundle.golden),
            RandomNoise(np.random.default_rng(0)),
        )


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("ppo", {"epochs": 0}, r"learner: PpoSteps.epochs: expected a whole number from 1 .*, got 0"),
        ("ppo", {"epochs": 2.5}, r"learner.epochs: expected an integer, got 2.5"),
        ("ppo", {"value": 1}, r"learner: expected only the fields .*, got 'value'"),
        ("sac", {"temperature": 0.0}, r"learner: SacConfig.temperature: expected a number above 0 .*, got 0.0"),
        ("sac", {"replay": 0}, r"learner: TaskSacConfig.replay: expected a whole number from 1 .*, got 0"),
        ("pearl_ft", {"sac": None}, r"learner.sac: expected an object, got None"),
        ("pearl_ft", {"inference_episodes": 0}, r"inference_episodes: expected a whole number from 1 .*, got 0"),
        ("pearl_ft", {"greedy": True}, r"learner: expected only the fields .*, got 'greedy'"),
    ],
)
def test_facts_that_no_learner_has_are_refused(
    bundles: dict[str, Bundle], kind: str, change: dict[str, Any], message: str
) -> None:
    bundle = bundles[kind]
    contract = replace(bundle.contract, learner={**bundle.contract.learner, **change})

    def check() -> None:
        bundle.kind.weight_shapes(contract)  # as the loading of a bundle does first
        make_hosted(replace(bundle, contract=contract), RandomNoise(np.random.default_rng(0)))

    with pytest.raises(BundleError, match=message):
        check()


def test_pearl_and_sac_have_one_policy(bundles: dict[str, Bundle]) -> None:
    contract = bundles["pearl_ft"].contract
    learner = {**contract.learner, "sac": {**contract.learner["sac"], "hidden": [6, 5]}}
    with pytest.raises(BundleError, match=r"sac.hidden: expected the widths of PEARL's policy, \(6, 4\), got \(6, 5\)"):
        PEARL_FT.read(replace(contract, learner=learner))


def test_a_fine_tuned_state_without_one_of_its_parts_is_refused(bundles: dict[str, Bundle]) -> None:
    agent = begin(bundles["pearl_ft"])
    for _ in range(4):
        play(agent, 1)
        agent.adapt()
    play(agent, 1)
    saved = agent.state()
    assert "params.layers.0.bias" in saved
    for name in saved:
        with pytest.raises(RunError, match="expected"):
            agent.load_state({key: value for key, value in saved.items() if key != name})
    facts = json.loads(saved["host.facts"].tobytes())
    del facts["granted"]
    short = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with pytest.raises(RunError, match="agent on a host: expected a whole state, got 'granted'"):
        agent.load_state({**saved, "host.facts": short})


def test_plain_policies_of_before_there_was_sac_still_load(
    bundles: dict[str, Bundle], tmp_path: Path, sealed: Callable[..., None]
) -> None:
    params = {name: value[0] for name, value in begin(bundles["ppo"]).params.items()}
    write_plain_policy(tmp_path / "policy", bundles["ppo"], params, {})
    data = json.loads((tmp_path / "policy" / "bundle.json").read_text())
    assert data["learner"].pop("scale") == "parameter"
    (tmp_path / "policy" / "bundle.json").write_text(json.dumps(data))
    sealed(tmp_path / "policy")
    load_bundle(tmp_path / "policy")
    data["learner"]["scale"] = "none"
    (tmp_path / "policy" / "bundle.json").write_text(json.dumps(data))
    sealed(tmp_path / "policy")
    with pytest.raises(BundleError, match=r"learner.scale: expected parameter or output or residual, got 'none'"):
        load_bundle(tmp_path / "policy")
