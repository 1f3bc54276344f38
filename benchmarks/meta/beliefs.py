"""Pictures of what agents believe in GridNavi, after Figure 3 of Zintgraf et al., "VariBAD", ICLR 2020.

A strip is one agent in one task: the probability of each cell to be the goal, at some moments of its trial, with the
way that it took in the episode so far. It is what the agent could know, the exact posterior given what it saw; of
variBAD, whose decoder predicts the reward of each cell, a second strip shows what it does know.

Axes: E episodes, T steps of an episode, C = 25 cells, cell (x, y) at 5 x + y.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from supple.meta.collect import Episodes
from supple.meta.inference.varibad_belief import belief_of_cells
from supple.meta.inference.varibad_learner import VaribadLearner
from supple.meta.trial import run_trial
from supple.pipeline.action_spaces import make_space
from supple.pipeline.run_files import LEARNER_NAME
from supple.robots.gridnavi import CELLS, GridNavi, GridNaviBatch
from supple.robots.task import goals_of
from supple.skills.checkpoint import load_checkpoint

from ..policies.gridnavi_policies import (
    Aim,
    aim_bayes_optimally,
    aim_by_posterior_sampling,
    play_gridnavi,
    trace_belief,
)
from .cell_train import BenchConfig
from .rows import make_rows

MOMENTS = ((0, 0), (0, 4), (0, 8), (0, 12), (0, 15), (1, 5), (1, 10), (1, 15))
"""(episode, steps of it) that a strip shows; those beyond its trial are left out."""
NORM = PowerNorm(0.5, 0.0, 1.0)
"""A root tells 1/21 from 0, and 1 from 1/2."""
SHOWN_GOAL = (2, 3)
"""The task that is drawn: the search plan finds it in the middle of the first episode."""
COLOURS = "Blues"
WAY, GOAL = "#e6550d", "#000000"


class Strip(NamedTuple):
    """One agent in one task."""

    name: str
    belief: NDArray[np.floating]
    """Probability of each cell to be the goal (or to pay), shape (E, T + 1, C)."""
    cell: NDArray[np.int64]
    """Where the agent was, shape (E, T + 1)."""


def play_strips(goal: tuple[int, int] = SHOWN_GOAL, episodes: int = 2, seed: int = 0) -> list[Strip]:
    """The two policies that know the exact posterior, in the task of this goal."""
    aims: dict[str, Aim] = {"Bayes-optimal": aim_bayes_optimally, "posterior sampling": aim_by_posterior_sampling}
    strips = []
    for name, aim in aims.items():
        goals = np.array([goal], np.float32)
        search = play_gridnavi(GridNaviBatch(1), goals, aim, episodes, np.random.default_rng(seed))
        strips.append(Strip(name, search.belief[:, :, 0], search.cell[:, :, 0]))
    return strips


def has_beliefs(config: BenchConfig) -> bool:
    """Whether `follow_learner` can draw the cell: memory and inference learners in GridNavi."""
    return isinstance(config.robot, GridNavi) and config.evaluation.adapt_steps == 0


def follow_learner(
    config: BenchConfig, trained: Path, goal: tuple[int, int] = SHOWN_GOAL, seed: int = 0
) -> list[Strip]:
    """The agent of a published training, in a trial of the task of this goal.

    Args:
        config: Of the cell; see `has_beliefs`.
        trained: What `make_train` published.
        goal: Cell (x, y).
        seed: Of the agent's choices.
    """
    robot = make_rows(config.robot, config.learner.rows(len(config.robot.tasks().train)))
    space = make_space(config.space, robot.spec)
    learner = config.learner.make_learner(space, robot, goals_of(config.robot.tasks().train), seed=seed, device="cpu")
    learner.load_state(*load_checkpoint(trained / LEARNER_NAME))
    rng, goals = np.random.default_rng(seed), np.array([goal], np.float32)
    rounds = run_trial(
        robot,
        space,
        config.learner.make_agent(learner, seed),
        goals,
        config.evaluation.trial,
        rng,
        device=torch.device("cpu"),
    )
    cell = find_cells_of(rounds)
    strips = [Strip(config.learner.method, trace_belief(cell, goal), cell)]
    if isinstance(learner, VaribadLearner) and learner.decoder.cells is not None:
        flat = belief_of_cells(learner, rounds)
        strips.append(Strip(f"{config.learner.method}'s belief", by_episode(flat, len(rounds)), cell))
    return strips


def find_cells_of(rounds: Sequence[Episodes]) -> NDArray[np.int64]:
    """Where the first row was, shape (E, T + 1)."""
    cells = [(episodes.observation[0].double().numpy() @ (CELLS, 1)).astype(np.int64) for episodes in rounds]
    return np.stack(cells)


def by_episode(flat: NDArray[np.floating], episodes: int) -> NDArray[np.floating]:
    """Beliefs before the first and after each decision of a trial, (E T + 1, C), as (E, T + 1, C).

    The last of an episode is the first of the next.
    """
    steps = (len(flat) - 1) // episodes
    return np.stack([flat[episode * steps : (episode + 1) * steps + 1] for episode in range(episodes)])


def make_belief_figure(strips: Sequence[Strip], goal: tuple[int, int] = SHOWN_GOAL) -> Figure:
    """A row of small grids for each agent.

    Args:
        strips: Agents in the task of `goal`, at least one.
        goal: Cell (x, y).
    """
    moments = [(e, t) for e, t in MOMENTS if all(e < strip.belief.shape[0] for strip in strips)]
    figure = Figure(figsize=(1.32 * len(moments) + 0.9, 1.42 * len(strips) + 0.5), layout="constrained")
    panels = figure.subplots(len(strips), len(moments), squeeze=False)
    for row, strip in zip(panels, strips, strict=True):
        for panel, (episode, step) in zip(row, moments, strict=True):
            draw_belief(panel, strip.belief[episode, step], strip.cell[episode, : step + 1], goal)
        row[0].set_ylabel(strip.name, fontsize="medium")
    named: set[int] = set()
    for panel, (episode, step) in zip(panels[0], moments, strict=True):
        head = f"step {step}" if episode in named else f"episode {episode + 1}, step {step}"
        panel.set_title(head, fontsize="small")
        named.add(episode)
    bar = figure.colorbar(
        ScalarMappable(NORM, COLOURS), ax=panels, fraction=0.02, pad=0.01, ticks=[0, 1 / 21, 0.25, 0.5, 1]
    )
    bar.ax.set_yticklabels(["0", "1/21", "1/4", "1/2", "1"], fontsize="small")
    bar.set_label("P(goal)", fontsize="small")
    return figure


def draw_belief(
    panel: Axes, belief: NDArray[np.floating], way: NDArray[np.int64], goal: tuple[int, int] | None = None
) -> None:
    """One grid: the belief, shape (C,), the cells on the agent's way so far, shape (t + 1,), and the goal."""
    panel.imshow(belief.reshape(CELLS, CELLS).T, origin="lower", cmap=COLOURS, norm=NORM)
    x, y = np.divmod(way, CELLS)
    panel.plot(x, y, color=WAY, linewidth=1.3, solid_joinstyle="round")
    panel.plot(x[-1], y[-1], "o", color=WAY, markersize=5)
    if goal is not None:
        panel.plot(*goal, "s", color=GOAL, markersize=15, markeredgewidth=1.3, fillstyle="none")
    panel.set_xticks(np.arange(0.5, CELLS - 1))
    panel.set_yticks(np.arange(0.5, CELLS - 1))
    panel.tick_params(length=0, labelbottom=False, labelleft=False)
    panel.grid(color="white", linewidth=1.2)
    panel.set_frame_on(False)
