"""Bundles of SiMPL that were exported before all learners had one contract: version 1, read as what they are now.

They named the parts of the skill model otherwise, and recorded input -> output pairs in place of a trial. The pairs are
recomputed here. How the agent adapts was no part of them: it gets the settings that were usual.

Axes: B pairs, M contexts, C transitions of a context, O observation, Z latent, E task embedding.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .agents.simpl import SIMPL
from .bundle_folder import check_tensors
from .contract import BundleContract
from .golden_trial import require_close
from .networks import Array, Weights, compute_mlp
from .policies import compute_residual
from .spaces import RowSpace
from .task_encoder import Context, compute_embedding

FIELDS = (
    "schema_version",
    "kind",
    "robot",
    "action_space",
    "skill_horizon",
    "skill_dim",
    "embedding_dim",
    "min_scale",
    "networks",
    "encoder",
    "adaptation",
    "provenance",
)
"""Of `bundle.json`; raw actions also had `prior_scale`."""
PAIRS, TRANSITIONS = 32, 8
"""Recorded pairs and contexts, B and M, and transitions of each context, C."""
DEPLOYMENT: Mapping[str, Any] = {
    "exploration_episodes": 20,
    "search": "directed",
    "candidates": 256,
    "visited": 12,
    "evidence": 256.0,
    "keep_searching": True,
    "wider": 2.0,
    "context": 256,
    "learn_from_exploration": True,
    "finetune": {
        "learning_rate": 1e-3,
        "multiplier_learning_rate": 3e-4,
        "discount": 0.99,
        "target_rate": 0.02,
        "batch": 256,
        "reuse_rate": 128.0,
        "min_transitions": 256,
        "critic_updates_first": 300,
        "kl_target": 1.0,
        "kl_clip": 5.0,
        "multiplier": 1e-3,
        "only_increase": True,
        "bfloat16": True,
        "pool_episodes": 320,
    },
}
"""The usual settings of that time."""
TOLERANCE = 1e-5
"""See `GOLDEN_TOLERANCE`: the pairs of version 1 are single decisions of small networks."""


def is_version_1(data: object) -> bool:
    """Whether this is the content of a `bundle.json` of version 1."""
    version = data.get("schema_version") if isinstance(data, Mapping) and data.get("kind") == "simpl" else None
    return type(version) is int and version == 1


def convert_version_1(
    data: Mapping[str, Any], tensors: Mapping[str, NDArray[Any]], golden: Mapping[str, NDArray[Any]], where: str
) -> tuple[BundleContract, Weights]:
    """The contract and the weights as a bundle of today has them.

    Args:
        data: The content of `bundle.json`.
        tensors: Every weight by the names of version 1.
        golden: The recorded pairs.
        where: The bundle, for messages.

    Raises:
        BundleError: A field or tensor is missing, unknown, of another shape or not finite, or a pair is not reproduced.
    """
    if wrong := sorted((set(data) - {"prior_scale"}) ^ set(FIELDS)):
        raise BundleError(f"{where} bundle.json: expected the fields of version 1, got a difference in {wrong}")
    try:
        contract = _convert_contract(data)
        weights = _convert_weights(tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(f"{where}: expected a bundle of version 1, got {error!r}; export the bundle again") from error
    shapes = SIMPL.weight_shapes(contract) | contract.space.weight_shapes(contract.observation_dim)
    check_tensors(weights, shapes, where, "export the bundle again")
    if not (weights["space.std"] > 0).all():
        raise BundleError(f"{where}: expected normaliser.std > 0, got {weights['space.std'].min()}; export again")
    _require_pairs(contract, weights, golden, where)
    return contract, weights


def _convert_contract(data: Mapping[str, Any]) -> BundleContract:
    raw, networks, simpl = data["action_space"] == "raw", data["networks"], data["adaptation"]["simpl"]
    if (data["min_scale"], data.get("prior_scale", 1.0)) != (0.001, 1.0):
        raise BundleError(
            f"bundle.json min_scale, prior_scale: expected 0.001 and 1.0, got {data['min_scale']} and "
            f"{data.get('prior_scale')}; load it with the version of supple that wrote it"
        )
    trained = simpl["reward_prediction"] > 0.0
    learner = {
        **DEPLOYMENT,
        "search": DEPLOYMENT["search"] if trained else "blind",  # nobody could answer a directed search
        "embedding_dim": data["embedding_dim"],
        "hidden": networks["policy"]["sizes"][1:-1],
        "critic_norm": False,
        "encoder": simpl["encoder"],
        "encoder_hidden": simpl["encoder_hidden"],
        "multiplier": float(data["adaptation"].get("alpha", DEPLOYMENT["finetune"]["multiplier"])),
        "greedy": False,
        "seed": 0,
    }
    space = {
        "name": data["action_space"],
        "horizon": data["skill_horizon"],
        "latent_dim": data["skill_dim"],
        "prior": [] if raw else networks["prior"]["sizes"],
        "decoder": [] if raw else networks["decoder"]["sizes"],
    }
    provenance = data["provenance"]
    return BundleContract.from_json(
        {
            "schema_version": 1,
            "kind": "simpl",
            "robot": data["robot"],
            "space": space,
            "learner": learner,
            "budget": {"episodes": 100, "exploration_episodes": 20, "adapt_steps": 0},
            "simulator": provenance.get("robot"),
            "provenance": provenance,
        }
    )


def _convert_weights(tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    parts = {"normaliser": "space", "prior": "space.prior", "decoder": "space.decoder"}
    weights: dict[str, NDArray[Any]] = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part != "critic":
            weights[f"{parts.get(part, part)}.{rest}"] = value
            continue
        _, index, field = rest.split(".")
        moved = value.swapaxes(1, 2) if field == "weight" else value[:, None]
        weights[f"critic.{'weights' if field == 'weight' else 'biases'}.{index}"] = np.ascontiguousarray(moved)
    return weights


def _require_pairs(contract: BundleContract, weights: Weights, golden: Mapping[str, Array], where: str) -> None:
    """Recomputes the recorded pairs."""
    skill, context = (PAIRS, contract.space.latent_dim), (PAIRS, TRANSITIONS)
    embedding, dim = (PAIRS, SIMPL.read(contract).embedding_dim), contract.observation_dim
    shapes: dict[str, tuple[int, ...]] = {
        "in.observation": (PAIRS, dim),
        "in.embedding": embedding,
        "in.skill": skill,
        "out.action": (PAIRS, contract.action_dim),
        "out.value": (2, PAIRS),
        **{f"out.{name}": skill for name in ("prior_loc", "prior_scale", "policy_loc", "policy_scale")},
    }
    infers = "in.context_reward" in golden or "out.embedding_loc" in golden
    if infers:  # the first ones had no pairs of the encoder
        shapes |= {f"out.embedding_{name}": embedding for name in ("loc", "scale")}
        shapes |= {f"in.context_{name}": context for name in ("reward", "terminated")}
        shapes |= {f"in.context_{name}": (*context, dim) for name in ("observation", "next_observation")}
        shapes["in.context_skill"] = (*context, skill[1])
    check_tensors(golden, shapes, where, "export the bundle again")
    with np.errstate(all="ignore"):
        outputs = _compute_outputs(contract, weights, golden, infers=infers)
    for name, output in outputs.items():
        require_close(name, output, golden[name], where, TOLERANCE)


def _compute_outputs(
    contract: BundleContract, weights: Weights, inputs: Mapping[str, Array], *, infers: bool
) -> dict[str, Array]:
    space, observation = RowSpace(contract.space, contract.robot, weights), inputs["in.observation"]
    scaled, embedding, skill = space.normalise(observation), inputs["in.embedding"], inputs["in.skill"]
    prior = space.prior_of(observation)
    output = compute_mlp(weights, "policy", np.concatenate([scaled, embedding], axis=-1))
    policy = compute_residual(output, prior)
    joint = np.concatenate([scaled, skill, embedding], axis=-1)
    value: Array = np.broadcast_to(joint, (2, *joint.shape))
    layers = len(contract.learner["hidden"]) + 1
    for index in range(layers):
        value = value @ weights[f"critic.weights.{index}"] + weights[f"critic.biases.{index}"]
        value = np.maximum(value, np.float32(0.0)) if index < layers - 1 else value
    outputs = {
        "out.prior_loc": prior.loc,
        "out.prior_scale": prior.scale,
        "out.policy_loc": policy.loc,
        "out.policy_scale": policy.scale,
        "out.action": space.hold(skill)(observation),
        "out.value": value[..., 0],
    }
    if infers:
        context = Context(*(inputs[f"in.context_{name}"] for name in Context._fields))
        found = compute_embedding(SIMPL.read(contract).encoder, weights, context.tokens(space))
        outputs |= {"out.embedding_loc": found.loc, "out.embedding_scale": found.scale}
    return outputs
