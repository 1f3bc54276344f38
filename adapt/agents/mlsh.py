"""MLSH in numpy: a master of each task chooses, every few decisions, which of the shared sub-policies acts.

Source and names: Frans et al., "Meta Learning Shared Hierarchies", ICLR 2018, as in `meta/hierarchy/mlsh_actor.py`.
Sub-policies never change; a host with torch updates the masters by PPO. Every row begins with the same first master,
which was drawn when the bundle was exported; the trainer draws one for each task.

Axes: R rows, r rows still running, K sub-policies, L rows of one sub-policy, M master's choices, O observation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...bounds import Count
from ..contract import BundleContract, Kind
from ..distribution import HearsLogits, draw_choice, draw_gaussian
from ..networks import Array, Gaussian, Shapes, Weights, compute_mlp, mlp_shapes
from ..policies import LOG_SCALE_LOW, compute_rows, policy_shapes, spread_rows
from ..policy_settings import ActingSettings
from ..runtime_agent import Noise, RowEpisodes, SeenRows
from ..spaces import split_prefix
from .row_agent import TunedRowAgent


@dataclass(frozen=True, slots=True, kw_only=True)
class MlshSettings(ActingSettings):
    """What is particular to MLSH in `bundle.json`; the fields are those of `meta/hierarchy/mlsh.py`.

    All networks have the same widths.
    """

    sub_policies: Count
    """K."""
    hold: Count
    """Decisions for which a choice of the master lasts."""
    discount: float
    trace: float
    epochs: int
    """Of the masters' updates, as the four below."""
    minibatches: int
    clip: float
    learning_rate: float
    entropy_weight: float
    return_mean: float
    """Scale on which the masters' value functions learn, as the one below."""
    return_variance: float


def weight_shapes(contract: BundleContract, settings: MlshSettings) -> Shapes:
    """See `Kind.shapes`."""
    observation = contract.observation_dim
    shapes: Shapes = {
        **mlp_shapes("master.policy", (observation, *settings.hidden, settings.sub_policies)),
        **mlp_shapes("master.value", (observation + 1, *settings.hidden, 1)),
    }
    for name, shape in policy_shapes(contract, settings.policy).items():
        shapes[name.replace("policy.", "sub_policies.", 1)] = (settings.sub_policies, *shape)
    return shapes


class MlshRowAgent(TunedRowAgent[MlshSettings]):
    """Every row has a master of its own, which is the bundle's until somebody sets another."""

    STATE = ("_macro",)
    FIRST = "master.policy."

    def __init__(self, contract: BundleContract, settings: MlshSettings, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self._sub_policies: dict[str, Array] = split_prefix(weights, "sub_policies.")
        super().__init__(contract, settings, weights, noise)

    def begin_task(self, rows: int) -> None:
        """The first master in R rows."""
        super().begin_task(rows)
        self._macro: NDArray[np.int64] = np.zeros((rows, 0), np.int64)
        self.begin_episode()

    @property
    def macro(self) -> NDArray[np.int64]:
        """Which sub-policies the masters chose in the episodes that were just observed, (R, M); 0 in the padding."""
        return self._macro

    def begin_episode(self, *, explore: bool = True) -> None:
        """The masters choose at the next decision."""
        self._decision = 0
        self._active = np.zeros(self._rows, np.int64)
        self._choices: list[NDArray[np.int64]] = []

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        if self._decision % self._settings.hold == 0:
            output = compute_rows(self._params, self._settings.policy, spread_rows(self.space, seen, self._rows))
            chosen = draw_choice(output[:, None], self._noise, greedy=False)
            self._active = self._active.copy()
            self._active[seen.rows] = chosen[seen.rows, 0, 0].astype(np.int64)
            self._choices.append(self._active)
        self._decision += 1
        index, valid = _split(self._active[seen.rows], self._settings.sub_policies)
        seen_by_each = self.space.normalise(seen.observation)[index]
        output = compute_mlp(self._sub_policies, "", seen_by_each, self._settings.activation)
        choice = self._draw(output)
        taken = np.empty((len(seen.rows), choice.shape[-1]), np.float32)
        taken[index[valid]] = choice[valid]
        if self.space.choices and isinstance(self._noise, HearsLogits):  # of the sub-policies that are in force
            logits = np.empty((len(seen.rows), output.shape[-1]), np.float32)
            logits[index[valid]] = output[valid]
            self._noise.hear(logits)
        return self.space.to_latent(taken, seen.observation)

    def _draw(self, output: Array) -> Array:
        """What each sub-policy chooses at its rows, (K, L, Z), of its outputs, (K, L, .)."""
        if self.space.choices:
            return draw_choice(output, self._noise, greedy=False)
        scale = np.exp(np.maximum(self._sub_policies["log_scale"], LOG_SCALE_LOW))[:, None]
        return draw_gaussian(Gaussian(output, scale), self._noise, greedy=False)

    def observe(self, episodes: RowEpisodes) -> None:
        """Keeps the masters' choices for the host."""
        hold = self._settings.hold
        most = -(-episodes.latent.shape[1] // hold)
        macro = np.zeros((self._rows, most), np.int64)
        macro[:, : len(self._choices)] = np.stack(self._choices, axis=1)
        valid = np.arange(most) < -(-episodes.length // hold)[:, None]
        self._macro = np.where(valid, macro, 0)


def _split(active: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Which rows are of which sub-policy: indices (K, L), in order, and which of them count."""
    order = np.argsort(active, kind="stable")
    counts = np.bincount(active, minlength=count)
    place = np.arange(counts.max())
    valid = place < counts[:, None]
    begin = np.cumsum(counts) - counts
    return order[np.where(valid, begin[:, None] + place, 0)], valid


MLSH = Kind(
    summary="A master chooses which of its sub-policies acts; a host with torch teaches the master, and them never.",
    settings=MlshSettings,
    shapes=weight_shapes,
    agent=MlshRowAgent,
    hosted=True,
)
