"""Policies of learners that adapt by gradients, in numpy: they act here, and a host with torch takes the steps.

`maml` is a first policy theta with the rule of its inner step (MAML, E-MAML, Meta-SGD, learned updates): every row acts
by parameters of its own, which the host replaces. `policy` is a plain policy, as it comes out of an adaptation. See
`meta/policy.py` for what a policy is.

Axes: R rows, r rows still running, O observation, U outputs, Z latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import ClassVar, Literal, Protocol

import numpy as np

from ..contract import BundleContract, Kind
from ..networks import Array, Shapes, Weights, linear_shapes
from ..policies import choose_rows, compute_rows, policy_shapes, spread_rows
from ..policy_settings import ActingSettings, PolicySettings
from ..runtime_agent import Noise, SeenRows
from .row_agent import TunedRowAgent


class PolicyRowAgent(TunedRowAgent[PolicySettings]):
    """Every row acts by its own parameters, which are the bundle's until somebody sets others."""

    STATE: ClassVar[tuple[str, ...]] = ("_output",)

    def begin_task(self, rows: int) -> None:
        """Back to the bundle's parameters in R rows."""
        super().begin_task(rows)
        self._inputs = np.zeros((rows, self._first["layers.0.weight"].shape[1]), np.float32)
        self._output = np.zeros((rows, len(self._first[f"layers.{len(self._settings.hidden)}.bias"])), np.float32)

    def set_params(self, params: Mapping[str, Array]) -> None:
        """See `TunedRowAgent.set_params`; the output is then theirs at the last observation."""
        super().set_params(params)
        self._output = compute_rows(self._params, self._settings, self._inputs)

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        self._inputs = spread_rows(self.space, seen, self._rows)
        self._output, latent = choose_rows(self.space, self._settings, self._params, self._inputs, seen, self._noise)
        return latent


class HasPolicy(Protocol):
    """Settings of a kind that acts by a plain policy of each task."""

    @property
    def policy(self) -> PolicySettings:
        """Of that policy."""
        ...


def make_policy_agent(contract: BundleContract, settings: HasPolicy, weights: Weights, noise: Noise) -> PolicyRowAgent:
    """See `Kind.agent`."""
    return PolicyRowAgent(contract, settings.policy, weights, noise)


@dataclass(frozen=True, slots=True, kw_only=True)
class MamlSettings(ActingSettings):
    """A first policy and its inner step in `bundle.json`; the fields are those of `meta/gradient/maml.py` and rules."""

    correction: str
    discount: float
    trace: float
    normalise_advantage: bool
    later_scale: float
    """Every step but the first is so many times as long as the one before it."""
    rule: Literal["gradient-descent", "learned"]
    step_size: float
    step_sizes: Literal["fixed", "scalar", "tensor", "parameter"]
    """Of gradient descent."""
    rule_hidden: int
    """Of a learned rule; 0 for gradient descent, as the two below."""
    rule_embedding: int
    rule_addition: float


def maml_shapes(contract: BundleContract, settings: MamlSettings) -> Shapes:
    """See `Kind.shapes`."""
    policy = policy_shapes(contract, settings.policy)
    return {**policy, **_rule_shapes(settings, {name.removeprefix("policy."): shape for name, shape in policy.items()})}


def _rule_shapes(settings: MamlSettings, policy: Shapes) -> Shapes:
    """Shapes of `rule.*`, see `meta/gradient/inner.py` and `meta/gradient/learned_rule.py`."""
    if settings.rule == "learned":
        width, embedding = settings.rule_hidden, settings.rule_embedding
        shapes: Shapes = {
            **linear_shapes("rule.net.0", 5 + embedding, width),
            **linear_shapes("rule.net.1", width, 2),
            "rule.log_addition": (),
        }
        for name in policy:
            shapes |= {f"rule.embedding.{name}": (embedding,), f"rule.log_step.{name}": ()}
        return shapes
    if settings.step_sizes == "fixed":
        return {}
    if settings.step_sizes == "scalar":
        return {"rule.log_step": ()}
    return {
        f"rule.log_step.{name}": shape if settings.step_sizes == "parameter" else () for name, shape in policy.items()
    }


MAML = Kind(
    summary="It adapts by gradient steps, which a host with torch takes; here it acts by the parameters of each task.",
    settings=MamlSettings,
    shapes=maml_shapes,
    agent=make_policy_agent,
    policy=attrgetter("policy"),
    hosted=True,
)
POLICY = Kind(
    summary="A plain policy, adapted to one task; it does not learn.",
    settings=PolicySettings,
    shapes=policy_shapes,
    agent=PolicyRowAgent,
    policy=lambda settings: settings,
    older={"scale": "parameter"},  # of before there were policies of SAC
)
