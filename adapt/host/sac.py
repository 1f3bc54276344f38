"""SAC, and PEARL fine-tuned by it, between trainer and bundle: agents of a bundle's weights, on a host with torch.

Axes: R rows, O observation, E embedding, H hidden.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.baselines.config import SacConfig, TaskSacConfig
from ...meta.baselines.sac_agent import SacAgent
from ...meta.baselines.sac_learner import SacLearner
from ...meta.baselines.sac_networks import SacNetworks
from ...meta.collect import Seen
from ...meta.inference.config import PearlConfig
from ...meta.inference.pearl_agent import PearlAgent, PearlNetworks
from ...meta.inference.pearl_finetune import FineTunedPearlAgent
from ...meta.inference.pearl_learner import PearlLearner
from ...meta.policy import Params
from ...meta.space import ActionSpace
from ...meta.state import named_part
from ..agents.pearl_ft import PearlFtSettings, shorten_pearl_ft
from ..agents.sac import SacSettings, shorten_sac
from ..contract import BundleContract
from .exported import Exported, add_prefix, make_config, write_settings
from .pearl import export_pearl, read_belief
from .policy_state import read_plain_outputs
from .step_seeded import StepSeeded

SEED = 0
"""Of generators whose draws nobody sees: of weights that are overwritten, and of noise that a host never draws."""


def make_task_config(settings: SacSettings) -> TaskSacConfig:
    """The configuration of SAC in one row; see `make_config` for errors."""
    return make_config(TaskSacConfig, settings, sac=make_config(SacConfig, settings))


def make_networks(
    space: ActionSpace, observation_dim: int, config: SacConfig, weights: dict[str, Tensor], embedding_dim: int = 0
) -> SacNetworks:
    """Policy and critics that all tasks share, of a bundle's weights."""
    generator = torch.Generator().manual_seed(SEED)
    networks = SacNetworks(space, observation_dim, config.hidden, generator, embedding_dim=embedding_dim)
    networks.load_state_dict({name: weights[name] for name in networks.state_dict()})
    return networks


def begin_with(agent: SacAgent, first: SacNetworks) -> StepSeeded:
    """The agent, but that every task begins with copies of these networks."""

    def begin(rows: int) -> dict[str, Tensor]:
        return add_prefix("sac.networks.", first.for_tasks(rows).state_dict())

    return StepSeeded(agent, begin)


def make_sac_agent(
    contract: BundleContract, settings: SacSettings, weights: dict[str, Tensor], space: ActionSpace
) -> AdaptiveAgent:
    """See `Host.make_agent`."""
    config = make_task_config(settings)
    first = make_networks(space, contract.observation_dim, config.sac, weights)
    return begin_with(SacAgent(space, contract.observation_dim, config), first)


def make_pearl_ft_agent(
    contract: BundleContract, settings: PearlFtSettings, weights: dict[str, Tensor], space: ActionSpace
) -> AdaptiveAgent:
    """See `Host.make_agent`."""
    dim, config = contract.observation_dim, make_task_config(settings.sac)
    pearl = make_config(PearlConfig, settings.pearl, prior_episodes=1)  # the agent is told how many there are
    first = make_networks(space, dim, config.sac, weights, pearl.embedding_dim)
    networks = PearlNetworks(space, dim, pearl, first.policy, torch.Generator().manual_seed(SEED))
    networks.encoder.load_state_dict(named_part(weights, "encoder."))
    inferring = PearlAgent(
        networks,
        space,
        torch.Generator().manual_seed(SEED),
        prior_episodes=settings.pearl.prior_episodes,
        greedy=settings.pearl.greedy,
    )
    agent = FineTunedPearlAgent(inferring, first, space, dim, config, inference_episodes=settings.inference_episodes)
    return StepSeeded(agent)


def read_sac_params(agent: AdaptiveAgent) -> Params:
    """See `Host.read_params`: the policy of every row; none where PEARL still infers."""
    tensors, facts = agent.state()
    if "pearl" in facts and not _updates(facts):
        return {}
    return fold_embedding(named_part(tensors, "sac.networks.policy."), tensors["sac.embedding"])


def _updates(facts: dict[str, Any]) -> int:
    return int(facts["sac"]["updates"])


def fold_embedding(policy: dict[str, Tensor], embedding: Tensor) -> Params:
    """Plain policies that choose in o as the given ones do in [o, e].

    Args:
        policy: `weights.{i}` (R, in, out) and `biases.{i}` (R, 1, out), as in `StackedMLP`.
        embedding: e of every row, (R, E); E may be 0.
    """
    params: Params = {}
    for index in range(len(policy) // 2):
        params[f"layers.{index}.weight"] = policy[f"weights.{index}"].mT
        params[f"layers.{index}.bias"] = policy[f"biases.{index}"][:, 0]
    first = params["layers.0.weight"]
    observation_dim = first.shape[-1] - embedding.shape[-1]
    added = first[..., observation_dim:] @ embedding[..., None]
    params["layers.0.weight"] = first[..., :observation_dim]
    params["layers.0.bias"] = params["layers.0.bias"] + added[..., 0]
    return params


def export_sac(learner: SacLearner) -> Exported:
    """First networks, which are drawn here: SAC from scratch has learned nothing that it could take along."""
    space, config = learner.space, learner.config
    dim = learner.robot.spec.observation.shape[0]
    first = SacNetworks(space, dim, config.sac.hidden, torch.Generator().manual_seed(SEED))
    settings = write_settings(SacSettings, config, config.sac)
    agent = SacAgent(space, dim, replace(config, rollouts=1, updates=shorten_sac(settings)["updates"]))

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        return _read_policy(acting, seen, space, config.sac.hidden)

    return Exported(
        kind="sac",
        learner=settings,
        weights=first.state_dict(),
        agent=begin_with(agent, first),
        space=space,
        read_state=read_state,
    )


def export_pearl_ft(
    learner: PearlLearner,
    fine_tuning: TaskSacConfig,
    *,
    inference_episodes: int,
    prior_episodes: int | None,
    greedy: bool,
) -> Exported:
    """PEARL as without fine-tuning, its critics, and the settings of SAC.

    Raises:
        BundleError: See `export_pearl`.
    """
    pearl = export_pearl(learner, prior_episodes=prior_episodes, greedy=greedy)
    space, hidden = learner.space, learner.config.sac.hidden
    settings = {
        "inference_episodes": inference_episodes,
        "pearl": pearl.learner,
        "sac": write_settings(SacSettings, fine_tuning, fine_tuning.sac, hidden=hidden),
    }
    trial = shorten_pearl_ft(settings)
    agent = learner.fine_tuned_agent(
        replace(fine_tuning, updates=trial["sac"]["updates"]),
        inference_episodes=trial["inference_episodes"],
        prior_episodes=trial["pearl"]["prior_episodes"],
        greedy=greedy,
    )

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, known = acting.state()
        return read_belief(named_part(tensors, "pearl."), known["pearl"]) | _read_policy(acting, seen, space, hidden)

    return Exported(
        kind="pearl-ft",
        learner=settings,
        weights={**pearl.weights, **learner.sac.state_dict()},
        agent=StepSeeded(agent),
        space=space,
        read_state=read_state,
    )


def _read_policy(agent: AdaptiveAgent, seen: Seen, space: ActionSpace, hidden: tuple[int, ...]) -> dict[str, Tensor]:
    """`params.*` and outputs of every row's policy; nothing where there is none yet."""
    params = read_sac_params(agent)
    return read_plain_outputs(space, hidden, params, seen) if params else {}
