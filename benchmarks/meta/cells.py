"""The cells of the meta-RL results table, as Python objects: `python -m benchmarks.meta CELL`.

A cell is one learner on one robot with one task set, the action space, how long it has to learn a test task, the
numbers that others published or that are exact, and the number that we ask of it: its gate. Gates are ours, set a
little below what was published or is exact.

Sources of references: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks", ICML
2017 (the results of 2D navigation that the authors' code stores, 40 test tasks); Duan et al., "RL^2: Fast Reinforcement
Learning via Slow Reinforcement Learning", arXiv 1611.02779, 2016, Tables 1 and 2; Zintgraf et al., "VariBAD", ICLR 2020
(GridNavi; its optimum is exact, see `benchmarks/policies/oracles.py`).
"""

from typing import Any

from supple.errors import ConfigError
from supple.meta.baselines.config import PpoConfig, PpoSteps
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.gradient.config import MamlConfig
from supple.meta.gradient.learned_rule import LearnedRule
from supple.meta.hierarchy.config import MlshConfig, PpoPasses
from supple.meta.memory.config import Rl2Config
from supple.pipeline.learners import LearnerSettings, MamlSettings, MlshSettings, PpoSettings, Rl2Settings
from supple.robots.bandits import BernoulliBandits
from supple.robots.gridnavi import GridNavi
from supple.robots.movement_bandits import MovementBandits
from supple.robots.navigation import PointNavigation
from supple.robots.tabular import TabularMdps

from ..policies.oracles import bernoulli_bayes_return, gridnavi_bayes_returns
from .board_cells import BOARD_CELLS
from .cell import Cell as Cell
from .cell import Gate as Gate
from .cell import Reference as Reference
from .cell_train import BenchConfig
from .maesn_cells import MAESN_CELLS
from .maze_cells import MAZE_CELLS
from .mujoco_cells import MUJOCO_CELLS
from .navigation_cells import NAVIGATION_CELLS, NAVIGATION_REFERENCES
from .pearl_cells import PEARL_CELLS
from .rl2_cells import GROWING_HORIZON, rl2_in_trials
from .varibad_cells import VARIBAD_CELLS

ALL = "all"
"""Stands for every cell but the demonstrations."""
DEMO = "demo-"
"""Cells whose name begins like this take seconds and reach nothing; they show that all of it runs."""


DUAN_1 = "Duan et al. 2016, Table 1"
DUAN_2 = "Duan et al. 2016, Table 2"

STEPS = EvaluationConfig(adapt_steps=3)
"""Three gradient steps, as Finn et al. at test time."""


def _navigation(
    method: str, minutes: float, gates: tuple[Gate, ...] = (), rule: LearnedRule | None = None, **changes: Any
) -> Cell:
    """MAML or a variant on the 2D navigation of Finn et al.; half of the tasks give the curvature, for speed.

    Finn et al. halve the step once, after the first. Here each test-time step is 0.4 times as long as the one before:
    on 100 goals that are neither train nor test goals, four trainings (one of them with 40 tasks) returned -2.5, -2.8,
    -2.8 and -5.0 after three steps, where one halving alone left them between -4.1 and -5.9.
    """
    config = MamlConfig(**{"curvature_tasks": 10, **changes})
    learner = MamlSettings(method=method, config=config, rule=rule, later_scale=0.4)
    return Cell(
        config=BenchConfig(robot=PointNavigation(), space="unit", learner=learner, evaluation=STEPS),
        minutes=minutes,
        gates=gates,
        references=NAVIGATION_REFERENCES,
    )


def _bandit(pulls: int, gittins: float, published: float, minutes: float, gate: float) -> Cell:
    """RL2 on the bandits of Duan et al. with 5 arms."""
    # the best of a few settings that were tried; the default rates are those of 10 pulls
    config = Rl2Config(trials=1024, iterations=300, minibatch=256, discount=1.0)
    if pulls > 10:
        config = Rl2Config(iterations=1000, epochs=3, minibatch=32, learning_rate=2e-3, **GROWING_HORIZON)
    references: tuple[Reference, ...] = (
        Reference("gittins-published", (gittins,), DUAN_1),
        Reference("rl2-published", (published,), DUAN_1),
    )
    if pulls <= 10:  # longer ones are out of reach
        references += (
            Reference("bayes-optimal-exact", (bernoulli_bayes_return(5, pulls),), "benchmarks/policies/oracles.py"),
        )
    return Cell(
        config=BenchConfig(
            robot=BernoulliBandits(pulls=pulls, arms=5), space="choice", learner=Rl2Settings(config=config)
        ),
        minutes=minutes,
        gates=(Gate(gate, 1),),
        references=references,
    )


DUAN_TRIAL = Trial(episodes=10)
GRIDNAVI_TRIAL = Trial(episodes=4)


def _on_movement_bandits(learner: LearnerSettings, minutes: float, gates: tuple[Gate, ...] = ()) -> Cell:
    """Ten steps of adaptation, 40 episodes before each, in ten repetitions of both tasks."""
    evaluation = EvaluationConfig(adapt_steps=10, trials=10)
    return Cell(
        config=BenchConfig(robot=MovementBandits(), space="choice", learner=learner, evaluation=evaluation),
        minutes=minutes,
        gates=gates,
    )


