"""MLSH between trainer and bundle: an agent whose tasks all begin with one first master, on a host with torch.

Axes: R rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...errors import BundleError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Episodes, Seen
from ...meta.hierarchy.config import MlshConfig, PpoPasses
from ...meta.hierarchy.mlsh_agent import MlshAgent
from ...meta.hierarchy.mlsh_learner import MlshLearner
from ...meta.space import ActionSpace
from ...meta.state import episodes_tensors, named_part
from ..agents.mlsh import MlshRowAgent, MlshSettings
from ..contract import BundleContract
from ..runtime_agent import RuntimeAgent
from .exported import Exported, add_prefix, make_config, write_settings
from .step_seeded import StepSeeded


class OneMasterAgent(StepSeeded):
    """The trainer's agent, but that every task begins with one master, whose updates know nothing of how it acted."""

    def __init__(self, agent: MlshAgent, master: dict[str, Tensor]) -> None:
        """Takes `policy.*` and `value.*` of the first master, without an axis of tasks."""
        super().__init__(
            agent,
            lambda rows: {f"masters.params.{name}": value.expand(rows, *value.shape) for name, value in master.items()},
        )

    def observe_played(self, episodes: Episodes, macro: Tensor) -> None:
        """Takes in episodes that another agent acted in, with the choices of its masters, (R, M) int64."""
        tensors, facts = self.agent.state()
        index = facts["seen"]
        found = episodes_tensors([episodes])
        tensors |= {f"seen.{index}.{name.removeprefix('0.')}": value for name, value in found.items()}
        self.agent.load_state(tensors | {f"macro.{index}": macro}, {**facts, "seen": index + 1})


def make_mlsh_agent(
    contract: BundleContract, settings: MlshSettings, weights: dict[str, Tensor], space: ActionSpace
) -> AdaptiveAgent:
    """See `Host.make_agent`."""
    config = make_config(MlshConfig, settings, master=make_config(PpoPasses, settings))
    agent = MlshAgent(space, contract.observation_dim, config)
    for name, value in named_part(weights, "sub_policies.").items():
        agent.sub_policies.params[f"policy.{name}"] = value.clone()
    agent.return_scale = (settings.return_mean, settings.return_variance)
    return OneMasterAgent(agent, named_part(weights, "master."))


def read_mlsh_params(agent: AdaptiveAgent) -> dict[str, Tensor]:
    """See `Host.read_params`."""
    return named_part(agent.state()[0], "masters.params.policy.")


def observe_mlsh(agent: AdaptiveAgent, acting: RuntimeAgent, episodes: Episodes) -> None:
    """See `Host.observe`."""
    assert isinstance(agent, OneMasterAgent)
    assert isinstance(acting, MlshRowAgent)
    agent.observe_played(episodes, torch.from_numpy(acting.macro.copy()))


def export_mlsh(learner: MlshLearner, *, random_choice: float) -> Exported:
    """Sub-policies, and a first master that is drawn here.

    Raises:
        BundleError: The masters choose at random in part, for which the runtime has no noise.
    """
    if random_choice:
        raise BundleError(
            f"export: expected masters that choose by themselves, got a share of {random_choice} random choices; "
            "export a cell with random_choice = 0"
        )
    agent, config = learner.agent(rollouts=1), learner.config
    agent.begin_task(1)
    master = {name: value[0].clone() for name, value in agent.masters.params.items()}

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, facts = acting.state()
        params = add_prefix("params.", read_mlsh_params(acting))
        return params | {"macro": tensors[f"macro.{facts['seen'] - 1}"]}

    mean, variance = agent.return_scale
    return Exported(
        kind="mlsh",
        learner=write_settings(MlshSettings, config.master, config, return_mean=mean, return_variance=variance),
        weights={
            **add_prefix("master.", master),
            **add_prefix("sub_policies.", named_part(agent.sub_policies.params, "policy.")),
        },
        agent=OneMasterAgent(agent, master),
        space=learner.space,
        read_state=read_state,
    )
