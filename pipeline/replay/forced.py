"""An agent that is shown a log: at every step it sees what the robot saw, and what it wants to do moves nothing.

Observations and rewards are the log's. A decision is taken every H steps, as on the robot, and a skill is decoded on
the logged observation of each of its steps. An agent that remembers its last choice is told the logged one in its
place, where a command is a choice; a skill that it chose itself stays its own. Every episode is a new task.

Axes: T steps, D decisions, K samples, H steps of a decision, O observation, A action, Z latent.
"""

from __future__ import annotations

from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.distribution import HearsLogits
from ...adapt.runtime_agent import RuntimeAgent, SeenRows
from ...robots.robot import Float
from .section import Replay

PREVIOUS = ("action", "choice")
"""Names of an agent's last choice in its state: as a network reads it, and as it is."""
LEAST_PROBABILITY = 1e-12
"""Of a named choice: a policy that excludes what was logged does not make a whole log infinitely unlikely."""
QUIET = 0.5
"""Uniform noise that takes the likeliest choice."""


class Forced(NamedTuple):
    """What an agent wanted to do in one logged episode."""

    action: Float
    """Shape (T, A): without its own randomness."""
    samples: Float
    """Shape (K, T, A): with it."""
    loc: Float
    """Mean of the policy over latents at each decision, (D, Z)."""
    scale: Float
    """Its standard deviation, (D, Z); 0 where the policy draws nothing, or an index."""
    seconds: NDArray[np.float64]
    """Time that each step took to compute, (T,); zeros where it was not measured."""
    probability: NDArray[np.float64] | None = None
    """Of each named choice at each decision, (D, C); None for numbers, and for a policy that draws nothing."""


class ConstantNoise(HearsLogits):
    """Noise of one number: a Gaussian policy then acts by its mean plus so many standard deviations."""

    def __init__(self) -> None:
        self.value = 0.0
        self._logits: Float | None = None

    def hear(self, logits: Float) -> None:
        """See `HearsLogits.hear`."""
        self._logits = logits

    def take_probability(self) -> NDArray[np.float64] | None:
        """Of the choices that were decided on last, (..., C); None where nothing was drawn since the last call."""
        logits, self._logits = self._logits, None
        if logits is None:
            return None
        odds = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
        share: NDArray[np.float64] = odds / odds.sum(axis=-1, keepdims=True)
        return share

    def normal(self, shape: tuple[int, ...]) -> Float:
        """See `Noise.normal`."""
        return np.full(shape, self.value, np.float32)

    def uniform(self, shape: tuple[int, ...]) -> Float:
        """See `Noise.uniform`."""
        return np.full(shape, QUIET, np.float32)


def force(
    replay: Replay,
    observation: Float,
    action: Float,
    reward: Float | None,
    rng: np.random.Generator,
    samples: int,
    *,
    timed: bool = False,
) -> Forced:
    """Shows one episode to the bundle's agent.

    Args:
        replay: Has the bundle.
        observation: Shape (T, O).
        action: As logged, shape (T, A).
        reward: As logged, shape (T,); without it the agent sees zeros.
        rng: Of the samples.
        samples: K.
        timed: Decode step by step, as a robot does, so that the times of steps are known.
    """
    quiet, shift = ConstantNoise(), ConstantNoise()
    greedy, shifted = (begin(replay.bundle.make_agent(noise), 1) for noise in (quiet, shift))
    drawn = begin(replay.make_agent(rng), samples) if samples else None
    agents, memory = [greedy, shifted, *([] if drawn is None else [drawn])], find_memory(greedy)
    horizon, steps = greedy.space.horizon, len(observation)
    decisions, latent_dim = -(-steps // horizon), greedy.space.latent_dim
    wanted, seconds = np.zeros_like(action, np.float32), np.zeros(steps)
    sampled = np.zeros((samples, *action.shape), np.float32)
    loc, scale = np.zeros((decisions, latent_dim), np.float32), np.zeros((decisions, latent_dim), np.float32)
    told: list[NDArray[np.float64] | None] = []
    shift.value = 1.0
    with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite, and is reported
        for decision in range(decisions):
            first, last = decision * horizon, min((decision + 1) * horizon, steps)
            here = observation[first:last]
            before = 0.0 if decision == 0 or reward is None else float(reward[first - horizon : first].sum())
            if decision and memory is not None:
                for agent in agents:
                    force_choice(agent, memory, action[first - 1])
            began = perf_counter()
            latent = act(greedy, here[0], before, 1)
            control = greedy.space.hold(latent)
            if timed:
                for step in range(first, last):
                    wanted[step] = control(observation[step : step + 1])[0]
                    ended = perf_counter()
                    seconds[step], began = ended - began, ended
            else:
                wanted[first:last] = decode(greedy, latent, here)[0]
            loc[decision] = latent[0]
            told.append(quiet.take_probability() if greedy.space.choices else None)
            if not greedy.space.choices:
                scale[decision] = act(shifted, here[0], before, 1)[0] - latent[0]
            if drawn is not None:
                sampled[:, first:last] = decode(drawn, act(drawn, here[0], before, samples), here)
    known = [one.reshape(-1, one.shape[-1])[0] for one in told if one is not None]
    return Forced(wanted, sampled, loc, scale, seconds, np.stack(known) if len(known) == decisions else None)


def begin(agent: RuntimeAgent, rows: int) -> RuntimeAgent:
    """The agent at the begin of an episode of a new task."""
    agent.begin_task(rows)
    agent.begin_episode(explore=False)
    return agent


def act(agent: RuntimeAgent, observation: Float, reward: float, rows: int) -> Float:
    """A latent for each row, (rows, Z), all of which see the same."""
    seen = SeenRows(np.repeat(observation[None], rows, axis=0), np.arange(rows), np.full(rows, reward, np.float32))
    return agent.act(seen)


def decode(agent: RuntimeAgent, latent: Float, observation: Float) -> Float:
    """Commands of latents (K, Z) held over logged observations (t, O), shape (K, t, A)."""
    rows, steps = len(latent), len(observation)
    held = agent.space.hold(np.repeat(latent, steps, axis=0))
    return held(np.tile(observation, (rows, 1))).reshape(rows, steps, -1)


def find_memory(agent: RuntimeAgent) -> str | None:
    """The name in `PREVIOUS` by which the agent's state has its last choice; None where it remembers none."""
    state = agent.state()
    return next((name for name in PREVIOUS if name in state), None)


def force_choice(agent: RuntimeAgent, name: str, command: Float) -> None:
    """Puts a logged command (A,) in the place of the last choice that the agent remembers under `name`."""
    latent = agent.space.invert(command[None])
    if latent is not None:
        state = agent.state()
        choice = agent.space.encode(latent) if name == "action" else latent
        agent.load_state({**state, name: np.repeat(choice, len(state[name]), axis=0)})
