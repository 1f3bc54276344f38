"""From a meta-trained learner to a bundle: what an exporter gives, and what is the same for all of them.

An exporter of a kind is one small file, `export_<kind>.py`, beside the numpy runtime of the kind, `kind_<kind>.py`.

Axes: O observation, Z latent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import BundleError
from ...meta.adaptive import AdaptiveAgent
from ...meta.space import ActionSpace, ChoiceSpace, RawSpace, SkillSpace, UnitSpace
from ...robots.spec import RobotSpec
from ..agent_runtime import RandomNoise
from ..contract import Weights
from ..golden_trial import make_trial_inputs, play_trial
from ..learner_bundle import LearnerBundle, write_learner_bundle
from ..learner_contract import Budget, LearnerContract
from ..networks import Array
from ..rows.space import SpaceFacts
from .host import make_hosted
from .torch_rows import NoiseRecorder, ReadState, TorchRowAgent


class Exported(NamedTuple):
    """What is particular to a learner."""

    kind: str
    """A name in `kinds.KINDS`."""
    learner: dict[str, Any]
    """Facts of the kind."""
    weights: Mapping[str, Tensor]
    """Of the learner, by the names of the kind."""
    agent: AdaptiveAgent
    """An agent whose rows each learn for themselves, on the CPU."""
    space: ActionSpace
    """What it chooses, on the CPU."""
    read_state: ReadState
    """Gives the state of `agent` by the names of the numpy agent."""
    generator: torch.Generator | None = None
    """Draws of `agent` from other generators are a host's; None: the runtime makes them all."""


def write_exported(
    path: str | os.PathLike[str],
    exported: Exported,
    robot: RobotSpec,
    budget: Budget,
    *,
    simulator: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    seed: int = 0,
) -> LearnerBundle:
    """Records a golden trial of the trainer's agent and writes the bundle.

    Args:
        path: The directory to make.
        exported: The learner.
        robot: That it was meta-trained for.
        budget: How it was evaluated.
        simulator: What stands in for the robot.
        provenance: Where the weights come from.
        seed: Of the trial's inputs.

    Raises:
        BundleError: See `write_learner_bundle`; or the numpy runtime, or the host, does not act as the trainer did.
    """
    facts, of_space = export_space(exported.space)
    contract = LearnerContract(
        kind=exported.kind,
        robot=robot,
        space=facts,
        learner=exported.learner,
        budget=budget,
        simulator=simulator,
        provenance=provenance,
    )
    weights = to_arrays({**exported.weights, **of_space})
    golden = record_trial(exported, contract, weights, np.random.default_rng(seed))
    bundle = write_learner_bundle(path, contract=contract, weights=weights, golden=golden)
    if bundle.kind.hosted:
        make_hosted(bundle, RandomNoise(np.random.default_rng(0)))
    return bundle


def record_trial(
    exported: Exported, contract: LearnerContract, weights: Weights, rng: np.random.Generator
) -> dict[str, Array]:
    """The golden trial as the trainer's agent plays it, with all noise that it drew.

    Raises:
        BundleError: The agent draws noise that the numpy runtime does not have.
    """
    inputs = make_trial_inputs(contract, weights, rng)
    recorder = NoiseRecorder(exported.generator)
    agent = TorchRowAgent(exported.agent, exported.space, contract.robot, exported.read_state, recorder)
    with recorder:
        outputs = play_trial(agent, inputs)
    return inputs | recorder.arrays() | outputs


def export_space(space: ActionSpace) -> tuple[SpaceFacts, dict[str, Tensor]]:
    """The facts and weights of an action space.

    Raises:
        BundleError: It is none of those that a bundle can hold.
    """
    if isinstance(space, ChoiceSpace):
        return SpaceFacts(name="choice"), {}
    if isinstance(space, UnitSpace):
        return SpaceFacts(name="unit", latent_dim=space.latent_dim), {}
    if isinstance(space, RawSpace):
        weights = {"space.mean": space.mean, "space.std": space.std}
        return SpaceFacts(name="raw", latent_dim=space.latent_dim), weights
    if isinstance(space, SkillSpace):
        return _export_skills(space)
    raise BundleError(
        f"export: expected choices, unit or raw actions or skills, got {type(space).__name__}; the numpy runtime has "
        "no such space"
    )


def _export_skills(space: SkillSpace) -> tuple[SpaceFacts, dict[str, Tensor]]:
    model = space.model
    weights = {"space.mean": model.normaliser.mean, "space.std": model.normaliser.std}
    sizes = {}
    for name, net in (("prior", model.prior), ("decoder", model.make_robot_decoder())):
        layers = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
        sizes[name] = (layers[0].in_features, *(layer.out_features for layer in layers))
        weights |= {f"space.{name}.{key}": value for key, value in net.state_dict().items()}
    facts = SpaceFacts(
        name="skill", horizon=space.horizon, latent_dim=space.latent_dim, prior=sizes["prior"], decoder=sizes["decoder"]
    )
    return facts, weights


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors as float32 arrays of their own."""
    return {
        name: np.array(value.detach().to("cpu", torch.float32).numpy(), np.float32, order="C")
        for name, value in tensors.items()
    }
