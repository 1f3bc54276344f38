"""A bundle holds any learner: numpy acts and adapts as the trainer's agent does, in every action space."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.contract import Budget
from supple.adapt.host.export import write_exported
from supple.adapt.host.exported import Exported
from supple.adapt.host.hosts import make_hosted
from supple.adapt.host.maesn import export_maesn
from supple.adapt.host.maml import export_maml
from supple.adapt.host.mlsh import export_mlsh
from supple.adapt.host.pearl import export_pearl
from supple.adapt.host.plain_policy import write_plain_policy, write_task_policy
from supple.adapt.host.ppo import export_ppo
from supple.adapt.host.recurrent_updater import export_recurrent_updater
from supple.adapt.host.rl2 import export_rl2
from supple.adapt.host.sac import export_pearl_ft, export_sac
from supple.adapt.host.simpl import export_simpl, export_spirl
from supple.adapt.host.torch_rows import NoiseRecorder
from supple.adapt.host.varibad import export_varibad
from supple.adapt.loop import run_episode
from supple.adapt.runtime_agent import RandomNoise, RecordedNoise, RuntimeAgent
from supple.errors import RunError
from supple.meta.adaptive import MetaLearner
from supple.meta.baselines.config import DistralConfig, PpoConfig, PpoSteps, SacConfig, TaskSacConfig
from supple.meta.baselines.distral_learner import DistralLearner
from supple.meta.baselines.ppo_learner import PpoLearner
from supple.meta.baselines.sac_learner import SacLearner
from supple.meta.collect import collect
from supple.meta.gradient.config import MaesnConfig, MamlConfig
from supple.meta.gradient.learned_rule import LearnedRule
from supple.meta.gradient.maesn_learner import MaesnLearner
from supple.meta.gradient.maml_learner import MamlLearner
from supple.meta.hierarchy.config import MlshConfig, PpoPasses
from supple.meta.hierarchy.mlsh_learner import MlshLearner
from supple.meta.inference.config import PearlConfig, VaeConfig
from supple.meta.inference.pearl_learner import PearlLearner
from supple.meta.inference.varibad_learner import VaribadConfig, VaribadLearner
from supple.meta.memory.config import RecurrentUpdaterConfig, Rl2Config
from supple.meta.memory.recurrent_updater_learner import RecurrentUpdaterLearner
from supple.meta.memory.rl2_learner import Rl2Learner
from supple.meta.simpl.config import FinetuneConfig, SimplConfig, SpirlConfig
from supple.meta.simpl.deployment import DeploymentConfig
from supple.meta.simpl.learner import SimplLearner
from supple.meta.simpl.spirl import SpirlLearner
from supple.meta.space import ActionSpace, ChoiceSpace, RawSpace, SkillSpace, UnitSpace
from supple.robots.navigation import Navigation, NavigationBatch
from supple.robots.robot import RobotBatch
from supple.robots.tabular import TabularBatch, make_tabular_tasks
from supple.robots.task import goals_of
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

Make = Callable[[ActionSpace, RobotBatch, NDArray[np.float32]], Exported]
CPU = torch.device("cpu")
ROWS, STEPS = 4, 6
BUDGET = Budget(episodes=2, adapt_steps=2)
SMALL: dict[str, Any] = {"tasks": 2, "iterations": 1}


def shake(learner: MetaLearner) -> None:
    """Moves all weights, so that no part of a network is too small to be seen, and none is as it was first drawn."""
    generator = torch.Generator().manual_seed(1)
    tensors, facts = learner.state()
    for name, value in tensors.items():
        if value.is_floating_point() and not name.startswith(("adam.", "buffer.", "replay.", "contexts.", "pool.")):
            moved = value + 0.3 * torch.randn(value.shape, generator=generator)
            tensors[name] = moved.abs() + 0.1 if name.endswith(("variance", "count")) else moved
    learner.load_state(tensors, facts)


def rl2(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32], **changes: Any) -> Exported:
    learner = Rl2Learner(space, robot, goals, Rl2Config(trials=2, hidden=7, iterations=1, **changes))
    shake(learner)
    return export_rl2(learner, greedy=False)


def rl2_with_slots(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    return rl2(space, robot, goals, slots=4, slot_content=3)


def maml(
    space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32], rule: LearnedRule | None = None, **changes: Any
) -> Exported:
    config = MamlConfig(**SMALL, episodes=2, hidden=(7, 5), activation="tanh", step_size=0.1, **changes)
    learner = MamlLearner(space, robot, goals, config, update=rule)
    shake(learner)
    return export_maml(learner, later_scale=0.5)


def meta_sgd(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    return maml(space, robot, goals, step_sizes="parameter", correction="lvc")


def learned_update(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    return maml(space, robot, goals, rule=LearnedRule(hidden=3, embedding=2))


def maesn(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32], *, natural: bool = False) -> Exported:
    config = MaesnConfig(**SMALL, episodes=2, hidden=(7,), latent_dim=3, natural=natural)
    learner = MaesnLearner(space, robot, goals, config)
    shake(learner)
    return export_maesn(learner, later_scale=0.5)


def maesn_natural(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    return maesn(space, robot, goals, natural=True)


def make_pearl(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> PearlLearner:
    sac = SacConfig(hidden=(7,))
    reads_next = isinstance(space, ChoiceSpace)
    config = PearlConfig(
        **SMALL, sac=sac, embedding_dim=3, encoder_hidden=(5,), rollouts=1, next_observation=reads_next
    )
    learner = PearlLearner(space, robot, goals, config)
    shake(learner)
    return learner


def pearl(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    return export_pearl(make_pearl(space, robot, goals), prior_episodes=1, greedy=False)


def pearl_ft(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    tuning = TaskSacConfig(sac=SacConfig(batch=4), updates=3, replay=40)
    learner = make_pearl(space, robot, goals)
    return export_pearl_ft(learner, tuning, inference_episodes=2, prior_episodes=1, greedy=True)


def sac(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    config = TaskSacConfig(sac=SacConfig(hidden=(7, 5), batch=4, learning_rate=1e-2), updates=3, replay=40, rollouts=2)
    return export_sac(SacLearner(space, robot, goals, config, tasks=2, iterations=1))


STEPS_OF_PPO = PpoSteps(epochs=3, minibatches=2, learning_rate=1e-2, entropy_weight=0.01)


def ppo(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    learner = PpoLearner(space, robot, goals, PpoConfig(**SMALL, episodes=2, hidden=(7, 5), adaptation=STEPS_OF_PPO))
    shake(learner)
    return export_ppo(learner)


def distral(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    config = DistralConfig(**SMALL, episodes=2, hidden=(7,), activation="relu", adaptation=STEPS_OF_PPO)
    learner = DistralLearner(space, robot, goals, config)
    shake(learner)
    return export_ppo(learner)


def varibad(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    vae = VaeConfig(latent=3, hidden=7, embedding=4, buffer_trials=4, batch=2)
    learner = VaribadLearner(space, robot, goals, VaribadConfig(trials=4, iterations=1, vae=vae, minibatches=2))
    shake(learner)
    return export_varibad(learner, greedy=False)


def recurrent_updater(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    config = RecurrentUpdaterConfig(
        **SMALL, hidden=(7,), embedding=5, memory=6, rank=3, support=2, query=2, minibatch=2
    )
    learner = RecurrentUpdaterLearner(space, robot, goals, config)
    shake(learner)
    return export_recurrent_updater(learner)


def mlsh(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    master = PpoPasses(epochs=2, minibatches=2)
    config = MlshConfig(
        sub_policies=3, hold=2, groups=2, rollouts=2, warmup=1, joint=1, iterations=1, hidden=(7,), master=master
    )
    learner = MlshLearner(space, robot, goals, config)
    shake(learner)
    return export_mlsh(learner, random_choice=0.0)


TUNING = FinetuneConfig(
    learning_rate=1e-2,
    batch=4,
    min_transitions=12,
    reuse_rate=4.0,
    critic_updates_first=1,
    pool_episodes=12,
    bfloat16=False,
)
"""Short enough for a golden trial, as is what follows."""
EXPLORING: dict[str, Any] = {"exploration_episodes": 2, "candidates": 12, "visited": 3, "context": 9}


SIMPL = SimplConfig(embedding_dim=3, hidden=(7, 5), encoder_hidden=8, epochs=1, success_batch=2, batch=8)


def simpl(
    space: ActionSpace,
    robot: RobotBatch,
    goals: NDArray[np.float32],
    networks: SimplConfig = SIMPL,
    **changes: Any,
) -> Exported:
    learner = SimplLearner(space, robot, goals, networks)
    shake(learner)
    return export_simpl(learner, DeploymentConfig(**EXPLORING, finetune=TUNING, **changes))


def simpl_with_attention(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    changes = {"search": "blind", "keep_searching": False, "learn_from_exploration": False}
    return simpl(space, robot, goals, replace(SIMPL, encoder="set-transformer", critic_norm=True), **changes)


def spirl(space: ActionSpace, robot: RobotBatch, goals: NDArray[np.float32]) -> Exported:
    config = SpirlConfig(hidden=(7, 5), critic_norm=True, finetune=TUNING, tasks=2, iterations=1)
    return export_spirl(SpirlLearner(space, robot, goals, config))


LEARNERS: dict[str, Make] = {
    "mlsh": mlsh,
    "rl2": rl2,
    "rl2-slots": rl2_with_slots,
    "maml": maml,
    "meta-sgd": meta_sgd,
    "learned-update": learned_update,
    "maesn": maesn,
    "maesn-natural": maesn_natural,
    "pearl": pearl,
    "varibad": varibad,
    "recurrent-updater": recurrent_updater,
    "ppo": ppo,
    "distral": distral,
    "sac": sac,
    "pearl-ft": pearl_ft,
}
GAUSSIAN: dict[str, Make] = {"simpl": simpl, "simpl-attention": simpl_with_attention, "spirl": spirl}
"""Learners that choose no index."""
POINT = Navigation(name="point", goals="square", goal_extent=0.5, episode_steps=STEPS, end_extent=0.3)
"""Rewards in every step, and episodes that the goal ends."""
POINT_GOALS = np.array([[0.3, 0.3], [-0.4, 0.4], [0.3, -0.4], [0.4, 0.1]], np.float32)


def make_space(name: str) -> tuple[ActionSpace, RobotBatch, NDArray[np.float32]]:
    """A space with its robot and goals; episodes end at different times in different rows."""
    if name == "choice":
        table = TabularBatch(ROWS)
        return ChoiceSpace(table.spec), table, goals_of(make_tabular_tasks(ROWS, 1, 0).train)
    robot = NavigationBatch(POINT, ROWS)
    if name == "unit":
        return UnitSpace(robot.spec), robot, POINT_GOALS
    if name == "raw":
        return RawSpace(robot.spec, torch.tensor([0.5, -0.5]), torch.tensor([2.0, 3.0])), robot, POINT_GOALS
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    model = SkillModel(2, 2, SkillConfig(skill_horizon=4, skill_dim=3, **width))
    with torch.no_grad():
        model.normaliser.mean.copy_(torch.tensor([0.5, -0.5]))
        model.normaliser.std.copy_(torch.tensor([2.0, 3.0]))
        model.action_scale.offset.copy_(torch.tensor([0.02, -0.01]))
        model.action_scale.scale.copy_(torch.tensor([0.1, 0.3]))
    return SkillSpace(model), robot, POINT_GOALS


CASES = [
    *((kind, space) for kind in LEARNERS for space in ("choice", "unit")),
    *((kind, space) for kind in GAUSSIAN for space in ("skill", "raw")),
    ("simpl", "unit"),
    *((kind, "skill") for kind in ("rl2", "maml", "maesn", "pearl", "pearl-ft", "ppo", "sac", "varibad")),
    ("rl2", "raw"),
]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: "-".join(case))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Any, Any]:
    """A bundle, what was exported, and the space's parts."""
    kind, space = request.param
    parts = make_space(space)
    exported = (LEARNERS | GAUSSIAN)[kind](*parts)
    folder = tmp_path_factory.mktemp("bundles") / "bundle"
    bundle = write_exported(folder, exported, parts[1].spec, BUDGET, simulator=None, provenance={"seed": 0})
    return bundle, exported, parts


