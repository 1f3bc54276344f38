"""MuJoCo families of the benchmark: their tasks, their code version, and a training of seconds."""

import shutil

import numpy as np
import torch

from benchmarks.meta.cells import CELLS
from benchmarks.meta.mujoco_cells import MUJOCO_CELLS
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.evaluation import evaluate_agent
from supple.meta.memory.config import Rl2Config
from supple.pipeline.action_spaces import make_space
from supple.pipeline.learners import Rl2Settings
from supple.robots.arm import ARM_DYNAMICS, Arms
from supple.robots.task import goals_of

IGNORED = shutil.ignore_patterns("__pycache__")


def test_cells_are_in_the_table() -> None:
    assert MUJOCO_CELLS.keys() <= CELLS.keys()
    for cell in MUJOCO_CELLS.values():
        trial = cell.config.evaluation.trial.episodes
        places = cell.config.evaluation.adapt_steps + 1 if cell.axis == "gradient_step" else trial
        assert all(len(reference.values) == places for reference in cell.references)


def test_a_learner_trains_on_the_arm_and_is_evaluated() -> None:
    family = Arms(variant=ARM_DYNAMICS, num_train=4, num_test=2)
    trial = Trial(episodes=2)
    choice = Rl2Settings(config=Rl2Config(trial=trial, trials=2, minibatch=2, iterations=1, hidden=4, epochs=1))
    robot = family.make(choice.rows(len(family.tasks().train)))
    space, tasks = make_space("unit", robot.spec), family.tasks()
    learner = choice.make_learner(space, robot, goals_of(tasks.train), seed=0, device="cpu")
    metrics = list(learner.train())
    assert [int(one["environment_steps"]) for one in metrics] == [2 * 2 * 100]
    evaluation = EvaluationConfig(trial=trial, trials=2)
    found = evaluate_agent(
        choice.make_agent(learner, 0),
        family.make(2 * evaluation.trials),
        space,
        goals_of(tasks.test),
        evaluation,
        np.random.default_rng(0),
        device=torch.device("cpu"),
    )
    assert found.returns.shape == (2, 2, 1, 2, 1)
    assert (found.returns < -5.0).all()  # minus metres, summed over 100 steps
    assert (found.steps == 100).all()
