"""Logs and policies of known return for `bench_ope.py`: the skills of a trained run, weakened by degrees.

A policy over skills corrects the skill prior. Its correction times s, from 0 (the prior) to 1 (the policy), gives
policies from bad to good, and those of other tasks are bad ones that are sure of themselves. The log is made by the
middle one. The true return of each is played.

Axes: R rows, T steps, O observation, A action, Z skill.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.bundle_folder import find_bundle
from supple.adapt.runtime_agent import RandomNoise, SeenRows
from supple.datasets.episode import Episode
from supple.datasets.schema import Feature, Schema
from supple.datasets.store import EpisodeStore, open_store
from supple.datasets.store_writer import write_store
from supple.meta.off_policy.decisions import make_decisions
from supple.meta.off_policy.estimates import Cleared, compute_terms, measure_weights
from supple.meta.off_policy.intervals import compute_bootstrap_t
from supple.pipeline.progress import JsonProgress
from supple.pipeline.replay.forced import ConstantNoise
from supple.pipeline.replay.levels import read_level
from supple.pipeline.replay.off_policy import evaluate_level
from supple.pipeline.replay.open_loop import gaussian_nll
from supple.pipeline.replay.rewards import find_rewards
from supple.pipeline.replay.section import Replay
from supple.pipeline.robots import RobotChoice
from supple.pipeline.settings.off_policy import OffPolicyConfig
from supple.pipeline.stages.adapt import find_robot_of, find_test_tasks
from supple.robots.family import RobotFamily
from supple.robots.task import Task
from supple.skills.checkpoint import load_skill_model

SHARES = (0.0, 0.1, 0.25, 0.4, 0.55, 0.7, 0.85, 1.0)
"""s of the policies."""
OTHERS = 2
"""Policies of other tasks."""
NEAR = (3, 4, 2, 5)
"""Which of them are near enough to the log for importance weights."""
LOGGED = 0.5
"""s of the policy that makes the log."""
PLAYED = 100
"""Episodes for the true return."""


class Played(NamedTuple):
    """Episodes side by side."""

    observation: np.ndarray
    """Shape (R, T + 1, O)."""
    action: np.ndarray
    """Shape (R, T, A)."""
    reward: np.ndarray
    """Shape (R, T)."""
    length: np.ndarray
    """Shape (R,)."""
    terminated: np.ndarray
    """Shape (R,)."""
    skill: np.ndarray
    """Chosen at each decision, shape (R, K, Z)."""


class Judged(NamedTuple):
    """A trained run, and one of its tasks."""

    bundles: tuple[Bundle, ...]
    """Policies from bad to good, then those of other tasks."""
    logger: Bundle
    """Makes the log."""
    family: RobotFamily
    task: Task
    skills: Path


def weaken(bundle: Bundle, share: float) -> Bundle:
    """The policy whose correction of the skill prior is `share` of this one's."""
    last = max(int(name.split(".")[2]) for name in bundle.weights if name.startswith("policy.layers."))
    scaled = {f"policy.layers.{last}.{part}": np.float32(share) for part in ("weight", "bias")}
    return replace(
        bundle, weights={name: value * scaled.get(name, np.float32(1.0)) for name, value in bundle.weights.items()}
    )


def find_judged(run: Path, task: int, choice: RobotChoice | None) -> Judged:
    """Policies of the run for one of its test tasks."""
    learner = load_bundle(find_bundle(run / "export"))
    family = find_robot_of(learner, choice, accept_change=True).family
    tasks = find_test_tasks(learner, family, None)
    own = load_bundle(run / "adapt" / "policies" / str(task))
    others = [
        load_bundle(run / "adapt" / "policies" / str((task + step) % len(tasks))) for step in range(1, OTHERS + 1)
    ]
    bundles = (*(weaken(own, share) for share in SHARES), *others)
    return Judged(bundles, weaken(own, LOGGED), family, tasks[task], run / "extract")


