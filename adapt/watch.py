"""What stands between the loop and the safety limits while an agent adapts: it sees every command, asked for and sent.

    loop -> Watch -> SafetyLimits -> CommandTap -> robot

`Watch` is a `RobotBatch`. A person may command instead of the policy (`takeover.py`), a monitor may tell reward and
success (`task_monitor.py`), a scorer tells unknown states (`novelty.py`), a log is written (`cell_log.py`). Whatever
they command passes the safety limits like any command. It slows commands down for canary episodes.

Axes: R rows, r rows of this call, O observation, A action.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import UntoldReward, make_text
from ..robots.limits import RobotLimits
from ..robots.robot import Float, RobotBatch, Rows, StepRows, WrappedRobots, Wraps, find_sent
from ..robots.spec import RobotSpec
from .action_limits import slow_down
from .guards import Signals, compute_agreement
from .takeover import TakenOver


class CommandTap(WrappedRobots):
    """A robot whose commands are looked at on their way to it."""

    def __init__(self, robot: RobotBatch) -> None:
        super().__init__(robot)
        self.last: Float | None = None
        """The last commands that were really sent, shape (r, A), as far as the robot tells; None where nothing was
        since somebody set it to None."""

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        self.last = np.array(action)
        step = super().step(rows, action)
        self.last = find_sent(self._robot, rows, self.last)
        return step


class Operator(Protocol):
    """A person who may command instead of the policy; see `takeover.py`."""

    def begin(self, spec: RobotSpec) -> None:
        """An episode begins; whoever had taken over has handed back."""
        ...

    def command(self, requested: Float, observation: Float) -> Float | None:
        """The command of one robot, shape (A,); None where the policy's holds.

        Args:
            requested: The policy's, shape (A,).
            observation: Newest, shape (O,).
        """
        ...


class Monitor(Protocol):
    """Tells reward and success of one robot; see `task_monitor.py`."""

    def begin(self, goal: Float) -> None:
        """An episode begins; may wait until a person has put everything in its place."""
        ...

    def judge(self, step: StepRows) -> StepRows:
        """The step of one robot with its reward, termination and success."""
        ...


class Scorer(Protocol):
    """Scores how unknown what happened is; see `novelty.py`."""

    threshold: float
    """Change above which an alarm is given."""

    def begin(self, rows: Rows, observation: Float) -> None:
        """Episodes begin in these rows, with observations (r, O)."""
        ...

    def score(self, rows: Rows, sent: Float, observation: Float) -> NDArray[np.float64]:
        """Scores of one step, shape (r,), of the commands (r, A) and where they led, (r, O)."""
        ...

    def change(self, rows: Rows) -> NDArray[np.float64]:
        """How sure it is at this step that the robot is another than it was, shape (r,)."""
        ...


class Sink(Protocol):
    """Keeps what happened; see `cell_log.py`."""

    def write(self, event: str, **facts: Any) -> None:
        """One event, with numbers, texts and arrays."""
        ...


class Alarm(NamedTuple):
    """Motion that is unknown."""

    row: int
    step: int
    """Of the episode, from 1 on: the first one with such a score."""
    score: float
    threshold: float


class Watch(WrappedRobots):
    """A `RobotBatch` that is looked at; see the module's docstring."""

    def __init__(
        self,
        robot: RobotBatch,
        taps: CommandTap,
        *,
        operator: Operator | None = None,
        monitor: Monitor | None = None,
        scorer: Scorer | None = None,
        sink: Sink | None = None,
        limits: RobotLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Starts before the first episode.

        Args:
            robot: Behind its safety limits.
            taps: What the limits send to.
            operator: May take over row 0.
            monitor: Tells reward and success of row 0; None for what the robot tells.
            scorer: Of unknown states.
            sink: A log.
            limits: That hold for the robot, for `speed`; None for those of its contract alone.
            clock: Monotonic time, seconds.
        """
        super().__init__(robot)
        self._tap = taps
        self._operator, self._monitor, self._scorer, self._sink, self._clock = operator, monitor, scorer, sink, clock
        self._limits = RobotLimits.of(robot.spec) if limits is None else limits
        self.speed = 1.0
        """Share of what is asked for, in (0, 1]; see `slow_down`."""
        self._chosen: NDArray[np.float32] = np.zeros((robot.rows, 0), np.float32)
        self._log_prob = np.full(robot.rows, math.nan)
        self.evaluating = False
        """Episodes are not learned from; whoever evaluates says so, for the log."""
        self._observation = np.zeros((robot.rows, *robot.spec.observation.shape), np.float32)
        self._goals = np.zeros((robot.rows, *robot.spec.goal.shape), np.float32)
        self._previous = np.zeros((robot.rows, *robot.spec.action.shape), np.float32)
        self.taken_over = np.zeros((robot.rows, robot.spec.episode_steps), np.bool_)
        """Steps of the running episode in which a person commanded, shape (R, T)."""
        self._step = np.zeros(robot.rows, np.int64)
        self.latencies: list[float] = []
        """Seconds from an observation to the next command, since somebody emptied the list."""
        self.alarms: dict[int, Alarm] = {}
        """By row: alarms of the episodes that run, or ran last."""
        self.last = Signals()
        """What `take_signals` gave last."""
        self._begin_counts()

    def _begin_counts(self) -> None:
        self._commands = self._clamped = self._taken = 0
        self._rewards: list[NDArray[np.float32]] = []
        self._scores: list[NDArray[np.float64]] = []
        self._seen_at = math.nan

    @property
    def has_operator(self) -> bool:
        """Whether a person may take over."""
        return self._operator is not None

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`; waits for a person where the monitor does."""
        if self._monitor is not None:
            self._monitor.begin(goals[0])
        observation = self._robot.reset(rows, goals, rng)
        if self._operator is not None:
            self._operator.begin(self.spec)
        self._observation[rows], self._step[rows], self.taken_over[rows] = observation, 0, False
        self._goals[rows] = goals
        self._previous[rows] = self.spec.compute_resting(observation)
        if self._scorer is not None:
            self._scorer.begin(rows, observation)
        for row in rows.tolist():
            self.alarms.pop(row, None)
        if self._operator is not None and 0 in rows:
            self._path: list[tuple[Float, Float]] = []
        self._write("reset", rows=rows, goals=goals, observation=observation)
        self._seen_at = self._clock()
        return observation

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        self.latencies.append(self._clock() - self._seen_at)
        asked = self._choose(rows, action)
        self._tap.last = None
        told_ns = time.time_ns()
        try:
            step = self._robot.step(rows, asked)
        except BaseException as error:
            self._write(
                "fault",
                reason=f"{type(error).__name__}: {make_text(error)}",
                rows=rows,
                asked=asked,
                sent=self._tap.last,
            )
            raise
        sent = self._tap.last  # None where a robot is in between that sends nothing on
        if self._monitor is not None:
            step = self._monitor.judge(step)
        self._rewards.append(np.stack([step.reward, self._compute_reward(rows, step.observation)]))
        clamped = np.zeros(asked.shape, np.bool_) if sent is None else sent != asked
        self._commands += len(rows)
        self._clamped += int(clamped.any(axis=1).sum())
        self._previous[rows] = asked if sent is None else sent
        if self._operator is not None and len(rows) and rows[0] == 0:
            self._path.append((self._observation[0].copy(), self._previous[0].copy()))
        if self._scorer is not None:
            scores = self._scorer.score(rows, self._previous[rows], step.observation)
            self._scores.append(scores)
            self._look_for_alarms(rows, self._scorer.change(rows), self._scorer.threshold)
        self._write(
            "step",
            rows=rows,
            told_ns=told_ns,
            policy=action,
            asked=asked,
            sent=sent,
            clamped=clamped,
            taken_over=self.taken_over[rows, self._step[rows]],
            observation=step.observation,
            reward=step.reward,
            terminated=step.terminated,
            truncated=step.truncated,
            success=step.success,
            chosen=self._chosen[rows],
            log_prob=np.where(self.taken_over[rows, self._step[rows]], math.nan, self._log_prob[rows]),
            evaluation=self.evaluating,
        )
        self._observation[rows] = step.observation
        self._step[rows] += 1
        self._seen_at = self._clock()
        return step

    def take_images(self, rows: Rows) -> NDArray[np.uint8]:
        """See `Sees.take_images`; the log gets the picture of row 0, which goes with its newest observation."""
        pictures = super().take_images(rows)
        for picture in pictures[np.asarray(rows) == 0]:
            self._write("picture", picture=picture)
        return pictures

    def note_choice(self, rows: Rows, chosen: NDArray[np.float32], log_prob: NDArray[np.float64]) -> None:
        """What the agent chose in these rows, (r, Z), and its log density, (r,), NaN where nobody knows; for the log.

        It is a skill, or a command before all limits, in the robot's units. It holds until the next call.
        """
        if self._chosen.shape[1] != chosen.shape[1]:
            self._chosen = np.zeros((self.rows, chosen.shape[1]), np.float32)
        self._chosen[rows], self._log_prob[rows] = chosen, log_prob

    def _look_for_alarms(self, rows: Rows, scores: NDArray[np.float64], threshold: float) -> None:
        for index in np.flatnonzero(~(scores <= threshold)).tolist():  # a NaN is no known motion
            row = int(rows[index])
            if row not in self.alarms:
                self.alarms[row] = Alarm(row, int(self._step[row]) + 1, float(scores[index]), threshold)
                self._write("alarm", **self.alarms[row]._asdict())

    def _choose(self, rows: Rows, action: Float) -> Float:
        """What is asked of the safety limits, shape (r, A)."""
        asked = np.array(action, np.float32)
        if self._operator is not None and len(rows) and rows[0] == 0:
            command = self._operator.command(asked[0].copy(), self._observation[0].copy())
            if command is not None:
                asked[0], self.taken_over[0, self._step[0]] = command, True
                self._taken += 1
        if self.speed < 1.0:
            asked = slow_down(self._limits, asked, self._previous[rows], self.speed)
        return asked

    def find_taken_over(self) -> TakenOver | None:
        """What row 0 did in the last episode; None where nobody commanded but the policy."""
        if self._operator is None or not self.taken_over[0].any():
            return None
        observation, command = (np.stack(part) for part in zip(*self._path, strict=True))
        return TakenOver(self.taken_over[0, : len(command)].copy(), observation, command)

    def _compute_reward(self, rows: Rows, observation: Float) -> Float:
        """What the contract of the robot pays for observations (r, O), (r,); NaN where they do not tell it."""
        try:
            paid: Float = np.diagonal(self._robot.compute_reward(observation, self._goals[rows])[0])
        except UntoldReward:
            return np.full(len(rows), np.nan, np.float32)
        return paid

    def take_signals(self) -> Signals:
        """What was seen since the last call."""
        scores = np.concatenate(self._scores) if self._scores else np.array([math.nan])
        share = self._clamped / self._commands if self._commands else 0.0
        signals = Signals(share, float(np.mean(scores)), self._taken, compute_agreement(self._rewards))
        self._begin_counts()
        self.last = signals
        return signals

    def stop(self, reason: str) -> None:
        """See `Stops.stop`; the log comes second, since its disk may be full."""
        super().stop(reason)
        self._write("stop", reason=reason)

    def tell(self, event: str, **facts: Any) -> None:
        """Writes something else to the log, if there is one."""
        self._write(event, **facts)

    def _write(self, event: str, **facts: Any) -> None:
        if self._sink is not None:
            self._sink.write(event, **facts)


def find_watch(robot: object) -> Watch | None:
    """What watches a robot, whatever is wrapped around it, such as the eye of a policy that sees; None without one."""
    while not isinstance(robot, Watch) and isinstance(robot, Wraps):
        robot = robot.inner
    return robot if isinstance(robot, Watch) else None
