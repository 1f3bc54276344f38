"""The recurrent updater in numpy: a recurrent network reads the episodes of a task and emits the policy's parameters.

Source and names: `meta/memory/updater_network.py`. Emitting is a forward pass, so that nothing is differentiated on the
robot, and what a task comes to is a plain policy.

Axes: R rows, r rows still running, T decisions, F features of a transition, X embedding, H hidden, K coefficients, P
parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError, RunError
from ..contract import BundleContract, Kind
from ..networks import Array, Weights
from ..policies import policy_shapes
from ..policy_settings import PolicySettings
from ..recurrent_cells import sigmoid
from ..runtime_agent import KEPT, Arrays, Noise, RowEpisodes, SeenRows, take_state
from ..settings import read_settings
from ..spaces import split_prefix
from ..transitions import transitions_of, width_of
from .policy import PolicyRowAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentUpdaterSettings:
    """What is particular to the recurrent updater in `bundle.json`.

    Raises:
        BundleError: A width is not positive.
    """

    hidden: tuple[int, ...]
    activation: str
    embedding: int
    """X."""
    memory: int
    """H."""
    rank: int
    """K."""

    def __post_init__(self) -> None:
        if min(self.embedding, self.memory, self.rank) < 1:
            raise BundleError(
                f"bundle.json learner: expected positive embedding, memory and rank, got {self.embedding}, "
                f"{self.memory} and {self.rank}; export the bundle again"
            )

    @property
    def policy(self) -> PolicySettings:
        """Of the acting policy."""
        return PolicySettings(hidden=self.hidden, activation=self.activation)


def read_recurrent_updater(contract: BundleContract) -> RecurrentUpdaterSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of a recurrent updater.
    """
    return read_settings(RecurrentUpdaterSettings, contract.learner, "bundle.json learner")


def weight_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    facts = read_recurrent_updater(contract)
    policy = policy_shapes(contract, facts.policy)
    embedding, memory, rank = facts.embedding, facts.memory, facts.rank
    features = 2 * contract.observation_dim + width_of(contract) + 2
    shapes = {**policy, "phi.basis": (rank + 1, sum(prod(shape) for shape in policy.values()))}
    for name, inputs, outputs in (
        ("embed.0", features, embedding),
        ("embed.1", embedding, embedding),
        ("gru.input", embedding + rank + 1, 3 * memory),
        ("gru.hidden", memory, 3 * memory),
        ("head", memory, rank),
    ):
        shapes |= {f"phi.{name}.weight": (outputs, inputs), f"phi.{name}.bias": (outputs,)}
    return shapes


class RecurrentUpdaterRowAgent:
    """Acts by the emitted parameters of each row; `adapt` reads what was observed since the last one."""

    def __init__(self, contract: BundleContract, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self._facts = read_recurrent_updater(contract)
        self._acting = PolicyRowAgent(contract, weights, noise, self._facts.policy)
        self.space = self._acting.space
        """What it chooses."""
        self._phi: dict[str, Array] = split_prefix(weights, "phi.")
        # the basis has the parameters in the order in which the policy makes them
        self._first = {name: weights[f"policy.{name}"] for name in ordered_names(contract, self._facts.policy)}
        self.begin_task(0)

    @property
    def params(self) -> Mapping[str, Array]:
        """The parameters of every row, (R, ...)."""
        return self._acting.params

    def begin_task(self, rows: int) -> None:
        """Knows nothing: h_0 = 0, z_0 = 0."""
        self._acting.begin_task(rows)
        self._hidden = np.zeros((rows, self._facts.memory), np.float32)
        self._coefficient = np.zeros((rows, self._facts.rank + 1), np.float32)
        self._unread: list[Array] = []

    def begin_episode(self, *, explore: bool = True) -> None:
        """Nothing changes between episodes."""

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        return self._acting.act(seen)

    def observe(self, episodes: RowEpisodes) -> None:
        """Embeds the episodes for the next `adapt`: the mean over their transitions, (R, X)."""
        value, valid = transitions_of(self.space, episodes)
        for name in ("embed.0", "embed.1"):
            value = np.maximum(self._linear(name, value), np.float32(0.0))
        count = np.maximum(valid.sum(axis=1), 1).astype(np.float32)
        self._unread.append((value * valid[..., None]).sum(axis=1) / count[:, None])

    def adapt(self) -> None:
        """Reads every episode observed since the last time and emits theta; nothing where there is none."""
        if not self._unread:
            return
        for value in self._unread:
            self._step(value)
        self._unread = []
        self._emit()

    def _step(self, value: Array) -> None:
        both = np.concatenate([value, self._coefficient], axis=-1)
        reset_in, update_in, new_in = np.split(self._linear("gru.input", both), 3, axis=-1)
        reset_of, update_of, new_of = np.split(self._linear("gru.hidden", self._hidden), 3, axis=-1)
        keep = sigmoid(update_in + update_of)
        new = np.tanh(new_in + sigmoid(reset_in + reset_of) * new_of)
        self._hidden = keep * self._hidden + (np.float32(1.0) - keep) * new
        moved = self._coefficient[:, :-1] + self._linear("head", self._hidden)
        self._coefficient = np.concatenate([moved, np.ones_like(moved[:, :1])], axis=-1)

    def _emit(self) -> None:
        vector = np.concatenate([value.reshape(-1) for value in self._first.values()])
        vector = vector + self._coefficient @ self._phi["basis"]
        ends = np.cumsum([value.size for value in self._first.values()])[:-1]
        parts = np.split(vector, ends, axis=1)
        shapes = {name: (len(vector), *value.shape) for name, value in self._first.items()}
        self._acting.set_params({name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)})

    def _linear(self, name: str, value: Array) -> Array:
        output: Array = value @ self._phi[f"{name}.weight"].T + self._phi[f"{name}.bias"]
        return output

    def state(self) -> dict[str, NDArray[Any]]:
        """What is known of each row, its policy, and the episodes that were not read yet."""
        state = {**self._acting.state(), "hidden": self._hidden.copy(), "coefficient": self._coefficient.copy()}
        if self._unread:
            state[f"{KEPT}unread"] = np.stack(self._unread, axis=1)
        return state

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        shapes: dict[str, tuple[int | None, ...]] = {
            "hidden": (None, self._facts.memory),
            "coefficient": (None, self._facts.rank + 1),
        }
        taken = take_state(arrays, shapes, "recurrent updater agent")
        self._acting.load_state(arrays)
        self._hidden, self._coefficient = taken["hidden"], taken["coefficient"]
        unread = arrays.get(f"{KEPT}unread", np.zeros((len(self._hidden), 0, self._facts.embedding), np.float32))
        if unread.shape[::2] != (len(self._hidden), self._facts.embedding):
            raise RunError(
                f"recurrent updater agent: expected episodes of {self._facts.embedding} numbers, got {unread.shape}; "
                "begin the task again"
            )
        self._unread = list(np.moveaxis(unread, 1, 0).copy())


def ordered_names(contract: BundleContract, facts: PolicySettings) -> list[str]:
    """The names of a policy's parameters in the order of `MlpPolicy.init`."""
    return [name.removeprefix("policy.") for name in policy_shapes(contract, facts)]


RECURRENT_UPDATER = Kind(
    summary="A recurrent network reads the episodes of a task and emits the parameters of a plain policy.",
    weight_shapes=weight_shapes,
    make_agent=RecurrentUpdaterRowAgent,
    read_policy=lambda contract: read_recurrent_updater(contract).policy,
)