def test_numpy_plays_whole_trials_as_the_trainer_does(case: tuple[Bundle, Any, Any]) -> None:
    bundle, exported, (space, robot, goals) = case
    goals, played, expected = goals[:ROWS], [], []
    agent, rng = exported.agent, np.random.default_rng(5)
    with NoiseRecorder(exported.generator) as recorder:
        with recorder.pause():
            agent.begin_task(ROWS)
        for episode in range(6):
            if episode in (2, 4):
                with recorder.pause():
                    agent.adapt()
            agent.begin_episode()
            expected.append(collect(robot, space, agent.act, goals, rng, device=CPU))
            agent.observe(expected[-1])

    draws = [(name.rsplit(".", 1)[1], value) for name, value in recorder.arrays().items()]
    noise, rng = RecordedNoise(draws, "test"), np.random.default_rng(5)
    mine = make_hosted(bundle, noise)
    mine.begin_task(ROWS)
    for episode in range(6):
        if episode in (2, 4):
            mine.adapt()
        mine.begin_episode()
        played.append(run_episode(robot, mine, goals, rng))
        mine.observe(played[-1])
    assert noise.left() == 0
    for found, wanted in zip(played, expected, strict=True):
        for name in ("length", "terminated", "steps"):
            np.testing.assert_array_equal(getattr(found, name), getattr(wanted, name).numpy())
        exact = {"rtol": 0.0, "atol": 0.0} if isinstance(space, ChoiceSpace) else {"rtol": 1e-3, "atol": 1e-3}
        for name in ("latent", "reward", "observation"):
            np.testing.assert_allclose(getattr(found, name), getattr(wanted, name).numpy(), err_msg=name, **exact)
    if isinstance(space, UnitSpace):
        assert len({int(length) for found in played for length in found.length}) > 1


