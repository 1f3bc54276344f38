"""What real time costs a policy: an adaptation in lock step, and as a loop sees a robot that has a clock of its own.

Such a robot hears a command at its next tick, and its measurement arrives later. So the loop sees the state of one tick
before, in the share of episodes in which the phase between both clocks is late. States are noisy, and some are lost; on
a busy machine the robot makes a second period while the loop is late. Each of these is tried alone, as is all that
`examples/emulated.py` does, in emulated time: there is no clock, and no busy machine. What is left of a difference to a
run over DDS is then that of the machine. The agent explores, infers its task, and is evaluated, as on the robot; it
takes no gradient steps. Intervals are over goals and seeds of the adaptation.

Two adaptations in lock step differ, too: each explores, and infers its task, by its own seed. So the records also say
in which share of the goals a condition differs from lock step, with another seed, by two standard errors of the
evaluated episodes alone; and lock step from itself.

    python benchmarks/real_time.py runs/demo > docs/results/real-time.json
"""

import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recording import print_records

from supple.adapt.bundle import load_bundle
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.pipeline.intervals import compute_interval
from supple.pipeline.stages.adapt import find_robot_of, find_test_tasks
from supple.robots.robot import Float, RobotBatch, Rows, StepRows, WrappedRobots
from supple.robots.spec import RobotSpec

COMMAND = "python benchmarks/real_time.py runs/demo > docs/results/real-time.json"
REPEATS = 20


@dataclass(frozen=True, kw_only=True)
class Clock:
    """How a robot of its own clock is seen, in control periods of the loop."""

    observed: int = 0
    """Periods by which observations are late."""
    commanded: int = 0
    """Periods by which commands are late."""
    latency: float | None = None
    """Share of a period from a tick to the arrival of its state; with a phase that each episode draws. None for
    whole periods alone."""
    jitter: float = 0.0
    """Up to so much more."""
    loss: float = 0.0
    """Share of states that are lost: the one before is seen again."""
    noise: float = 0.0
    """Standard deviation of each observation."""
    slips: float = 0.0
    """Share of steps in which the robot makes a second period with the same command."""


PERIOD = 0.01
CONDITIONS = {
    "lock step": Clock(),
    "phase, latency, jitter, loss and noise of the emulated robot": Clock(
        latency=0.002 / PERIOD, jitter=0.002 / PERIOD, loss=0.01, noise=0.001
    ),
    "observations 1 period late": Clock(observed=1),
    "observations 3 periods late": Clock(observed=3),
    "commands 1 period late": Clock(commanded=1),
    "5 % second periods": Clock(slips=0.05),
    "30 % second periods": Clock(slips=0.3),
}


