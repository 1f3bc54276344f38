"""How unknown a step is: the surprise of a small model of the robot's motion that was fitted to nominal episodes.

The model predicts the change of the observation from the observation, the command and the command before, by ridge
regression on these numbers and on fixed random features of them (Rahimi and Recht, Random features for large-scale
kernel machines, NIPS 2007). The score of a step is the mean square of the whitened error, smoothed over `SMOOTHING`
steps. It is 1 on average where all is as in the nominal episodes. Beside it, `STATE` is the same of the whitened
observation itself: a place where the robot has not been. `benchmarks/bench_novelty.py` compares both.

The threshold is conformal: the score of an episode is its largest, and at most a share `alpha` of new nominal episodes
exceeds the threshold, if they are drawn like those of the calibration (Vovk et al., Algorithmic learning in a random
world, 2005). A bundle may hold such a model, calibrated when it was exported (`supple export --nominal`).

Axes: R rows, r rows of this call, N steps, O observation, A action, F features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..errors import SpecError
from ..robots.robot import Float, RobotBatch, Rows
from ..robots.spec import RobotSpec

Signal = Literal["motion", "state"]
FEATURES = 128
RIDGE = 1e-4
SMOOTHING = 25
"""Steps over which a score is smoothed."""


class Motion(NamedTuple):
    """One nominal episode of T steps."""

    observation: Float
    """Shape (T + 1, O)."""
    command: Float
    """Shape (T, A): as sent."""


@dataclass(frozen=True, slots=True)
class NoveltyModel:
    """What scores are computed with, for any number of rows."""

    mean: NDArray[np.float64]
    """Of [o, a, a before], shape (I,)."""
    scale: NDArray[np.float64]
    """Shape (I,)."""
    random: NDArray[np.float64]
    """Shape (I, F)."""
    weights: NDArray[np.float64]
    """Shape (I + F + 1, O)."""
    whiten: NDArray[np.float64]
    """Whitens errors, shape (O, O)."""
    place: NDArray[np.float64]
    """Whitens observations, shape (O, O)."""
    threshold: NDArray[np.float64]
    """Scores of whole episodes above which an alarm is given, by signal (motion, state), shape (2,); inf before."""

    def compute(self, signal: Signal, before: Float, inputs: Float, after: Float) -> NDArray[np.float64]:
        """The score of single steps, not smoothed, shape (N,).

        Args:
            signal: Which.
            before: Observations, shape (N, O).
            inputs: Command and command before, shape (N, 2 A).
            after: Observations, shape (N, O).
        """
        size = before.shape[1]
        if signal == "state":
            white = ((after - self.mean[:size]) / self.scale[:size]) @ self.place
        else:
            predicted = self._describe(before, inputs) @ self.weights
            white = (after.astype(np.float64) - before - predicted) @ self.whiten
        with np.errstate(over="ignore"):
            scores: NDArray[np.float64] = np.square(white).mean(axis=1)
        return scores

    def _describe(self, before: Float, inputs: Float) -> NDArray[np.float64]:
        scaled = (np.concatenate([before, inputs], axis=1) - self.mean) / self.scale
        return np.concatenate([scaled, np.cos(scaled @ self.random), np.ones((len(scaled), 1))], axis=1)

    def score_episode(self, episode: Motion, signal: Signal = "motion") -> NDArray[np.float64]:
        """Smoothed scores of one episode, shape (T,)."""
        before, inputs, after = _pair(episode)
        return smooth(self.compute(signal, before, inputs, after))

    def save(self, path: str | Path) -> None:
        """Writes the model as safetensors."""
        save_file(self.to_arrays(), str(path))

    def to_arrays(self) -> dict[str, NDArray[np.float64]]:
        """Its arrays by name."""
        return {name: np.ascontiguousarray(getattr(self, name)) for name in self.__slots__}

    @staticmethod
    def load(path: str | Path) -> NoveltyModel:
        """Reads what `save` wrote.

        Raises:
            SpecError: It is damaged, or none of these.
        """
        try:
            found = load_file(str(path))
        except (OSError, SafetensorError, ValueError) as error:
            raise SpecError(f"{path}: expected a model of motion, got {error}; fit it again") from error
        return NoveltyModel.of_arrays(found, str(path))

    @staticmethod
    def of_arrays(found: Mapping[str, NDArray[Any]], where: str) -> NoveltyModel:
        """The model of its arrays.

        Raises:
            SpecError: They are none of a model.
        """
        try:
            model = NoveltyModel(**found)
            model.require_shapes()
        except (TypeError, ValueError, AttributeError) as error:
            raise SpecError(f"{where}: expected a model of motion, got {error}; fit it again") from error
        if not all(np.isfinite(value).all() for name, value in found.items() if name != "threshold"):
            raise SpecError(f"{where}: expected finite numbers in a model of motion, got others; fit it again")
        return model

    def require_robot(self, spec: RobotSpec) -> None:
        """Checks the numbers of axes.

        Raises:
            SpecError: The model is of a robot with others.
        """
        size, inputs = self.weights.shape[1], len(self.mean)
        shape = len(spec.observation.axes), len(spec.action.axes)
        if shape != (size, (inputs - size) // 2):
            raise SpecError(
                f"novelty: expected a model of {shape[0]} observation and {shape[1]} action axes, got one of {size} "
                f"and {(inputs - size) // 2}; fit one for this robot"
            )

    def require_shapes(self) -> None:
        """Checks that the arrays belong to each other; else the first step on a robot would find out.

        Raises:
            ValueError: They do not, or a scale is not positive, or a threshold is NaN.
        """
        if self.mean.ndim != 1 or self.random.ndim != 2 or self.place.ndim != 2:
            raise ValueError(f"arrays of {self.mean.ndim}, {self.random.ndim} and {self.place.ndim} axes")
        inputs, features, size = len(self.mean), self.random.shape[1], len(self.place)
        wanted = {
            "mean": (inputs,),
            "scale": (inputs,),
            "random": (inputs, features),
            "weights": (inputs + features + 1, size),
            "whiten": (size, size),
            "place": (size, size),
            "threshold": (2,),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float64:
                raise ValueError(f"'{name}' of shape {array.shape} and type {array.dtype} in the place of {shape}")
        if not (self.scale > 0.0).all() or np.isnan(self.threshold).any():
            raise ValueError("a scale that is not positive, or a threshold that is NaN")


def smooth(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Exponential means, which begin at 1, the mean of nominal steps."""
    smoothed, value = np.empty(len(scores)), 1.0
    for index, score in enumerate(scores):
        value += (score - value) / SMOOTHING
        smoothed[index] = value
    return smoothed


