"""The state of agents that act by plain policies, as the numpy agents have it.

Axes: R rows, r rows still running, O observation, U outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...meta.collect import Seen
from ...meta.distribution import Categorical
from ...meta.policy import MlpPolicy, Params
from ...meta.recurrent import ActionCode
from ...meta.space import ActionSpace


def read_policy_state(
    policy: MlpPolicy, params: Params, space: ActionSpace, seen: Seen, z: Tensor | None = None
) -> dict[str, Tensor]:
    """`params.*` (R, ...) and the outputs (R, U) at the last observation, which is zero in rows that had ended.

    Args:
        policy: Of inputs O, or [O, z].
        params: Of every row, (R, ...).
        space: What is chosen.
        seen: Of the rows that ran.
        z: Of every row, (R, .), where the policy reads one.
    """
    observation = space.normalise(seen.observation)
    table = observation.new_zeros(len(params["layers.0.bias"]), observation.shape[-1])
    table[torch.from_numpy(seen.rows)] = observation
    table = table if z is None else torch.cat((table, z), dim=-1)
    distribution = policy(params, table[:, None])
    output = distribution.logits if isinstance(distribution, Categorical) else distribution.loc
    return {f"params.{name}": value for name, value in params.items()} | {"output": output[:, 0]}


def read_plain_outputs(space: ActionSpace, hidden: tuple[int, ...], params: Params, seen: Seen) -> dict[str, Tensor]:
    """As `read_policy_state`, of policies whose output is a whole distribution or a correction of one."""
    network = make_plain_network(space, seen.observation.shape[-1], hidden, "relu")
    return read_policy_state(network, params, space, seen)


def make_plain_network(space: ActionSpace, inputs: int, hidden: tuple[int, ...], activation: str) -> MlpPolicy:
    """The network whose output is a whole distribution of the space, scale included; it gives it as logits."""
    outputs = ActionCode(space).outputs
    return MlpPolicy(inputs=inputs, outputs=outputs, discrete=True, hidden=hidden, activation=activation)
