"""The recurrent updater from the trainer to a bundle."""

from __future__ import annotations

from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.memory.recurrent_updater_agent import RecurrentUpdaterAgent
from ...meta.memory.recurrent_updater_learner import RecurrentUpdaterLearner
from ..agents.recurrent_updater import RecurrentUpdaterSettings
from .exported import Exported, add_prefix, write_settings
from .policy_state import read_policy_state


def export_recurrent_updater(learner: RecurrentUpdaterLearner) -> Exported:
    """First policy and recurrent network."""
    policy = learner.policy

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        assert isinstance(agent, RecurrentUpdaterAgent)
        tensors, _ = agent.state()
        acted = read_policy_state(policy, agent.params, learner.space, seen)
        return acted | {name: tensors[f"memory.{name}"] for name in ("hidden", "coefficient")}

    return Exported(
        kind="recurrent-updater",
        learner=write_settings(RecurrentUpdaterSettings, learner.config, policy),
        weights={**add_prefix("policy.", learner.first), **add_prefix("phi.", learner.phi)},
        agent=learner.agent(rollouts=1),
        space=learner.space,
        read_state=read_state,
    )