def play(agent: RuntimeAgent, robot: RobotBatch, goals: Any, rng: np.random.Generator, episodes: int) -> list[Any]:
    played = []
    for _ in range(episodes):
        agent.begin_episode()
        played.append(run_episode(robot, agent, goals[:ROWS], rng))
        agent.observe(played[-1])
    return played


def test_an_agent_goes_on_exactly_where_it_was_saved(case: tuple[Bundle, Any, Any]) -> None:
    bundle, _, (_, robot, goals) = case
    rng = np.random.default_rng(3)
    agent = make_hosted(bundle, RandomNoise(rng))
    agent.begin_task(ROWS)
    play(agent, robot, goals, rng, 2)
    agent.adapt()
    play(agent, robot, goals, rng, 1)
    saved, place = {name: value.copy() for name, value in agent.state().items()}, rng.bit_generator.state

    def go_on(one: RuntimeAgent) -> tuple[list[Any], dict[str, Any]]:
        rows = play(one, robot, goals, rng, 1)
        one.adapt()
        rows += play(one, robot, goals, rng, 1)
        return rows, one.state()

    expected, after = go_on(agent)
    again = make_hosted(bundle, RandomNoise(rng))
    again.begin_task(1)
    again.load_state(saved)
    rng.bit_generator.state = place
    found, after_again = go_on(again)
    for one, other in zip(found, expected, strict=True):
        for name, value in one._asdict().items():
            np.testing.assert_array_equal(value, getattr(other, name))
    assert after.keys() == after_again.keys()
    for name, value in after.items():
        np.testing.assert_array_equal(value, after_again[name], err_msg=name)


