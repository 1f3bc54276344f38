"""PEARL with fine-tuning in numpy: it infers as PEARL does, then acts by the policy that a host fine-tunes by SAC.

Source and names: `meta/inference/pearl_finetune.py`. Once the belief is frozen, z is a constant of the task, so that a
policy of [o, z] is a plain policy of o: what z adds to the first layer goes into its bias.

Axes: R rows, O observation, E embedding, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bounds import Count
from ...errors import RunError
from ..contract import BundleContract, Kind
from ..networks import Array, Gaussian, Shapes, Weights
from ..policy_settings import PolicySettings
from ..runtime_agent import Arrays, Noise, TellsBelief, WrappedAgent
from ..settings import refuse
from .pearl import PearlRowAgent, PearlSettings, pearl_shapes
from .policy import PolicyRowAgent
from .sac import SacSettings, sac_shapes, shorten_sac

TRIAL_PRIOR, TRIAL_INFERENCE = 2, 3
"""At most so many episodes with z from N(0, I), and of inference, in a golden trial: all that follows has to fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PearlFtSettings:
    """What is particular to PEARL with fine-tuning in `bundle.json`.

    Raises:
        BundleError: PEARL and SAC have other widths of the policy that they share.
    """

    inference_episodes: Count
    """The belief is frozen at the first step after so many."""
    pearl: PearlSettings
    sac: SacSettings

    def __post_init__(self) -> None:
        if self.pearl.policy_hidden != self.sac.hidden:
            expected = f"the widths of PEARL's policy, {self.pearl.policy_hidden}"
            raise refuse("bundle.json learner.sac.hidden", expected, self.sac.hidden)

    @property
    def policy(self) -> PolicySettings:
        """Of the policy of a task, which reads no z."""
        return self.sac.policy


def shorten_pearl_ft(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a golden trial."""
    pearl = learner["pearl"]
    return {
        "inference_episodes": min(learner["inference_episodes"], TRIAL_INFERENCE),
        "pearl": {**pearl, "prior_episodes": min(pearl["prior_episodes"], TRIAL_PRIOR)},
        "sac": shorten_sac(learner["sac"]),
    }


def weight_shapes(contract: BundleContract, settings: PearlFtSettings) -> Shapes:
    """See `Kind.shapes`."""
    return {
        **pearl_shapes(contract, settings.pearl),
        **sac_shapes(contract, settings.sac, settings.pearl.embedding_dim),
    }


class PearlFtRowAgent(WrappedAgent, TellsBelief):
    """Each row infers its own task until somebody sets the parameters of its policy."""

    def __init__(self, contract: BundleContract, settings: PearlFtSettings, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        first = weights["policy.layers.0.weight"]
        self._of_observation, self._of_z = np.split(first, [contract.observation_dim], axis=1)
        plain = {**weights, "policy.layers.0.weight": self._of_observation}
        self._inferring = PearlRowAgent(contract, settings.pearl, weights, noise)
        self._tuned = PolicyRowAgent(contract, settings.policy, plain, noise)
        super().__init__(self._inferring)

    def begin_task(self, rows: int) -> None:
        """Forgets everything: the belief N(0, I) in R rows."""
        self._acting = self._inferring
        self._inferring.begin_task(rows)
        self._tuned.begin_task(rows)

    def read_belief(self) -> Gaussian:
        """See `TellsBelief.read_belief`: PEARL's."""
        return self._inferring.read_belief()

    @property
    def params(self) -> dict[str, Array]:
        """The plain policy of every row, (R, ...); before fine-tuning the first, under the mean of the belief."""
        params = dict(self._tuned.params)
        if self._acting is self._inferring:
            params["layers.0.bias"] = params["layers.0.bias"] + self._inferring.mean @ self._of_z.T
        return params

    def set_params(self, params: Mapping[str, Array]) -> None:
        """Stops to infer, and acts by these from now on; nothing where there are none yet.

        Args:
            params: The names of `params`, each (R, ...).

        Raises:
            RunError: One is missing or has another shape.
        """
        if params:
            self._tuned.set_params(params)
            self._acting = self._tuned

    def state(self) -> dict[str, NDArray[Any]]:
        """PEARL's state, and that of the plain policy once there is one."""
        return self._inferring.state() | super().state()

    def load_state(self, arrays: Arrays) -> None:
        """See `RuntimeAgent.load_state`."""
        before, tuned = self._inferring.state(), not arrays.keys().isdisjoint(self._tuned.state())
        self._inferring.load_state(arrays)
        if not tuned:
            self._tuned.begin_task(len(arrays["episodes"]))
            self._acting = self._inferring
            return
        try:
            self._tuned.load_state(arrays)
        except RunError:
            self._inferring.load_state(before)
            raise
        self._acting = self._tuned


PEARL_FT = Kind(
    summary="It infers its task as PEARL does; then a host with torch fine-tunes the policy by SAC.",
    settings=PearlFtSettings,
    shapes=weight_shapes,
    agent=PearlFtRowAgent,
    policy=attrgetter("policy"),
    hosted=True,
    off_policy=True,
    shorten=shorten_pearl_ft,
)
