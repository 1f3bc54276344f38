"""What runs an agent on a robot without torch: the protocol, what an agent sees, and the noise that it draws.

The calls are those of `meta/adaptive.py`, with numpy arrays. All that is random is asked of a `Noise`, in the order in
which the trainer's agent draws it, so that with the same noise both act alike: a bundle records a trial of the
trainer's agent with its noise, and every loading plays it again.

Axes: R rows, r rows still running, O observation, Z latent, K decisions of an episode.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, RunError
from .networks import Array, Gaussian
from .spaces import RowSpace, split_prefix

Arrays = Mapping[str, NDArray[Any]]
HOST, KEPT = "host.", "kept."
"""What begins so in a state belongs to a host with torch, or to episodes that were not learned from yet; both are
saved, and neither is part of a golden trial."""


class SeenRows(NamedTuple):
    """What an agent sees of the rows that are still running."""

    observation: Array
    """Shape (r, O), raw."""
    rows: NDArray[np.int64]
    """Which rows these are, shape (r,)."""
    reward: Array
    """Of the row's previous decision in this episode, shape (r,); 0 at the first."""


class RowEpisodes(NamedTuple):
    """One finished episode per row, padded with zeros to the longest possible K."""

    observation: Array
    """Shape (R, K + 1, O): where each decision was taken, and where the last one ended."""
    latent: Array
    """Shape (R, K, Z)."""
    reward: Array
    """Shape (R, K): sum over the low-level steps of the decision."""
    length: NDArray[np.int64]
    """Shape (R,): decisions taken."""
    terminated: NDArray[np.bool_]
    """Shape (R,): the last decision ended the task; else the time limit did."""
    steps: NDArray[np.int64]
    """Shape (R,): low-level steps taken."""
    reward_range: Array | None = None
    """Shape (R, 2): lowest and highest reward of one low-level step; None where only decisions are known."""
    success: NDArray[np.bool_] | None = None
    """Shape (R,): the task was solved at some step; None where the robot does not tell (`StepRows.success`)."""

    def read_reward_range(self) -> Array:
        """Lowest and highest reward of each episode, (R, 2): of steps where they are known, else of decisions."""
        if self.reward_range is not None:
            return self.reward_range
        taken = np.arange(self.reward.shape[1]) < self.length[:, None]
        lowest = np.where(taken, self.reward, np.float32(np.inf)).min(axis=1)
        return np.stack([lowest, np.where(taken, self.reward, np.float32(-np.inf)).max(axis=1)], axis=1)


class Noise(Protocol):
    """Where an agent's random numbers come from."""

    def normal(self, shape: tuple[int, ...]) -> Array:
        """Draws from N(0, 1)."""
        ...

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """Draws from U[0, 1)."""
        ...


class RuntimeAgent(Protocol):
    """An `AdaptiveAgent` on numpy arrays, one row per task."""

    @property
    def space(self) -> RowSpace:
        """What it chooses."""
        ...

    def begin_task(self, rows: int) -> None:
        """Forgets everything: R new tasks."""
        ...

    def begin_episode(self, *, explore: bool = True) -> None:
        """Every row begins an episode of the task that it has.

        Args:
            explore: False where the episode is to be as good as it can, and nothing has to be found out by it.
        """
        ...

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        ...

    def observe(self, episodes: RowEpisodes) -> None:
        """Takes in the episodes that every row just finished."""
        ...

    def adapt(self) -> None:
        """One step of adaptation to what was observed since the last one; nothing where it adapts while it acts."""
        ...

    def state(self) -> dict[str, NDArray[Any]]:
        """All that it knows of the tasks; `act` goes on from it exactly, given the same noise."""
        ...

    def load_state(self, arrays: Arrays) -> None:
        """Goes on where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        ...


class TellsBelief(ABC):
    """An agent that says what it believes of the task of each row."""

    @abstractmethod
    def read_belief(self) -> Gaussian:
        """The belief about the task's embedding, each (R, E); N(0, I) before anything was seen, as a rule."""


class PredictsReward(ABC):
    """An agent that says where the task of each row would pay."""

    @abstractmethod
    def predict_rewarded(self, observation: Array) -> Array:
        """Probability that reaching a state is rewarded, shape (R, V), in the task that is believed in.

        Args:
            observation: States, raw, shape (V, O).
        """


class TellsDensity(ABC):
    """An agent that says how likely it was to choose what it chose."""

    @abstractmethod
    def read_log_prob(self, seen: SeenRows, latent: Array) -> NDArray[np.float64]:
        """Log density of what `act` has just chosen, nats, shape (r,); NaN where nobody knows.

        Args:
            seen: What `act` was given.
            latent: What it gave, or what was made of it, (r, Z).
        """


