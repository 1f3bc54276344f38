"""Meta-trains RL2 on one of Meta-World's ML1 benchmarks and runs Meta-World's own evaluation on a bundle of it.

See README.md. What is trained here is small; the point is the way from their tasks to a bundle and back to their
evaluation, with test goals that the training never sees.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import metaworld
import numpy as np
import torch
from meta_world_agent import MetaWorldAgent
from metaworld.evaluation import metalearning_evaluation

from supple.adapt.bundle import load_bundle
from supple.adapt.contract import Budget
from supple.adapt.host.export import write_exported
from supple.adapt.host.rl2 import export_rl2
from supple.adapt.runtime_agent import RandomNoise
from supple.meta.config import Trial
from supple.meta.memory.config import Rl2Config
from supple.meta.memory.rl2_learner import Rl2Learner
from supple.meta.space import UnitSpace
from supple.robots.gymnasium_batch import GymnasiumBatch
from supple.robots.spec import ArraySpec, Axis


def make_robots(name: str, seed: int, rows: int, episode_steps: int) -> tuple[GymnasiumBatch, np.ndarray]:
    """Rows of the benchmark's robot, and its train tasks as goals, shape (N, 1): a task is its place in their list."""
    benchmark = metaworld.ML1(name, seed=seed)
    tasks, make = benchmark.train_tasks, benchmark.train_classes[name]

    def set_task(env: Any, goal: np.ndarray) -> None:
        env.set_task(tasks[int(goal[0])])

    def make_env(goal: np.ndarray) -> Any:
        env = make()
        set_task(env, goal)
        return env

    probe = make()
    robots = GymnasiumBatch(
        make_env,
        ArraySpec("goal", (Axis("task", "1", 0.0, len(tasks) - 1.0),)),
        rows,
        example=[0.0],
        set_task=set_task,
        name=name,
        episode_steps=episode_steps,
        control_period=float(probe.dt),
    )
    probe.close()
    return robots, np.arange(len(tasks), dtype=np.float32)[:, None]


def train(name: str, arguments: argparse.Namespace, bundle: Path) -> None:
    """Meta-trains and writes the bundle."""
    robots, goals = make_robots(name, arguments.seed, arguments.trials, arguments.episode_steps)
    trial = Trial(episodes=arguments.adaptation_episodes)
    config = Rl2Config(
        trial=trial,
        trials=arguments.trials,
        minibatch=min(64, arguments.trials),
        iterations=arguments.iterations,
        trace=0.95,
    )
    learner = Rl2Learner(UnitSpace(robots.spec), robots, goals, config, seed=arguments.seed, device="cpu")
    start = time.monotonic()
    for metrics in learner.train():
        returns = {key: round(value, 1) for key, value in metrics.items() if key.startswith("return")}
        print(f"iteration {int(metrics['step'])} {returns} {time.monotonic() - start:.0f} s", flush=True)
    write_exported(
        bundle,
        export_rl2(learner, greedy=False),
        robots.spec,
        Budget(episodes=arguments.adaptation_episodes),
        simulator=None,
        provenance={"benchmark": f"ML1 {name}", "seed": arguments.seed, "iterations": arguments.iterations},
    )
    robots.close()


def evaluate(name: str, arguments: argparse.Namespace, bundle: Path) -> dict[str, Any]:
    """Meta-World's evaluation of the bundle on the test goals."""
    loaded = load_bundle(bundle)
    envs = metaworld.make_ml_envs_test(
        name,
        seed=arguments.seed,
        meta_batch_size=arguments.envs,
        max_episode_steps=arguments.episode_steps,
        recurrent_info_in_obs=True,
        normalize_reward_in_recurrent_info=False,
    )
    agent = MetaWorldAgent(
        lambda row: loaded.make_agent(RandomNoise(np.random.default_rng([arguments.seed, row]))), loaded.contract.robot
    )
    start = time.monotonic()
    success, mean_return, per_task = metalearning_evaluation(
        agent,
        envs,
        num_evals=arguments.evals,
        adaptation_steps=1,
        adaptation_episodes=arguments.adaptation_episodes,
        evaluation_episodes=arguments.evaluation_episodes,
    )
    envs.close()
    return {
        "benchmark": f"ML1 {name}",
        "success": success,
        "return": mean_return,
        "success_per_task": {str(task): float(rate) for task, rate in per_task.items()},
        "wall_s": round(time.monotonic() - start, 1),
        "bundle": loaded.digest,
        **{key: value for key, value in vars(arguments).items() if key not in ("name", "folder")},
    }


def main() -> None:
    """Trains where there is no bundle yet, evaluates, and writes what came out beside the bundle."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a task of Meta-World, e.g. reach-v3")
    parser.add_argument("folder", type=Path, help="where the bundle and the result go")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--iterations", type=int, default=50, help="of the meta-training")
    parser.add_argument("--trials", type=int, default=20, help="of an iteration")
    parser.add_argument("--episode-steps", type=int, default=500)
    parser.add_argument("--adaptation-episodes", type=int, default=10, help="before the episodes that count")
    parser.add_argument("--evaluation-episodes", type=int, default=3)
    parser.add_argument("--envs", type=int, default=10, help="environments of the evaluation; a divisor of 50")
    parser.add_argument("--evals", type=int, default=5, help="tasks of each environment")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    bundle = arguments.folder / "bundle"
    if not bundle.exists():
        train(arguments.name, arguments, bundle)
    result = evaluate(arguments.name, arguments, bundle)
    (arguments.folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
