"""SiMPL in numpy: it explores, infers the task of each row, and acts by the policy that a host fine-tunes.

Source and names: `meta/simpl/adaptive_agent.py`. Without a host a row stays at the embedding that was inferred.

Axes: R rows, r rows still running, O observation, Z latent, E task embedding, C candidates, V visited states, K
decisions of an episode, M transitions of a context, F features of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...bounds import Count, NonNegative, Positive, Width
from ..contract import BundleContract, Kind
from ..distribution import draw_choice, draw_gaussian
from ..networks import Array, Gaussian, Shapes, compute_mlp, mlp_shapes, sigmoid, softplus
from ..policies import compute_residual, take_params
from ..runtime_agent import (
    KEPT,
    PARAMS,
    Arrays,
    PredictsReward,
    RowEpisodes,
    SeenRows,
    TellsBelief,
    load_episodes,
    save_episodes,
    take_state,
)
from ..settings import refuse
from ..spaces import split_prefix
from ..task_encoder import Context, Encoder, compute_embedding, encoder_shapes
from .row_agent import RowAgent
from .spirl import OLDER, ResidualSettings, actor_critic_shapes, shorten_finetune

REWARD_HIDDEN = (128, 128)
"""Widths of the reward head, as in `meta/simpl/agent.py`."""
AT_ONCE = 256
"""Visited states that all candidates are judged by in one pass of the reward head, which bounds the memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimplSettings(ResidualSettings):
    """What is particular to SiMPL in `bundle.json`.

    The fields from `exploration_episodes` on are those of `DeploymentConfig`.

    Raises:
        BundleError: The context has no room for a transition of each explored episode.
    """

    embedding_dim: Width
    """E."""
    encoder: Encoder
    encoder_hidden: Width
    """Width of the encoder."""
    multiplier: float
    """KL multiplier at the end of meta-training, with which fine-tuning starts."""
    exploration_episodes: Count
    search: Literal["blind", "directed"]
    candidates: Count
    visited: Count
    evidence: NonNegative
    keep_searching: bool
    wider: Positive
    context: int
    learn_from_exploration: bool

    def __post_init__(self) -> None:
        if self.context < self.exploration_episodes:
            expected = f"at least exploration_episodes = {self.exploration_episodes} transitions"
            raise refuse("bundle.json learner.context", expected, self.context)


