"""SiMPL in numpy: it explores, infers the task of each row, and acts by the policy that a host fine-tunes.

Source and names: `meta/simpl/adaptive_agent.py`. Without a host a row stays at the embedding that was inferred.

Axes: R rows, r rows still running, O observation, Z latent, E task embedding, C candidates, V visited states, K
decisions of an episode, M transitions of a context, F features of a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...errors import BundleError
from ..contract import BundleContract, Kind
from ..distribution import draw_choice, draw_gaussian
from ..networks import Array, Gaussian, Weights, compute_mlp, softplus
from ..policies import compute_residual, take_params
from ..policy_settings import PolicySettings
from ..runtime_agent import KEPT, PARAMS, Arrays, Noise, RowEpisodes, SeenRows, take_state
from ..settings import read_settings
from ..spaces import RowSpace, mlp_shapes, split_prefix
from ..task_encoder import ENCODERS, compute_embedding, encoder_shapes
from .spirl import FinetuneSettings, actor_critic_shapes, shorten_finetune

REWARD_HIDDEN = (128, 128)
"""Widths of the reward head, as in `meta/simpl/agent.py`."""
AT_ONCE = 256
"""Visited states that all candidates are judged by in one pass of the reward head, which bounds the memory."""
SEARCHES = ("blind", "directed")
_EPISODE = ("observation", "latent", "reward", "length", "terminated")
"""What is kept of an explored episode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimplSettings:
    """What is particular to SiMPL in `bundle.json`.

    The fields from `exploration_episodes` on are those of `DeploymentConfig`.

    Raises:
        BundleError: A width is not positive, the encoder or the search unknown, or nothing would be explored.
    """

    embedding_dim: int
    """E."""
    hidden: tuple[int, ...]
    """Widths of policy and critics."""
    encoder: str
    """A name in `ENCODERS`."""
    encoder_hidden: int
    """Width of the encoder."""
    multiplier: float
    """KL multiplier at the end of meta-training, with which fine-tuning starts."""
    greedy: bool
    """Act by the mean of the policy; e is drawn all the same."""
    seed: int
    """Of the minibatches of the first row; each row has its own."""
    exploration_episodes: int
    search: str
    candidates: int
    visited: int
    evidence: float
    keep_searching: bool
    wider: float
    context: int
    learn_from_exploration: bool
    finetune: FinetuneSettings

    def __post_init__(self) -> None:
        for name, known in (("encoder", ENCODERS), ("search", SEARCHES)):
            if getattr(self, name) not in known:
                raise BundleError(
                    f"bundle.json learner.{name}: expected {' or '.join(known)}, got {getattr(self, name)!r}; export "
                    "the bundle again"
                )
        sizes = (self.embedding_dim, self.encoder_hidden, self.exploration_episodes, self.candidates, self.visited)
        if min(*sizes, *self.hidden) < 1 or self.context < self.exploration_episodes:
            raise BundleError(
                "bundle.json learner: expected positive sizes, and a context of at least exploration_episodes "
                f"transitions, got {sizes}, {self.hidden} and {self.context}; export the bundle again"
            )

    @property
    def policy(self) -> PolicySettings:
        """Of the policy of a task, which reads no embedding."""
        return PolicySettings(hidden=self.hidden, activation="relu", greedy=self.greedy, scale="residual")


def read_simpl(contract: BundleContract) -> SimplSettings:
    """The facts of the contract.

    Raises:
        BundleError: They are not those of SiMPL.
    """
    return read_settings(SimplSettings, contract.learner, "bundle.json learner")


def shorten_simpl(learner: Mapping[str, Any]) -> dict[str, Any]:
    """The facts with which a golden trial is played: three exploring episodes, then few updates."""
    most = {"exploration_episodes": 3, "candidates": 16, "visited": 3, "context": 16}
    return {**shorten_finetune(learner), **{name: min(learner[name], value) for name, value in most.items()}}


def weight_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    """See `Kind.weight_shapes`."""
    facts, observation = read_simpl(contract), contract.observation_dim
    features = 2 * observation + contract.space.latent_dim + 2
    return {
        **actor_critic_shapes(contract, facts.policy, facts.embedding_dim),
        **encoder_shapes(facts.encoder, features, facts.encoder_hidden, facts.embedding_dim),
        **mlp_shapes("encoder.reward", (facts.embedding_dim + observation, *REWARD_HIDDEN, 1)),
    }


