"""Policies of learners that adapt by gradients, in numpy: they act here, and a host with torch takes the steps.

`maml` is a first policy theta with the rule of its inner step (MAML, E-MAML, Meta-SGD, learned updates): every row acts
by parameters of its own, which the host replaces. `policy` is a plain policy, as it comes out of an adaptation. See
`meta/policy.py` for what a policy is.

Axes: R rows, r rows still running, O observation, U outputs, Z latent.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError, RunError
from ..contract import BundleContract, Kind
from ..networks import Array, Weights
from ..policies import choose_rows, compute_rows, policy_shapes, spread_rows, take_params
from ..policy_settings import PolicySettings
from ..runtime_agent import Arrays, Noise, RowEpisodes, SeenRows
from ..settings import read_settings
from ..spaces import RowSpace, split_prefix


class PolicyRowAgent:
    """Every row acts by its own parameters, which are the bundle's until somebody sets others."""

    def __init__(self, contract: BundleContract, weights: Weights, noise: Noise, facts: PolicySettings) -> None:
        """Before the first task."""
        self.space = RowSpace(contract.space, contract.robot, weights)
        """What it chooses."""
        self._facts, self._noise = facts, noise
        self._theta: dict[str, Array] = split_prefix(weights, "policy.")
        self.begin_task(0)

    def begin_task(self, rows: int) -> None:
        """Back to the bundle's parameters in R rows."""
        self._params = {name: np.broadcast_to(value, (rows, *value.shape)) for name, value in self._theta.items()}
        self._inputs = np.zeros((rows, self._theta["layers.0.weight"].shape[1]), np.float32)
        self._output = np.zeros((rows, self._outputs), np.float32)
        self._rows = rows

    @property
    def _outputs(self) -> int:
        return len(self._theta[f"layers.{len(self._facts.hidden)}.bias"])

    @property
    def params(self) -> dict[str, Array]:
        """The parameters of every row, (R, ...)."""
        return self._params

    def set_params(self, params: Mapping[str, Array]) -> None:
        """Acts by these from now on.

        Args:
            params: The same names, each (N, ...): N tasks with R / N consecutive rows each.

        Raises:
            RunError: One is missing or has another shape.
        """
        self._params = take_params(params, self._theta, self._rows, "policy parameters")
        self._output = compute_rows(self._params, self._facts, self._inputs)

    def begin_episode(self, *, explore: bool = True) -> None:
        """Nothing changes between episodes."""

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        self._inputs = spread_rows(self.space, seen, self._rows)
        self._output, latent = choose_rows(self.space, self._facts, self._params, self._inputs, seen, self._noise)
        return latent

    def observe(self, episodes: RowEpisodes) -> None:
        """Nothing is learned here."""

    def adapt(self) -> None:
        """Nothing: the host does it, where there is one."""

    def state(self) -> dict[str, NDArray[Any]]:
        """Parameters of every row, and what they give at its last observation."""
        return {f"params.{name}": value.copy() for name, value in self._params.items()} | {
            "output": self._output.copy()
        }

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        if "output" not in arrays or arrays["output"].shape[1:] != (self._outputs,):
            raise RunError("policy agent: expected a whole state with 'output', got none; begin the task again")
        self.begin_task(len(arrays["output"]))
        self.set_params(split_prefix(arrays, "params."))
        self._output = arrays["output"].copy()


RULES = ("gradient-descent", "learned")


@dataclass(frozen=True, slots=True, kw_only=True)
class MamlSettings:
    """A first policy and its inner step in `bundle.json`; the fields are those of `meta/gradient/maml.py` and rules.

    Raises:
        BundleError: The rule is unknown.
    """

    hidden: tuple[int, ...]
    activation: str
    correction: str
    discount: float
    trace: float
    normalise_advantage: bool
    later_scale: float
    """Every step but the first is so many times as long as the one before it."""
    rule: str
    """A name in `RULES`."""
    step_size: float
    step_sizes: str
    """Of gradient descent."""
    rule_hidden: int
    """Of a learned rule; 0 for gradient descent, as the two below."""
    rule_embedding: int
    rule_addition: float

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise BundleError(
                f"bundle.json learner.rule: expected {' or '.join(RULES)}, got {self.rule!r}; export the bundle again"
            )

    @property
    def policy(self) -> PolicySettings:
        """Of the acting policy."""
        return PolicySettings(hidden=self.hidden, activation=self.activation)


def read_maml(contract: BundleContract) -> MamlSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of MAML.
    """
    return read_settings(MamlSettings, contract.learner, "bundle.json learner")


def read_policy(contract: BundleContract) -> PolicySettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of a plain policy.
    """
    # bundles that were written before there were policies of SAC do not say where the scale comes from
    facts = {"scale": "parameter", **contract.learner}
    return read_settings(PolicySettings, facts, "bundle.json learner")


def maml_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    facts = read_maml(contract)
    policy = policy_shapes(contract, facts.policy)
    return {**policy, **_rule_shapes(facts, {name.removeprefix("policy."): shape for name, shape in policy.items()})}


def _rule_shapes(facts: MamlSettings, policy: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Shapes of `rule.*`, see `meta/gradient/inner.py` and `meta/gradient/learned_rule.py`."""
    if facts.rule == "learned":
        width, embedding = facts.rule_hidden, facts.rule_embedding
        shapes: dict[str, tuple[int, ...]] = {
            "rule.net.0.weight": (width, 5 + embedding),
            "rule.net.0.bias": (width,),
            "rule.net.1.weight": (2, width),
            "rule.net.1.bias": (2,),
            "rule.log_addition": (),
        }
        for name in policy:
            shapes |= {f"rule.embedding.{name}": (embedding,), f"rule.log_step.{name}": ()}
        return shapes
    if facts.step_sizes == "fixed":
        return {}
    if facts.step_sizes == "scalar":
        return {"rule.log_step": ()}
    return {f"rule.log_step.{name}": shape if facts.step_sizes == "parameter" else () for name, shape in policy.items()}


def _make_maml(contract: BundleContract, weights: Weights, noise: Noise) -> PolicyRowAgent:
    return PolicyRowAgent(contract, weights, noise, read_maml(contract).policy)


def _make_policy(contract: BundleContract, weights: Weights, noise: Noise) -> PolicyRowAgent:
    return PolicyRowAgent(contract, weights, noise, read_policy(contract))


MAML = Kind(
    summary="It adapts by gradient steps, which a host with torch takes; here it acts by the parameters of each task.",
    weight_shapes=maml_shapes,
    make_agent=_make_maml,
    read_policy=lambda contract: read_maml(contract).policy,
    hosted=True,
)
POLICY = Kind(
    summary="A plain policy, adapted to one task; it does not learn.",
    weight_shapes=lambda contract: policy_shapes(contract, read_policy(contract)),
    make_agent=_make_policy,
    read_policy=read_policy,
)
