"""Adaptation whose rewards are poisoned, on a robot small enough for many runs; for the tests and `bench_guards.py`.

Axes: R rows, r rows of this call.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from supple.adapt.audit import AuditLog
from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget
from supple.adapt.guard_config import GuardConfig
from supple.adapt.guards import GuardedAgent, Play, compute_drop
from supple.adapt.host.export import write_exported
from supple.adapt.host.hosts import make_hosted
from supple.adapt.host.simpl import export_spirl
from supple.adapt.loop import Adapter, run_episode
from supple.adapt.runtime_agent import RandomNoise, RuntimeAgent
from supple.adapt.safety import SafetyLimits
from supple.adapt.watch import CommandTap, Watch
from supple.errors import RobotFault
from supple.meta.simpl.config import FinetuneConfig, SpirlConfig
from supple.meta.simpl.spirl import SpirlLearner
from supple.meta.space import RawSpace
from supple.meta.testing import PointBatch
from supple.robots.robot import StepRows
from supple.robots.task import Task, goals_of

Poison = Literal["none", "nan", "inverted", "constant"]
STEPS, EPISODES, EVALUATIONS = 12, 20, 60
TASK = (Task("corner", (4.0, 3.0)),)


class NearPoints(PointBatch):
    """Points that are paid for being near their goal, and tell success; rewards may be poisoned on their way."""

    def __init__(self, rows: int, poison: Poison = "none", *, tells: bool = True, computes: bool = True) -> None:
        super().__init__(rows, episode_steps=STEPS, radius=1.0)
        self._poison, self._tells, self._computes = poison, tells, computes

    def step(self, rows: Any, action: Any) -> StepRows:
        """See `RobotBatch.step`."""
        step = super().step(rows, action)
        success = step.terminated if self._tells else None
        return step._replace(reward=self._spoil(self._pay(step.observation, self._goal[rows])), success=success)

    def compute_reward(self, observation: Any, goals: Any) -> Any:
        """See `RobotBatch.compute_reward`; without `computes` all states are paid alike."""
        _, reached = super().compute_reward(observation, goals)
        reward = self._pay(observation[..., None, :], goals)
        return (reward if self._computes else np.zeros_like(reward)), reached

    def _pay(self, observation: Any, goals: Any) -> NDArray[np.float32]:
        distance = np.linalg.norm(observation - goals, axis=-1)
        paid: NDArray[np.float32] = np.exp(-distance / 2.0).astype(np.float32) + (distance <= self._radius)
        return paid.astype(np.float32)

    def _spoil(self, reward: NDArray[np.float32]) -> NDArray[np.float32]:
        if self._poison == "nan":
            return np.full_like(reward, np.nan)
        return {"none": reward, "inverted": -reward, "constant": np.ones_like(reward)}[self._poison]


class Poisoned(NamedTuple):
    """One adaptation, judged by true rewards."""

    drop: float
    """By how much the return fell from the prior to the final policy, beyond the 99 % interval; <= 0: it did not."""
    prior: float
    """Mean return of the prior policy."""
    final: float
    """... of the final one."""
    outcome: str
    """`adapted`, `rolled back`, `fallen` to the prior policy, `held`, or `stopped` by the safety limits."""
    refused: int
    """Episodes that nothing was learned from."""


def make_bundle(folder: Path, seed: int = 0) -> Bundle:
    """SPiRL on the points: SAC in the task from the first episode on, with a prior policy of its own."""
    robot = NearPoints(2)
    space = RawSpace(robot.spec, torch.zeros(2), torch.full((2,), 4.0))
    tuning = FinetuneConfig(batch=32, min_transitions=24, reuse_rate=32.0, pool_episodes=64)
    config = SpirlConfig(hidden=(16, 16), finetune=tuning, tasks=1)
    torch.manual_seed(seed)
    learner = SpirlLearner(space, robot, goals_of(TASK), config)
    budget = Budget(episodes=EPISODES)
    return write_exported(folder, export_spirl(learner), robot.spec, budget, simulator=None, provenance={})


def adapt_poisoned(
    bundle: Bundle,
    poison: Poison,
    folder: Path,
    seed: int,
    *,
    guards: GuardConfig | None,
    tells: bool = True,
    computes: bool = True,
) -> Poisoned:
    """Adapts once, and compares the final policy with the prior one on a robot that is not poisoned.

    Args:
        bundle: Of `make_bundle`.
        poison: Of the rewards.
        folder: For the audit log.
        seed: Of all that is random.
        guards: Their limits; None for none.
        tells: The robot tells success.
        computes: The robot's contract computes rewards.
    """
    goals, rng = goals_of(TASK), np.random.default_rng(seed)
    bundle = bundle.with_settings({"seed": seed})
    robot = CommandTap(NearPoints(1, poison, tells=tells, computes=computes))
    log = AuditLog(folder / f"{poison}-{seed}.jsonl")
    watch = Watch(SafetyLimits(robot, log), robot)
    agent: RuntimeAgent = make_hosted(bundle, RandomNoise(rng))
    guarded = None
    if guards is not None:

        def play(copy: RuntimeAgent, speed: float, noise: np.random.Generator) -> Play:
            watch.speed = speed
            episodes = run_episode(watch, copy, goals, noise)
            watch.speed = 1.0
            return Play(episodes, watch.take_signals())

        agent = guarded = GuardedAgent(
            agent,
            bundle.make_agent,
            bundle.weights,
            guards,
            moves=True,
            exploring=0,
            play=play,
            read_signals=watch.take_signals,
            hold=watch.stop,
            control_period=0.1,
            seed=seed,
        )
    adapter = Adapter(agent, watch, TASK, bundle.contract.budget, EPISODES, rng, make_fork=bundle.make_agent)
    before = _evaluate(adapter, seed)
    outcome = "adapted"
    try:
        for _ in adapter.run():
            pass
        if guarded is not None:
            guarded.finish()
    except RobotFault:
        outcome = "held" if guarded is not None and guarded.counts["fallen"] else "stopped"
    watch.close()
    log.close()
    after = _evaluate(adapter, seed)
    refused = 0
    if guarded is not None:
        refused = sum(event["event"] == "refused" for event in guarded.events)
        if outcome == "adapted" and guarded.counts["rollbacks"]:
            outcome = "fallen" if guarded.counts["fallen"] else "rolled back"
    return Poisoned(compute_drop(before, after), float(before.mean()), float(after.mean()), outcome, refused)


def _evaluate(adapter: Adapter, seed: int) -> NDArray[np.float64]:
    """True returns of the policy as it stands, always in the same episodes."""
    rng = np.random.default_rng([seed, 99])
    fork = adapter.fork(RandomNoise(rng), EVALUATIONS)
    goals = np.repeat(goals_of(TASK), EVALUATIONS, axis=0)
    played = run_episode(NearPoints(EVALUATIONS), fork, goals, rng)
    returns: NDArray[np.float64] = played.reward.sum(axis=1, dtype=np.float64)
    return returns
