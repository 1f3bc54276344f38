"""SAC, and PEARL fine-tuned by it, from the trainer to a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch
from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.baselines.sac_agent import SacAgent, TaskSacConfig
from ...meta.baselines.sac_learner import SacLearner
from ...meta.baselines.sac_networks import SacNetworks
from ...meta.collect import Seen
from ...meta.inference.pearl_learner import PearlLearner
from ...meta.space import ActionSpace
from ...meta.state import named_part
from .export_pearl import export_pearl, read_belief
from .exported import Exported
from .host_sac import SEED, begin_with, read_sac_params
from .kind_pearl_ft import shorten_pearl_ft
from .kind_sac import shorten_sac
from .plain_policy import read_plain_outputs
from .step_seeded import StepSeeded


def export_sac(learner: SacLearner) -> Exported:
    """First networks, which are drawn here: SAC from scratch has learned nothing that it could take along."""
    space, config = learner.space, learner.config
    dim = learner.robot.spec.observation.shape[0]
    first = SacNetworks(space, dim, config.sac.hidden, torch.Generator().manual_seed(SEED))
    facts = _sac_facts(config, config.sac.hidden)
    agent = SacAgent(space, dim, replace(config, rollouts=1, updates=shorten_sac(facts)["updates"]))

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        return _read_policy(acting, seen, space, config.sac.hidden)

    return Exported(
        kind="sac",
        learner=facts,
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
    facts = {
        "inference_episodes": inference_episodes,
        "pearl": pearl.learner,
        "sac": _sac_facts(fine_tuning, hidden),
    }
    trial = shorten_pearl_ft(facts)
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
        learner=facts,
        weights={**pearl.weights, **learner.sac.state_dict()},
        agent=StepSeeded(agent),
        space=space,
        read_state=read_state,
    )


def _sac_facts(config: TaskSacConfig, hidden: tuple[int, ...]) -> dict[str, Any]:
    """The settings, with the widths that the networks have."""
    return {**asdict(config.sac), "hidden": list(hidden), "updates": config.updates, "replay": config.replay}


def _read_policy(agent: AdaptiveAgent, seen: Seen, space: ActionSpace, hidden: tuple[int, ...]) -> dict[str, Tensor]:
    """`params.*` and outputs of every row's policy; nothing where there is none yet."""
    params: Mapping[str, Tensor] = read_sac_params(agent)
    if not params:
        return {}
    return read_plain_outputs(space, hidden, dict(params), seen)
