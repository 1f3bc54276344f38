"""MAESN from the trainer to a bundle."""

from __future__ import annotations

import torch
from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.gradient.maesn_learner import MaesnLearner
from ...meta.state import named_part
from ..agents.maesn import MaesnSettings
from .exported import Exported, write_settings
from .policy_state import read_policy_state


def export_maesn(learner: MaesnLearner, *, later_scale: float) -> Exported:
    """The policy and the step sizes; the table of train tasks stays behind."""
    policy = learner.policy
    weights = {name: value for name, value in learner.meta.items() if name.startswith(("policy.", "rule."))}
    params = named_part(weights, "policy.")

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, facts = agent.state()
        rows = len(tensors["latent.mean"])
        spread = {name: value.expand(rows, *value.shape) for name, value in params.items()}
        acted = read_policy_state(policy, spread, learner.space, seen, tensors["z"][:, 0])
        return {
            "mean": tensors["latent.mean"],
            "log_scale": tensors["latent.log_scale"],
            "z": tensors["z"][:, 0],
            "output": acted["output"],
            "steps": torch.full((rows,), float(facts["steps"])),
        }

    return Exported(
        kind="maesn",
        learner=write_settings(MaesnSettings, learner.config, policy, later_scale=later_scale),
        weights=weights,
        agent=learner.agent(rollouts=1, later_scale=later_scale),
        space=learner.space,
        read_state=read_state,
    )
