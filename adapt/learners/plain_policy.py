"""What a learner adapted to as a bundle of its own: a plain policy, which acts by the observation alone.

Axes: R rows, r rows still running, O observation, U outputs, Z latent.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import RunError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Episodes, Seen
from ...meta.distribution import Categorical, Distribution
from ...meta.policy import MlpPolicy, Params, Policy, RowActor, for_tasks, make_policy
from ...meta.recurrent import ActionCode
from ...meta.simpl.networks import residual_policy
from ...meta.space import ActionSpace
from ...skills.gaussian import Gaussian
from ..learner_bundle import LearnerBundle
from ..learner_contract import Budget, LearnerContract
from ..rows.policy import PolicyFacts
from .exported import Exported, write_exported
from .host import make_space
from .kind_pearl_ft import read_pearl_ft
from .kind_policy import read_maml
from .kind_ppo import read_ppo
from .kind_recurrent_updater import read_recurrent_updater
from .kind_sac import read_sac
from .kind_simpl import read_simpl
from .kind_spirl import read_spirl

PLAIN_POLICIES: dict[str, Callable[[LearnerContract], PolicyFacts]] = {
    "maml": lambda contract: read_maml(contract).policy,
    "pearl-ft": lambda contract: read_pearl_ft(contract).policy,
    "ppo": lambda contract: read_ppo(contract).policy,
    "recurrent-updater": lambda contract: read_recurrent_updater(contract).policy,
    "sac": lambda contract: read_sac(contract).policy,
    "simpl": lambda contract: read_simpl(contract).policy,
    "spirl": lambda contract: read_spirl(contract).policy,
}
"""Kinds whose agents have, for each task, the parameters of a plain policy (`params`), and what these are."""


def read_policy_state(
    policy: MlpPolicy, params: Params, observation: Tensor, seen: Seen, z: Tensor | None = None
) -> dict[str, Tensor]:
    """`params.*` (R, ...) and the outputs (R, U) at the last observation, which is zero in rows that had ended.

    Args:
        policy: Of inputs O, or [O, z].
        params: Of every row, (R, ...).
        observation: Of the rows that ran, (r, O), normalised.
        seen: Which rows these are.
        z: Of every row, (R, .), where the policy reads one.
    """
    table = observation.new_zeros(len(params["layers.0.bias"]), observation.shape[-1])
    table[torch.from_numpy(seen.rows)] = observation
    table = table if z is None else torch.cat((table, z), dim=-1)
    distribution = policy(params, table[:, None])
    output = distribution.logits if isinstance(distribution, Categorical) else distribution.loc
    return {f"params.{name}": value for name, value in params.items()} | {"output": output[:, 0]}


def read_plain_outputs(
    space: ActionSpace, hidden: tuple[int, ...], params: Params, seen: Seen, activation: str = "relu"
) -> dict[str, Tensor]:
    """As `read_policy_state`, of policies whose output is a whole distribution or a correction of one."""
    observation = space.normalise(seen.observation)
    network = make_plain_network(space, observation.shape[-1], hidden, activation)
    return read_policy_state(network, dict(params), observation, seen)


def make_plain_network(space: ActionSpace, inputs: int, hidden: tuple[int, ...], activation: str) -> MlpPolicy:
    """The network whose output is a whole distribution of the space, scale included; it gives it as logits."""
    outputs = ActionCode(space).outputs
    return MlpPolicy(inputs=inputs, outputs=outputs, discrete=True, hidden=hidden, activation=activation)


@dataclass(frozen=True, slots=True)
class OutputScalePolicy:
    """A policy whose scale depends on the observation, as SAC's does; choices have none."""

    network: MlpPolicy
    """See `make_plain_network`."""
    code: ActionCode
    """Of the space."""

    def __call__(self, params: Params, observation: Tensor) -> Distribution:
        """See `Policy`."""
        output = self.network(params, observation)
        assert isinstance(output, Categorical)
        return self.code.distribution(output.logits)

    def to_choice(self, latent: Tensor, prior: Gaussian) -> Tensor:
        """See `Policy`."""
        return self.code.to_choice(latent, prior)

    def to_latent(self, choice: Tensor, prior: Gaussian) -> Tensor:
        """See `Policy`."""
        return self.code.to_latent(choice, prior)


