"""Logged commands through the simulator of a family that can be put into a logged state.

A log is compared with the simulator over short times: the simulator starts from a logged observation, is told what the
log says, and shows where the robot should have been. A start anew every few steps keeps what differs between robot and
simulator apart from what grows by itself (chaos).

Axes: E episodes, T steps of an episode, N transitions, K steps of a transition, L steps before it, S starts, O
observation, A action.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, SourceError
from .family import RobotFamily, SetsState, Subdivides
from .robot import Float, RobotBatch

Double = NDArray[np.float64]

ROWS = 256
"""Robots side by side."""
FINEST = 10
"""Parts of a control period, at most: what a delay is measured by."""


class LoggedEpisode(NamedTuple):
    """One uninterrupted stretch of a log."""

    observation: Float
    """Shape (T + 1, O), or (T, O) where the log does not say where the last command led."""
    action: Float
    """Shape (T, A): told at the time of the observation of the same index, in force until the next."""


class Transitions(NamedTuple):
    """Pieces of K steps, each with the commands before it."""

    before: Float
    """Shape (N, O)."""
    after: Float
    """Shape (N, O): K steps later."""
    command: Float
    """Shape (N, L + K + 1, A): from L steps before to the one that is told at `after`."""
    block: NDArray[np.int64]
    """Shape (N,): transitions of one block follow each other, those of two blocks count as independent."""
    lead: int
    """L."""

    @property
    def steps(self) -> int:
        """K."""
        return int(self.command.shape[1]) - 1 - self.lead


def find_transitions(
    episodes: Sequence[LoggedEpisode], steps: int, lead: int, most: int, *, block: int = 25
) -> Transitions:
    """Pieces of a log, evenly spread over it; at least 1.

    A step whose observation repeats that of the step before it to the last digit is left out: the sensor was silent.

    Args:
        episodes: Of one robot.
        steps: K.
        lead: L.
        most: Largest N.
        block: Steps of one block.

    Raises:
        SourceError: No episode is as long as L + K + 1 steps.
    """
    places = []
    for number, (observation, action) in enumerate(episodes):
        last = min(len(observation) - 1, len(action) - 1) - steps
        fresh = np.r_[True, (observation[1:] != observation[:-1]).any(axis=1)]
        start = np.arange(lead, last + 1)
        start = start[fresh[start] & fresh[start + steps]] if len(start) else start
        places += [(number, one) for one in start.tolist()]
    if not places:
        raise SourceError(
            f"replay in the simulator: expected an episode of at least {lead + steps + 1} steps with fresh "
            f"observations, got {max((len(one.action) for one in episodes), default=0)}; give longer logs"
        )
    chosen = [places[index] for index in np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(int))]
    return Transitions(
        np.stack([episodes[number].observation[at] for number, at in chosen]),
        np.stack([episodes[number].observation[at + steps] for number, at in chosen]),
        np.stack([episodes[number].action[at - lead : at + steps + 1] for number, at in chosen]),
        np.unique([(number, at // block) for number, at in chosen], axis=0, return_inverse=True)[1].reshape(-1),
        lead,
    )


class ReplaySimulator:
    """Robots that are put into logged states.

    Args:
        family: Can set its state; one that `Subdivides` is stepped in parts of a control period.
        threads: Physics threads.

    Raises:
        ConfigError: The family cannot set its state.
    """

    def __init__(self, family: RobotFamily, threads: int = 1) -> None:
        if not isinstance(family, SetsState):
            raise ConfigError(
                f"replay in the simulator: expected a family that can set its state, got {family.name}; give the "
                "family SetsState, or leave this part out"
            )
        self.spec = family.spec()
        self.parts = _find_parts(family)
        """Parts of a control period, each of which may have a command of its own."""
        fine = family.subdivide(self.parts) if self.parts > 1 and isinstance(family, Subdivides) else family
        assert isinstance(fine, SetsState), "a subdivided family is of the same class"
        self._setter: SetsState = fine
        self._robots: RobotBatch = fine.make(ROWS, threads)
        self.longest = self._robots.spec.episode_steps // self.parts
        """Control periods that can be replayed in one go."""

    def observe(self, observation: Float) -> Float:
        """What the simulator observes where a log observed this, both (N, O).

        The joints are as logged; what follows from them (places of sites, sensors) is the simulator's own.
        """
        return np.concatenate([self._set(chunk) for chunk in _chunks(observation)])

    def predict(self, observation: Float, command: Float) -> Float:
        """Where commands lead, shape (N, K, O): at the end of each control period.

        Args:
            observation: Where each row starts, shape (N, O).
            command: Shape (N, K, A) for one command per control period, or (N, K, P, A) for one in each of its P parts;
                clipped to the limits.

        Raises:
            RobotFault: The physics diverged.
        """
        if command.ndim == 3:
            command = np.repeat(command[:, :, None], self.parts, axis=2)
        found = np.empty((len(observation), command.shape[1], observation.shape[1]), np.float32)
        for start in range(0, len(observation), ROWS):
            here = slice(start, start + ROWS)
            rows = np.arange(len(observation[here]))
            self._set(observation[here])
            for step in range(command.shape[1]):
                for part in range(self.parts):
                    told = command[here, step, part].astype(np.float32)
                    found[here, step] = self._robots.step(rows, told).observation
        return found

    def _set(self, observation: Float) -> Float:
        rows = np.arange(len(observation))
        return self._setter.set_state(self._robots, rows, observation.astype(np.float32))

    def find_state_axes(self, observation: Float) -> NDArray[np.bool_]:
        """Axes of the observation that `SetsState.set_state` takes over, shape (O,); the others follow from them.

        Args:
            observation: One that the robot can have, shape (O,); each axis in turn is moved a little from it.
        """
        base = self.observe(observation[None])[0]
        moved = base + 0.01 * np.eye(len(base), dtype=np.float32)
        found: NDArray[np.bool_] = np.abs(np.diag(self.observe(moved)) - base - 0.01) < 1e-3
        return found

    def close(self) -> None:
        """Releases the robots."""
        self._robots.close()


def _find_parts(family: RobotFamily) -> int:
    """The largest number of parts up to `FINEST` that divides the physics steps of a control period."""
    steps = family.physics_steps if isinstance(family, Subdivides) else 1
    return max(parts for parts in range(1, FINEST + 1) if steps % parts == 0)


def _chunks(array: Float) -> list[Float]:
    return [array[start : start + ROWS] for start in range(0, len(array), ROWS)]


class Divergence(NamedTuple):
    """How far the simulator and a log are apart, in the units of the axes."""

    anew: Double
    """Shape (K, O): root mean square k = 1 .. K steps after a start from the log."""
    whole: Double
    """Shape (T, O): root mean square over episodes, t steps after the start of the episode; nan where none is left."""


def compute_divergence(
    simulator: ReplaySimulator, episodes: Sequence[LoggedEpisode], restart: int, commands: Sequence[Float] | None = None
) -> Divergence:
    """Logged commands through the simulator, once from the start of each episode and once from every K-th step.

    Args:
        simulator: Of the robot.
        episodes: Of one robot.
        restart: K; a shorter episode is replayed from its start alone.
        commands: What the robot was told instead of the logged actions, for each episode, each (T, P, A) with a command
            for each of the P parts of a control period.

    Raises:
        RobotFault: The physics diverged.
        SourceError: All episodes are empty.
    """
    if commands is None:
        commands = [np.repeat(one.action[:, None], simulator.parts, axis=1) for one in episodes]
    starts, pieces, targets = [], [], []
    for (observation, action), told in zip(episodes, commands, strict=True):
        last = min(len(observation) - 1, len(action))
        for at in range(0, last - restart + 1, restart):
            starts.append(observation[at])
            pieces.append(told[at : at + restart])
            targets.append(observation[at + 1 : at + restart + 1])
    lengths = [min(len(one.observation) - 1, len(one.action), simulator.longest) for one in episodes]
    if not starts or max(lengths) < 1:
        raise SourceError(
            f"replay in the simulator: expected an episode of at least {restart} steps, got {max(lengths, default=0)}; "
            "give longer logs, or a smaller restart"
        )
    anew = simulator.predict(np.stack(starts), np.stack(pieces)) - np.stack(targets)
    longest = max(lengths)
    first = np.stack([one.observation[0] for one in episodes])
    whole = np.stack([_pad(told[:longest], longest) for told in commands])
    reached = simulator.predict(first, whole).astype(np.float64)
    for row, (length, one) in enumerate(zip(lengths, episodes, strict=True)):
        reached[row, :length] -= one.observation[1 : length + 1]
        reached[row, length:] = np.nan
    return Divergence(
        np.sqrt(np.square(anew.astype(np.float64)).mean(axis=0)), np.sqrt(np.nanmean(np.square(reached), axis=0))
    )


def _pad(command: Float, length: int) -> Float:
    """Holds the last command up to `length` steps."""
    return np.concatenate([command, np.repeat(command[-1:], length - len(command), axis=0)])
