"""The stage of a benchmark cell that plays policies made for its robot, not learned, on its very test tasks.

`bench-references` writes `references.json`: scores of each policy as `bench-evaluate` writes them of the agent. They
know the distribution of the tasks and how the robot works; learners have to find out both.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from supple.meta.evaluation import Evaluation, Scores
from supple.pipeline.folder import load_json, write_record
from supple.pipeline.stage import Stage, Work
from supple.robots.bandits import BernoulliBandits
from supple.robots.family import RobotFamily
from supple.robots.gridnavi import GridNavi
from supple.robots.krazy_world import KrazyBatch, KrazyWorld
from supple.robots.robot import Float, RobotBatch
from supple.robots.tabular import TabularMdps
from supple.robots.task import goals_of

from ..policies.bandit_index import MAX_PULLS, make_bayes_optimal, make_gittins
from ..policies.bandit_policies import (
    Choose,
    choose_greedy,
    choose_optimistic_thompson,
    choose_thompson,
    make_ucb1,
    play_bandit,
)
from ..policies.gridnavi_policies import aim_by_posterior_sampling, play_gridnavi
from ..policies.krazy_policies import can_be_planned, play_krazy
from ..policies.tabular_policies import (
    Plan,
    make_beb,
    make_epsilon_greedy,
    make_ucrl2,
    plan_opsrl,
    plan_psrl,
    play_tabular,
)
from .cell_evaluate import make_scores
from .cell_train import BenchConfig
from .rows import make_rows

REFERENCES_NAME = "references.json"
UCB1_SCALE = 0.2
"""The best of a few that were tried with 5 arms and 100 pulls; 1 in the original, tuned by Duan et al. 2016."""
MAX_BAYES_PULLS = 10
"""Bandits of more pulls are not played Bayes-optimally: backward induction over all counts is out of reach."""
LOOKING_EPISODES = 3
"""Of the planner that looks first; as many as E-RL2 explores in."""

Play = Callable[[RobotBatch, Float, int, np.random.Generator], Scores]
"""Returns of each row and episode, shape (R, E), from robots, goals (R, G), E and a source of draws."""


def find_players(robot: RobotFamily) -> dict[str, Play]:
    """Policies for a robot by the name that records call them, without `-reference`; none for most robots."""
    if isinstance(robot, BernoulliBandits):
        return {name: partial(_play_bandit, choose) for name, choose in _bandit_policies(robot.pulls).items()}
    if isinstance(robot, TabularMdps):
        plans: dict[str, Plan] = {
            "psrl": plan_psrl,
            "opsrl": plan_opsrl,
            "ucrl2": make_ucrl2(),
            "beb": make_beb(),
            "greedy": make_epsilon_greedy(0.0),
        }
        players: dict[str, Play] = {name: partial(_play_tabular, plan) for name, plan in plans.items()}
        return players | {"beb-every-step": partial(_play_tabular, make_beb(), replan=True)}
    if isinstance(robot, KrazyWorld) and can_be_planned(robot.board):
        return {
            "planner": partial(_play_krazy, robot),
            "look-first-planner": partial(_play_krazy, robot, looking_episodes=LOOKING_EPISODES),
        }
    return {"posterior-sampling": _sample_posterior} if isinstance(robot, GridNavi) else {}


def _bandit_policies(pulls: int) -> dict[str, Choose]:
    policies: dict[str, Choose] = {
        "thompson": choose_thompson,
        "optimistic-thompson": choose_optimistic_thompson,
        "ucb1": make_ucb1(UCB1_SCALE),
        "greedy": choose_greedy,
    }
    if pulls <= MAX_PULLS:
        policies["gittins"] = make_gittins(pulls)
    if pulls <= MAX_BAYES_PULLS:
        policies["bayes-optimal"] = make_bayes_optimal(pulls)
    return policies


def _play_bandit(choose: Choose, batch: RobotBatch, goals: Float, episodes: int, rng: np.random.Generator) -> Scores:
    """An episode is all pulls, and a policy forgets between episodes as its bandits do not; so there is one."""
    return play_bandit(batch, goals, choose, rng)[:, None]


def _play_tabular(
    plan: Plan, batch: RobotBatch, goals: Float, episodes: int, rng: np.random.Generator, *, replan: bool = False
) -> Scores:
    return play_tabular(batch, goals, plan, episodes, rng, replan=replan)


def _play_krazy(
    robot: KrazyWorld,
    batch: RobotBatch,
    goals: Float,
    episodes: int,
    rng: np.random.Generator,
    *,
    looking_episodes: int = 0,
) -> Scores:
    """A board gives the same whenever it is played, so each is played once."""
    assert isinstance(batch, KrazyBatch)
    boards, board_of = np.unique(goals[:, 0], return_inverse=True)
    return play_krazy(batch, boards[:, None], robot.board, episodes, looking_episodes=looking_episodes)[board_of]


def _sample_posterior(batch: RobotBatch, goals: Float, episodes: int, rng: np.random.Generator) -> Scores:
    returns: Scores = play_gridnavi(batch, goals, aim_by_posterior_sampling, episodes, rng).reward.sum(axis=1).T
    return returns


def has_references(config: BenchConfig) -> bool:
    """Whether there are policies for the robot in the cell's protocol: no gradient steps, and bandits once only."""
    evaluation = config.evaluation
    fits = evaluation.trial.episodes == 1 or not isinstance(config.robot, BernoulliBandits)
    return evaluation.adapt_steps == 0 and fits and bool(find_players(config.robot))


def make_references(config: BenchConfig) -> Stage:
    """The stage; `config` must have references."""
    return Stage(
        name="bench-references",
        config={
            "family": config.robot.name,
            "robot": config.robot,
            "evaluation": config.evaluation,
            "seed": config.evaluation_seed,
        },
        inputs={},
        seed=0,
        module="benchmarks/meta/references.py",
        libraries=("numpy",),
        body=partial(play_references, config),
    )


def play_references(config: BenchConfig, work: Work) -> None:
    """Plays all policies on the test tasks, as often as the agent does, and writes their scores."""
    work.start_afresh()
    tasks, evaluation = config.robot.tasks(), config.evaluation
    test = goals_of(tasks.test)
    goals = np.repeat(test, evaluation.trials, axis=0)
    batch = make_rows(config.robot, len(goals))
    scores: dict[str, Any] = {"tasks": tasks.name, "policies": {}}
    for name, play in find_players(config.robot).items():
        rng = np.random.default_rng(config.evaluation_seed)
        returns = play(batch, goals, evaluation.trial.episodes, rng)
        shape = (len(test), evaluation.trials, 1, evaluation.trial.episodes, 1)
        nothing = np.zeros(shape, np.int64)
        found = Evaluation(returns.reshape(shape), nothing, nothing > 0, evaluation.trial.exploration_episodes)
        scores["policies"][name] = make_scores(found, {})
    write_record(work.folder / REFERENCES_NAME, scores)
    batch.close()


def load_references(folder: Path) -> Mapping[str, Any]:
    """Scores of each policy by name, as `play_references` wrote them; empty where nothing is published.

    Raises:
        RunError: the file is damaged.
    """
    if not (folder / "stage.json").is_file():
        return {}
    policies: Mapping[str, Any] = load_json(folder / REFERENCES_NAME)["policies"]
    return policies