CELLS: dict[str, Cell] = {
    "demo-maml": Cell(
        config=BenchConfig(
            robot=PointNavigation(num_train=8, num_test=4),
            space="unit",
            learner=MamlSettings(config=MamlConfig(hidden=(8,), iterations=4, tasks=2, episodes=2), rollouts=2),
            evaluation=EvaluationConfig(adapt_steps=2),
        ),
        minutes=0.1,
    ),
    "demo-rl2": Cell(
        config=rl2_in_trials(
            GridNavi(num_train=16), Trial(episodes=2), repetitions=2, trials=8, hidden=8, iterations=4, minibatch=4
        ),
        minutes=0.1,
    ),
    "demo-mlsh": Cell(
        config=BenchConfig(
            robot=MovementBandits(),
            space="choice",
            learner=MlshSettings(
                config=MlshConfig(groups=2, rollouts=2, warmup=1, iterations=4, hidden=(8,)), rollouts=2
            ),
            evaluation=EvaluationConfig(adapt_steps=2),
        ),
        minutes=0.1,
    ),
    "maml-2d-navigation": _navigation("maml", 8, (Gate(-14.0, 1), Gate(-5.0, 2), Gate(-4.0, 3))),
    "maml-2d-navigation-first-order": _navigation("maml-first-order", 3, first_order=True),
    "maml-2d-navigation-reinforce": _navigation("maml-reinforce", 1, outer="reinforce"),
    "maml-2d-navigation-lvc": _navigation("maml-lvc", 8, correction="lvc"),
    "meta-sgd-2d-navigation": _navigation("meta-sgd", 8, step_sizes="parameter"),
    "learned-update-2d-navigation": _navigation("learned-update", 8, (Gate(-11.7, 1),), LearnedRule()),
    # at 1, the score of twenty episodes, a sum over two thousand decisions, drowns the gradient that it is added to: it
    # returned -209 before its first step (one seed)
    "e-maml-2d-navigation": _navigation("e-maml", 9, exploration=1e-3),
    "rl2-bandit-10-5": _bandit(10, gittins=6.6, published=6.7, minutes=2, gate=6.6),
    "rl2-bandit-100-5": _bandit(100, gittins=78.3, published=78.7, minutes=12, gate=77.5),
    "rl2-tabular-10": Cell(
        config=rl2_in_trials(
            TabularMdps(),
            DUAN_TRIAL,
            repetitions=2,
            iterations=300,
            epochs=3,
            minibatch=32,
            learning_rate=2e-3,
            # a GRU alone, of 128 units, stopped at 124 after as many iterations with gamma to .99, and at 119 after
            # half as many with gamma to .9
            slots=32,
            **(GROWING_HORIZON | {"discount": 0.9}),
        ),
        minutes=6,
        gates=(Gate(150.0, None, "return_trial"),),
        references=(
            Reference("rl2-published", (156.2,), DUAN_2, "return_trial"),
            Reference("beb-published", (150.2,), DUAN_2, "return_trial"),
            Reference("ucrl2-published", (146.6,), DUAN_2, "return_trial"),
            Reference("opsrl-published", (144.1,), DUAN_2, "return_trial"),
            Reference("psrl-published", (138.1,), DUAN_2, "return_trial"),
        ),
    ),
    "rl2-gridnavi": Cell(
        config=rl2_in_trials(
            GridNavi(), GRIDNAVI_TRIAL, repetitions=50, iterations=400, learning_rate=2e-3, trace=0.95
        ),
        minutes=3,
        references=(
            Reference(
                "bayes-optimal-exact", tuple(gridnavi_bayes_returns(4).tolist()), "benchmarks/policies/oracles.py"
            ),
        ),
    ),
    "mlsh-movement-bandits": _on_movement_bandits(
        MlshSettings(
            config=MlshConfig(
                groups=20,
                rollouts=80,
                iterations=200,
                hidden=(32, 32),
                # with masters that fit noise (the published rate and passes), or a tenth of their choices uniform
                # (published), both sub-policies of a seed became the same, or stayed so for long
                random_choice=0.0,
                master=PpoPasses(learning_rate=3e-3, epochs=5),
                sub_policy=PpoPasses(learning_rate=5e-4, entropy_weight=0.03),
            )
        ),
        minutes=2,
        gates=(Gate(35.0, 10),),
    ),
    "ppo-movement-bandits": _on_movement_bandits(
        # as many samples for the policy at each update as MLSH's sub-policies have
        PpoSettings(
            config=PpoConfig(
                hidden=(32, 32),
                iterations=120,
                tasks=2,
                episodes=80,
                training=PpoSteps(learning_rate=5e-4, entropy_weight=0.03, trace=0.98),
                adaptation=PpoSteps(learning_rate=1e-3, trace=0.98),
            )
        ),
        minutes=1,
    ),
    **BOARD_CELLS,
    **NAVIGATION_CELLS,
    **MAESN_CELLS,
    **MAZE_CELLS,
    **MUJOCO_CELLS,
    **PEARL_CELLS,
    **VARIBAD_CELLS,
}
"""By name."""


def find_cells(names: tuple[str, ...]) -> dict[str, Cell]:
    """The named cells in the order given, each once; `all` stands for all but the demonstrations.

    Raises:
        ConfigError: no names, or one that is not known.
    """
    known = ", ".join((ALL, *CELLS))
    if not names:
        raise ConfigError(
            f"benchmarks.meta: expected at least one cell, got none; name some of {known}, or pass --list"
        )
    found: dict[str, Cell] = {}
    for name in names:
        if name == ALL:
            found |= {other: cell for other, cell in CELLS.items() if not other.startswith(DEMO)}
        elif name in CELLS:
            found[name] = CELLS[name]
        else:
            raise ConfigError(
                f"benchmarks.meta: expected cells of {known}, got {name!r}; see python -m benchmarks.meta --list"
            )
    return found
