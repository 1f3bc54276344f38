"""SAC in numpy: it acts by the policy of each task, which a host with torch improves together with its critics.

Source and names: `meta/baselines/sac.py`. The replay buffer of a task is the host's, and empty when the task begins:
no bundle holds one. Every task begins with the same networks, which were drawn when the bundle was exported; the
trainer draws them for each task.

Axes: O observation, E embedding of the task that networks also read, A encoded action, Z latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from ..contract import BundleContract, Kind
from ..networks import Weights
from ..policies import policy_shapes
from ..policy_settings import PolicySettings
from ..runtime_agent import Noise
from ..settings import read_settings
from ..transitions import width_of
from .policy import PolicyRowAgent

CRITICS = 2
TRIAL_UPDATES = 10
"""Updates of a step in a golden trial, at most: a host plays the trial whenever it is made, and that must not last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SacSettings:
    """What is particular to SAC in `bundle.json`; the fields are those of `SacConfig` and `TaskSacConfig`."""

    hidden: tuple[int, ...]
    """Widths of policy and critics."""
    discount: float
    temperature: float
    learning_rate: float
    target_rate: float
    batch: int
    updates: int
    """Of one step."""
    replay: int
    """Transitions that the host keeps per task."""

    @property
    def policy(self) -> PolicySettings:
        """Of the acting policy."""
        return PolicySettings(hidden=self.hidden, activation="relu", scale="output")


def read_sac(contract: BundleContract) -> SacSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of SAC.
    """
    return read_settings(SacSettings, contract.learner, "bundle.json learner")


def shorten_sac(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with which a golden trial is played."""
    return {**learner, "updates": min(learner["updates"], TRIAL_UPDATES)}


def sac_shapes(contract: BundleContract, embedding_dim: int = 0) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`; critics are stacked in front, as in `StackedMLP`."""
    facts, width = read_sac(contract), width_of(contract)
    inputs = contract.observation_dim + embedding_dim
    shapes = policy_shapes(contract, facts.policy, inputs)
    ends = (inputs, width) if contract.space.name == "choice" else (inputs + width, 1)
    for index, (before, after) in enumerate(pairwise((ends[0], *facts.hidden, ends[1]))):
        for owner in ("critic", "target"):
            shapes[f"{owner}.weights.{index}"] = (CRITICS, before, after)
            shapes[f"{owner}.biases.{index}"] = (CRITICS, 1, after)
    return shapes


def _make_agent(contract: BundleContract, weights: Weights, noise: Noise) -> PolicyRowAgent:
    return PolicyRowAgent(contract, weights, noise, read_sac(contract).policy)


SAC = Kind(
    summary="It learns each task from scratch by SAC, which a host with torch runs; here it acts by the task's policy.",
    weight_shapes=sac_shapes,
    make_agent=_make_agent,
    read_policy=lambda contract: read_sac(contract).policy,
    hosted=True,
    shorten=shorten_sac,
)