class OwnClock(WrappedRobots):
    """Robots as a loop sees them that does not share their clock; reward and end are those of what is seen."""

    def __init__(self, robot: RobotBatch, spec: RobotSpec, clock: Clock, seed: int) -> None:
        super().__init__(robot)
        self._own, self._clock, self._rng = spec, clock, np.random.default_rng(seed)
        size, actions = len(spec.observation.axes), len(spec.action.axes)
        self._measured = np.zeros((robot.rows, clock.observed + 2, size), np.float32)
        self._told = np.zeros((robot.rows, clock.commanded + 1, actions), np.float32)
        self._seen = np.zeros((robot.rows, size), np.float32)
        self._goals = np.zeros((robot.rows, len(spec.goal.axes)), np.float32)
        self._step = np.zeros(robot.rows, np.int64)
        self._phase = np.zeros(robot.rows)

    @property
    def spec(self) -> RobotSpec:
        """The contract, with the time limit of the loop."""
        return self._own

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`; a phase is drawn."""
        seen = super().reset(rows, goals, rng)
        self._measured[rows], self._told[rows] = seen[:, None], self._own.compute_resting(seen)[:, None]
        self._goals[rows], self._step[rows], self._seen[rows] = goals, 0, seen
        self._phase[rows] = self._rng.random(len(rows))
        return seen

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`; of what is seen."""
        clock, rng = self._clock, self._rng
        self._told[rows] = np.concatenate([action[:, None], self._told[rows, :-1]], axis=1)
        command = self._told[rows, -1]
        now = super().step(rows, command).observation
        slipped = rng.random(len(rows)) < clock.slips
        if slipped.any():
            now[slipped] = super().step(rows[slipped], command[slipped]).observation
        self._measured[rows] = np.concatenate([now[:, None], self._measured[rows, :-1]], axis=1)
        late: NDArray[np.bool_] = np.zeros(len(rows), np.bool_)
        if clock.latency is not None:
            late = self._phase[rows] + clock.latency + clock.jitter * rng.random(len(rows)) > 1.0
        found = self._measured[rows, clock.observed + late]
        found = found + clock.noise * rng.standard_normal(found.shape).astype(np.float32)
        lost = rng.random(len(rows)) < clock.loss
        self._seen[rows] = np.where(lost[:, None], self._seen[rows], found)
        self._step[rows] += 1
        seen = self._seen[rows].copy()
        rewards, ends = self.compute_reward(seen, self._goals[rows])
        ended = np.diagonal(ends).copy()
        truncated = (self._step[rows] >= self._own.episode_steps) & ~ended
        return StepRows(seen, np.diagonal(rewards).astype(np.float32), ended, truncated, ended)


def measure(path: str, clock: Clock, seed: int) -> list[float]:
    """Success of each test task after its exploration, as the loop sees it."""
    bundle = load_bundle(path)
    family: Any = find_robot_of(bundle, None).family
    tasks, spec, explored = find_test_tasks(bundle, family), family.spec(), bundle.contract.budget.exploration_episodes
    rows = len(tasks) * REPEATS
    robot = OwnClock(replace(family, episode_steps=10**9).make(rows), spec, clock, seed)
    rng = np.random.default_rng(seed)
    agent = bundle.make_agent(RandomNoise(rng))
    adapter = Adapter(agent, robot, tasks, bundle.contract.budget, explored, rng, make_fork=bundle.make_agent)
    for _ in adapter.run():
        pass
    found = adapter.evaluate(REPEATS, seed, greedy=False).success
    assert found is not None
    robot.close()
    return [float(share) for share in found.mean(axis=1)]


def count_apart(one: list[float], other: list[float]) -> float:
    """Share of the goals whose successes differ by two standard errors of their evaluated episodes."""
    p, q = np.array(one), np.array(other)
    error = np.sqrt((p * (1.0 - p) + q * (1.0 - q)) / REPEATS)
    return float((np.abs(p - q) > 2.0 * np.maximum(error, 1e-9)).mean())


def main() -> None:
    """Prints the records: success of each condition, and how it differs from lock step."""
    began, path = time.perf_counter(), sys.argv[1]
    seeds = [int(seed) for seed in sys.argv[2:]] or [0, 1, 2]
    found = {name: [measure(path, clock, seed) for seed in seeds] for name, clock in CONDITIONS.items()}
    records = []
    for name, scores in found.items():
        difference = np.subtract(scores, found["lock step"])
        for metric, values in (("success_stochastic", scores), ("difference to lock step", difference)):
            if metric.startswith("diff") and name == "lock step":
                continue
            interval = compute_interval(np.asarray(values), shares=not metric.startswith("diff"))
            records.append(
                {"method": "simpl", "metric": metric, "at": {"clock": name}, **interval._asdict()}
                | {"n": int(np.size(values)) * REPEATS, "seeds": seeds}
            )
        pairs = [(a, b) for a in range(len(seeds)) for b in range(len(seeds)) if a != b]
        apart = [count_apart(scores[a], found["lock step"][b]) for a, b in pairs]
        records.append(
            {"method": "simpl", "metric": "goals two standard errors apart", "at": {"clock": name}, "seeds": seeds}
            | {"mean": float(np.mean(apart)) if apart else 0.0, "n": len(pairs) * len(scores[0])}
        )
    print_records("real-time", COMMAND, began, records)


if __name__ == "__main__":
    main()