def test_a_state_without_one_of_its_parts_is_refused(case: tuple[Bundle, Any, Any]) -> None:
    bundle, _, (_, robot, goals) = case
    rng = np.random.default_rng(3)
    agent = make_hosted(bundle, RandomNoise(rng))
    agent.begin_task(ROWS)
    play(agent, robot, goals, rng, 1)
    saved = agent.state()
    for name in saved:
        if name == "kept.unread":
            continue  # episodes that nobody saw are none
        with pytest.raises(RunError, match="expected"):
            agent.load_state({key: value for key, value in saved.items() if key != name})


def test_a_state_that_is_refused_changes_nothing(case: tuple[Bundle, Any, Any]) -> None:
    bundle, _, (_, robot, goals) = case
    rng = np.random.default_rng(3)
    agent = bundle.make_agent(RandomNoise(rng))
    agent.begin_task(ROWS)
    play(agent, robot, goals, rng, 1)
    saved = agent.state()
    other = bundle.make_agent(RandomNoise(rng))
    other.begin_task(ROWS + 1)
    wrong = other.state()
    for name in saved:
        if name in wrong and wrong[name].size:
            with pytest.raises(RunError, match="expected"):
                agent.load_state({**wrong, name: wrong[name][..., :-1] if wrong[name].ndim > 1 else wrong[name][None]})
        now = agent.state()
        assert now.keys() == saved.keys()
        for part, value in saved.items():
            np.testing.assert_array_equal(now[part], value, err_msg=part)