def fit(episodes: Sequence[Motion], seed: int = 0) -> NoveltyModel:
    """The model of nominal episodes, without a threshold yet; half of the episodes set the scale of the errors.

    Raises:
        SpecError: There are fewer than two.
    """
    if len(episodes) < 2:
        raise SpecError(f"novelty: expected two nominal episodes or more, got {len(episodes)}; play more")
    rng = np.random.default_rng(seed)
    (before, inputs, after), held = (
        [np.concatenate(part) for part in zip(*map(_pair, half), strict=True)]
        for half in (episodes[::2], episodes[1::2])
    )
    joined = np.concatenate([before, inputs], axis=1).astype(np.float64)
    mean, scale = joined.mean(axis=0), joined.std(axis=0) + 1e-6
    size = before.shape[1]
    random = rng.standard_normal((len(mean), FEATURES)) / math.sqrt(len(mean))
    empty = np.eye(size)
    first = NoveltyModel(mean, scale, random, np.zeros((0, size)), empty, empty, np.full(2, np.inf))
    described, target = first._describe(before, inputs), after.astype(np.float64) - before
    square = described.T @ described + RIDGE * len(described) * np.eye(described.shape[1])
    weights = np.linalg.solve(square, described.T @ target)
    error = held[2] - held[0] - first._describe(held[0], held[1]) @ weights
    place = (held[2] - mean[:size]) / scale[:size]
    return NoveltyModel(mean, scale, random, weights, _whiten(error), _whiten(place), np.full(2, np.inf))


