"""PPO from a first policy, in numpy: it acts by the parameters of each task, which a host with torch improves.

The first policy was trained on all train tasks (PPO), distilled from their policies (Distral), or merely drawn. Names
are those of `meta/baselines/ppo.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..agent_runtime import Noise
from ..contract import Weights
from ..facts import read_facts
from ..learner_contract import Kind, LearnerContract
from ..rows.policy import PolicyFacts, policy_shapes
from .kind_policy import PolicyRowAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class PpoFacts:
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
    def policy(self) -> PolicyFacts:
        """Of the acting policy."""
        return PolicyFacts(hidden=self.hidden, activation=self.activation)


def read_ppo(contract: LearnerContract) -> PpoFacts:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of PPO.
    """
    return read_facts(PpoFacts, contract.learner, "bundle.json learner")


def _make_agent(contract: LearnerContract, weights: Weights, noise: Noise) -> PolicyRowAgent:
    return PolicyRowAgent(contract, weights, noise, read_ppo(contract).policy)


PPO = Kind(
    summary="It adapts by PPO, which a host with torch runs; here it acts by the parameters of each task.",
    weight_shapes=lambda contract: policy_shapes(contract, read_ppo(contract).policy),
    make_agent=_make_agent,
    hosted=True,
)
