"""The recurrent updater in numpy: a recurrent network reads the episodes of a task and emits the policy's parameters.

Source and names: `meta/memory/updater_network.py`. Emitting is a forward pass, so that nothing is differentiated on the
robot, and what a task comes to is a plain policy.

Axes: R rows, r rows still running, T decisions, F features of a transition, X embedding, H hidden, K coefficients, P
parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from operator import attrgetter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bounds import Width
from ..contract import BundleContract, Kind
from ..networks import Array, Shapes, Weights, compute_linear, linear_shapes
from ..policies import policy_shapes
from ..policy_settings import ActingSettings, PolicySettings
from ..recurrent_cells import pass_gates
from ..runtime_agent import KEPT, Arrays, Noise, RowEpisodes, take_state
from ..spaces import split_prefix
from ..transitions import transitions_of
from .policy import PolicyRowAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class RecurrentUpdaterSettings(ActingSettings):
    """What is particular to the recurrent updater in `bundle.json`."""

    embedding: Width
    """X."""
    memory: Width
    """H."""
    rank: Width
    """K."""


def weight_shapes(contract: BundleContract, settings: RecurrentUpdaterSettings) -> Shapes:
    """See `Kind.shapes`."""
    policy = policy_shapes(contract, settings.policy)
    embedding, memory, rank = settings.embedding, settings.memory, settings.rank
    features = 2 * contract.observation_dim + contract.choice_width + 2
    return {
        **policy,
        "phi.basis": (rank + 1, sum(prod(shape) for shape in policy.values())),
        **linear_shapes("phi.embed.0", features, embedding),
        **linear_shapes("phi.embed.1", embedding, embedding),
        **linear_shapes("phi.gru.input", embedding + rank + 1, 3 * memory),
        **linear_shapes("phi.gru.hidden", memory, 3 * memory),
        **linear_shapes("phi.head", memory, rank),
    }


class RecurrentUpdaterRowAgent(PolicyRowAgent):
    """Acts by the emitted parameters of each row; `adapt` reads what was observed since the last one."""

    STATE = (*PolicyRowAgent.STATE, "_hidden", "_coefficient")

    def __init__(
        self, contract: BundleContract, settings: RecurrentUpdaterSettings, weights: Weights, noise: Noise
    ) -> None:
        """Before the first task."""
        self._updater, self._phi = settings, split_prefix(weights, "phi.")
        # the basis has the parameters in the order in which the policy makes them
        self._in_order = {name: weights[f"policy.{name}"] for name in ordered_names(contract, settings.policy)}
        super().__init__(contract, settings.policy, weights, noise)

    def begin_task(self, rows: int) -> None:
        """Knows nothing: h_0 = 0, z_0 = 0."""
        super().begin_task(rows)
        self._hidden = np.zeros((rows, self._updater.memory), np.float32)
        self._coefficient = np.zeros((rows, self._updater.rank + 1), np.float32)
        self._unread: list[Array] = []

    def observe(self, episodes: RowEpisodes) -> None:
        """Embeds the episodes for the next `adapt`: the mean over their transitions, (R, X)."""
        value, valid = transitions_of(self.space, episodes)
        for name in ("embed.0", "embed.1"):
            value = np.maximum(compute_linear(self._phi, name, value), np.float32(0.0))
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
        from_input = compute_linear(self._phi, "gru.input", both)
        from_hidden = compute_linear(self._phi, "gru.hidden", self._hidden)
        self._hidden = pass_gates(from_input, from_hidden, self._hidden)
        moved = self._coefficient[:, :-1] + compute_linear(self._phi, "head", self._hidden)
        self._coefficient = np.concatenate([moved, np.ones_like(moved[:, :1])], axis=-1)

    def _emit(self) -> None:
        vector = np.concatenate([value.reshape(-1) for value in self._in_order.values()])
        vector = vector + self._coefficient @ self._phi["basis"]
        ends = np.cumsum([value.size for value in self._in_order.values()])[:-1]
        parts = zip(self._in_order.items(), np.split(vector, ends, axis=1), strict=True)
        self.set_params({name: part.reshape(len(vector), *value.shape) for (name, value), part in parts})

    def state(self) -> dict[str, NDArray[Any]]:
        """What is known of each row, its policy, and the episodes that were not read yet."""
        unread = {f"{KEPT}unread": np.stack(self._unread, axis=1)} if self._unread else {}
        return super().state() | unread

    def _load(self, arrays: Arrays) -> None:
        super()._load(arrays)
        name = f"{KEPT}unread"
        if name in arrays:
            unread = take_state(arrays, {name: (self._rows, 0, self._updater.embedding)}, self._where)[name]
            self._unread = list(np.moveaxis(unread, 1, 0))


def ordered_names(contract: BundleContract, settings: PolicySettings) -> list[str]:
    """The names of a policy's parameters in the order of `MlpPolicy.init`."""
    return [name.removeprefix("policy.") for name in policy_shapes(contract, settings)]


RECURRENT_UPDATER = Kind(
    summary="A recurrent network reads the episodes of a task and emits the parameters of a plain policy.",
    settings=RecurrentUpdaterSettings,
    shapes=weight_shapes,
    agent=RecurrentUpdaterRowAgent,
    policy=attrgetter("policy"),
)