def shorten_simpl(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a golden trial: three exploring episodes, then few updates."""
    most = {"exploration_episodes": 3, "candidates": 16, "visited": 3, "context": 16}
    return {**shorten_finetune(learner), **{name: min(learner[name], value) for name, value in most.items()}}


def weight_shapes(contract: BundleContract, settings: SimplSettings) -> Shapes:
    """See `Kind.shapes`."""
    observation = contract.observation_dim
    features = 2 * observation + contract.space.latent_dim + 2
    return {
        **actor_critic_shapes(contract, settings, settings.embedding_dim),
        **encoder_shapes(settings.encoder, features, settings.encoder_hidden, settings.embedding_dim),
        **mlp_shapes("encoder.reward", (settings.embedding_dim + observation, *REWARD_HIDDEN, 1)),
    }


class SimplRowAgent(RowAgent[SimplSettings], TellsBelief, PredictsReward):
    """Each row explores and infers for itself; `settled` rows have an embedding for ever."""

    STATE = ("embedding", "settled", "_reward_range", "_visited", "_episodes")

    def begin_task(self, rows: int) -> None:
        """Forgets everything."""
        super().begin_task(rows)
        self.embedding: Array = np.zeros((rows, self._settings.embedding_dim), np.float32)
        """By which each row acts or is fine-tuned, (R, E)."""
        self.settled = np.zeros(rows, np.bool_)
        """Rows whose embedding was inferred for ever, (R,)."""
        self.explored: list[RowEpisodes] = []
        """The last exploring episodes, as many as the exploration has."""
        self._reward_range: Array = np.tile(np.array([np.inf, -np.inf], np.float32), (rows, 1))
        self._visited: Array = np.zeros((rows, 0, self._observation_dim), np.float32)
        self._episodes = 0
        self._tuned: dict[str, Array] = {}
        self._has_own: NDArray[np.bool_] = np.zeros(rows, np.bool_)

    @property
    def known(self) -> NDArray[np.bool_]:
        """Tasks whose rewards differ from each other, (R,)."""
        known: NDArray[np.bool_] = self._reward_range[:, 1] > self._reward_range[:, 0]
        return known

    @property
    def params(self) -> dict[str, Array]:
        """The plain policy of every row, (R, ...): its own, or the meta-trained one at its embedding."""
        cut = self._observation_dim
        shared: dict[str, Array] = split_prefix(self._weights, "policy.")
        params = {name: np.repeat(value[None], self._rows, axis=0) for name, value in shared.items()}
        params["layers.0.weight"] = params["layers.0.weight"][..., :cut]
        params["layers.0.bias"] = params["layers.0.bias"] + self.embedding @ shared["layers.0.weight"][:, cut:].T
        for name, value in self._tuned.items():
            params[name][self._has_own] = value[self._has_own]
        return params

    def set_params(self, params: Mapping[str, Array]) -> None:
        """Rows act by policies of their own from now on.

        Args:
            params: The names of `params`, each (R, ...), and `tuned`, (R,): 1 for rows that have one; or nothing.

        Raises:
            RunError: One is missing or has another shape.
        """
        if params:
            self._take_params(params, params["tuned"])

    def _take_params(self, params: Mapping[str, Array], tuned: NDArray[Any]) -> None:
        """Parameters of N tasks with R / N consecutive rows each, and which rows have their own, (R,)."""
        like: dict[str, Array] = split_prefix(self._weights, "policy.")
        like["layers.0.weight"] = like["layers.0.weight"][:, : self._observation_dim]
        self._tuned = take_params(params, like, self._rows, f"parameters of {self._where}")
        self._has_own = np.asarray(tuned) > 0

    def begin_episode(self, *, explore: bool = True) -> None:
        """Draws the embeddings of rows that explore; or infers them, for an episode that is to be as good as it can."""
        if self.settled.all():
            return
        if explore or not self.explored:
            drawn = self._draw_embedding()
        else:
            drawn = self._infer().loc
        self.embedding = np.where(self.settled[:, None], self.embedding, drawn)

    def _draw_embedding(self) -> Array:
        """Embeddings to explore by, (R, E)."""
        settings, drawn = self._settings, self._noise.normal(self.embedding.shape)
        if settings.search == "blind" or not self.explored:
            return drawn
        posterior = self._infer()
        wider = np.float32(settings.wider if self._episodes >= settings.exploration_episodes else 1.0)
        unknown = self._draw_unsearched() if self._episodes % 2 else wider * drawn
        return np.where(self.known[:, None], posterior.loc + posterior.scale * drawn, unknown)

    def _infer(self) -> Gaussian:
        """q(e | the last exploring episodes), each (R, E)."""
        drawn = self._draw_transitions(self.explored, self._settings.context)
        return compute_embedding(self._settings.encoder, self._weights, drawn.tokens(self.space))

    def _draw_transitions(self, rounds: list[RowEpisodes], size: int) -> Context:
        """The last transition of each episode of a row, and random others of them; see `meta/simpl/context.py`.

        Shapes are (R, M, ...), one context for each row.
        """
        names = ("observation", "latent", "reward", "length", "terminated")
        observation, latent, reward, length, terminated = (
            np.stack([getattr(episodes, name) for episodes in rounds], axis=1) for name in names
        )
        position, count = np.arange(size), len(rounds)
        row, episode = np.arange(len(length))[:, None], position % count
        limit = length[row, episode]
        random = (self._noise.uniform(limit.shape) * limit.astype(np.float32)).astype(np.int64)
        decision = np.where(position < count, limit - 1, random)
        ended = (decision == limit - 1) & terminated[row, episode]
        return Context(
            observation[row, episode, decision],
            latent[row, episode, decision],
            reward[row, episode, decision],
            ended.astype(np.float32),
            observation[row, episode, decision + 1],
        )

    def _draw_unsearched(self) -> Array:
        """Embeddings, (R, E), of N(0, I) resampled by the likelihood that no visited state was rewarded."""
        settings = self._settings
        candidate = self._noise.normal((settings.candidates, settings.embedding_dim))
        states = self.space.normalise(self._visited)
        likelihood = np.zeros((len(states), settings.candidates), np.float32)
        for row in np.flatnonzero(~self.known):
            for begin in range(0, states.shape[1], AT_ONCE):
                part = states[row, begin : begin + AT_ONCE]
                likelihood[row] -= softplus(self._predict_reward(candidate, part)).sum(axis=1)
        logits = np.float32(settings.evidence / max(states.shape[1], 1)) * likelihood
        index = draw_choice(logits, self._noise, greedy=False)[:, 0].astype(np.int64)
        chosen: Array = candidate[index]
        return chosen

    def _predict_reward(self, embedding: Array, states: Array) -> Array:
        """Logits that states (V, O) are rewarded in tasks (C, E), shape (C, V)."""
        count, seen = len(embedding), len(states)
        pairs = np.concatenate([np.repeat(embedding, seen, axis=0), np.tile(states, (count, 1))], axis=-1)
        return compute_mlp(self._weights, "encoder.reward", pairs).reshape(count, seen)

    def read_belief(self) -> Gaussian:
        """See `TellsBelief.read_belief`."""
        if self.explored:
            return self._infer()
        return Gaussian(np.zeros_like(self.embedding), np.ones_like(self.embedding))

    def predict_rewarded(self, observation: Array) -> Array:
        """See `PredictsReward.predict_rewarded`; at the mean of the belief."""
        return sigmoid(self._predict_reward(self.read_belief().loc, self.space.normalise(observation)))

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        scaled = self.space.normalise(seen.observation)
        output = compute_mlp(self._weights, "policy", np.concatenate([scaled, self.embedding[seen.rows]], axis=-1))
        if self._tuned:
            per_task = self._rows // len(self._tuned["layers.0.bias"])
            task, own = seen.rows // per_task, self._has_own[seen.rows]
            for index in np.unique(task[own]):
                here = own & (task == index)
                mine = {name: value[index] for name, value in self._tuned.items()}
                output[here] = compute_mlp(mine, "", scaled[here])
        policy = compute_residual(output, self.space.prior_of(seen.observation))
        return draw_gaussian(policy, self._noise, greedy=self._settings.greedy)

    def observe(self, episodes: RowEpisodes) -> None:
        """Keeps the episodes of rows that explore, and infers the tasks that are ready."""
        settings, found = self._settings, episodes.read_reward_range()
        lowest = np.minimum(self._reward_range[:, 0], found[:, 0])
        self._reward_range = np.stack([lowest, np.maximum(self._reward_range[:, 1], found[:, 1])], axis=1)
        self._episodes += 1
        if self.settled.all():
            return
        self.explored = [*self.explored, episodes._replace(reward_range=None, success=None)]
        self.explored = self.explored[-settings.exploration_episodes :]
        if settings.search == "directed":
            states = self._draw_transitions([episodes], settings.visited).next_observation
            self._visited = np.concatenate([self._visited, states], axis=1)
        if self._episodes >= settings.exploration_episodes:
            ready = ~self.settled & (self.known if settings.keep_searching else True)
            if ready.any():
                self.embedding = np.where(ready[:, None], self._infer().loc, self.embedding)
                self.settled = self.settled | ready

    def state(self) -> dict[str, NDArray[Any]]:
        """What was found out about each task, the episodes of exploration, and the policies of the tasks."""
        own = {f"{KEPT}{PARAMS}{name}": value.copy() for name, value in self._tuned.items()}
        explored = {f"{KEPT}explored": np.full(self._rows, len(self.explored)), f"{KEPT}tuned": self._has_own.copy()}
        return super().state() | explored | own | save_episodes(self.explored)

    def _load(self, arrays: Arrays) -> None:
        super()._load(arrays)
        kept = take_state(arrays, {f"{KEPT}{name}": (self._rows,) for name in ("explored", "tuned")}, self._where)
        explored, tuned = kept.values()
        self.explored = load_episodes(arrays, int(explored.max(initial=0)), self._rows, self._where)
        own = split_prefix(arrays, f"{KEPT}{PARAMS}")
        if own or tuned.any():
            self._take_params({name: value.copy() for name, value in own.items()}, tuned)


SIMPL = Kind(
    summary="It explores with guesses of the task, infers it, then a host with torch fine-tunes a policy for it.",
    settings=SimplSettings,
    shapes=weight_shapes,
    agent=SimplRowAgent,
    policy=attrgetter("policy"),
    hosted=True,
    off_policy=True,
    shorten=shorten_simpl,
    alone=attrgetter("exploration_episodes"),
    older=OLDER,
)
