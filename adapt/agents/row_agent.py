"""What the agents of all kinds in numpy have in common: their state is arrays with a row for each task.

Axes: R rows, r rows still running, N tasks, Z latent.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic

import numpy as np
from numpy.typing import NDArray

from ...errors import RunError
from ..contract import BundleContract
from ..densities import read_log_prob
from ..networks import Array, Weights
from ..policies import take_params
from ..runtime_agent import PARAMS, Arrays, Noise, RowEpisodes, SeenRows, TellsDensity, take_state
from ..settings import Settings
from ..spaces import RowSpace, split_prefix


class RowAgent(TellsDensity, Generic[Settings]):
    """A `RuntimeAgent` with what it is made of."""

    STATE: ClassVar[tuple[str, ...]]
    """Attributes that `begin_task` makes and a state holds, by their names without `_`: arrays with a row for each task
    and numbers that are the same in all rows. An axis that is empty in a new task may grow."""

    def __init__(self, contract: BundleContract, settings: Settings, weights: Weights, noise: Noise) -> None:
        self.space = RowSpace(contract.space, contract.robot, weights)
        """What it chooses."""
        self._settings, self._weights, self._noise = settings, weights, noise
        self._observation_dim = contract.observation_dim
        self._where = f"{contract.kind} agent"
        self.begin_task(0)
        self._shapes = {name: np.shape(value)[1:] for name, value in self._read_state().items()}

    @abstractmethod
    def begin_task(self, rows: int) -> None:
        """Forgets everything: R new tasks."""
        self._rows = rows

    def begin_episode(self, *, explore: bool = True) -> None:
        """Nothing changes between episodes."""

    @abstractmethod
    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""

    def read_log_prob(self, seen: SeenRows, latent: Array) -> NDArray[np.float64]:
        """See `TellsDensity.read_log_prob`."""
        return read_log_prob(self._noise, self.space, latent, seen)

    def observe(self, episodes: RowEpisodes) -> None:
        """Nothing is learned here."""

    def adapt(self) -> None:
        """Nothing: it adapts while it acts or observes, or a host does it, where there is one."""

    def state(self) -> dict[str, NDArray[Any]]:
        """All that it knows of the tasks; `load_state` goes on from it exactly, given the same noise."""
        return {name: np.array(value) for name, value in self._read_state().items()}

    def _read_state(self) -> dict[str, NDArray[Any]]:
        values = {name.removeprefix("_"): getattr(self, name) for name in self.STATE}
        return {name: np.full(self._rows, value) if isinstance(value, int) else value for name, value in values.items()}

    def load_state(self, arrays: Arrays) -> None:
        """See `RuntimeAgent.load_state`; a state that is refused changes nothing."""
        before = dict(vars(self))
        try:
            self._load(arrays)
        except RunError:
            vars(self).update(before)
            raise

    def _load(self, arrays: Arrays) -> None:
        """Begins a task of as many rows, and takes over what `state` gave."""
        taken = take_state(arrays, {name: (None, *shape) for name, shape in self._shapes.items()}, self._where)
        self.begin_task(len(next(iter(taken.values()))))
        for attribute in self.STATE:
            value, new = taken[attribute.removeprefix("_")], getattr(self, attribute)
            setattr(self, attribute, int(value.max(initial=0)) if isinstance(new, int) else value.astype(new.dtype))


class TunedRowAgent(RowAgent[Settings]):
    """Every row acts by a network of its own, which is the bundle's until somebody sets another."""

    FIRST: ClassVar[str] = "policy."
    """What the names of the bundle's weights of this network begin with."""

    def __init__(self, contract: BundleContract, settings: Settings, weights: Weights, noise: Noise) -> None:
        self._first: dict[str, Array] = split_prefix(weights, self.FIRST)
        super().__init__(contract, settings, weights, noise)

    def begin_task(self, rows: int) -> None:
        """Back to the bundle's parameters in R rows."""
        super().begin_task(rows)
        self._params = {name: np.broadcast_to(value, (rows, *value.shape)) for name, value in self._first.items()}

    @property
    def params(self) -> dict[str, Array]:
        """The parameters of every row, (R, ...)."""
        return self._params

    def set_params(self, params: Mapping[str, Array]) -> None:
        """Acts by these from now on.

        Args:
            params: The names of `params`, each (N, ...): N tasks with R / N consecutive rows each.

        Raises:
            RunError: One is missing or has another shape.
        """
        self._params = take_params(params, self._first, self._rows, f"parameters of {self._where}")

    def state(self) -> dict[str, NDArray[Any]]:
        """Parameters of every row, and what else it knows."""
        return {f"{PARAMS}{name}": value.copy() for name, value in self._params.items()} | super().state()

    def _load(self, arrays: Arrays) -> None:
        super()._load(arrays)
        self._params = take_params(split_prefix(arrays, PARAMS), self._first, self._rows, self._where)
