"""SPiRL in numpy: it acts by the policy of each task, a residual on the prior, which a host with torch improves.

Source and names: `meta/simpl/spirl.py`. Every task begins with the same networks, which were drawn when the bundle was
exported; the trainer draws them for each task.

Axes: O observation, E embedding of the task that networks also read, Z latent.
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
from .policy import PolicyRowAgent

CRITICS = 2
TRIAL_TRANSITIONS = 12
"""Before so many there is no update in a golden trial: numpy alone plays its first two episodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """How a task is learned; the fields are those of `FinetuneConfig` in `meta/simpl/finetune.py`."""

    learning_rate: float
    multiplier_learning_rate: float
    discount: float
    target_rate: float
    batch: int
    reuse_rate: float
    min_transitions: int
    critic_updates_first: int
    kl_target: float
    kl_clip: float
    multiplier: float
    only_increase: bool
    bfloat16: bool
    pool_episodes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpirlSettings:
    """What is particular to SPiRL in `bundle.json`."""

    hidden: tuple[int, ...]
    """Widths of policy and critics."""
    greedy: bool
    """Act by the mean of the policy."""
    seed: int
    """Of the minibatches of the first row; each row has its own."""
    finetune: FinetuneSettings

    @property
    def policy(self) -> PolicySettings:
        """Of the acting policy."""
        return PolicySettings(hidden=self.hidden, activation="relu", greedy=self.greedy, scale="residual")


def read_spirl(contract: BundleContract) -> SpirlSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of SPiRL.
    """
    return read_settings(SpirlSettings, contract.learner, "bundle.json learner")


def shorten_finetune(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with which a golden trial is played: few updates, and in float32, which all machines compute alike."""
    given, most = learner["finetune"], {"batch": 8, "reuse_rate": 4.0, "critic_updates_first": 1, "pool_episodes": 16}
    short = {name: min(given[name], value) for name, value in most.items()}
    fixed = {"min_transitions": TRIAL_TRANSITIONS, "bfloat16": False}
    return {**learner, "seed": 0, "finetune": {**given, **short, **fixed}}


def actor_critic_shapes(
    contract: BundleContract, policy: PolicySettings, embedding_dim: int = 0
) -> dict[str, tuple[int, ...]]:
    """Shapes of `policy.*` and `critic.*`; critics are stacked in front, as in `StackedMLP`."""
    observation, latent = contract.observation_dim, contract.space.latent_dim
    shapes = policy_shapes(contract, policy, observation + embedding_dim)
    for index, (inputs, outputs) in enumerate(pairwise((observation + latent + embedding_dim, *policy.hidden, 1))):
        shapes[f"critic.weights.{index}"] = (CRITICS, inputs, outputs)
        shapes[f"critic.biases.{index}"] = (CRITICS, 1, outputs)
    return shapes


def _make_agent(contract: BundleContract, weights: Weights, noise: Noise) -> PolicyRowAgent:
    return PolicyRowAgent(contract, weights, noise, read_spirl(contract).policy)


SPIRL = Kind(
    summary="It learns each task from scratch by SAC close to the prior, which a host with torch runs; here it acts.",
    weight_shapes=lambda contract: actor_critic_shapes(contract, read_spirl(contract).policy),
    make_agent=_make_agent,
    read_policy=lambda contract: read_spirl(contract).policy,
    hosted=True,
    shorten=shorten_finetune,
    alone=lambda contract: 2,
)
