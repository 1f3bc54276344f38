"""PEARL with fine-tuning in numpy: it infers as PEARL does, then acts by the policy that a host fine-tunes by SAC.

Source and names: `meta/inference/pearl_finetune.py`. Once the belief is frozen, z is a constant of the task, so that a
policy of [o, z] is a plain policy of o: what z adds to the first layer goes into its bias.

Axes: R rows, O observation, E embedding, H hidden.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError
from ..contract import BundleContract, Kind
from ..networks import Array, Weights
from ..policy_settings import PolicySettings
from ..runtime_agent import Arrays, Noise, RowEpisodes, SeenRows
from ..settings import read_settings
from .pearl import PearlRowAgent, pearl_shapes, read_pearl
from .policy import PolicyRowAgent
from .sac import read_sac, sac_shapes, shorten_sac

TRIAL_PRIOR, TRIAL_INFERENCE = 2, 3
"""At most so many episodes with z from N(0, I), and of inference, in a golden trial: all that follows has to fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PearlFtSettings:
    """What is neither PEARL's nor SAC's.

    Raises:
        BundleError: There are no episodes of inference.
    """

    inference_episodes: int
    """The belief is frozen at the first step after so many."""

    def __post_init__(self) -> None:
        if self.inference_episodes < 1:
            raise BundleError(
                f"bundle.json learner.inference_episodes: expected 1 or more, got {self.inference_episodes}; export "
                "the bundle again"
            )


class Parts(NamedTuple):
    """A contract taken apart."""

    pearl: BundleContract
    """As if the learner were PEARL alone."""
    sac: BundleContract
    """As if the learner were SAC alone."""
    own: PearlFtSettings

    @property
    def policy(self) -> PolicySettings:
        """Of the policy of a task, which reads no z."""
        return read_sac(self.sac).policy


def read_pearl_ft(contract: BundleContract) -> Parts:
    """The contracts of the parts, `learner.pearl` and `learner.sac`, and what is left.

    Raises:
        BundleError: The facts are not those of PEARL with fine-tuning.
    """
    facts = dict(contract.learner)
    pearl, sac = (replace(contract, learner=facts.pop(name, None)) for name in ("pearl", "sac"))
    own = read_settings(PearlFtSettings, facts, "bundle.json learner")
    widths = read_pearl(pearl).policy_hidden, read_sac(sac).hidden
    if widths[0] != widths[1]:
        raise BundleError(
            f"bundle.json learner: expected one policy for PEARL and SAC, got widths {widths[0]} and {widths[1]}; "
            "export the bundle again"
        )
    return Parts(pearl, sac, own)


def shorten_pearl_ft(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with which a golden trial is played."""
    pearl = learner["pearl"]
    return {
        "inference_episodes": min(learner["inference_episodes"], TRIAL_INFERENCE),
        "pearl": {**pearl, "prior_episodes": min(pearl["prior_episodes"], TRIAL_PRIOR)},
        "sac": shorten_sac(learner["sac"]),
    }


def weight_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    parts = read_pearl_ft(contract)
    return {**pearl_shapes(parts.pearl), **sac_shapes(parts.sac, read_pearl(parts.pearl).embedding_dim)}


class PearlFtRowAgent:
    """Each row infers its own task until somebody sets the parameters of its policy."""

    def __init__(self, contract: BundleContract, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        parts = read_pearl_ft(contract)
        first = weights["policy.layers.0.weight"]
        self._of_observation, self._of_z = np.split(first, [contract.observation_dim], axis=1)
        plain = {**weights, "policy.layers.0.weight": self._of_observation}
        self._inferring = PearlRowAgent(parts.pearl, weights, noise)
        self._acting = PolicyRowAgent(contract, plain, noise, parts.policy)
        self.space = self._acting.space
        """What it chooses."""
        self._tuned = False

    def begin_task(self, rows: int) -> None:
        """Forgets everything: the belief N(0, I) in R rows."""
        self._inferring.begin_task(rows)
        self._acting.begin_task(rows)
        self._tuned = False

    @property
    def params(self) -> dict[str, Array]:
        """The plain policy of every row, (R, ...); before fine-tuning the first, under the mean of the belief."""
        params = dict(self._acting.params)
        if not self._tuned:
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
            self._acting.set_params(params)
            self._tuned = True

    def begin_episode(self, *, explore: bool = True) -> None:
        """Draws the z of an episode of inference."""
        if not self._tuned:
            self._inferring.begin_episode(explore=explore)

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        return self._acting.act(seen) if self._tuned else self._inferring.act(seen)

    def observe(self, episodes: RowEpisodes) -> None:
        """Infers, until the belief is frozen."""
        if not self._tuned:
            self._inferring.observe(episodes)

    def adapt(self) -> None:
        """Nothing: the host does it, where there is one."""

    def state(self) -> dict[str, NDArray[Any]]:
        """PEARL's state, and that of the plain policy once there is one."""
        return self._inferring.state() | (self._acting.state() if self._tuned else {})

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        self._inferring.load_state(arrays)
        self._acting.begin_task(len(arrays["episodes"]))
        self._tuned = not arrays.keys().isdisjoint(self._acting.state())
        if self._tuned:
            self._acting.load_state(arrays)


PEARL_FT = Kind(
    summary="It infers its task as PEARL does; then a host with torch fine-tunes the policy by SAC.",
    weight_shapes=weight_shapes,
    make_agent=PearlFtRowAgent,
    read_policy=lambda contract: read_pearl_ft(contract).policy,
    hosted=True,
    shorten=shorten_pearl_ft,
)
