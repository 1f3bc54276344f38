"""What a learner adapted to as a bundle of its own: a plain policy, which acts by the observation alone.

Axes: R rows, r rows still running, O observation, U outputs, Z latent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
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
from ..bundle import Bundle, write_adapted
from ..contract import Budget
from .export import write_exported
from .exported import Exported, add_prefix
from .policy_state import make_plain_network, read_policy_state
from .spaces import make_space


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
    bundle: Bundle,
    params: Mapping[str, NDArray[np.float32]],
    provenance: Mapping[str, Any],
) -> Bundle:
    """The policy of one task as a bundle of its own, of kind `policy`.

    Args:
        path: The directory to make.
        bundle: Of the learner that adapted, of a kind that reads plain policies.
        params: What it came to, without an axis of tasks.
        provenance: Where they come from.

    Raises:
        BundleError: See `write_exported`.
    """
    contract = bundle.contract
    settings, space = bundle.kind.read_policy(contract), make_space(contract, bundle.weights)
    assert settings is not None, "the caller asks only kinds that have one"
    sizes = (space, contract.observation_dim, settings.hidden, settings.activation)
    network = make_policy(*sizes) if settings.scale == "parameter" else make_plain_network(*sizes)
    policy: Policy | ResidualPolicy = network
    if settings.scale == "output":
        policy = OutputScalePolicy(network, ActionCode(space))
    elif settings.scale == "residual":
        policy = ResidualPolicy(network, space)
    theta = {name: torch.from_numpy(np.array(value)) for name, value in params.items()}
    agent = _FixedAgent(policy, theta, space, greedy=settings.greedy)

    def read_state(_: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        return read_policy_state(network, agent.params, space, seen)

    exported = Exported(
        kind="policy",
        learner=asdict(settings),
        weights=add_prefix("policy.", theta),
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
        eye=bundle.eye,
    )


def write_task_policy(
    path: str | os.PathLike[str], bundle: Bundle, agent: Any, row: int, provenance: Mapping[str, Any]
) -> Bundle:
    """What an agent has come to in the task of one row, as a bundle of its own, which the numpy runtime acts with.

    A kind with plain policies gives one; any other gives itself, knowing the task.

    Args:
        path: The directory to make.
        bundle: Of the learner that adapted.
        agent: Of the bundle, after its episodes.
        row: The task's.
        provenance: Where it comes from.

    Raises:
        BundleError: See `write_exported`.
    """
    if bundle.kind.policy is None or bundle.task:
        return write_adapted(path, bundle, agent.state(), row, provenance)
    params = {name: value[row] for name, value in agent.params.items()}
    return write_plain_policy(path, bundle, params, provenance)
