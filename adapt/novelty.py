"""How unknown a step is: the surprise of a small model of the robot's motion that was fitted to nominal episodes.

The model predicts the change of the observation from the observation, the command and the command before, by ridge
regression on these numbers and on fixed random features of them (Rahimi and Recht, Random features for large-scale
kernel machines, NIPS 2007). `motion`, the score of a step, is the mean square of the whitened error, smoothed over
`SMOOTHING` steps. It is 1 on average where all is as in the nominal episodes. Beside it, `state` is the same of the
whitened observation itself: a place where the robot has not been.

A load, friction, a bias or a wrong gain changes each error by little, but always in the same direction. So errors are
summed with their signs:

    drift     v' C^-1 v / O,  v = (e_1 + ... + e_t) / sqrt(t + BEGIN)
    memory    the same over the last `MEMORY` episodes, the running one included

C is the covariance of v in nominal episodes, so that both are about 1 there. An alarm looks at the `change`: the
largest of motion, drift and memory, each divided by what only every tenth nominal episode exceeds.
`benchmarks/bench_novelty.py` compares them.

The threshold is conformal: the score of an episode is its largest, and at most a share `alpha` of new nominal episodes
exceeds the threshold, if they are drawn like those of the calibration (Vovk et al., Algorithmic learning in a random
world, 2005). A bundle may hold such a model, calibrated when it was exported (`supple export --nominal`).

Axes: R rows, r rows of this call, N steps, T steps of an episode, O observation, A action, F features.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from ..errors import SpecError
from ..robots.robot import Float, Rows
from ..robots.spec import RobotSpec

Signal = Literal["motion", "state"]
MOST_FEATURES, STEPS_OF_A_FEATURE = 512, 20
"""Random features: at most so many, and one for so many steps; more would learn the noise of few episodes."""
RIDGE = 1e-4
SMOOTHING = 25
"""Steps over which a score is smoothed."""
BEGIN = 10
"""Steps by which a sum of few errors counts less."""
RIDGE_OF_SUMS = 1e-2
"""Share of the mean variance of sums of errors that each direction has at least: episodes are few."""
MEMORY = 10
"""Episodes over which errors are summed."""
USUAL = 0.9
"""Share of nominal episodes below the number that each part of a change is divided by."""


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
    drift: NDArray[np.float64]
    """Whitens sums of whitened errors, shape (O, O)."""
    usual: NDArray[np.float64]
    """What every tenth nominal episode exceeds of motion, drift and memory, shape (3,); inf: never looked at."""
    threshold: NDArray[np.float64]
    """Scores of whole episodes that few nominal ones exceed, of motion, state and change, shape (3,); inf before."""

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
            white = self.find_errors(before, inputs, after)
        with np.errstate(over="ignore"):
            scores: NDArray[np.float64] = np.square(white).mean(axis=1)
        return scores

    def find_errors(self, before: Float, inputs: Float, after: Float) -> NDArray[np.float64]:
        """Whitened errors of the prediction, shape (N, O); see `compute` for arguments."""
        predicted = self._describe(before, inputs) @ self.weights
        errors: NDArray[np.float64] = (after.astype(np.float64) - before - predicted) @ self.whiten
        return errors

    def weigh(self, total: NDArray[np.float64], count: NDArray[np.int64]) -> NDArray[np.float64]:
        """The drift of sums of errors, (N, O), of so many steps, (N,); shape (N,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            white = (total / np.sqrt(count + BEGIN)[:, None]) @ self.drift
            weighed: NDArray[np.float64] = np.square(white).mean(axis=1)
        return weighed

    def combine(self, *parts: NDArray[np.float64]) -> NDArray[np.float64]:
        """The change of motion, drift and, where there is one, memory, each (N,); shape (N,)."""
        pairs = zip(parts, self.usual, strict=False)
        change: NDArray[np.float64] = np.max([part / usual for part, usual in pairs], axis=0)
        return change

    def find_change(self, episode: Motion, earlier: Sequence[Motion] = ()) -> NDArray[np.float64]:
        """The change at each step of one episode, shape (T,).

        Args:
            episode: The running one.
            earlier: Those before; without `MEMORY - 1` of them nothing is remembered.
        """
        return self.combine(*self._find_parts(episode, earlier))

    def _find_parts(self, episode: Motion, earlier: Sequence[Motion]) -> list[NDArray[np.float64]]:
        errors = self.find_errors(*_pair(episode))
        total, count = errors.cumsum(axis=0), np.arange(1, len(errors) + 1)
        parts = [smooth(np.square(errors).mean(axis=1)), self.weigh(total, count)]
        if len(earlier) >= MEMORY - 1:
            before = earlier[-MEMORY + 1 :]
            total = total + sum(self.find_errors(*_pair(one)).sum(axis=0) for one in before)
            parts.append(self.weigh(total, count + sum(len(one.command) for one in before)))
        return parts

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
        size = len(found.get("place", ()))
        older = {"drift": np.zeros((size, size)), "usual": np.array([1.0, np.inf, np.inf])}
        before = found.keys().isdisjoint(older) and "threshold" in found
        if before and np.shape(found["threshold"]) == (2,):  # from before there was a drift
            found = {**found, **older, "threshold": np.append(found["threshold"], found["threshold"][0])}
        try:
            model = NoveltyModel(**found)
            model.require_shapes()
        except (TypeError, ValueError, AttributeError) as error:
            raise SpecError(f"{where}: expected a model of motion, got {error}; fit it again") from error
        if not all(np.isfinite(value).all() for name, value in found.items() if name not in ("threshold", "usual")):
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
            "drift": (size, size),
            "usual": (3,),
            "threshold": (3,),
        }
        for name, shape in wanted.items():
            array = getattr(self, name)
            if array.shape != shape or array.dtype != np.float64:
                raise ValueError(f"'{name}' of shape {array.shape} and type {array.dtype} in the place of {shape}")
        if not (self.scale > 0.0).all() or not (self.usual > 0.0).all() or np.isnan(self.threshold).any():
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
    held = episodes[1::2]
    before, inputs, after = (np.concatenate(part) for part in zip(*map(_pair, episodes[::2]), strict=True))
    joined = np.concatenate([before, inputs], axis=1).astype(np.float64)
    mean, scale = joined.mean(axis=0), joined.std(axis=0) + 1e-6
    size = before.shape[1]
    features = min(MOST_FEATURES, 1 + len(before) // STEPS_OF_A_FEATURE)
    random = rng.standard_normal((len(mean), features)) / math.sqrt(len(mean))
    empty, never = np.eye(size), np.full(3, np.inf)
    model = NoveltyModel(mean, scale, random, np.zeros((0, size)), empty, empty, empty, never, never)
    described, target = model._describe(before, inputs), after.astype(np.float64) - before
    square = described.T @ described + RIDGE * len(described) * np.eye(described.shape[1])
    model = replace(model, weights=np.linalg.solve(square, described.T @ target))
    places = np.concatenate([one.observation[1:] for one in held])
    errors = np.concatenate([model.find_errors(*_pair(one)) for one in held])
    model = replace(model, whiten=_whiten(errors), place=_whiten((places - mean[:size]) / scale[:size]))
    sums = [_sum_errors(model, one) for one in held]
    model = replace(model, drift=_whiten(np.concatenate(sums), RIDGE_OF_SUMS))
    parts = [model._find_parts(one, earlier) for one, earlier in zip(held, _draw_earlier(held), strict=True)]
    largest = [[part.max() for part in found] for found in zip(*parts, strict=True)]
    usual = np.array([max(float(np.quantile(part, USUAL)), 1e-12) for part in largest])
    return replace(model, usual=np.append(usual, never)[:3])


def _sum_errors(model: NoveltyModel, episode: Motion) -> NDArray[np.float64]:
    """What `weigh` weighs, of an episode from its first quarter on, shape (., O): before, a few errors decide."""
    total = model.find_errors(*_pair(episode)).cumsum(axis=0)
    count = np.arange(1, len(total) + 1)
    sums: NDArray[np.float64] = (total / np.sqrt(count + BEGIN)[:, None])[len(total) // 4 :]
    return sums


def _draw_earlier(episodes: Sequence[Motion]) -> Iterator[list[Motion]]:
    """For each episode `MEMORY - 1` others that might have come before it; none where there are not so many."""
    rng = np.random.default_rng(0)
    for number in range(len(episodes)):
        others = np.delete(np.arange(len(episodes)), number)
        enough = len(others) >= MEMORY - 1
        yield [episodes[index] for index in rng.choice(others, MEMORY - 1, replace=False)] if enough else []


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
    largest = [[model.score_episode(one, signal).max() for one in episodes] for signal in signals]
    earlier = zip(episodes, _draw_earlier(episodes), strict=True)
    largest.append([model.find_change(one, before).max() for one, before in earlier])
    return replace(model, threshold=np.array([sorted(scores)[place - 1] for scores in largest]))


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

    def __init__(self, model: NoveltyModel, spec: RobotSpec, rows: int) -> None:
        """Before the first episode of so many rows.

        Raises:
            SpecError: The model is of a robot with other axes.
        """
        model.require_robot(spec)
        size, inputs = model.weights.shape[1], len(model.mean)
        self._model = model
        self.threshold = float(model.threshold[2])
        """Of the change in an episode, above which an alarm is given; inf where nothing was calibrated."""
        self._before = np.zeros((rows, size), np.float32)
        self._command = np.zeros((rows, (inputs - size) // 2), np.float32)
        self._score, self._change = np.ones(rows), np.zeros(rows)
        self._first = np.ones(rows, np.bool_)
        self._total, self._count = np.zeros((rows, size)), np.zeros(rows, np.int64)
        self._earlier: list[deque[tuple[NDArray[np.float64], int]]] = [deque(maxlen=MEMORY - 1) for _ in range(rows)]
        self._earlier_total, self._earlier_count = np.zeros((rows, size)), np.zeros(rows, np.int64)
        """Of the episodes before, where there are enough."""

    def begin(self, rows: Rows, observation: Float) -> None:
        """See `Scorer.begin`."""
        for row in rows[self._count[rows] > 0].tolist():
            self._earlier[row].append((self._total[row].copy(), int(self._count[row])))
            if len(earlier := self._earlier[row]) == MEMORY - 1:
                self._earlier_total[row] = np.sum([total for total, _ in earlier], axis=0)
                self._earlier_count[row] = sum(count for _, count in earlier)
        self._total[rows], self._count[rows] = 0.0, 0
        self._before[rows], self._score[rows], self._first[rows] = observation, 1.0, True

    def score(self, rows: Rows, sent: Float, observation: Float) -> NDArray[np.float64]:
        """See `Scorer.score`: the motion."""
        last = np.where(self._first[rows, None], sent, self._command[rows])
        errors = self._model.find_errors(self._before[rows], np.concatenate([sent, last], axis=1), observation)
        self._total[rows] += errors
        self._count[rows] += 1
        with np.errstate(over="ignore"):
            found = np.square(errors).mean(axis=1)
        self._score[rows] += (found - self._score[rows]) / SMOOTHING
        self._before[rows], self._command[rows], self._first[rows] = observation, sent, False
        self._change[rows] = self._find_change(rows)
        return self._score[rows].copy()

    def _find_change(self, rows: Rows) -> NDArray[np.float64]:
        drift = self._model.weigh(self._total[rows], self._count[rows])
        total, count = self._total[rows] + self._earlier_total[rows], self._count[rows] + self._earlier_count[rows]
        memory = np.where(self._earlier_count[rows] > 0, self._model.weigh(total, count), 0.0)
        return self._model.combine(self._score[rows], drift, memory)

    def change(self, rows: Rows) -> NDArray[np.float64]:
        """See `Scorer.change`: at the last step of these rows."""
        return self._change[rows].copy()


def _pair(episode: Motion) -> tuple[Float, Float, Float]:
    command = episode.command
    last = np.concatenate([command[:1], command[:-1]])
    return episode.observation[:-1], np.concatenate([command, last], axis=1), episode.observation[1:]


def _whiten(values: NDArray[np.float64], share: float = 1e-6) -> NDArray[np.float64]:
    """A matrix W such that the axes of `values @ W` have a mean square of 1, and do not depend on each other.

    What varies less than a share of the mean variance counts as if it varied so much.
    """
    covariance = values.T @ values / len(values)
    ridge = share * np.trace(covariance) / len(covariance) + 1e-12
    inverse = np.linalg.inv(covariance + ridge * np.eye(len(covariance)))
    factor: NDArray[np.float64] = np.linalg.cholesky(inverse)
    return factor