def play(bundle: Bundle, family: RobotFamily, task: Task, episodes: int, seed: int) -> Played:
    """Episodes of a policy in a task."""
    rng, robot = np.random.default_rng(seed), family.make(episodes)
    spec, agent = robot.spec, bundle.make_agent(RandomNoise(rng))
    steps, running = spec.episode_steps, np.arange(episodes)
    goals = np.repeat(np.array([task.goal], np.float32), episodes, axis=0)
    seen = np.zeros((episodes, steps + 1, *spec.observation.shape), np.float32)
    told, paid = np.zeros((episodes, steps, *spec.action.shape), np.float32), np.zeros((episodes, steps))
    length, terminated = np.full(episodes, steps), np.zeros(episodes, np.bool_)
    now = robot.reset(running, goals, rng)
    seen[:, 0] = now
    agent.begin_task(episodes)
    agent.begin_episode(explore=False)
    latent = np.zeros((episodes, agent.space.latent_dim), np.float32)
    skill = np.zeros((episodes, -(-steps // agent.space.horizon), agent.space.latent_dim), np.float32)
    for step in range(steps):
        if step % agent.space.horizon == 0:
            latent[running] = agent.act(SeenRows(now, running, np.zeros(len(running), np.float32)))
            skill[running, step // agent.space.horizon] = latent[running]
        action = agent.space.hold(latent[running])(now)
        result = robot.step(running, action)
        told[running, step], paid[running, step] = action, result.reward
        seen[running, step + 1] = result.observation
        terminated[running] = result.terminated
        length[running[result.terminated | result.truncated]] = step + 1
        go_on = ~(result.terminated | result.truncated)
        running, now = running[go_on], result.observation[go_on]
        if not len(running):
            break
    robot.close()
    return Played(seen, told, paid, length, terminated, skill)


def compute_true(played: Played, discount: float) -> tuple[float, float]:
    """Mean discounted return, and its standard error."""
    returns = (played.reward * discount ** np.arange(played.reward.shape[1])).sum(1)
    return float(returns.mean()), float(returns.std(ddof=1) / np.sqrt(len(returns)))


def make_log(path: Path, judged: Judged, episodes: int, seed: int) -> EpisodeStore:
    """A store of episodes of the logging policy, with rewards; as it was, where it is there."""
    if path.is_dir():
        return open_store(path)
    played, spec = play(judged.logger, judged.family, judged.task, episodes, seed), judged.family.spec()

    def feature(name: str, array: Any) -> Feature:
        axes = tuple(axis.name for axis in array.axes)
        return Feature(
            name=name, shape=array.shape, units=tuple(axis.unit for axis in array.axes), role=name, axes=axes
        )

    reward = Feature(name="reward", shape=(), units=("",), role="reward", axes=("reward",))
    features = (feature("observation", spec.observation), feature("action", spec.action), reward)
    schema = Schema(features=features, control_period=spec.control_period, robot=spec)

    def cut() -> Iterator[Episode]:
        for row, steps in enumerate(played.length):
            arrays = {
                "observation": played.observation[row, :steps],
                "action": played.action[row, :steps],
                "reward": played.reward[row, :steps].astype(np.float32),
            }
            yield Episode(arrays, bool(played.terminated[row]), not played.terminated[row])

    return write_store(path, cut(), schema, {"maker": "bench_ope"})


def judge_policy(
    judged: Judged, store: EpisodeStore, index: int, level: str, config: OffPolicyConfig, folder: Path
) -> dict[str, Any]:
    """The record of one policy at one level."""
    bundle, view = judged.bundles[index], JsonProgress(io.StringIO())
    label, spec = f"policy{index}", bundle.contract.robot
    replay = Replay(label=label, bundle=bundle, store=store, spec=spec, folder=folder, view=view, seed=index)
    reader, reason = find_rewards(replay, "log")
    assert reader is not None, reason
    log = read_level(replay, config, reader, level, load_skill_model(judged.skills))
    assert log is not None, "the log is long enough"
    return evaluate_level(replay, config, log)


def play_true(judged: Judged, index: int, discount: float) -> dict[str, Any]:
    """The true return of a policy."""
    true, error = compute_true(play(judged.bundles[index], judged.family, judged.task, PLAYED, 10_000), discount)
    return {"true": true, "error": error}


def compute_density(bundle: Bundle, observation: np.ndarray, skill: np.ndarray) -> np.ndarray:
    """Log density of skills (N, Z) in observations (N, O) under a policy, nats, (N,)."""
    noise, rows = ConstantNoise(), np.arange(len(observation))
    agent = bundle.make_agent(noise)
    agent.begin_task(len(rows))
    agent.begin_episode(explore=False)
    seen = SeenRows(observation, rows, np.zeros(len(rows), np.float32))
    loc = agent.act(seen)
    noise.value = 1.0
    return -gaussian_nll(skill, loc, agent.act(seen) - loc)


def weigh_recorded(judged: Judged, which: Sequence[int], episodes: int, seed: int, discount: float) -> dict[str, Any]:
    """Importance sampling of policies where the log records each skill and its density: nothing is estimated.

    Values are of episodes as they were played: what would follow a time limit counts 0, as in `play_true`.
    """
    played = play(judged.logger, judged.family, judged.task, episodes, seed)
    horizon = judged.logger.contract.space.horizon
    steps = np.where(played.terminated, played.length, played.length // horizon * horizon)
    decisions = make_decisions(played.reward, steps, played.terminated, discount=discount, horizon=horizon)
    at = np.arange(decisions.valid.shape[1]) * horizon
    observation, skill = played.observation[:, at][decisions.valid], played.skill[:, : len(at)][decisions.valid]
    behaviour = compute_density(judged.logger, observation, skill)
    zero = np.zeros(decisions.valid.shape)
    cleared, rng = Cleared(zero, zero, np.zeros(episodes)), np.random.default_rng(seed)
    found = {}
    for index in which:
        ratio = zero.copy()
        ratio[decisions.valid] = compute_density(judged.bundles[index], observation, skill) - behaviour
        weights, terms = measure_weights(decisions, ratio), compute_terms(decisions, ratio, cleared)
        found[str(index)] = {
            "effective_size": weights.effective_size,
            "estimates": {name: list(compute_bootstrap_t(terms[name], rng)) for name in ("PDIS", "WPDIS")},
        }
    return found