@dataclass(frozen=True, slots=True)
class ResidualPolicy:
    """A policy that corrects the prior, as SiMPL's does."""

    network: MlpPolicy
    """See `make_plain_network`."""
    space: ActionSpace
    """Gives the prior."""

    def act(self, params: Params, seen: Seen, generator: torch.Generator, *, greedy: bool) -> Tensor:
        """A latent for each running row, shape (r, Z); params (R, ...)."""
        rows = torch.from_numpy(seen.rows)
        own = {name: value[rows] for name, value in params.items()}
        output = self.network(own, self.space.normalise(seen.observation)[:, None])
        assert isinstance(output, Categorical)
        policy = residual_policy(output.logits[:, 0], seen.prior)
        return policy.loc if greedy else policy.sample(generator)


class _FixedAgent:
    """Acts as an agent of the trainer does that learns nothing."""

    rollouts = 1

    def __init__(
        self, policy: Policy | ResidualPolicy, theta: Params, space: ActionSpace, *, greedy: bool = False
    ) -> None:
        self._greedy = greedy
        self._policy, self._theta, self._space = policy, theta, space
        self._generator = torch.Generator().manual_seed(0)
        self.params = for_tasks(theta, 0)

    def begin_task(self, rows: int) -> None:
        """R rows with the same parameters."""
        self.params = for_tasks(self._theta, rows)

    def begin_episode(self) -> None:
        """Nothing changes between episodes."""

    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        if isinstance(self._policy, ResidualPolicy):
            return self._policy.act(self.params, seen, self._generator, greedy=self._greedy)
        return RowActor(self._policy, self.params, self._space, 1, self._generator, greedy=self._greedy)(seen)

    def observe(self, episodes: Episodes) -> None:
        """Nothing is learned."""

    def adapt(self) -> None:
        """Nothing is learned."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The parameters and the generator."""
        return {**self.params, "generator": self._generator.get_state()}, {}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Refuses: it is made of parameters, plays a golden trial, and is gone.

        Raises:
            RunError: Always.
        """
        raise RunError("fixed agent: expected no state to load, got one; load it into the bundle's own agent")


def write_plain_policy(
    path: str | os.PathLike[str],
    bundle: LearnerBundle,
    params: Mapping[str, NDArray[np.float32]],
    provenance: Mapping[str, Any],
) -> LearnerBundle:
    """The policy of one task as a bundle of its own, of kind `policy`.

    Args:
        path: The directory to make.
        bundle: Of the learner that adapted, of a kind in `PLAIN_POLICIES`.
        params: What it came to, without an axis of tasks.
        provenance: Where they come from.

    Raises:
        BundleError: See `write_exported`.
    """
    contract = bundle.contract
    facts, space = PLAIN_POLICIES[contract.kind](contract), make_space(contract, bundle.weights)
    sizes = (space, contract.observation_dim, facts.hidden, facts.activation)
    network = make_policy(*sizes) if facts.scale == "parameter" else make_plain_network(*sizes)
    policy: Policy | ResidualPolicy = network
    if facts.scale == "output":
        policy = OutputScalePolicy(network, ActionCode(space))
    elif facts.scale == "residual":
        policy = ResidualPolicy(network, space)
    theta = {name: torch.from_numpy(np.array(value)) for name, value in params.items()}
    agent = _FixedAgent(policy, theta, space, greedy=facts.greedy)

    def read_state(_: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        return read_policy_state(network, agent.params, space.normalise(seen.observation), seen)

    exported = Exported(
        kind="policy",
        learner={**asdict(facts), "hidden": list(facts.hidden)},
        weights={f"policy.{name}": value for name, value in theta.items()},
        agent=agent,
        space=space,
        read_state=read_state,
    )
    return write_exported(
        path,
        exported,
        contract.robot,
        Budget(episodes=1),
        simulator=contract.simulator,
        provenance={**contract.provenance, **provenance},
    )