class WrappedAgent(TellsDensity):
    """An agent that does all as the one inside, but for what a subclass does otherwise."""

    def __init__(self, acting: Any) -> None:
        self._acting = acting

    @property
    def inside(self) -> Any:
        """The agent inside."""
        return self._acting

    @property
    def space(self) -> RowSpace:
        """What it chooses."""
        space: RowSpace = self._acting.space
        return space

    @property
    def params(self) -> dict[str, Array]:
        """The parameters of every row, (R, ...), where the agent inside has some."""
        params: dict[str, Array] = self._acting.params
        return params

    def set_params(self, params: Mapping[str, Array]) -> None:
        """Acts by these parameters from now on, where the agent inside has some."""
        self._acting.set_params(params)

    def begin_task(self, rows: int) -> None:
        """See `RuntimeAgent.begin_task`."""
        self._acting.begin_task(rows)

    def begin_episode(self, *, explore: bool = True) -> None:
        """See `RuntimeAgent.begin_episode`."""
        self._acting.begin_episode(explore=explore)

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        latent: Array = self._acting.act(seen)
        return latent

    def read_log_prob(self, seen: SeenRows, latent: Array) -> NDArray[np.float64]:
        """See `TellsDensity.read_log_prob`; what the agent inside did not choose is known to nobody."""
        if isinstance(self._acting, TellsDensity):
            return self._acting.read_log_prob(seen, latent)
        return np.full(len(latent), np.nan)

    def observe(self, episodes: RowEpisodes) -> None:
        """See `RuntimeAgent.observe`."""
        self._acting.observe(episodes)

    def adapt(self) -> None:
        """See `RuntimeAgent.adapt`."""
        self._acting.adapt()

    def state(self) -> dict[str, NDArray[Any]]:
        """See `RuntimeAgent.state`."""
        state: dict[str, NDArray[Any]] = self._acting.state()
        return state

    def load_state(self, arrays: Arrays) -> None:
        """See `RuntimeAgent.load_state`."""
        self._acting.load_state(arrays)


class RandomNoise:
    """Noise from a generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self.quiet = False
        """Give the middle of each distribution instead: whoever acts by it takes the mean, or the likeliest choice."""

    def normal(self, shape: tuple[int, ...]) -> Array:
        """See `Noise.normal`."""
        return np.zeros(shape, np.float32) if self.quiet else self._rng.standard_normal(shape, np.float32)

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """See `Noise.uniform`."""
        return np.full(shape, 0.5, np.float32) if self.quiet else self._rng.random(shape, np.float32)


class RecordedNoise:
    """Noise as it was drawn before, in the same order."""

    def __init__(self, draws: Sequence[tuple[str, Array]], where: str) -> None:
        """Takes each draw as ("normal" or "uniform", numbers); `where` begins the errors."""
        self._draws: Iterator[tuple[str, Array]] = iter(draws)
        self._where = where

    def normal(self, shape: tuple[int, ...]) -> Array:
        """See `Noise.normal`.

        Raises:
            BundleError: The next draw was another.
        """
        return self._next("normal", shape)

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """See `Noise.uniform`.

        Raises:
            BundleError: The next draw was another.
        """
        return self._next("uniform", shape)

    def left(self) -> int:
        """Draws that nobody asked for; there are none afterwards."""
        return sum(1 for _ in self._draws)

    def _next(self, name: str, shape: tuple[int, ...]) -> Array:
        found, numbers = next(self._draws, ("nothing", np.zeros(0, np.float32)))
        if found != name or numbers.shape != shape:
            raise BundleError(
                f"{self._where}: expected recorded noise '{name}' of shape {shape}, got {found} {numbers.shape}; the "
                "agent that was exported draws otherwise: export the bundle again"
            )
        return numbers


PARAMS = "params."
"""What begins so, perhaps after `KEPT`, are parameters: one set may serve several consecutive rows."""


def repeat_rows(arrays: Arrays, repeats: int) -> dict[str, NDArray[Any]]:
    """The state of an agent that only acts, with so many consecutive rows in the task of each row.

    What belongs to a host is left out.
    """
    return {
        name: value if name.removeprefix(KEPT).startswith(PARAMS) else np.repeat(value, repeats, axis=0)
        for name, value in arrays.items()
        if not name.startswith(HOST)
    }


def take_state(arrays: Arrays, shapes: Mapping[str, tuple[int | None, ...]], where: str) -> dict[str, NDArray[Any]]:
    """Copies of the named arrays of a saved state.

    Args:
        arrays: The state.
        shapes: Of each array; None is the number of rows, the same in all of them, and 0 is any number.
        where: Begins the error.

    Raises:
        RunError: One is missing or has another shape.
    """
    taken: dict[str, NDArray[Any]] = {}
    rows = {len(arrays[name]) for name, shape in shapes.items() if name in arrays and shape[:1] == (None,)}
    for name, shape in shapes.items():
        found = arrays[name].shape if name in arrays else None
        wanted = tuple(max(rows, default=0) if size is None else size for size in shape)
        fits = found is not None and len(found) == len(wanted)
        if len(rows) > 1 or not fits or any(b not in (0, a) for a, b in zip(found or (), wanted, strict=True)):
            raise RunError(
                f"{where}: expected a whole state with '{name}' of shape {wanted}, got {found}; begin the task again"
            )
        taken[name] = arrays[name].copy()
    return taken


_KEPT_FIELDS = ("observation", "latent", "reward", "length", "terminated", "steps")


def save_episodes(rounds: Sequence[RowEpisodes]) -> dict[str, NDArray[Any]]:
    """Episodes that an agent keeps, as a part of its state; range of rewards and success are left out."""
    return {
        f"{KEPT}{index}.{name}": getattr(episodes, name).copy()
        for index, episodes in enumerate(rounds)
        for name in _KEPT_FIELDS
    }


def load_episodes(arrays: Arrays, count: int, rows: int, where: str) -> list[RowEpisodes]:
    """So many rounds of R episodes out of what `save_episodes` gave.

    Raises:
        RunError: One lacks a part or has other rows.
    """
    rounds = []
    for index in range(count):
        kept = split_prefix(arrays, f"{KEPT}{index}.")
        shapes = {name: (rows, *kept[name].shape[1:]) if name in kept else (rows,) for name in _KEPT_FIELDS}
        rounds.append(RowEpisodes(**take_state(kept, shapes, where)))
    return rounds
