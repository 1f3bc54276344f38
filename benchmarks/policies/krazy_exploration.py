"""What agents explore in Krazy World, episode by episode: tiles found out, deaths, goals, and where they went.

Source: Figure 7 of Stadie, Yang, Houthooft, Chen, Duan, Wu, Abbeel, Sutskever, "Some Considerations on Learning to
Explore via Meta-Reinforcement Learning", 2018 (arXiv 1803.01118), compares agents by the fraction of tile types that
they visit, the times that they die and the goals that they reach.

Axes: R rows, E rounds of episodes (all rows begin a round together), n side of the board.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from supple.errors import SpecError
from supple.robots.krazy_world import Exploration, KrazyBatch, join_episodes
from supple.robots.robot import Bool, Float, Rows, StepRows, require_rows
from supple.robots.spec import RobotSpec


class Explored(NamedTuple):
    """Each episode of each row."""

    kinds: NDArray[np.float64]
    """Kinds touched / kinds on the board, shape (E, R)."""
    kinds_so_far: NDArray[np.float64]
    """The same over this episode and all before it, shape (E, R)."""
    deaths: NDArray[np.int64]
    """Shape (E, R)."""
    goals: NDArray[np.int64]
    """Goal tiles taken, shape (E, R)."""
    visits: NDArray[np.int64]
    """Times that the agent stood on each cell, the start among them, shape (E, R, n^2), cells in reading order."""


@final
class KrazyRecorder:
    """A batch of Krazy World that remembers what each episode found out; see `RobotBatch` for the contract.

    Args:
        batch: What is run.
        size: Side of its boards, n.
    """

    def __init__(self, batch: KrazyBatch, size: int) -> None:
        self._batch, self._cells = batch, size * size
        self._rounds: list[Exploration] = []
        self._visits: list[NDArray[np.int64]] = []

    @property
    def spec(self) -> RobotSpec:
        """See `RobotBatch.spec`."""
        return self._batch.spec

    @property
    def rows(self) -> int:
        """See `RobotBatch.rows`."""
        return self._batch.rows

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        """See `RobotBatch.reset`.

        Raises:
            SpecError: As `RobotBatch.reset`, or some rows are left out.
        """
        rows = require_rows(rows, self.rows, "krazy_world reset")
        if len(rows) == 0:
            return self._batch.reset(rows, goals, rng)
        if len(rows) != self.rows:
            raise SpecError(
                f"krazy_world recorder: expected all {self.rows} rows to begin an episode together, got {len(rows)}; "
                "make the batch as large as the evaluation"
            )
        before = self._batch.exploration(rows)
        observation = self._batch.reset(rows, goals, rng)
        if self._visits:
            self._rounds.append(before)
        self._visits.append(np.zeros((self.rows, self._cells), np.int64))
        self._count(rows)
        return observation

    def step(self, rows: Rows, action: Float) -> StepRows:
        """See `RobotBatch.step`."""
        result = self._batch.step(rows, action)
        self._count(rows)
        return result

    def _count(self, rows: Rows) -> None:
        self._visits[-1][rows, self._batch.places(rows)] += 1

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """See `RobotBatch.compute_reward`."""
        return self._batch.compute_reward(observation, goals)

    def close(self) -> None:
        """See `RobotBatch.close`."""
        self._batch.close()

    def explored(self) -> Explored:
        """All episodes since the recorder was made, that under way among them; they must be of the same boards.

        Raises:
            SpecError: There are none, or they are of several boards.
        """
        if not self._visits:
            raise SpecError("krazy_world recorder: expected at least one episode, got none; reset and step it first")
        rounds = [*self._rounds, self._batch.exploration(np.arange(self.rows))]
        so_far = [join_episodes(rounds[: count + 1]).fraction_of_kinds for count in range(len(rounds))]
        return Explored(
            kinds=np.stack([one.fraction_of_kinds for one in rounds]),
            kinds_so_far=np.stack(so_far),
            deaths=np.stack([one.deaths for one in rounds]),
            goals=np.stack([one.goals for one in rounds]),
            visits=np.stack(self._visits),
        )
