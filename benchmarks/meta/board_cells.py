"""Cells on boards of Krazy World and in random mazes: MAML, E-MAML, RL2, E-RL2 and PPO from scratch on the same tasks.

Source: Stadie et al., "Some Considerations on Learning to Explore via Meta-Reinforcement Learning", 2018: 32 train
boards, 64 others to test on, one gradient step or five episodes, of which E-RL2 explores in three.

With 32 boards MAML learned these by heart (one seed: 2.5 of 3 goals there, 0.4 on others, where a random policy finds
0.6), so the cells have 4096. In those, colours mean the same in every task, as in the states of the public environment,
whose permutation reaches its pictures alone. The authors' code has 10,000 mazes, which it does not ship.
"""

from dataclasses import replace
from typing import Any

from supple.meta.baselines.config import PpoConfig, PpoSteps
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.gradient.config import MamlConfig
from supple.pipeline.learners import MamlSettings, PpoSettings
from supple.robots.family import RobotFamily
from supple.robots.krazy_boards import KRAZY_PRESETS
from supple.robots.krazy_world import KrazyWorld
from supple.robots.random_mazes import RANDOM_MAZE_PRESETS, RandomMazes

from .cell import Cell
from .cell_train import BenchConfig
from .rl2_cells import GROWING_HORIZON, rl2_in_trials

TRIAL = Trial(episodes=5)
EXPLORING_TRIAL = Trial(episodes=5, exploration_episodes=3)
"""Three episodes of exploration, then two that count (published)."""
ONE_STEP = EvaluationConfig(adapt_steps=1, trials=2)
MANY = 4096
BOARDS: dict[str, RobotFamily] = {
    "krazy-5x5-4096": KrazyWorld(board=replace(KRAZY_PRESETS["5x5"], shuffle_palette=False), num_train=MANY),
    "maze-7": RandomMazes(maze=RANDOM_MAZE_PRESETS["7"], num_train=MANY),
}
"""By what cells are called after their method."""


def _maml(robot: RobotFamily, method: str, **changes: Any) -> Cell:
    """MAML or E-MAML, one gradient step."""
    config = MamlConfig(activation="tanh", step_size=0.1, iterations=150, curvature_tasks=5, trace=0.97, **changes)
    learner = MamlSettings(method=method, config=config, rollouts=20)
    return Cell(config=BenchConfig(robot=robot, space="choice", learner=learner, evaluation=ONE_STEP), minutes=7)


def _scratch(robot: RobotFamily) -> Cell:
    """One step of adaptation of a policy as it was drawn: what MAML's training has to add to."""
    config = PpoConfig(iterations=0, adaptation=PpoSteps(learning_rate=3e-3))
    learner = PpoSettings(method="ppo-scratch", config=config, rollouts=20)
    return Cell(config=BenchConfig(robot=robot, space="choice", learner=learner, evaluation=ONE_STEP), minutes=0.2)


def _rl2(robot: RobotFamily, method: str, trial: Trial) -> Cell:
    """RL2 or E-RL2, five episodes; the settings were chosen by one seed of RL2 on train boards.

    From a first gamma of 0, as on bandits, E-RL2 learned nothing in 77 iterations of 256 trials: goals are several
    decisions away; and three episodes in five that never count teach nothing: on train boards the last one returned .7
    after 3 M decisions, where RL2 was at 1.1. So they count in the first part of the training.

    What helps on a board is what a place held, and where a way led from it, so there are slots: on train mazes the five
    episodes of a trial returned 4.0 together after 1.2 M decisions with them and after 2.0 M without; on train boards
    of Krazy World 5.5 after 1.2 M, and after 2.4 M without and with twice as many trials in an iteration.
    """
    iterations, minutes, all_count = (150, 6, 0.4) if isinstance(robot, RandomMazes) else (250, 9, 0.7)
    settings: dict[str, Any] = {
        "slots": 32,
        "trials": 256,
        "iterations": iterations,
        "epochs": 3,
        "minibatch": 64,
        "learning_rate": 3e-3,
        **GROWING_HORIZON,
        "trace": 0.97,
        "discount": 0.995,
        "first_discount": 0.8,
        "exploration_from": all_count if trial.exploration_episodes else 0.0,
    }
    return Cell(config=rl2_in_trials(robot, trial, method=method, repetitions=10, **settings), minutes=minutes)


BOARD_CELLS: dict[str, Cell] = {}
"""By name."""
for _name, _robot in BOARDS.items():
    BOARD_CELLS |= {
        f"maml-{_name}": _maml(_robot, "maml"),
        # at 1, the score of twenty episodes, a sum over a thousand decisions, drowns the gradient that it is added to
        f"e-maml-{_name}": _maml(_robot, "e-maml", exploration=2e-3),
        f"ppo-scratch-{_name}": _scratch(_robot),
        f"rl2-{_name}": _rl2(_robot, "rl2", TRIAL),
        f"e-rl2-{_name}": _rl2(_robot, "e-rl2", EXPLORING_TRIAL),
    }
