"""MuJoCo families of the benchmark: their tasks, their code version, and a training of seconds."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import supple
from supple.meta.evaluation import EvaluationConfig, evaluate_agent
from supple.meta.memory.rl2 import Rl2Config
from supple.meta.trial import Trial
from supple.pipeline.bench.cell_stages import make_space
from supple.pipeline.bench.cells import CELLS
from supple.pipeline.bench.mujoco_cells import MUJOCO_CELLS
from supple.pipeline.bench.mujoco_robots import MODULE, Ants, Arms, Cheetahs, MujocoRl2
from supple.pipeline.bench.robots import BenchRobot
from supple.pipeline.keys import compute_code_digest
from supple.robots.ant import ANT_DIRECTION
from supple.robots.arm import ARM_BOTH, ARM_DYNAMICS
from supple.robots.cheetah import CHEETAH_DIRECTION, CHEETAH_VELOCITY_3

IGNORED = shutil.ignore_patterns("__pycache__")
HELD_OUT = [
    Cheetahs(),
    Cheetahs(variant=CHEETAH_VELOCITY_3),
    Ants(),
    Ants(variant=ANT_DIRECTION),
    Arms(num_train=50),
    Arms(variant=ARM_DYNAMICS, num_train=50),
    Arms(variant=ARM_BOTH, num_train=50),
]


@pytest.mark.parametrize("family", HELD_OUT, ids=lambda family: family.name)
def test_tasks_are_held_out_and_fit_the_robot(family: BenchRobot) -> None:
    split = family.make_split()
    train, test = ({tuple(goal) for goal in goals.tolist()} for goals in (split.train, split.test))
    assert not train & test
    assert np.array_equal(split.test, family.make_split().test)
    robot = family.make_robot(len(split.test))
    assert robot.spec.name.replace("_", "-") == family.name
    robot.reset(np.arange(len(split.test)), split.test, np.random.default_rng(0))
    assert family.oracle(split.test) is None


def test_both_directions_are_trained_and_tested_alike() -> None:
    split = Cheetahs(variant=CHEETAH_DIRECTION, num_train=7).make_split()
    assert sorted(split.test.ravel().tolist()) == [-1.0, 1.0]
    assert sorted(split.train.ravel().tolist()) == [-1.0] * 4 + [1.0] * 4
    assert split.name == "cheetah-direction-both"


def test_families_have_names_of_their_own() -> None:
    names = [family.name for family in (*HELD_OUT, Cheetahs(variant=CHEETAH_DIRECTION))]
    assert len(set(names)) == len(names)


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
    robot = family.make_robot(choice.rows)
    space, split = make_space("unit", robot.spec), family.make_split()
    made = choice.make(space, robot, split.train, seed=0, device="cpu")
    metrics = list(made.learner.train())
    assert [int(one["environment_steps"]) for one in metrics] == [2 * 2 * 100]
    evaluation = EvaluationConfig(trial=trial, trials=2)
    found = evaluate_agent(
        made.make_agent(0),
        family.make_robot(2 * evaluation.trials),
        space,
        split.test,
        evaluation,
        np.random.default_rng(0),
        device=torch.device("cpu"),
    )
    assert found.returns.shape == (2, 2, 1, 2, 1)
    assert (found.returns < -5.0).all()  # minus metres, summed over 100 steps
    assert (found.steps == 100).all()
