"""Pictures of beliefs: what is drawn where, for exact posteriors, for trained agents and for variBAD's decoder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.meta.beliefs import (
    GOAL,
    MOMENTS,
    SHOWN_GOAL,
    Strip,
    by_episode,
    draw_belief,
    follow_learner,
    has_beliefs,
    make_belief_figure,
    play_strips,
)
from benchmarks.meta.cells import CELLS
from benchmarks.policies.gridnavi_policies import PRIOR
from supple.meta.adaptive import AdaptiveAgent
from supple.meta.config import EvaluationConfig, Trial
from supple.meta.inference.config import VaeConfig, VaribadConfig
from supple.meta.inference.varibad_learner import VaribadLearner
from supple.meta.memory.config import Rl2Config
from supple.meta.memory.rl2_learner import Rl2Learner
from supple.meta.space import ChoiceSpace
from supple.robots.task import goals_of
from supple.skills.checkpoint import save_checkpoint

CONFIG = replace(CELLS["demo-rl2"].config, evaluation=EvaluationConfig(trial=Trial(episodes=2)))
VAE = VaeConfig(
    decoder="cells", reward_model="bernoulli", latent=2, hidden=8, embedding=4, decoder_hidden=(6,), buffer_trials=20
)


class Choice:
    """A learner as it begins."""

    method, iterations, rollouts = "it", 1, 1

    def __init__(self, kind: Any, config: Any) -> None:
        self.kind, self.config = kind, config

    def rows(self, tasks: int) -> int:
        return 4

    def make_learner(self, space: Any, robot: Any, goals: Any, *, seed: int, device: str) -> Any:
        return self.kind(space, robot, goals, self.config, seed=seed, device=device)

    def make_agent(self, learner: Any, seed: int) -> AdaptiveAgent:
        agent: AdaptiveAgent = learner.agent(seed=seed)
        return agent


def follow(folder: Path, choice: Choice) -> list[Strip]:
    config: Any = replace(CONFIG, learner=choice)  # type: ignore[arg-type]
    robot = config.robot.make(choice.rows(len(config.robot.tasks().train)))
    goals = goals_of(config.robot.tasks().train)
    learner = choice.make_learner(ChoiceSpace(robot.spec), robot, goals, seed=0, device="cpu")
    save_checkpoint(folder / "learner.safetensors", *learner.state())
    return follow_learner(config, folder)


def test_strips_of_exact_policies_are_one_trial_of_one_task() -> None:
    optimal, sampling = play_strips((4, 4), episodes=2)
    for strip in (optimal, sampling):
        assert strip.belief.shape == (2, 16, 25)
        np.testing.assert_array_equal(strip.belief[0, 0], PRIOR)
    # (4, 4) lies in the far corner: known after the first episode or found in the second, 8 steps in
    assert optimal.belief[1, 15, 24] == 1.0
    assert optimal.cell[1, 8] == 24


def test_a_trained_agent_is_shown_with_what_it_could_know(tmp_path: Path) -> None:
    (strip,) = follow(tmp_path, Choice(Rl2Learner, Rl2Config(trial=Trial(episodes=2), trials=4, hidden=4)))
    assert strip.name == "it"
    assert strip.belief.shape == (2, 16, 25)
    moved = np.abs(np.diff(np.stack(np.divmod(strip.cell, 5)), axis=2)).sum(axis=0)
    assert moved.max() == 1
    goal = 5 * SHOWN_GOAL[0] + SHOWN_GOAL[1]
    for episode in range(2):
        for step in range(1, 16):
            seen = {*strip.cell[0, 1:].tolist()} if episode else set()
            seen |= {*strip.cell[episode, 1 : step + 1].tolist()}
            left = [c for c in np.flatnonzero(PRIOR) if c not in seen] if goal not in seen else [goal]
            expected = np.isin(np.arange(25), left) / len(left)
            np.testing.assert_allclose(strip.belief[episode, step], expected)


def test_varibad_is_shown_with_its_own_belief_too(tmp_path: Path) -> None:
    config = VaribadConfig(trial=Trial(episodes=2), trials=4, policy_hidden=(4,), vae=VAE)
    exact, own = follow(tmp_path, Choice(VaribadLearner, config))
    assert own.name == "it's belief"
    np.testing.assert_array_equal(own.cell, exact.cell)
    assert own.belief.shape == exact.belief.shape
    assert ((own.belief > 0.0) & (own.belief < 1.0)).all()
    # what was believed at the end of an episode is believed at the begin of the next
    np.testing.assert_array_equal(own.belief[0, 15], own.belief[1, 0])


def test_beliefs_of_a_trial_fall_into_episodes() -> None:
    assert by_episode(np.arange(7)[:, None], 2)[:, :, 0].tolist() == [[0, 1, 2, 3], [3, 4, 5, 6]]


def test_a_grid_shows_x_to_the_right_and_y_upwards() -> None:
    panel = Figure().subplots()
    draw_belief(panel, np.eye(25)[5 * 3 + 1], np.array([0, 1, 6]), (3, 1))
    (image,) = panel.get_images()
    shown = image.get_array()
    assert shown is not None
    assert shown[1, 3] == 1.0  # row y, column x
    assert image.origin == "lower"
    way, here, goal = panel.get_lines()
    assert way.get_xydata().tolist() == [[0, 0], [0, 1], [1, 1]]
    assert here.get_xydata().tolist() == [[1, 1]]
    assert (goal.get_xydata().tolist(), goal.get_color()) == ([[3, 1]], GOAL)


@pytest.mark.parametrize(("episodes", "moments"), [(1, 5), (2, 8)])
def test_a_figure_has_a_row_for_each_agent_and_the_moments_that_all_have(episodes: int, moments: int) -> None:
    assert len(MOMENTS) == 8
    figure = make_belief_figure(play_strips(episodes=episodes))
    panels = figure.axes[:-1]  # the last one is the bar of colours
    assert len(panels) == 2 * moments
    assert [panels[0].get_title(), panels[1].get_title()] == ["episode 1, step 0", "step 4"]
    assert panels[moments].get_ylabel() == "posterior sampling"


def test_only_memory_and_inference_learners_in_gridnavi_are_drawn() -> None:
    assert has_beliefs(CELLS["rl2-gridnavi"].config)
    assert not has_beliefs(replace(CELLS["rl2-gridnavi"].config, evaluation=EvaluationConfig(adapt_steps=1)))
    assert not has_beliefs(CELLS["rl2-krazy-5x5-4096"].config)
