"""The log as if it were the robot: an agent is shown the first n logged episodes, and the rest is predicted.

What is predicted of a later episode, with the agent as it is after n episodes:

- Commands: -log p of each logged latent under the policy, nats per dimension. A policy is a Gaussian in latents, read
  off by two copies of the agent, one whose noise is 0 and one whose noise is 1: they act by loc and by loc + scale. It
  falls with n where the log was made by somebody who knew the task and acts as the policy would.
- Rewards: of an agent that `PredictsReward` (SiMPL), -log p of the logged rewards being above 0 or not, per decision.
  The heads that would tell it of PEARL (a critic) and of variBAD (a decoder) are no part of a bundle.
- Belief: of an agent that `TellsBelief`, the mean standard deviation of the task's embedding; 1 before the first
  episode, where the belief is N(0, I).

A learner that adapts by gradients takes its steps on the logged episodes, on a host with torch. On-policy learners
(MAML, PPO, MLSH, MAESN) assume that their own policy made the episodes. On a log of another one their step is biased,
and the section says so.

A logged command is turned into the latent that the space would have needed for it: exactly for raw and unit actions, by
search for skills (`adapt.takeover.find_latent`).

Axes: T steps, K decisions, H steps of a decision, O observation, A action, Z latent, E embedding.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.bundle import Bundle
from ...adapt.runtime_agent import (
    PredictsReward,
    RandomNoise,
    RowEpisodes,
    RuntimeAgent,
    SeenRows,
    TellsBelief,
    repeat_rows,
)
from ...adapt.spaces import RowSpace
from ...adapt.takeover import find_latent
from ...robots.robot import Float
from .forced import ConstantNoise, find_memory

LEAST_SCALE = 1e-6
"""A policy with a smaller standard deviation is taken as one that draws nothing."""


class LoggedDecisions(NamedTuple):
    """One logged episode as an agent sees it."""

    observation: Float
    """Shape (K + 1, O): where each decision was taken, and where the last one ended."""
    latent: Float
    """Shape (K, Z)."""
    reward: Float
    """Shape (K,): sum over the steps of a decision."""
    rewarded: NDArray[np.bool_]
    """Shape (K,): a step of the decision was paid more than 0."""
    steps: int
    """T."""
    terminated: bool
    lowest: float
    """Lowest reward of a step."""
    highest: float

    def to_rows(self, decisions: int) -> RowEpisodes:
        """As one row, padded to the longest possible number of decisions."""
        count = len(self.latent)
        decisions = max(decisions, count)
        observation = np.zeros((1, decisions + 1, self.observation.shape[1]), np.float32)
        latent = np.zeros((1, decisions, self.latent.shape[1]), np.float32)
        reward = np.zeros((1, decisions), np.float32)
        observation[0, : count + 1], latent[0, :count], reward[0, :count] = self.observation, self.latent, self.reward
        return RowEpisodes(
            observation,
            latent,
            reward,
            np.array([count]),
            np.array([self.terminated]),
            np.array([self.steps]),
            np.array([[self.lowest, self.highest]], np.float32),
        )


def find_decisions(
    space: RowSpace, observation: Float, action: Float, reward: Float, *, terminated: bool
) -> LoggedDecisions:
    """An episode of a log, decision by decision.

    Args:
        space: What the agent chooses.
        observation: Shape (T, O): before each action. Where the last action led is not logged: the last one stands in.
        action: Shape (T, A).
        reward: Of each step, shape (T,).
        terminated: The task ended with the last step.
    """
    starts = range(0, len(action), space.horizon)
    pieces = [slice(start, start + space.horizon) for start in starts]
    latent = [find_latent(space, observation[piece], action[piece]) for piece in pieces]
    places = [*starts, len(action) - 1]
    return LoggedDecisions(
        observation[places].astype(np.float32),
        np.stack(latent).astype(np.float32).reshape(len(pieces), space.latent_dim),
        np.array([reward[piece].sum() for piece in pieces], np.float32),
        np.array([(reward[piece] > 0.0).any() for piece in pieces]),
        len(action),
        terminated,
        float(reward.min()),
        float(reward.max()),
    )


class Learner:
    """A bundle's agent that is shown logged episodes, in the order of its budget."""

    def __init__(self, bundle: Bundle, rng: np.random.Generator, decisions: int = 0) -> None:
        """Before the first episode.

        Args:
            bundle: The learner.
            rng: Of what it draws.
            decisions: Of the longest episode that it will be shown, where that is beyond the robot's time limit.

        Raises:
            BundleError: The host of the bundle does not adapt as the trainer did.
        """
        from ...adapt.host.hosts import make_hosted

        self._bundle, self._budget = bundle, bundle.contract.budget
        self._agent = make_hosted(bundle, RandomNoise(rng))
        self._agent.begin_task(1)
        spec = bundle.contract.robot
        self._decisions = max(decisions, -(-spec.episode_steps // self._agent.space.horizon))
        self.episodes = 0
        """Shown so far."""

    def show(self, episode: LoggedDecisions) -> None:
        """Takes in an episode, and the step of adaptation that is due behind it."""
        self._agent.begin_episode()
        for _ in act_along(self._agent, episode):
            pass
        self._agent.observe(episode.to_rows(self._decisions))
        self.episodes += 1
        if self._budget.adapt_steps and self.episodes % self._budget.episodes == 0:
            self._agent.adapt()

    def fork(self, value: float = 0.0) -> RuntimeAgent:
        """A copy that knows the same, at the begin of an episode that is to be as good as it can.

        Args:
            value: Of its noise while it acts, in standard deviations; what it draws before that is the middle.
        """
        noise = ConstantNoise()
        fork = self._bundle.make_agent(noise)
        fork.load_state(repeat_rows(self._agent.state(), 1))
        fork.begin_episode(explore=False)
        noise.value = value
        return fork


def act_along(agent: RuntimeAgent, episode: LoggedDecisions) -> Iterator[Float]:
    """The latent that the agent would choose at each decision, (Z,); what it remembers is what the log chose.

    Args:
        agent: At the begin of the episode, with one row.
        episode: Shown to it.
    """
    memory = find_memory(agent)
    row = np.zeros(1, np.int64)
    for decision, latent in enumerate(episode.latent):
        before = episode.reward[decision - 1] if decision else 0.0
        here = episode.observation[decision][None]
        yield agent.act(SeenRows(here, row, np.array([before], np.float32)))[0]
        if memory is not None:
            choice = agent.space.to_choice(latent[None], here)
            agent.load_state({**agent.state(), memory: agent.space.encode(choice) if memory == "action" else choice})


class Predicted(NamedTuple):
    """How well an episode was predicted."""

    command_nll: float | None
    """Nats per dimension of a latent; None where the policy is no Gaussian."""
    reward_nll: float | None
    """Nats per decision; None where the agent predicts no rewards."""


def predict_episode(learner: Learner, episode: LoggedDecisions) -> Predicted:
    """The scores of an episode that the learner was not shown; it does not learn from it."""
    loc, shifted = (np.stack(list(act_along(learner.fork(value), episode))) for value in (0.0, 1.0))
    scale = shifted.astype(np.float64) - loc
    command = None
    if not learner.fork().space.choices and (scale > LEAST_SCALE).all():
        distance = (episode.latent - loc) / scale
        command = float((0.5 * distance**2 + np.log(scale) + 0.5 * math.log(2.0 * math.pi)).mean())
    reward, teller = None, learner.fork()
    if isinstance(teller, PredictsReward):
        chance = teller.predict_rewarded(episode.observation[1:])[0].astype(np.float64)
        chance = np.clip(chance, 1e-6, 1.0 - 1e-6)
        reward = float(-np.log(np.where(episode.rewarded, chance, 1.0 - chance)).mean())
    return Predicted(command, reward)


def read_spread(learner: Learner) -> float | None:
    """Mean standard deviation of the belief about the task; None of an agent that tells none."""
    fork = learner.fork()
    return float(fork.read_belief().scale.mean()) if isinstance(fork, TellsBelief) else None


def rehearse_inference(
    bundle: Bundle, episodes: Sequence[LoggedDecisions], counts: Sequence[int], rng: np.random.Generator
) -> list[dict[str, float | int | None]]:
    """After each number of shown episodes: scores of all episodes behind the largest number, and the belief.

    Args:
        bundle: The learner.
        episodes: More than the largest of `counts`.
        counts: Numbers of shown episodes, increasing, from 0 on.
        rng: Of what the learner draws.
    """
    learner, found = Learner(bundle, rng, max(len(episode.latent) for episode in episodes)), []
    rest = episodes[max(counts) :]
    for number in range(max(counts) + 1):
        if number in counts:
            scores = [predict_episode(learner, episode) for episode in rest]
            record: dict[str, float | int | None] = {"shown": number, "belief": read_spread(learner)}
            for name in Predicted._fields:
                values = [getattr(one, name) for one in scores]
                known = [value for value in values if value is not None]
                record[name] = float(np.mean(known)) if known else None
            found.append(record)
        if number < max(counts):
            learner.show(episodes[number])
    return found
