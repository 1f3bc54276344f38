"""Stage `export`: the policy bundle of a meta-trained agent, `bundle/`."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...adapt.bundle import write_bundle
from ...adapt.contract import BundleContract
from ...adapt.golden import make_golden_inputs
from ...errors import BundleError
from ...meta.simpl.agent import SimplAgent
from ...meta.simpl.pool import Transitions
from ...robots.spec import RobotSpec
from ...skills.gaussian import Gaussian
from ...skills.model import SkillModel
from ...skills.network import MLP
from ..folder import compute_path_digest
from ..settings.export import ExportConfig
from ..stage import Stage, Work
from .meta_train import load_agent

NAME = "bundle"
Arrays = dict[str, NDArray[Any]]


def make_export(meta: Path, config: ExportConfig) -> Stage:
    """The stage; it draws nothing at random but the golden inputs.

    Raises:
        RunError: there is no meta-trained agent at `meta`.
    """
    load_agent(meta)
    return Stage(
        name="export",
        config={"export": config},
        inputs={"meta": meta},
        seed=config.golden_seed,
        module="pipeline/stages/export.py",
        libraries=("numpy", "torch", "safetensors"),
        body=partial(export, config),
    )


def export(config: ExportConfig, work: Work) -> None:
    """Writes the bundle with golden outputs that torch computed; loading it checks that numpy agrees."""
    work.start_afresh()
    folder = work.inputs["meta"]
    agent, model, facts = load_agent(folder)
    contract = make_contract(agent, model, facts, {"meta": compute_path_digest(folder)})
    weights = compute_weights(agent, model, facts["action_space"])
    inputs = make_golden_inputs(contract, weights, np.random.default_rng(config.golden_seed))
    golden = inputs | compute_torch_outputs(agent, model, contract, inputs)
    write_bundle(work.folder / NAME, contract=contract.to_json(), weights=weights, golden=golden)


def make_contract(
    agent: SimplAgent, model: SkillModel, facts: dict[str, Any], provenance: dict[str, str]
) -> BundleContract:
    """What the bundle promises.

    Raises:
        BundleError: raw actions on a robot whose action axes are not [-1, 1].
    """
    robot = RobotSpec.from_json(facts["robot"])
    raw = facts["action_space"] == "raw"
    if raw and not all((axis.low, axis.high) == (-1.0, 1.0) for axis in robot.action.axes):
        raise BundleError(
            "export: expected action axes of [-1, 1] for raw actions, got others; scale the robot's actions"
        )
    networks = {"policy": agent.policy, **({} if raw else {"prior": model.prior, "decoder": model.decoder})}
    sizes = {name: compute_sizes(net) for name, net in networks.items()}
    critic = agent.critic.weights
    sizes["critic"] = (critic[0].shape[1], *(weight.shape[2] for weight in critic))
    return BundleContract(
        robot=robot,
        action_space=facts["action_space"],
        skill_horizon=agent.space.horizon,
        skill_dim=agent.space.latent_dim,
        embedding_dim=agent.embedding_dim,
        networks=sizes,
        encoder={name: tuple(value.shape) for name, value in compute_encoder(agent).items()},
        prior_scale=1.0 if raw else None,
        adaptation={"simpl": facts["simpl"], "alpha": facts["alpha"]},
        provenance={**provenance, "robot": facts["family"], "tasks": facts["tasks"]},
    )


def compute_sizes(net: MLP) -> tuple[int, ...]:
    """Widths of an MLP, input first."""
    shapes = [tuple(layer.weight.shape) for layer in net.layers]  # type: ignore[arg-type]
    return (int(shapes[0][1]), *(int(shape[0]) for shape in shapes))


def compute_encoder(agent: SimplAgent) -> Arrays:
    """The task encoder's tensors, named `encoder.*`."""
    return {f"encoder.{name}": value.numpy() for name, value in agent.encoder.state_dict().items()}


def compute_weights(agent: SimplAgent, model: SkillModel, action_space: str) -> Arrays:
    """Every weight by the bundle's names; see adapt/contract.py."""
    modules = {"normaliser": model.normaliser, "policy": agent.policy}
    if action_space == "skill":
        modules |= {"prior": model.prior, "decoder": model.make_robot_decoder()}
    weights = {
        f"{name}.{key}": value.numpy() for name, net in modules.items() for key, value in net.state_dict().items()
    }
    for index, (weight, bias) in enumerate(zip(agent.critic.weights, agent.critic.biases, strict=True)):
        weights[f"critic.layers.{index}.weight"] = weight.numpy().swapaxes(1, 2)
        weights[f"critic.layers.{index}.bias"] = bias.numpy()[:, 0]
    weights |= compute_encoder(agent)
    return {name: np.ascontiguousarray(value, np.float32) for name, value in weights.items()}


@torch.no_grad()
def compute_torch_outputs(agent: SimplAgent, model: SkillModel, contract: BundleContract, inputs: Arrays) -> Arrays:
    """The golden outputs, computed by the networks as they were trained."""
    observation, embedding, skill = (
        torch.from_numpy(inputs[f"in.{name}"]) for name in ("observation", "embedding", "skill")
    )
    space = agent.space
    scaled = space.normalise(observation)
    prior = space.prior_of(observation)
    policy = agent.policy_at(scaled, embedding, prior)
    action = space.hold(skill)(observation)
    low, high = (torch.from_numpy(value) for value in (contract.robot.action.low, contract.robot.action.high))
    value = agent.value(agent.critic, scaled[None], skill[None], embedding[None])[:, 0]
    outputs = {
        "out.prior_loc": prior.loc,
        "out.prior_scale": prior.scale,
        "out.policy_loc": policy.loc,
        "out.policy_scale": policy.scale,
        "out.action": torch.clamp(action, low, high),
        "out.value": value,
    }
    if "in.context_observation" in inputs:
        posterior = agent.encode(_context_of(inputs))
        outputs |= {"out.embedding_loc": posterior.loc, "out.embedding_scale": posterior.scale}
    return {name: output.float().numpy() for name, output in outputs.items()}


def _context_of(inputs: Arrays) -> Transitions:
    """The golden contexts as the agent reads them; their priors are not read."""
    names = ("observation", "skill", "reward", "terminated", "next_observation")
    observation, skill, reward, terminated, following = (torch.from_numpy(inputs[f"in.context_{n}"]) for n in names)
    blank = Gaussian(skill.new_zeros(0), skill.new_zeros(0))
    return Transitions(observation, skill, reward, terminated, following, blank, blank)
