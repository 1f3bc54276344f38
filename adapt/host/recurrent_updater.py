"""The recurrent updater from the trainer to a bundle."""

from __future__ import annotations

from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.memory.recurrent_updater_agent import RecurrentUpdaterAgent
from ...meta.memory.recurrent_updater_learner import RecurrentUpdaterLearner
from .exported import Exported
from .policy_state import read_policy_state


def export_recurrent_updater(learner: RecurrentUpdaterLearner) -> Exported:
    """First policy and recurrent network."""
    policy, updater = learner.policy, learner.updater

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        assert isinstance(agent, RecurrentUpdaterAgent)
        tensors, _ = agent.state()
        acted = read_policy_state(policy, agent.params, learner.space.normalise(seen.observation), seen)
        return acted | {name: tensors[f"memory.{name}"] for name in ("hidden", "coefficient")}

    return Exported(
        kind="recurrent-updater",
        learner={
            "hidden": list(policy.hidden),
            "activation": policy.activation,
            "embedding": updater.embedding,
            "memory": updater.memory,
            "rank": updater.rank,
        },
        weights={
            **{f"policy.{name}": value for name, value in learner.first.items()},
            **{f"phi.{name}": value for name, value in learner.phi.items()},
        },
        agent=learner.agent(rollouts=1),
        space=learner.space,
        read_state=read_state,
    )