def calibrate(model: NoveltyModel, episodes: Sequence[Motion], alpha: float = 0.01) -> NoveltyModel:
    """The model with thresholds that at most a share `alpha` of new nominal episodes exceeds.

    Args:
        model: Of `fit`.
        episodes: Nominal, and none of those that it was fitted to.
        alpha: In (0, 1).

    Raises:
        SpecError: There are too few for this share.
    """
    place = math.ceil((len(episodes) + 1) * (1.0 - alpha))
    if place > len(episodes):
        raise SpecError(
            f"novelty: expected {math.ceil(1.0 / alpha) - 1} nominal episodes or more for a share of {alpha}, got "
            f"{len(episodes)}; play more"
        )
    signals: tuple[Signal, ...] = ("motion", "state")
    threshold = [sorted(model.score_episode(one, signal).max() for one in episodes)[place - 1] for signal in signals]
    values = {name: getattr(model, name) for name in model.__slots__}
    return NoveltyModel(**{**values, "threshold": np.array(threshold)})


def learn_nominal(episodes: Sequence[Motion], steps: int, alpha: float = 0.01) -> NoveltyModel:
    """A model that is fitted to every second nominal episode, with thresholds from the others, which it has not seen.

    Args:
        episodes: Nominal, in any number; each is one of what the threshold promises, however long.
        steps: Of an episode of the robot, T. The score of an episode is its largest, so that it grows with its length:
            longer episodes count up to here.
        alpha: Share of new nominal episodes that may exceed a threshold, in (0, 1).

    Raises:
        SpecError: There are too few for this share.
    """
    cut = [Motion(one.observation[: steps + 1], one.command[:steps]) for one in episodes]
    least = 2 * (math.ceil(1.0 / alpha) - 1)
    if len(cut) < least:
        raise SpecError(
            f"novelty: expected {least} nominal episodes of {steps} steps or more for a share of false alarms of "
            f"{alpha}, got {len(cut)}; record more, or allow more false alarms"
        )
    return calibrate(fit(cut[::2]), cut[1::2], alpha)


class NoveltyScorer:
    """Scores steps as they come; a `watch.Scorer`."""

    def __init__(self, model: NoveltyModel, robot: RobotBatch, signal: Signal = "motion") -> None:
        """Before the first episode of the robot's rows.

        Raises:
            SpecError: The model is of a robot with other axes.
        """
        model.require_robot(robot.spec)
        rows, size, inputs = robot.rows, model.weights.shape[1], len(model.mean)
        self._model, self._signal = model, signal
        self.threshold = float(model.threshold[int(signal == "state")])
        """Of the score of an episode, above which an alarm is given; inf where nothing was calibrated."""
        self._before = np.zeros((rows, size), np.float32)
        self._command = np.zeros((rows, (inputs - size) // 2), np.float32)
        self._score = np.ones(rows)
        self._first = np.ones(rows, np.bool_)

    def begin(self, rows: Rows, observation: Float) -> None:
        """See `Scorer.begin`."""
        self._before[rows], self._score[rows], self._first[rows] = observation, 1.0, True

    def score(self, rows: Rows, sent: Float, observation: Float) -> NDArray[np.float64]:
        """See `Scorer.score`."""
        last = np.where(self._first[rows, None], sent, self._command[rows])
        inputs = np.concatenate([sent, last], axis=1)
        found = self._model.compute(self._signal, self._before[rows], inputs, observation)
        self._score[rows] += (found - self._score[rows]) / SMOOTHING
        self._before[rows], self._command[rows], self._first[rows] = observation, sent, False
        return self._score[rows].copy()


def _pair(episode: Motion) -> tuple[Float, Float, Float]:
    command = episode.command
    last = np.concatenate([command[:1], command[:-1]])
    return episode.observation[:-1], np.concatenate([command, last], axis=1), episode.observation[1:]


def _whiten(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """A matrix W such that the axes of `values @ W` have a mean square of 1, and do not depend on each other."""
    covariance = values.T @ values / len(values)
    ridge = 1e-6 * np.trace(covariance) / len(covariance) + 1e-12
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    factor: NDArray[np.float64] = np.linalg.cholesky(inverse)
    return factor
