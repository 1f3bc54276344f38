"""Supple's agents under Meta-World's own evaluation protocol, without loading Meta-World.

The protocol is `MetaLearningAgent` of `metaworld/evaluation.py` in Meta-World 3.1 (McLean et al., "Meta-World+: An
Improved, Standardized, RL Benchmark", 2025; Yu et al., "Meta-World: A Benchmark and Evaluation for Multi-Task and Meta
Reinforcement Learning", CoRL 2019). Per test task it calls `init`; then, per step of adaptation, `adapt_action` and
`step` in all environments until each has played its episodes, and `adapt`; then `reset` and `eval_action` for the
episodes that count.

Every environment has an agent of its own, since its episodes end when they end, and an `AdaptiveAgent` begins those of
all its rows together. What the protocol keeps back shapes the rest:

- It gives no rewards in the episodes that count. Memory learners need them: make the environments with
  `recurrent_info_in_obs=True, normalize_reward_in_recurrent_info=False`. The observation then ends with the last
  action, reward and end, and the reward is read from there. The other two are not used, an agent knows its own action.
- Those episodes are not handed to `observe`, and `adapt` is never called after them.
- The last observation of an episode is not given. An episode ends with the one before.

Axes: R environments, O observation, A action, Z latent, K decisions of an episode.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from supple.adapt.networks import Array
from supple.adapt.runtime_agent import RowEpisodes, RuntimeAgent, SeenRows
from supple.errors import SpecError
from supple.robots.spec import RobotSpec

Double = NDArray[np.float64]
_ROW = np.zeros(1, np.int64)


class Timestep(Protocol):
    """What Meta-World tells of one step of all environments; it has more than these."""

    @property
    def reward(self) -> NDArray[Any]:
        """Shape (R,)."""
        ...

    @property
    def terminated(self) -> NDArray[Any]:
        """Shape (R,)."""
        ...

    @property
    def truncated(self) -> NDArray[Any]:
        """Shape (R,)."""
        ...


class _Place:
    """One environment: its agent, and the episode that it is in."""

    def __init__(self, agent: RuntimeAgent, decisions: int) -> None:
        self.agent, self._decisions = agent, decisions
        self.running = False
        agent.begin_task(1)

    def act(self, observation: Array) -> Array:
        """The action in this observation, (O,) -> (A,); begins an episode where none runs."""
        if not self.running:
            self.agent.begin_episode()
            self._seen: list[Array] = []
            self._latents: list[Array] = []
            self._rewards: list[float] = []
            self.running, self._steps, self._left = True, 0, 0
        row = observation[None]
        if self._left == 0:
            last = np.array(self._rewards[-1:] or [0.0], np.float32)
            latent = self.agent.act(SeenRows(row, _ROW, last))
            self._control, self._left = self.agent.space.hold(latent), self.agent.space.horizon
            self._seen.append(observation)
            self._latents.append(latent[0])
            self._rewards.append(0.0)
        self._left -= 1
        self._steps += 1
        self._last = observation
        action: Array = self._control(row)[0]
        return action

    def gain(self, reward: float) -> None:
        """The reward of the last action."""
        if self.running:
            self._rewards[-1] += reward

    def finish(self, terminated: bool) -> RowEpisodes:
        """Ends the episode; returns it."""
        self.running = False
        played, size = len(self._latents), max(self._decisions, len(self._latents))
        observation = np.zeros((1, size + 1, len(self._last)), np.float32)
        observation[0, : played + 1] = [*self._seen, self._last]
        latent = np.zeros((1, size, len(self._latents[0])), np.float32)
        latent[0, :played] = self._latents
        reward = np.zeros((1, size), np.float32)
        reward[0, :played] = self._rewards
        return RowEpisodes(
            observation, latent, reward, np.array([played]), np.array([terminated]), np.array([self._steps])
        )


class MetaWorldAgent:
    """Has the methods of Meta-World's `MetaLearningAgent`.

    Args:
        make_agent: From the index of the environment, an agent of one row: `Bundle.make_agent` with noise of its
            own for each, or a `TorchRowAgent`.
        robot: The contract that the agents were trained for; `observation` and `action` are those of Meta-World, and
            `episode_steps` is the length of its episodes.
    """

    def __init__(self, make_agent: Callable[[int], RuntimeAgent], robot: RobotSpec) -> None:
        self._make_agent, self._robot = make_agent, robot
        self._agents: list[RuntimeAgent] = []
        self._places: list[_Place] = []

    def init(self) -> None:
        """New tasks in all environments: everything is forgotten at the next action, which tells how many they are."""
        self._places = []

    def adapt_action(self, observations: Double) -> tuple[Double, dict[str, NDArray[Any]]]:
        """Actions, shape (R, A), in an episode to learn from; there is nothing to hand back to `step`.

        Raises:
            SpecError: The observations are neither the robot's nor these with recurrent info.
        """
        seen, _ = self._split(observations)
        return self._act(seen), {}

    def step(self, timestep: Timestep) -> None:
        """Takes in what the last actions of `adapt_action` gave."""
        ends = np.logical_or(timestep.terminated, timestep.truncated)
        for place, reward, terminated, ended in zip(
            self._places, timestep.reward, timestep.terminated, ends, strict=True
        ):
            place.gain(float(reward))
            if ended:
                place.agent.observe(place.finish(bool(terminated)))

    def adapt(self) -> None:
        """One step of adaptation; an episode that is not over is cut off where it is and learned from."""
        for place in self._places:
            if place.running:
                place.agent.observe(place.finish(False))
            place.agent.adapt()

    def reset(self, env_mask: NDArray[np.bool_]) -> None:
        """The environments in the mask, shape (R,), begin another episode that counts."""
        for place, begins in zip(self._places, env_mask, strict=bool(self._places)):
            if begins:
                place.running = False

    def eval_action(self, observations: Double) -> Double:
        """Actions, shape (R, A), in an episode that counts.

        Raises:
            SpecError: As `adapt_action`.
        """
        seen, rewards = self._split(observations)
        if rewards is not None:
            for place, reward in zip(self._places, rewards, strict=bool(self._places)):
                place.gain(float(reward))
        return self._act(seen)

    def _split(self, observations: Double) -> tuple[Array, Array | None]:
        """The robot's observations, (R, O), and the last rewards, (R,), where they are part of it."""
        width, actions = len(self._robot.observation.axes), len(self._robot.action.axes)
        array = np.asarray(observations, np.float32)
        if array.ndim != 2 or array.shape[1] not in (width, width + actions + 2):
            raise SpecError(
                f"Meta-World: expected observations of {width} numbers, or {width + actions + 2} with recurrent info, "
                f"got shape {array.shape}; train the agent on environments of this kind"
            )
        rewards = array[:, width + actions] if array.shape[1] > width else None
        return self._robot.observation.validate(array[:, :width], "Meta-World"), rewards

    def _act(self, seen: Array) -> Double:
        if not self._places:
            self._agents += [self._make_agent(row) for row in range(len(self._agents), len(seen))]
            decisions = [-(-self._robot.episode_steps // agent.space.horizon) for agent in self._agents]
            self._places = [_Place(*both) for both in zip(self._agents[: len(seen)], decisions, strict=False)]
        actions = [place.act(row) for place, row in zip(self._places, seen, strict=True)]
        return np.array(actions, np.float64)
