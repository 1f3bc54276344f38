"""Each example goes through the whole chain, tiny, and its robots keep their word."""

import json
from pathlib import Path

import numpy as np
import pytest

from supple.pipeline.cli import main
from supple.pipeline.robots import find_robot
from supple.pipeline.testing_kills import CHAIN
from supple.robots.family import make_robots
from supple.robots.task import goals_of

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("my_arm.py:arm", "gymnasium_reacher.py:reacher", "dm_control_reacher.py:reacher")
TINY = (
    *("--robot.episode-steps", "30", "--robot.num-train-tasks", "3", "--robot.num-test-tasks", "2"),
    *("--generate.steps", "400", "--generate.rows", "2"),
    *("--extract.skill.num-updates", "20", "--extract.skill.batch-size", "16", "--extract.log-every", "10"),
    *("--learner.config.epochs", "3", "--learner.config.updates-per-epoch", "1"),
    *("--learner.config.pool-episodes", "40", "--learner.config.warmup-epochs", "1"),
    *("--learner.config.prior-tasks", "1", "--learner.config.posterior-tasks", "2"),
    *("--learner.config.batch", "8", "--learner.config.success-batch", "0", "--learner.config.hidden", "8", "8"),
    *("--adapt.episodes", "4", "--learner.deployment.exploration-episodes", "2", "--adapt.evaluations", "1"),
    *("--learner.deployment.finetune.batch", "4", "--learner.deployment.finetune.min-transitions", "4"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_example_goes_through_the_whole_chain(name: str, tmp_path: Path) -> None:
    assert main(["run", f"{EXAMPLES / name}", "--out", str(tmp_path / "run"), "--device", "cpu", *TINY]) == 0
    for stage in CHAIN:
        assert (tmp_path / "run" / stage / "stage.json").is_file()
    assert not list((tmp_path / "run").rglob("*.partial"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", NAMES)
def test_the_reward_of_an_example_is_a_function_of_what_it_observes(name: str) -> None:
    """So that episodes count for other tasks, too; and success is told."""
    family = find_robot(f"{EXAMPLES / name}").family
    tasks = family.tasks()
    goals = goals_of((*tasks.train, *tasks.test))
    robots, rng, running = make_robots(family, 3), np.random.default_rng(0), np.arange(3)
    robots.reset(running, goals[:3], rng)
    action = family.spec().action
    paid = []
    for _ in range(family.spec().episode_steps):
        step = robots.step(
            running, rng.uniform(action.low, action.high, (len(running), *action.shape)).astype(np.float32)
        )
        reward, terminated = robots.compute_reward(step.observation, goals)
        own = (np.arange(len(running)), running)
        assert np.array_equal(reward[own], step.reward)
        assert np.array_equal(terminated[own], step.terminated)
        assert step.success is not None
        assert np.array_equal(step.success, step.reward > 0.0)
        paid.append(reward.max(axis=0))
        running = running[~(step.terminated | step.truncated)]
        if not len(running):
            break
    # random commands come by some of the goals, and not by most
    assert 0.02 < np.max(paid, axis=0).mean() < 0.8
    robots.close()
