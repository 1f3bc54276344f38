"""MLSH in numpy: a master of each task chooses, every few decisions, which of the shared sub-policies acts.

Source and names: Frans et al., "Meta Learning Shared Hierarchies", ICLR 2018, as in `meta/hierarchy/mlsh_actor.py`.
Sub-policies never change; a host with torch updates the masters by PPO. Every row begins with the same first master,
which was drawn when the bundle was exported; the trainer draws one for each task.

Axes: R rows, r rows still running, K sub-policies, L rows of one sub-policy, M master's choices, O observation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError, RunError
from ..contract import BundleContract, Kind
from ..distribution import draw_choice, draw_gaussian
from ..networks import Array, Gaussian, Weights
from ..policies import LOG_SCALE_LOW, compute_rows, compute_stack, policy_shapes, spread_rows, take_params
from ..policy_settings import PolicySettings
from ..runtime_agent import Arrays, Noise, RowEpisodes, SeenRows
from ..settings import read_settings
from ..spaces import RowSpace, mlp_shapes, split_prefix


@dataclass(frozen=True, slots=True, kw_only=True)
class MlshSettings:
    """What is particular to MLSH in `bundle.json`; the fields are those of `meta/hierarchy/mlsh.py`.

    Raises:
        BundleError: There is no sub-policy, or none is ever chosen.
    """

    hidden: tuple[int, ...]
    activation: str
    sub_policies: int
    """K."""
    hold: int
    """Decisions for which a choice of the master lasts."""
    discount: float
    trace: float
    epochs: int
    """Of the masters' updates, as the four below."""
    minibatches: int
    clip: float
    learning_rate: float
    entropy_weight: float
    return_mean: float
    """Scale on which the masters' value functions learn, as the one below."""
    return_variance: float

    def __post_init__(self) -> None:
        if min(self.sub_policies, self.hold) < 1:
            raise BundleError(
                f"bundle.json learner: expected positive sub_policies and hold, got {self.sub_policies} and "
                f"{self.hold}; export the bundle again"
            )

    @property
    def policy(self) -> PolicySettings:
        """Of every network."""
        return PolicySettings(hidden=self.hidden, activation=self.activation)


def read_mlsh(contract: BundleContract) -> MlshSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of MLSH.
    """
    return read_settings(MlshSettings, contract.learner, "bundle.json learner")


def weight_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    facts, observation = read_mlsh(contract), contract.observation_dim
    shapes: dict[str, tuple[int, ...]] = {
        **mlp_shapes("master.policy", (observation, *facts.hidden, facts.sub_policies)),
        **mlp_shapes("master.value", (observation + 1, *facts.hidden, 1)),
    }
    for name, shape in policy_shapes(contract, facts.policy).items():
        shapes[name.replace("policy.", "sub_policies.", 1)] = (facts.sub_policies, *shape)
    return shapes


class MlshRowAgent:
    """Every row has a master of its own, which is the bundle's until somebody sets another."""

    def __init__(self, contract: BundleContract, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self.space = RowSpace(contract.space, contract.robot, weights)
        """What sub-policies choose."""
        self._facts, self._noise = read_mlsh(contract), noise
        self._first: dict[str, Array] = split_prefix(weights, "master.policy.")
        self._sub_policies: dict[str, Array] = split_prefix(weights, "sub_policies.")
        self.begin_task(0)

    def begin_task(self, rows: int) -> None:
        """The first master in R rows."""
        self._rows = rows
        self._params = {name: np.broadcast_to(value, (rows, *value.shape)) for name, value in self._first.items()}
        self._macro: NDArray[np.int64] = np.zeros((rows, 0), np.int64)
        self.begin_episode()

    @property
    def params(self) -> dict[str, Array]:
        """The master of every row, (R, ...)."""
        return self._params

    @property
    def macro(self) -> NDArray[np.int64]:
        """Which sub-policies the masters chose in the episodes that were just observed, (R, M); 0 in the padding."""
        return self._macro

    def set_params(self, params: Mapping[str, Array]) -> None:
        """The masters to act by from now on.

        Args:
            params: The names of `params`, each (N, ...): N tasks with R / N consecutive rows each.

        Raises:
            RunError: One is missing or has another shape.
        """
        self._params = take_params(params, self._first, self._rows, "masters")

    def begin_episode(self, *, explore: bool = True) -> None:
        """The masters choose at the next decision."""
        self._decision = 0
        self._active = np.zeros(self._rows, np.int64)
        self._choices: list[NDArray[np.int64]] = []

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        if self._decision % self._facts.hold == 0:
            output = compute_rows(self._params, self._facts.policy, spread_rows(self.space, seen, self._rows))
            chosen = draw_choice(output[:, None], self._noise, greedy=False)
            self._active = self._active.copy()
            self._active[seen.rows] = chosen[seen.rows, 0, 0].astype(np.int64)
            self._choices.append(self._active)
        self._decision += 1
        index, valid = _split(self._active[seen.rows], self._facts.sub_policies)
        choice = self._draw(self.space.normalise(seen.observation)[index])
        taken = np.empty((len(seen.rows), choice.shape[-1]), np.float32)
        taken[index[valid]] = choice[valid]
        return self.space.to_latent(taken, seen.observation)

    def _draw(self, observation: Array) -> Array:
        """What each sub-policy chooses at its rows, (K, L, Z) of (K, L, O)."""
        output = compute_stack(self._sub_policies, self._facts.policy, observation)
        if self.space.choices:
            return draw_choice(output, self._noise, greedy=False)
        scale = np.exp(np.maximum(self._sub_policies["log_scale"], LOG_SCALE_LOW))[:, None]
        return draw_gaussian(Gaussian(output, scale), self._noise, greedy=False)

    def observe(self, episodes: RowEpisodes) -> None:
        """Keeps the masters' choices for the host."""
        hold = self._facts.hold
        most = -(-episodes.latent.shape[1] // hold)
        macro = np.zeros((self._rows, most), np.int64)
        macro[:, : len(self._choices)] = np.stack(self._choices, axis=1)
        valid = np.arange(most) < -(-episodes.length // hold)[:, None]
        self._macro = np.where(valid, macro, 0)

    def adapt(self) -> None:
        """Nothing: the host does it, where there is one."""

    def state(self) -> dict[str, NDArray[Any]]:
        """The master of every row, and what it chose in the last episode."""
        return {f"params.{name}": value.copy() for name, value in self._params.items()} | {"macro": self._macro.copy()}

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        if "macro" not in arrays:
            raise RunError("MLSH agent: expected a whole state with 'macro', got none; begin the task again")
        self.begin_task(len(arrays["macro"]))
        self.set_params(split_prefix(arrays, "params."))
        self._macro = arrays["macro"].copy()


def _split(active: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which rows are of which sub-policy: indices (K, L), in order, and which of them count."""
    order = np.argsort(active, kind="stable")
    counts = np.bincount(active, minlength=count)
    place = np.arange(counts.max())
    valid = place < counts[:, None]
    begin = np.cumsum(counts) - counts
    return order[np.where(valid, begin[:, None] + place, 0)], valid


MLSH = Kind(
    summary="A master chooses which of its sub-policies acts; a host with torch teaches the master, and them never.",
    weight_shapes=weight_shapes,
    make_agent=MlshRowAgent,
    hosted=True,
)