def test_the_kinds_that_adapt_come_to_something(case: tuple[Bundle, Any, Any]) -> None:
    bundle, _, (_, robot, goals) = case
    agent = make_hosted(bundle, RandomNoise(np.random.default_rng(0)))
    agent.begin_task(ROWS)
    play(agent, robot, goals, np.random.default_rng(0), 2)

    def read_known() -> dict[str, Any]:
        kept = {name: value for name, value in agent.state().items() if name.startswith(("mean", "log_scale"))}
        return kept | dict(getattr(agent, "params", {}))

    before = read_known()
    agent.adapt()
    if bundle.contract.kind in ("simpl", "spirl"):  # they learn while they observe
        play(agent, robot, goals, np.random.default_rng(1), 8)
    after = read_known()
    moved = [name for name, value in before.items() if not np.array_equal(value, after[name])]
    assert bool(moved) == (bundle.kind.policy is not None or bundle.contract.kind in ("maesn", "mlsh"))


def test_the_policy_of_a_task_is_a_bundle_of_its_own(case: tuple[Bundle, Any, Any], tmp_path: Path) -> None:
    bundle, _, (_, robot, goals) = case
    kind = bundle.contract.kind
    if bundle.kind.policy is None:
        return
    agent: Any = make_hosted(bundle, RandomNoise(np.random.default_rng(0)))
    agent.begin_task(ROWS)
    play(agent, robot, goals, np.random.default_rng(0), 2)
    agent.adapt()
    params = {name: value[1] for name, value in agent.params.items()}
    plain = write_plain_policy(tmp_path / "policy", bundle, params, {"task": "second"})
    assert (plain.contract.kind, plain.contract.provenance["task"]) == ("policy", "second")
    mine = make_hosted(plain, RandomNoise(np.random.default_rng(7)))
    mine.begin_task(1)
    mine.begin_episode()
    found = run_episode(robot, mine, goals[1:2], np.random.default_rng(8))
    acting: Any = bundle.make_agent(RandomNoise(np.random.default_rng(7)))
    acting.begin_task(1)
    own = {n: value[None] for n, value in params.items()} | ({"tuned": np.ones(1)} if kind == "simpl" else {})
    acting.set_params(own)
    again = run_episode(robot, acting, goals[1:2], np.random.default_rng(8)).latent
    np.testing.assert_allclose(
        again, found.latent, **({"rtol": 1e-5, "atol": 1e-5} if kind == "simpl" else {"rtol": 0})
    )


def test_what_an_agent_knows_of_a_task_is_a_bundle_of_its_own(case: tuple[Bundle, Any, Any], tmp_path: Path) -> None:
    bundle, _, (_, robot, goals) = case
    if bundle.kind.policy is not None:
        return
    agent = make_hosted(bundle, RandomNoise(np.random.default_rng(0)))
    agent.begin_task(ROWS)
    play(agent, robot, goals, np.random.default_rng(0), 2)
    agent.adapt()
    known = write_task_policy(tmp_path / "task", bundle, agent, 1, {"task": "second"})
    assert (known.contract.kind, known.contract.provenance["task"]) == (bundle.contract.kind, "second")
    mine = make_hosted(load_bundle(tmp_path / "task"), RandomNoise(np.random.default_rng(7)))
    mine.begin_task(2)
    own = {name: value for name, value in agent.state().items() if not name.startswith(("host.", "kept."))}
    found = mine.state()
    for name, value in own.items():
        for row in range(2):  # both rows know what the second row knew
            np.testing.assert_array_equal(found[name][row], value[1], err_msg=name)
    mine.begin_episode()
    assert np.isfinite(run_episode(robot, mine, goals[1:3], np.random.default_rng(8)).latent).all()
