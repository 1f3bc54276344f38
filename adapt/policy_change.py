"""How far an update has moved a policy: KL between its choices before and after, on states that the robot was in.

The numpy runtime acts with both policies, so that what is measured is what would reach the robot. A Gaussian is read
from two draws, with noise 0 and 1; the probabilities of choices are counted over draws with the same noise for all.

Axes: R rows, M states of each row, O observation, Z latent, C choices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .networks import Array
from .runtime_agent import HOST, KEPT, PARAMS, Arrays, Noise, RowEpisodes, RuntimeAgent, SeenRows, repeat_rows

MakeAgent = Callable[[Noise], RuntimeAgent]
STATES = 16
"""Observed states of each row that policies are compared in, M."""
DRAWS = 64
"""Draws by which the probabilities of choices are counted."""
_TUNED = f"{KEPT}tuned"


class _FixedNoise:
    """Gives the same number always: the mean of a Gaussian, or one standard deviation above it."""

    def __init__(self, value: float) -> None:
        self._value = np.float32(value)

    def normal(self, shape: tuple[int, ...]) -> Array:
        """See `Noise.normal`."""
        return np.full(shape, self._value)

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """See `Noise.uniform`."""
        return np.full(shape, np.float32(0.5))


class _DrawnNoise(_FixedNoise):
    def __init__(self, seed: int) -> None:
        super().__init__(0.0)
        self._rng = np.random.default_rng(seed)

    def uniform(self, shape: tuple[int, ...]) -> Array:
        """See `Noise.uniform`."""
        return self._rng.random(shape, np.float32)


def is_learned(name: str) -> bool:
    """Whether an array of an agent's state is a part of its policies, or says which rows have one of their own."""
    return name == _TUNED or name.removeprefix(KEPT).startswith(PARAMS)


def find_infinite(arrays: Arrays) -> str | None:
    """The first array that acts, or that a host learns by, with a number that is not finite; what was seen may be."""
    for name, value in arrays.items():
        counts = value.dtype.kind == "f" and (is_learned(name) or name.startswith(HOST))
        if counts and not np.isfinite(value).all():
            return name
    return None


def take_learned(state: Arrays) -> dict[str, NDArray[Any]]:
    """The policies in an agent's state."""
    return {name: value for name, value in state.items() if is_learned(name)}


def with_learned(state: Arrays, learned: Arrays) -> dict[str, NDArray[Any]]:
    """A state with other policies, and all else as it is."""
    return {name: value for name, value in state.items() if not is_learned(name)} | dict(learned)


def choose_states(episodes: RowEpisodes, count: int = STATES) -> Array:
    """States of an episode, evenly spaced among the decisions of each row, shape (R, M, O)."""
    share = (np.arange(count) + 0.5) / count
    decision = (share * episodes.length[:, None]).astype(np.int64)
    return episodes.observation[np.arange(len(decision))[:, None], decision]


def make_acting(make_agent: MakeAgent, state: Arrays, noise: Noise, repeats: int = 1) -> RuntimeAgent:
    """An agent in this state, at the begin of an episode that is to be as good as it can.

    Args:
        make_agent: Of the bundle.
        state: Without what a host needs, or with it.
        noise: Its own.
        repeats: Consecutive rows in the task of each row.
    """
    agent = make_agent(noise)
    agent.load_state(repeat_rows(state, repeats))
    agent.begin_episode(explore=False)
    return agent


class PolicyChange:
    """Compares the policies of two states of an agent."""

    def __init__(self, make_agent: MakeAgent, states: Array) -> None:
        """Compares in these states, shape (R, M, O)."""
        self._make_agent = make_agent
        rows, self._repeats = states.shape[:2]
        count = rows * self._repeats
        self._seen = SeenRows(states.reshape(count, -1), np.arange(count), np.zeros(count, np.float32))

    def compute_kl(self, state: Arrays, other: Arrays) -> NDArray[np.float64]:
        """KL(policy of `state` || policy of `other`) of one decision, nats, mean over the states, shape (R,)."""
        found = self.describe(state), self.describe(other)
        kl = _compare_choices(*found) if len(found[0]) == 1 else _compare_gaussians(*found)
        means: NDArray[np.float64] = kl.reshape(-1, self._repeats).mean(axis=1)
        return means

    def describe(self, state: Arrays) -> tuple[NDArray[np.float64], ...]:
        """Mean and scale of the latents, each (R M, Z), or the probabilities of choices, (R M, C)."""
        small = {name: value for name, value in state.items() if not name.startswith(HOST)}
        mean, above = (self._act(small, _FixedNoise(value)) for value in (0.0, 1.0))
        agent = self._make_agent(_FixedNoise(0.0))
        if count := agent.space.choices:
            drawn = [self._act(small, _DrawnNoise(seed))[:, 0] for seed in range(DRAWS)]
            counts = np.stack([(np.array(drawn) == choice).sum(axis=0) for choice in range(count)], axis=1)
            return ((counts + 1.0 / count) / (DRAWS + 1.0),)
        scale = np.abs(above - mean)
        # an agent that acts by its mean has no scale of its own: the skill prior's is the unit
        return mean, np.where(scale > 0.0, scale, agent.space.prior_of(self._seen.observation).scale)

    def _act(self, state: Arrays, noise: Noise) -> NDArray[np.float64]:
        return make_acting(self._make_agent, state, noise, self._repeats).act(self._seen).astype(np.float64)


def _compare_gaussians(
    one: tuple[NDArray[np.float64], ...], other: tuple[NDArray[np.float64], ...]
) -> NDArray[np.float64]:
    (loc, scale), (other_loc, other_scale) = one, other
    with np.errstate(all="ignore"):  # what is not finite is refused by whoever asks
        ratio, shift = scale / other_scale, (loc - other_loc) / other_scale
        kl: NDArray[np.float64] = (0.5 * (ratio**2 + shift**2 - 1.0) - np.log(ratio)).sum(axis=1)
    return kl


def _compare_choices(
    one: tuple[NDArray[np.float64], ...], other: tuple[NDArray[np.float64], ...]
) -> NDArray[np.float64]:
    kl: NDArray[np.float64] = (one[0] * np.log(one[0] / other[0])).sum(axis=1)
    return kl


def mix_learned(
    state: Arrays, before: Mapping[str, Array], after: Mapping[str, Array], share: NDArray[np.float64]
) -> dict[str, Any]:
    """What an agent's `set_params` takes: the parameters on the way from `before` to `after`.

    Args:
        state: Of the agent; says which rows have a policy of their own, where its kind tells.
        before: Parameters of every row, (R, ...).
        after: The same names and shapes.
        share: How much of the way each row goes, (R,), from 0 to 1; both ends are exact.
    """
    mixed: dict[str, Any] = {}
    for name, end in after.items():
        part = share.reshape(-1, *[1] * (end.ndim - 1))
        with np.errstate(all="ignore"):
            between = before[name] + part * (end - before[name])
        mixed[name] = np.where(part >= 1.0, end, np.where(part <= 0.0, before[name], between)).astype(np.float32)
    return mixed | ({"tuned": state[_TUNED].astype(np.float32)} if _TUNED in state else {})
