"""SAC in numpy: it acts by the policy of each task, which a host with torch improves together with its critics.

Source and names: `meta/baselines/sac.py`. The replay buffer of a task is the host's, and empty when the task begins:
no bundle holds one. Every task begins with the same networks, which were drawn when the bundle was exported; the
trainer draws them for each task.

Axes: O observation, E embedding of the task that networks also read, A encoded action, Z latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from ...bounds import Layers
from ..contract import BundleContract, Kind
from ..networks import Shapes
from ..policies import critic_shapes, policy_shapes
from ..policy_settings import PolicySettings
from .policy import make_policy_agent

TRIAL_UPDATES = 10
"""Updates of a step in a golden trial, at most: a host plays the trial whenever it is made, and that must not last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SacSettings:
    """What is particular to SAC in `bundle.json`; the fields are those of `SacConfig` and `TaskSacConfig`."""

    hidden: Layers
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


def shorten_sac(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a golden trial."""
    return {**learner, "updates": min(learner["updates"], TRIAL_UPDATES)}


def sac_shapes(contract: BundleContract, settings: SacSettings, embedding_dim: int = 0) -> Shapes:
    """See `Kind.shapes`."""
    inputs, width = contract.observation_dim + embedding_dim, contract.choice_width
    first, last = (inputs, width) if contract.space.name == "choice" else (inputs + width, 1)
    sizes = (first, *settings.hidden, last)
    policy = policy_shapes(contract, settings.policy, inputs)
    return {**policy, **critic_shapes("critic", sizes), **critic_shapes("target", sizes)}


SAC = Kind(
    summary="It learns each task from scratch by SAC, which a host with torch runs; here it acts by the task's policy.",
    settings=SacSettings,
    shapes=sac_shapes,
    agent=make_policy_agent,
    policy=attrgetter("policy"),
    hosted=True,
    off_policy=True,
    shorten=shorten_sac,
)
