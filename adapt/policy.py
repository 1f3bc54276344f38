"""A bundle as a torch agent that can be adapted; the numpy runtime only acts.

Axes: O observation, Z latent, E task embedding.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from ..errors import BundleError
from ..meta.simpl.agent import SimplAgent
from ..meta.simpl.config import SimplConfig
from ..meta.space import ActionSpace, RawSpace, SkillSpace
from ..skills.config import SkillConfig
from ..skills.model import SkillModel
from .bundle import Bundle
from .contract import BundleContract


def simpl_config_of(contract: BundleContract) -> SimplConfig:
    """The configuration that the bundle was meta-trained with.

    Raises:
        BundleError: The record lacks a field or has an unknown one.
    """
    record: dict[str, Any] = contract.adaptation.get("simpl", {})
    # a default of today is not what the bundle was trained with
    if missing := [field.name for field in fields(SimplConfig) if field.name not in record]:
        raise BundleError(
            f"bundle.json adaptation.simpl: expected the field '{missing[0]}', got none; export again with the version "
            "of supple that meta-trained it"
        )
    try:
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in record.items()}
        return SimplConfig(**values)
    except TypeError as error:
        raise BundleError(
            f"bundle.json adaptation.simpl: expected the fields of SimplConfig, got {error}; export again"
        ) from error


def make_agent(bundle: Bundle, device: torch.device) -> SimplAgent:
    """The agent whose weights the bundle holds, frozen, on `device`.

    Raises:
        BundleError: The declared networks are not those of the recorded configuration.
    """
    contract = bundle.contract
    config = simpl_config_of(contract)
    weights = {name: torch.tensor(value) for name, value in bundle.weights.items()}
    space = _make_space(contract, weights, device)
    agent = SimplAgent(space, contract.observation_dim, config, seed=0)
    state = {name: value for name, value in weights.items() if name.startswith(("policy.", "encoder."))}
    for index in range(len(contract.networks["critic"]) - 1):
        for name in ("critic", "target_critic"):
            state[f"{name}.weights.{index}"] = weights[f"critic.layers.{index}.weight"].transpose(1, 2)
            state[f"{name}.biases.{index}"] = weights[f"critic.layers.{index}.bias"][:, None]
    try:
        agent.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise BundleError(f"bundle weights: expected those of adaptation.simpl, got {reason}; export again") from error
    return agent.to(device).requires_grad_(False)


def _make_space(contract: BundleContract, weights: dict[str, Tensor], device: torch.device) -> ActionSpace:
    if contract.action_space == "raw":
        return RawSpace(contract.robot, weights["normaliser.mean"].to(device), weights["normaliser.std"].to(device))
    config = SkillConfig(
        skill_horizon=contract.skill_horizon,
        skill_dim=contract.skill_dim,
        decoder_hidden=contract.networks["decoder"][1:-1],
        prior_hidden=contract.networks["prior"][1:-1],
    )
    model = SkillModel(contract.observation_dim, contract.action_dim, config)
    parts = ("normaliser.", "prior.", "decoder.")
    model.load_state_dict(
        model.state_dict() | {name: value for name, value in weights.items() if name.startswith(parts)}
    )
    return SkillSpace(model.to(device))
