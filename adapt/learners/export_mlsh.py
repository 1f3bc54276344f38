"""MLSH from the trainer to a bundle."""

from __future__ import annotations

from torch import Tensor

from ...errors import BundleError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.hierarchy.mlsh_learner import MlshLearner
from ...meta.state import named_part
from .exported import Exported
from .host_mlsh import OneMasterAgent, read_mlsh_params


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
