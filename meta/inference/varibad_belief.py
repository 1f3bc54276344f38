"""A variBAD belief about a task, as numbers that can be drawn.

Source: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR 2020, Figure 3
(the predicted reward of every cell, as the agent moves).

Axes: T decisions of a trial, M latent of a task, C cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ...errors import ConfigError
from ..collect import Episodes
from ..trial import join
from .varibad_learner import VaribadLearner
from .varibad_networks import transitions_of


@torch.no_grad()
def belief_of_cells(
    learner: VaribadLearner, rounds: Sequence[Episodes], row: int = 0, *, draws: int = 64, seed: int = 0
) -> NDArray[np.float32]:
    """P(r > 0 in cell c | tau_:t) = E_(m ~ q_t)[sigmoid of the decoder's output], shape (T + 1, C).

    Place 0 is before anything was seen, place t after t decisions of the trial; `join(rounds).observation[row]` says
    where the agent was at each. Cells are numbered along the axes of the observation, the last fastest: in GridNavi
    `result[t].reshape(5, 5)[x, y]`.

    Args:
        learner: With the decoder `cells` and Bernoulli rewards.
        rounds: The episodes of one trial, from `run_trial` with any actor.
        row: Which row of `rounds`.
        draws: Over which the expectation is taken.
        seed: Of the draws.

    Raises:
        ConfigError: The learner predicts no probability of each cell.
    """
    config, cells = learner.config.vae, learner.decoder.cells
    if cells is None or config.reward_model != "bernoulli":
        raise ConfigError(
            f"belief of cells: expected a learner with the decoder 'cells' and rewards 'bernoulli', got "
            f"'{config.decoder}' and '{config.reward_model}'; train one with these"
        )
    transitions = transitions_of(join(rounds), learner.space)
    posterior = learner.encoder(type(transitions)(*(part[row : row + 1] for part in transitions))).gaussian()
    decided = int(transitions.valid[row].sum())
    generator = torch.Generator(learner.device).manual_seed(seed)
    loc, scale = (part[0, : decided + 1].expand(draws, -1, -1) for part in posterior)
    probability = cells.table(type(posterior)(loc, scale).sample(generator)).sigmoid().mean(0)
    table: NDArray[np.float32] = probability.cpu().numpy()
    return table
