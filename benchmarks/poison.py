"""Adaptation whose rewards are poisoned, on a robot small enough for many runs; for the tests and `bench_guards.py`.

`adapt_poisoned` runs the loop of `supple adapt`. `serve_poisoned` is a client of the server of `supple serve --learn`,
which gets poisoned rewards over a socket.

Axes: R rows, r rows of this call.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from supple.adapt.audit import AuditLog
from supple.adapt.background_learner import BackgroundLearner
from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget
from supple.adapt.guard_config import GuardConfig
from supple.adapt.guards import Play, compute_drop, guard_agent
from supple.adapt.host.export import write_exported
from supple.adapt.host.hosts import make_hosted
from supple.adapt.host.simpl import export_spirl
from supple.adapt.loop import Adapter, run_episode
from supple.adapt.policy_change import make_acting
from supple.adapt.remote.client import PolicyClient, PolicyError
from supple.adapt.remote.server import PolicyServer, serve_policy
from supple.adapt.runtime_agent import Arrays, RandomNoise, RuntimeAgent
from supple.adapt.safety import SafetyLimits
from supple.adapt.session import AgentSession
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

        signals = watch.take_signals
        agent = guarded = guard_agent(
            agent, bundle, guards, play=play, read_signals=signals, hold=watch.stop, seed=seed
        )
    adapter = Adapter(agent, watch, TASK, bundle.contract.budget, EPISODES, rng, make_fork=bundle.make_agent)
    before = _evaluate(bundle, adapter.agent.state(), seed)
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
    after = _evaluate(bundle, adapter.agent.state(), seed)
    refused = 0
    if guarded is not None:
        refused = sum(event["event"] == "refused" for event in guarded.events)
        if outcome == "adapted" and guarded.counts["rollbacks"]:
            outcome = "fallen" if guarded.counts["fallen"] else "rolled back"
    return Poisoned(compute_drop(before, after), float(before.mean()), float(after.mean()), outcome, refused)


@contextmanager
def open_served(
    bundle: Bundle, seed: int, *, guards: GuardConfig | None, computes: bool = True
) -> Iterator[tuple[PolicyClient, BackgroundLearner]]:
    """A client of a server that learns, as `supple serve --learn` makes it, with the child's work done here."""
    bundle = bundle.with_settings({"seed": seed})
    rng = np.random.default_rng(seed)

    def make_agent(learner: BackgroundLearner) -> RuntimeAgent:
        agent: RuntimeAgent = make_hosted(bundle, RandomNoise(rng))
        if guards is not None:
            signals, hold = learner.take_signals, learner.hold
            agent = learner.guards = guard_agent(
                agent, bundle, guards, play=learner.play, read_signals=signals, hold=hold, seed=seed
            )
        return agent

    learner = BackgroundLearner(make_agent, rng, off_policy=bundle.kind.off_policy, observes_fast=False)
    pay = NearPoints(1).compute_reward if computes else None
    session, token = AgentSession(bundle, seed=seed, learner=learner, pay=pay), "a-token-of-a-benchmark"
    with closing(learner), serve_policy(PolicyServer(session, {}, learner=learner), "127.0.0.1", 0, token) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with PolicyClient(f"ws://127.0.0.1:{server.socket.getsockname()[1]}", token, timeout=60.0) as client:
                yield client, learner
        finally:
            server.shutdown()
            thread.join()


def play_served(client: PolicyClient, robot: NearPoints, rng: np.random.Generator, *, task: bool = False) -> None:
    """An episode of one row; a reward that the server refuses is left out, as a program that goes on would do.

    Raises:
        PolicyError: The server gave no action.
    """
    row, goals = np.zeros(1, np.int64), goals_of(TASK)
    client.reset(task=task, goal=goals[0].tolist())
    step, now, success = None, robot.reset(row, goals, rng), False
    while step is None or not (step.terminated | step.truncated)[0]:
        action = np.array([client.act(now[0].tolist())["action"]], np.float32)
        step = robot.step(row, action)
        now, success = step.observation, success or bool(step.success is not None and step.success[0])
        try:
            client.observe(float(step.reward[0]))
        except PolicyError as error:
            if "reward" not in str(error):
                raise
    told = None if step.success is None else success
    client.end_episode(now[0].tolist(), terminated=bool(step.terminated[0]), success=told)


def serve_poisoned(
    bundle: Bundle,
    poison: Poison,
    seed: int,
    *,
    guards: GuardConfig | None,
    tells: bool = True,
    computes: bool = True,
    episodes: int = EPISODES,
) -> Poisoned:
    """As `adapt_poisoned`, by a client of a server; so many episodes, and those that the guards ask for."""
    robot, rng = NearPoints(1, poison, tells=tells), np.random.default_rng([seed, 3])
    outcome, count = "adapted", 0
    with open_served(bundle, seed, guards=guards, computes=computes) as (client, learner):
        learner.begin_task()
        before = _evaluate(bundle, learner.state(), seed)
        try:
            while count < episodes or client.health()["extra"]:
                count += not client.health()["extra"]
                play_served(client, robot, rng, task=count == 0)
        except PolicyError:
            outcome = "held" if learner.held else "stopped"
        after = _evaluate(bundle, learner.state(), seed)
        refused = sum(event["event"] == "refused" for event in learner.events)
        if learner.guards is not None and outcome == "adapted" and learner.guards.counts["rollbacks"]:
            outcome = "fallen" if learner.fallen else "rolled back"
    return Poisoned(compute_drop(before, after), float(before.mean()), float(after.mean()), outcome, refused)


def _evaluate(bundle: Bundle, state: Arrays, seed: int) -> NDArray[np.float64]:
    """True returns of the policy in this state, always in the same episodes."""
    rng = np.random.default_rng([seed, 99])
    agent = make_acting(bundle.make_agent, state, RandomNoise(rng), EVALUATIONS)
    goals = np.repeat(goals_of(TASK), EVALUATIONS, axis=0)
    played = run_episode(NearPoints(EVALUATIONS), agent, goals, rng)
    returns: NDArray[np.float64] = played.reward.sum(axis=1, dtype=np.float64)
    return returns
