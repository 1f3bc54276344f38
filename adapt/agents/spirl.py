"""SPiRL in numpy: it acts by the policy of each task, a residual on the prior, which a host with torch improves.

Source and names: `meta/simpl/spirl.py`. Every task begins with the same networks, which were drawn when the bundle was
exported; the trainer draws them for each task.

Axes: O observation, E embedding of the task that networks also read, Z latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Annotated, Any

from ...bounds import Batch, Count, CountFromZero, Layers, NonNegative, Positive, Range
from ..contract import BundleContract, Kind
from ..networks import Shapes
from ..policies import critic_shapes, policy_shapes
from ..policy_settings import PolicySettings
from .policy import make_policy_agent

TRIAL_TRANSITIONS = 12
"""Before so many there is no update in a golden trial: numpy alone plays its first two episodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinetuneSettings:
    """How a task is learned; fields and bounds are those of `FinetuneConfig` in `meta/simpl/config.py`."""

    learning_rate: Positive
    multiplier_learning_rate: Positive
    discount: Annotated[float, Range(0.0, 1.0, above=True, below=True)]
    target_rate: Annotated[float, Range(0.0, 1.0, above=True)]
    batch: Batch
    reuse_rate: Positive
    min_transitions: CountFromZero
    critic_updates_first: CountFromZero
    kl_target: NonNegative
    kl_clip: Positive
    multiplier: Positive
    only_increase: bool
    bfloat16: bool
    pool_episodes: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualSettings:
    """What kinds have in common that fine-tune a residual on the prior."""

    hidden: Layers
    """Widths of policy and critics."""
    critic_norm: bool
    """Layer norm in the critics."""
    greedy: bool
    """Act by the mean of the policy."""
    seed: int
    """Of the minibatches of the first row; each row has its own."""
    finetune: FinetuneSettings

    @property
    def policy(self) -> PolicySettings:
        """Of the policy of a task, which reads no embedding."""
        return PolicySettings(hidden=self.hidden, activation="relu", greedy=self.greedy, scale="residual")


def shorten_finetune(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a golden trial: few updates, and in float32, which all machines compute alike."""
    given, most = learner["finetune"], {"batch": 8, "reuse_rate": 4.0, "critic_updates_first": 1, "pool_episodes": 16}
    short = {name: min(given[name], value) for name, value in most.items()}
    fixed = {"min_transitions": TRIAL_TRANSITIONS, "bfloat16": False}
    return {**learner, "seed": 0, "finetune": {**given, **short, **fixed}}


def actor_critic_shapes(contract: BundleContract, settings: ResidualSettings, embedding_dim: int = 0) -> Shapes:
    """Shapes of `policy.*` and `critic.*`."""
    inputs = contract.observation_dim + embedding_dim
    sizes = (inputs + contract.space.latent_dim, *settings.hidden, 1)
    return {**policy_shapes(contract, settings.policy, inputs), **critic_shapes("critic", sizes)}


OLDER = {"critic_norm": False}
"""See `Kind.older`."""
SPIRL = Kind(
    summary="It learns each task from scratch by SAC close to the prior, which a host with torch runs; here it acts.",
    settings=ResidualSettings,
    shapes=actor_critic_shapes,
    agent=make_policy_agent,
    policy=attrgetter("policy"),
    hosted=True,
    off_policy=True,
    shorten=shorten_finetune,
    alone=lambda settings: 2,
    older=OLDER,
)
