"""PPO from a first policy, in numpy: it acts by the parameters of each task, which a host with torch improves.

The first policy was trained on all train tasks (PPO), distilled from their policies (Distral), or merely drawn. Names
are those of `meta/baselines/ppo.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..contract import BundleContract, Kind
from ..networks import Weights
from ..policies import policy_shapes
from ..policy_settings import PolicySettings
from ..runtime_agent import Noise
from ..settings import read_settings
from .policy import PolicyRowAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoSettings:
    """A first policy and how a step improves it; the fields but the first two are those of `PpoSteps`."""

    hidden: tuple[int, ...]
    activation: str
    epochs: int
    minibatches: int
    clip: float
    learning_rate: float
    entropy_weight: float
    max_gradient_norm: float
    discount: float
    trace: float

    @property
    def policy(self) -> PolicySettings:
        """Of the acting policy."""
        return PolicySettings(hidden=self.hidden, activation=self.activation)


def read_ppo(contract: BundleContract) -> PpoSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of PPO.
    """
    return read_settings(PpoSettings, contract.learner, "bundle.json learner")


def _make_agent(contract: BundleContract, weights: Weights, noise: Noise) -> PolicyRowAgent:
    return PolicyRowAgent(contract, weights, noise, read_ppo(contract).policy)


PPO = Kind(
    summary="It adapts by PPO, which a host with torch runs; here it acts by the parameters of each task.",
    weight_shapes=lambda contract: policy_shapes(contract, read_ppo(contract).policy),
    make_agent=_make_agent,
    read_policy=lambda contract: read_ppo(contract).policy,
    hosted=True,
)
