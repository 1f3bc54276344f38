"""MuJoCo families of the benchmark: their tasks, their code version, and a training of seconds."""

import shutil
from pathlib import Path

import numpy as np
import torch

import supple
from supple.meta.evaluation import EvaluationConfig, evaluate_agent
from supple.meta.memory.rl2 import Rl2Config
from supple.meta.trial import Trial
from supple.pipeline.bench.cell_stages import make_space
from supple.pipeline.bench.cells import CELLS
from supple.pipeline.bench.mujoco_cells import MUJOCO_CELLS
from supple.pipeline.bench.mujoco_robots import MODULE, MujocoRl2
from supple.pipeline.keys import compute_code_digest
from supple.robots.arm import ARM_DYNAMICS, Arms
from supple.robots.task import goals_of

IGNORED = shutil.ignore_patterns("__pycache__")


def test_a_change_of_robots_or_learners_changes_the_code_version_of_their_cells(tmp_path: Path) -> None:
    assert {cell.config.learner.module for cell in MUJOCO_CELLS.values()} == {MODULE}
    assert supple.__file__ is not None
    digests = []
    for changed in ("nothing", "robots/mujoco_robots.py", "meta/memory/rl2_learner.py"):
        root = tmp_path / Path(changed).stem
        for package in ("robots", "meta", "skills", "pipeline", "datasets"):
            shutil.copytree(Path(supple.__file__).parent / package, root / package, ignore=IGNORED)
        shutil.copy(Path(supple.__file__).with_name("errors.py"), root)
        if changed != "nothing":
            with (root / changed).open("a") as file:
                file.write("CHANGED = 1\n")
        digests.append(compute_code_digest(MODULE, root))
    assert len(set(digests)) == len(digests)


def test_cells_are_in_the_table() -> None:
    assert MUJOCO_CELLS.keys() <= CELLS.keys()
    for cell in MUJOCO_CELLS.values():
        trial = cell.config.evaluation.trial.episodes
        places = cell.config.evaluation.adapt_steps + 1 if cell.axis == "gradient_step" else trial
        assert all(len(reference.values) == places for reference in cell.references)


def test_a_learner_trains_on_the_arm_and_is_evaluated() -> None:
    family = Arms(variant=ARM_DYNAMICS, num_train=4, num_test=2)
    trial = Trial(episodes=2)
    choice = MujocoRl2(config=Rl2Config(trial=trial, trials=2, minibatch=2, iterations=1, hidden=4, epochs=1))
    robot = family.make(choice.rows)
    space, tasks = make_space("unit", robot.spec), family.tasks()
    made = choice.make(space, robot, goals_of(tasks.train), seed=0, device="cpu")
    metrics = list(made.learner.train())
    assert [int(one["environment_steps"]) for one in metrics] == [2 * 2 * 100]
    evaluation = EvaluationConfig(trial=trial, trials=2)
    found = evaluate_agent(
        made.make_agent(0),
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
