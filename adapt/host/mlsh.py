"""MLSH between trainer and bundle: an agent whose tasks all begin with one first master, on a host with torch.

Axes: R rows.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor

from ...errors import BundleError, ConfigError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Episodes, Seen
from ...meta.config import Activation
from ...meta.hierarchy.config import MlshConfig, PpoPasses
from ...meta.hierarchy.mlsh_agent import MlshAgent
from ...meta.hierarchy.mlsh_learner import MlshLearner
from ...meta.space import ActionSpace
from ...meta.state import episodes_tensors, named_part
from ..agents.mlsh import MlshRowAgent, read_mlsh
from ..contract import BundleContract
from ..runtime_agent import RuntimeAgent
from .exported import Exported
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


def make_mlsh_agent(contract: BundleContract, weights: dict[str, Tensor], space: ActionSpace) -> AdaptiveAgent:
    """See `host.Host.make_agent`.

    Raises:
        BundleError: The facts are none that MLSH can have.
    """
    facts = read_mlsh(contract)
    try:
        master = PpoPasses(
            epochs=facts.epochs,
            minibatches=facts.minibatches,
            clip=facts.clip,
            learning_rate=facts.learning_rate,
            entropy_weight=facts.entropy_weight,
        )
        config = MlshConfig(
            sub_policies=facts.sub_policies,
            hold=facts.hold,
            hidden=facts.hidden,
            activation=cast(Activation, facts.activation),
            discount=facts.discount,
            trace=facts.trace,
            master=master,
        )
    except ConfigError as error:
        raise BundleError(f"bundle.json learner: {error}") from error
    agent = MlshAgent(space, contract.observation_dim, config)
    for name, value in named_part(weights, "sub_policies.").items():
        agent.sub_policies.params[f"policy.{name}"] = value.clone()
    agent.return_scale = (facts.return_mean, facts.return_variance)
    return OneMasterAgent(agent, named_part(weights, "master."))


def read_mlsh_params(agent: AdaptiveAgent) -> dict[str, Tensor]:
    """See `host.Host.read_params`."""
    return named_part(agent.state()[0], "masters.params.policy.")


def observe_mlsh(agent: AdaptiveAgent, acting: RuntimeAgent, episodes: Episodes) -> None:
    """See `host.Host.observe`."""
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
        params = {f"params.{name}": value for name, value in read_mlsh_params(acting).items()}
        return params | {"macro": tensors[f"macro.{facts['seen'] - 1}"]}

    passes = config.master
    return Exported(
        kind="mlsh",
        learner={
            "hidden": list(config.hidden),
            "activation": config.activation,
            "sub_policies": config.sub_policies,
            "hold": config.hold,
            "discount": config.discount,
            "trace": config.trace,
            "epochs": passes.epochs,
            "minibatches": passes.minibatches,
            "clip": passes.clip,
            "learning_rate": passes.learning_rate,
            "entropy_weight": passes.entropy_weight,
            "return_mean": agent.return_scale[0],
            "return_variance": agent.return_scale[1],
        },
        weights={
            **{f"master.{name}": value for name, value in master.items()},
            **{f"sub_policies.{n}": v for n, v in named_part(agent.sub_policies.params, "policy.").items()},
        },
        agent=OneMasterAgent(agent, master),
        space=learner.space,
        read_state=read_state,
    )
