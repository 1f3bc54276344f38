"""A small bundle of every kind and space, with random weights and a golden trial of its own agent."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from supple.adapt.agents.kinds import KINDS
from supple.adapt.bundle import Bundle, write_bundle
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.golden_trial import make_trial_inputs, play_trial
from supple.adapt.runtime_agent import RandomNoise
from supple.adapt.spaces import SpaceSettings
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec

MLP: dict[str, Any] = {"hidden": [7, 5], "activation": "tanh"}
FINETUNE: dict[str, Any] = {
    "learning_rate": 0.01,
    "multiplier_learning_rate": 0.01,
    "discount": 0.9,
    "target_rate": 0.01,
    "batch": 4,
    "reuse_rate": 4.0,
    "min_transitions": 12,
    "critic_updates_first": 1,
    "kl_target": 1.0,
    "kl_clip": 1.0,
    "multiplier": 0.1,
    "only_increase": False,
    "bfloat16": False,
    "pool_episodes": 12,
}
RESIDUAL: dict[str, Any] = {"hidden": [7, 5], "greedy": False, "seed": 0, "finetune": FINETUNE}
SAC: dict[str, Any] = {
    "hidden": [7, 5],
    "discount": 0.9,
    "temperature": 0.1,
    "learning_rate": 0.01,
    "target_rate": 0.01,
    "batch": 4,
    "updates": 3,
    "replay": 40,
}
PEARL: dict[str, Any] = {
    "embedding_dim": 3,
    "encoder_hidden": [5],
    "policy_hidden": [7, 5],
    "next_observation": True,
    "prior_episodes": 1,
    "greedy": False,
}
STEP: dict[str, Any] = {"discount": 0.9, "trace": 0.9, "later_scale": 0.5}
PPO: dict[str, Any] = {
    "epochs": 1,
    "minibatches": 1,
    "clip": 0.2,
    "learning_rate": 0.01,
    "entropy_weight": 0.0,
    "discount": 0.9,
    "trace": 0.9,
}
SETTINGS: dict[str, dict[str, Any]] = {
    "policy": {**MLP, "greedy": False, "scale": "output"},
    "maesn": {**MLP, **STEP, "latent_dim": 3, "natural": False},
    "maml": {
        **MLP,
        **STEP,
        "correction": "lvc",
        "normalise_advantage": True,
        "rule": "gradient-descent",
        "step_size": 0.1,
        "step_sizes": "fixed",
        "rule_hidden": 0,
        "rule_embedding": 0,
        "rule_addition": 0.0,
    },
    "mlsh": {**MLP, **PPO, "sub_policies": 3, "hold": 2, "return_mean": 0.0, "return_variance": 1.0},
    "pearl": PEARL,
    "pearl-ft": {"inference_episodes": 2, "pearl": PEARL, "sac": SAC},
    "ppo": {**MLP, **PPO, "max_gradient_norm": 1.0},
    "recurrent-updater": {**MLP, "embedding": 5, "memory": 6, "rank": 3},
    "rl2": {"hidden": 7, "greedy": False, "slots": 4, "slot_content": 3},
    "sac": SAC,
    "simpl": {
        **RESIDUAL,
        "embedding_dim": 3,
        "encoder": "mean-max",
        "encoder_hidden": 8,
        "multiplier": 0.1,
        "exploration_episodes": 2,
        "search": "blind",
        "candidates": 12,
        "visited": 3,
        "evidence": 1.0,
        "keep_searching": False,
        "wider": 1.5,
        "context": 9,
        "learn_from_exploration": False,
    },
    "spirl": RESIDUAL,
    "varibad": {
        "hidden": 7,
        "latent": 3,
        "embedding": 4,
        "policy_hidden": [7, 5],
        "boundaries": True,
        "greedy": False,
    },
}
"""Of each kind, as in `bundle.json`."""
SPACES = {
    "choice": SpaceSettings(name="choice"),
    "unit": SpaceSettings(name="unit", latent_dim=2),
    "raw": SpaceSettings(name="raw", latent_dim=2),
    "skill": SpaceSettings(name="skill", horizon=4, latent_dim=3, prior=(4, 16, 6), decoder=(7, 16, 16, 2)),
}
OBSERVATION = (
    Axis("joint1", "rad", -2.0, 2.0),
    Axis("joint2", "rad", -2.0, 2.0),
    Axis("speed1", "rad/s", -np.inf, np.inf),
    Axis("speed2", "rad/s", -np.inf, np.inf),
)
ACTION = (
    Axis("target1", "rad", -1.0, 1.0, rate_limit=5.0, commands="joint1"),
    Axis("torque2", "N m", -0.5, 2.0, rate_limit=40.0),
)
Weights = dict[str, NDArray[np.float32]]


def make_robot(*, choices: bool = False) -> RobotSpec:
    """Two joints: one that follows an angle, one that is driven by a torque."""
    names = ("left", "right", "up", "down") if choices else ()
    action = make_choice_spec(names) if choices else ArraySpec("action", ACTION)
    observation, goal = ArraySpec("observation", OBSERVATION), ArraySpec("goal", (Axis("x", "m", 0.0, 20.0),))
    return RobotSpec("two-joints", observation, action, goal, 0.01, 24, names)


def make_weights(contract: BundleContract) -> Weights:
    """Random weights of about the size that training leaves."""
    rng = np.random.default_rng(0)
    shapes = KINDS[contract.kind].weight_shapes(contract) | contract.space.weight_shapes(contract.observation_dim)
    weights = {
        name: np.asarray(rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.3), np.float32)
        for name, shape in shapes.items()
    }
    for name in weights:
        if name == "space.std" or name.endswith("variance"):
            weights[name] = np.abs(weights[name]) + np.float32(0.5)
    return weights


class NotedNoise(RandomNoise):
    """Noise that is written down as it is drawn."""

    def __init__(self) -> None:
        super().__init__(np.random.default_rng(1))
        self.draws: Weights = {}

    def normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self.draws.setdefault(f"in.noise.{len(self.draws):04d}.normal", super().normal(shape))

    def uniform(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        return self.draws.setdefault(f"in.noise.{len(self.draws):04d}.uniform", super().uniform(shape))


def make_bundle(folder: Path, kind: str, space: str, **settings: Any) -> Bundle:
    """A verified bundle of a kind that chooses in a space, with other settings where they are given."""
    contract = BundleContract(
        kind=kind,
        robot=make_robot(choices=space == "choice"),
        space=SPACES[space],
        learner={**SETTINGS[kind], **settings},
        budget=Budget(episodes=2),
        provenance={},
    )
    weights, noise = make_weights(contract), NotedNoise()
    trial = Bundle(contract, weights, {}, "").trial
    inputs = make_trial_inputs(contract, weights, np.random.default_rng(0))
    with np.errstate(all="ignore"):
        agent = KINDS[kind].make_agent(trial, weights, noise)
        outputs = play_trial(agent, inputs)
    return write_bundle(folder, contract=contract, weights=weights, golden={**inputs, **noise.draws, **outputs})


@pytest.fixture(scope="session")
def bundle_of() -> Callable[..., Bundle]:
    return make_bundle
