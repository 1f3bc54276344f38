"""RL2 and E-RL2 from the trainer to a bundle."""

from __future__ import annotations

import copy

from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.memory.rl2_agent import MEMORY
from ...meta.memory.rl2_learner import Rl2Learner
from ..agents.rl2 import Rl2Settings
from .exported import Exported, write_settings


def export_rl2(learner: Rl2Learner, *, greedy: bool) -> Exported:
    """The recurrent policy; the value function stays behind."""
    network = copy.deepcopy(learner.network).cpu()
    parts = {"gru": network.gru, "slots": network.slots, "policy_head": network.policy_head}

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, _ = agent.state()
        state = {name: tensors[name].float() for name in MEMORY}
        return state | {"output": network.policy_output(tensors["hidden"])}

    return Exported(
        kind="rl2",
        learner=write_settings(Rl2Settings, learner.config, hidden=network.hidden, greedy=greedy),
        weights={
            f"{name}.{key}": value
            for name, part in parts.items()
            if part is not None
            for key, value in part.state_dict().items()
        },
        agent=learner.agent(greedy=greedy),
        space=learner.space,
        read_state=read_state,
    )