class _Drawn(NamedTuple):
    """Transitions of each row, one context for each."""

    tokens: Array
    """[s, z, r, terminated, s'], s and s' normalised, (R, M, F)."""
    next_observation: Array
    """Raw, (R, M, O)."""


class SimplRowAgent:
    """Each row explores and infers for itself; `settled` rows have an embedding for ever."""

    def __init__(self, contract: BundleContract, weights: Weights, noise: Noise) -> None:
        """Before the first task."""
        self.space = RowSpace(contract.space, contract.robot, weights)
        """What it chooses."""
        self._facts, self._weights, self._noise = read_simpl(contract), weights, noise
        self._observation_dim = contract.observation_dim
        self.begin_task(0)

    def begin_task(self, rows: int) -> None:
        """Forgets everything."""
        self.embedding: Array = np.zeros((rows, self._facts.embedding_dim), np.float32)
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
        rows, cut = len(self.embedding), self._observation_dim
        shared: dict[str, Array] = split_prefix(self._weights, "policy.")
        params = {name: np.repeat(value[None], rows, axis=0) for name, value in shared.items()}
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
        self._tuned = take_params(params, like, len(self.embedding), "policy parameters")
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
        facts, drawn = self._facts, self._noise.normal(self.embedding.shape)
        if facts.search == "blind" or not self.explored:
            return drawn
        posterior = self._infer()
        wider = np.float32(facts.wider if self._episodes >= facts.exploration_episodes else 1.0)
        unknown = self._draw_unsearched() if self._episodes % 2 else wider * drawn
        return np.where(self.known[:, None], posterior.loc + posterior.scale * drawn, unknown)

    def _infer(self) -> Gaussian:
        """q(e | the last exploring episodes), each (R, E)."""
        drawn = self._draw_transitions(self.explored, self._facts.context)
        return compute_embedding(self._facts.encoder, self._weights, drawn.tokens)

    def _draw_transitions(self, rounds: list[RowEpisodes], size: int) -> _Drawn:
        """The last transition of each episode of a row, and random others of them; see `meta/simpl/context.py`."""
        observation, latent, reward, length, terminated = (
            np.stack([getattr(episodes, name) for episodes in rounds], axis=1) for name in _EPISODE
        )
        position, count = np.arange(size), len(rounds)
        row, episode = np.arange(len(length))[:, None], position % count
        limit = length[row, episode]
        random = (self._noise.uniform(limit.shape) * limit.astype(np.float32)).astype(np.int64)
        decision = np.where(position < count, limit - 1, random)
        following = observation[row, episode, decision + 1]
        ended = (decision == limit - 1) & terminated[row, episode]
        parts = (
            self.space.normalise(observation[row, episode, decision]),
            latent[row, episode, decision],
            reward[row, episode, decision][..., None],
            ended[..., None].astype(np.float32),
            self.space.normalise(following),
        )
        return _Drawn(np.concatenate(parts, axis=-1), following)

    def _draw_unsearched(self) -> Array:
        """Embeddings, (R, E), of N(0, I) resampled by the likelihood that no visited state was rewarded."""
        facts = self._facts
        candidate = self._noise.normal((facts.candidates, facts.embedding_dim))
        states = self.space.normalise(self._visited)
        likelihood = np.zeros((len(states), facts.candidates), np.float32)
        for row in np.flatnonzero(~self.known):
            for begin in range(0, states.shape[1], AT_ONCE):
                part = states[row, begin : begin + AT_ONCE]
                likelihood[row] -= softplus(self._predict_reward(candidate, part)).sum(axis=1)
        logits = np.float32(facts.evidence / max(states.shape[1], 1)) * likelihood
        index = draw_choice(logits, self._noise, greedy=False)[:, 0].astype(np.int64)
        chosen: Array = candidate[index]
        return chosen

    def _predict_reward(self, embedding: Array, states: Array) -> Array:
        """Logits that states (V, O) are rewarded in tasks (C, E), shape (C, V)."""
        count, seen = len(embedding), len(states)
        pairs = np.concatenate([np.repeat(embedding, seen, axis=0), np.tile(states, (count, 1))], axis=-1)
        return compute_mlp(self._weights, "encoder.reward", pairs).reshape(count, seen)

    def act(self, seen: SeenRows) -> Array:
        """A latent for each running row, shape (r, Z)."""
        scaled = self.space.normalise(seen.observation)
        output = compute_mlp(self._weights, "policy", np.concatenate([scaled, self.embedding[seen.rows]], axis=-1))
        if self._tuned:
            per_task = len(self.embedding) // len(self._tuned["layers.0.bias"])
            task, own = seen.rows // per_task, self._has_own[seen.rows]
            for index in np.unique(task[own]):
                here = own & (task == index)
                mine = {f"own.{name}": value[index] for name, value in self._tuned.items()}
                output[here] = compute_mlp(mine, "own", scaled[here])
        policy = compute_residual(output, self.space.prior_of(seen.observation))
        return draw_gaussian(policy, self._noise, greedy=self._facts.greedy)

    def observe(self, episodes: RowEpisodes) -> None:
        """Keeps the episodes of rows that explore, and infers the tasks that are ready."""
        facts, found = self._facts, episodes.read_reward_range()
        lowest = np.minimum(self._reward_range[:, 0], found[:, 0])
        self._reward_range = np.stack([lowest, np.maximum(self._reward_range[:, 1], found[:, 1])], axis=1)
        self._episodes += 1
        if self.settled.all():
            return
        self.explored = [*self.explored, episodes._replace(reward_range=None, success=None)]
        self.explored = self.explored[-facts.exploration_episodes :]
        if facts.search == "directed":
            states = self._draw_transitions([episodes], facts.visited).next_observation
            self._visited = np.concatenate([self._visited, states], axis=1)
        if self._episodes >= facts.exploration_episodes:
            ready = ~self.settled & (self.known if facts.keep_searching else True)
            if ready.any():
                self.embedding = np.where(ready[:, None], self._infer().loc, self.embedding)
                self.settled = self.settled | ready

    def adapt(self) -> None:
        """Nothing: it learns while it observes."""

    def state(self) -> dict[str, NDArray[Any]]:
        """What was found out about each task, the episodes of exploration, and the policies of the tasks."""
        state: dict[str, NDArray[Any]] = {
            "embedding": self.embedding.copy(),
            "settled": self.settled.copy(),
            "reward_range": self._reward_range.copy(),
            "visited": self._visited.copy(),
            "episodes": np.full(len(self.embedding), self._episodes, np.int64),
            f"{KEPT}explored": np.full(len(self.embedding), len(self.explored), np.int64),
            f"{KEPT}tuned": self._has_own.copy(),
        }
        state |= {f"{KEPT}{PARAMS}{name}": value.copy() for name, value in self._tuned.items()}
        for index, episodes in enumerate(self.explored):
            state |= {f"{KEPT}{index}.{name}": getattr(episodes, name).copy() for name in (*_EPISODE, "steps")}
        return state

    def load_state(self, arrays: Arrays) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        steps = arrays["visited"].shape[1] if "visited" in arrays and arrays["visited"].ndim == 3 else 0
        shapes: dict[str, tuple[int | None, ...]] = {
            "embedding": (None, self._facts.embedding_dim),
            "settled": (None,),
            "reward_range": (None, 2),
            "visited": (None, steps, self._observation_dim),
            "episodes": (None,),
            f"{KEPT}explored": (None,),
            f"{KEPT}tuned": (None,),
        }
        taken = take_state(arrays, shapes, "SiMPL agent")
        rows = len(taken["embedding"])
        explored = int(taken[f"{KEPT}explored"].max(initial=0))
        episodes = [self._take_episode(split_prefix(arrays, f"{KEPT}{index}."), rows) for index in range(explored)]
        self.begin_task(rows)
        self.embedding, self.settled = taken["embedding"], taken["settled"].astype(np.bool_)
        self._reward_range, self._visited = taken["reward_range"], taken["visited"]
        self._episodes, self.explored = int(taken["episodes"].max(initial=0)), episodes
        own = split_prefix(arrays, f"{KEPT}{PARAMS}")
        if own or taken[f"{KEPT}tuned"].any():
            self._take_params({name: value.copy() for name, value in own.items()}, taken[f"{KEPT}tuned"])

    def _take_episode(self, arrays: Arrays, rows: int) -> RowEpisodes:
        names = (*_EPISODE, "steps")
        shapes = {name: (rows, *arrays[name].shape[1:]) if name in arrays else (rows,) for name in names}
        return RowEpisodes(**take_state(arrays, shapes, "SiMPL agent"))


SIMPL = Kind(
    summary="It explores with guesses of the task, infers it, then a host with torch fine-tunes a policy for it.",
    weight_shapes=weight_shapes,
    make_agent=SimplRowAgent,
    read_policy=lambda contract: read_simpl(contract).policy,
    hosted=True,
    shorten=shorten_simpl,
    alone=lambda contract: read_simpl(contract).exploration_episodes,
)
