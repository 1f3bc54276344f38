"""MAESN from the trainer to a bundle."""

from __future__ import annotations

import torch
from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.gradient.maesn_learner import MaesnLearner
from ...meta.state import named_part
from .exported import Exported
from .policy_state import read_policy_state


def export_maesn(learner: MaesnLearner, *, later_scale: float) -> Exported:
    """The policy and the step sizes; the table of train tasks stays behind."""
    config, policy = learner.config, learner.policy
    weights = {name: value for name, value in learner.meta.items() if name.startswith(("policy.", "rule."))}
    params = named_part(weights, "policy.")

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, facts = agent.state()
        rows = len(tensors["latent.mean"])
        spread = {name: value.expand(rows, *value.shape) for name, value in params.items()}
        observation = learner.space.normalise(seen.observation)
        acted = read_policy_state(policy, spread, observation, seen, tensors["z"][:, 0])
        return {
            "mean": tensors["latent.mean"],
            "log_scale": tensors["latent.log_scale"],
            "z": tensors["z"][:, 0],
            "output": acted["output"],
            "steps": torch.full((rows,), float(facts["steps"])),
        }

    return Exported(
        kind="maesn",
        learner={
            "hidden": list(policy.hidden),
            "activation": policy.activation,
            "latent_dim": config.latent_dim,
            "discount": config.discount,
            "trace": config.trace,
            "later_scale": later_scale,
            "natural": config.natural,
        },
        weights=weights,
        agent=learner.agent(rollouts=1, later_scale=later_scale),
        space=learner.space,
        read_state=read_state,
    )
