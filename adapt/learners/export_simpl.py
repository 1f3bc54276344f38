"""SiMPL and SPiRL from the trainer to a bundle."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

import torch
from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.simpl.adaptive_agent import SimplAdaptiveAgent
from ...meta.simpl.agent import SimplAgent
from ...meta.simpl.config import FinetuneConfig, SimplConfig
from ...meta.simpl.deployment import DeploymentConfig
from ...meta.simpl.finetune import Finetuner
from ...meta.simpl.learner import SimplLearner
from ...meta.simpl.spirl import SpirlAgent, SpirlLearner
from ..golden_trial import DECISIONS
from .exported import Exported
from .host_simpl import fold_task_embedding, make_spirl_agent
from .kind_simpl import shorten_simpl
from .kind_spirl import shorten_finetune
from .plain_policy import read_plain_outputs


def export_simpl(
    learner: SimplLearner, deployment: DeploymentConfig | None = None, *, greedy: bool = False
) -> Exported:
    """Policy, critics and task encoder, and how it explores and fine-tunes.

    Raises:
        ConfigError: The search is directed, and the reward head was not trained.
    """
    return export_simpl_networks(learner.networks, learner.config, learner.multiplier, deployment, greedy=greedy)


def export_simpl_networks(
    networks: SimplAgent,
    config: SimplConfig,
    multiplier: float,
    deployment: DeploymentConfig | None = None,
    *,
    greedy: bool = False,
) -> Exported:
    """As `export_simpl`, of what a meta-training left.

    Args:
        networks: On the CPU.
        config: That they were meta-trained with.
        multiplier: Of the KL to the prior, with which fine-tuning starts.
        deployment: How the agent explores and fine-tunes.
        greedy: Act by the mean of the policy.

    Raises:
        ConfigError: The search is directed, and the reward head was not trained.
    """
    deployment = DeploymentConfig() if deployment is None else deployment
    deployment.require_reward_head(config)
    learner: dict[str, Any] = {
        "embedding_dim": networks.embedding_dim,
        "hidden": list(config.hidden),
        "encoder": config.encoder,
        "encoder_hidden": config.encoder_hidden,
        "multiplier": multiplier,
        "greedy": greedy,
        "seed": 0,
        **asdict(deployment),
    }
    short = shorten_simpl(learner)
    settings = {field.name: short[field.name] for field in fields(DeploymentConfig)}
    trial = DeploymentConfig(**{**settings, "finetune": FinetuneConfig(**settings["finetune"])})
    agent = SimplAdaptiveAgent(networks, trial, multiplier=multiplier, greedy=greedy)

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, facts = acting.state()
        rows = len(tensors["embedding"])
        return {
            **{name: tensors[name] for name in ("embedding", "reward_range", "visited")},
            "settled": torch.tensor([str(row) in facts["tuners"] for row in range(rows)]),
            "episodes": torch.full((rows,), float(facts["episodes"])),
        }

    kept = ("policy.", "critic.", "encoder.")
    return Exported(
        kind="simpl",
        learner=learner,
        weights={name: value for name, value in networks.state_dict().items() if name.startswith(kept)},
        agent=agent,
        space=networks.space,
        read_state=read_state,
        generator=agent.generator,
    )


def export_spirl(learner: SpirlLearner, *, greedy: bool = False) -> Exported:
    """First networks, which are drawn here: SPiRL has learned nothing that it could take along."""
    space, config, dim = learner.space, learner.config, learner.observation_dim
    nothing, cpu = torch.zeros(0), torch.device("cpu")
    first = Finetuner(space, dim, 1, nothing, config.hidden, config.finetune, 0).state_dict()
    weights = {name: value for name, value in first.items() if name.startswith(("policy.", "critic."))}
    facts = {"hidden": list(config.hidden), "greedy": greedy, "seed": 0, "finetune": asdict(config.finetune)}
    short = type(config)(hidden=config.hidden, finetune=FinetuneConfig(**shorten_finetune(facts)["finetune"]))
    decisions = max(learner.decisions, DECISIONS)
    agent = make_spirl_agent(space, dim, decisions, short, weights, 0, cpu, greedy=greedy)

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        assert isinstance(acting, SpirlAgent)
        own = [fold_task_embedding(tuner) for tuner in acting.tuners if tuner is not None]
        params = {name: torch.stack([one[name] for one in own]) for name in own[0]}
        return read_plain_outputs(space, config.hidden, params, seen)

    return Exported(
        kind="spirl",
        learner=facts,
        weights=weights,
        agent=agent,
        space=space,
        read_state=read_state,
        generator=agent.generator,
    )
