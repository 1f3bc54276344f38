"""What evaluations measure beside returns: on boards and in mazes made for it, by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from benchmarks.meta.cell_evaluate import make_scores
from benchmarks.meta.measures import measure, watch
from benchmarks.meta.random_agent import RandomAgent
from benchmarks.policies.krazy_exploration import KrazyRecorder
from supple.meta.collect import Seen
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.evaluation import evaluate_agent
from supple.meta.space import ChoiceSpace
from supple.robots.gridnavi import GridNavi
from supple.robots.krazy_boards import KRAZY_PRESETS
from supple.robots.krazy_world import KrazyWorld
from supple.robots.random_mazes import RANDOM_MAZE_PRESETS, RandomMazes
from supple.robots.task import goals_of

KRAZY = KrazyWorld(board=replace(KRAZY_PRESETS["5x5"], max_tour=12), episode_steps=12)
MAZE = RandomMazes(maze=RANDOM_MAZE_PRESETS["7"])


class RowCounter(RandomAgent):
    """Row r takes action r % 4 in the first r // 4 + 1 steps of an episode, and button 0 after."""

    def begin_episode(self) -> None:
        self.step = 0

    def act(self, seen: Seen) -> torch.Tensor:
        rows = torch.from_numpy(seen.rows)
        self.step += 1
        chosen = torch.where(rows // 4 + 1 >= self.step, rows % 4, torch.zeros_like(rows))
        return chosen[:, None].float()


def run(robot: Any, config: EvaluationConfig, goals: np.ndarray, rollouts: int = 1) -> tuple[Any, Any]:
    rows = len(goals) * config.trials * rollouts
    batch = watch(robot, rows)
    space = ChoiceSpace(batch.spec)
    agent = RowCounter(space, rollouts=rollouts)
    found = evaluate_agent(agent, batch, space, goals, config, np.random.default_rng(0), device=torch.device("cpu"))
    return found, measure(robot, batch, found, goals)


def test_each_row_of_krazy_world_is_told_of_its_own_task_trial_and_rollout() -> None:
    goals = np.array([[100.0], [101.0], [102.0]], np.float32)
    config = EvaluationConfig(trial=Trial(episodes=2), adapt_steps=1, trials=2)
    found, (scores, visits) = run(KRAZY, config, goals, rollouts=3)
    # all goal tiles pay 1, and nothing else pays
    np.testing.assert_array_equal(scores["goals"], found.returns)
    # an episode of 12 steps ends early by death alone
    np.testing.assert_array_equal(scores["deaths"], found.terminated)
    assert found.returns.std() > 0.0
    assert found.terminated.any()
    assert scores["kinds"].shape == found.returns.shape == (3, 2, 2, 2, 3)
    # nothing differs from episode to episode: the second touches what the first did
    np.testing.assert_array_equal(scores["kinds_so_far"], scores["kinds"])
    assert visits is not None
    # the start, and every step
    np.testing.assert_allclose(visits.sum(-1), 1.0 + found.steps.mean(axis=(1, 4)))
    assert visits.shape == (3, 2, 2, 25)


def test_each_board_is_visited_from_its_own_start() -> None:
    goals = np.array([[100.0], [101.0]], np.float32)
    _, (_, visits) = run(KRAZY, EvaluationConfig(), goals)
    batch = KRAZY.make(2)
    batch.reset(np.arange(2), goals, np.random.default_rng(0))
    starts = batch.places(np.arange(2))
    assert starts[0] != starts[1]
    assert (visits[[0, 1], 0, 0, starts] >= 1.0).all()


def test_mazes_count_steps_over_the_shortest_way() -> None:
    goals = goals_of(MAZE.tasks().test[:16])
    found, (scores, visits) = run(MAZE, EvaluationConfig(trials=8), goals)
    assert visits is None
    shortest = MAZE.make(1).shortest_steps(goals)
    limit = 4 * 12
    solved = scores["success"] == 1.0
    assert solved.any()
    np.testing.assert_array_equal(solved, found.returns > 0.0)
    expected = np.where(solved[:, :, 0, 0, 0], found.steps[:, :, 0, 0, 0], limit) / shortest[:, None]
    np.testing.assert_allclose(scores["detour"][:, :, 0, 0, 0], expected)
    assert scores["detour"].min() >= 1.0


def test_other_robots_measure_nothing_more() -> None:
    found, measures = run(GridNavi(), EvaluationConfig(), np.array([[4.0, 4.0]], np.float32))
    assert measures == ({}, None)
    assert make_scores(found, {})["measures"] == {}


def test_only_a_recorder_watches_krazy_world() -> None:
    assert isinstance(watch(KRAZY, 1), KrazyRecorder)
    assert not isinstance(watch(MAZE, 1), KrazyRecorder)


def test_measures_are_means_over_trials_and_rollouts_of_what_counts() -> None:
    found, measures = run(KRAZY, EvaluationConfig(trial=Trial(episodes=2)), np.array([[100.0]], np.float32))
    # per episode, even where the first is for exploration
    exploring = found._replace(exploration_episodes=1)
    assert np.shape(make_scores(exploring, measures.scores)["measures"]["deaths"]) == (1, 2)
    # per step of adaptation, the mean over trials and the episodes that count: of 1, 2, 3, 4 (deaths, say) the last two
    values = np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 1, 1, 4, 1).repeat(2, axis=2)
    adapting = found._replace(returns=values, exploration_episodes=2)
    scores = make_scores(adapting, {"deaths": values})
    assert scores["measures"]["deaths"] == [[3.5, 3.5]]
    assert scores["axis"] == "gradient_step"
