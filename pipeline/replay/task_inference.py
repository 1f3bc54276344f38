"""The log as if it were the robot: an agent is shown the first n logged episodes, and the rest is predicted.

What is predicted of a later episode, with the agent as it is after n episodes:

- Commands: -log p of each logged latent under the policy, nats per dimension; of a named choice, nats. A Gaussian in
  latents is read off by two copies of the agent, one whose noise is 0 and one whose noise is 1: they act by loc and by
  loc + scale. It falls with n where the log was made by somebody who knew the task and acts as the policy would.
- Rewards: of an agent that `PredictsReward`, -log p of the logged rewards being above 0 or not, per decision. These are
  SiMPL, variBAD with a decoder in its bundle, and every learner whose bundle has logs of the robot (`adapt/log_agent`).
  `NO_REWARDS` says of the others why not.
- Belief: of an agent that `TellsBelief`, the mean standard deviation of the task's embedding; 1 before the first
  episode, where the belief is N(0, I).
- Distance to the policy after the last n, KL(last | this) in nats per decision: 0 where nothing more is learned. Every
  learner with a density has it, whatever it knows the task by.

A learner that adapts by gradients takes its steps on the logged episodes, on a host with torch. On-policy learners
(MAML, PPO, MLSH, MAESN) assume that their own policy made the episodes. On a log of another one their step is biased,
and the section says so.

A logged command is turned into the latent that the space would have needed for it: exactly for raw and unit actions, by
search for skills (`adapt.takeover.find_latent`).

Axes: T steps, K decisions, H steps of a decision, O observation, A action, Z latent, C named choices, E embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.bundle import Bundle
from ...adapt.log_agent import lead
from ...adapt.runtime_agent import (
    PredictsReward,
    RandomNoise,
    RowEpisodes,
    RuntimeAgent,
    SeenRows,
    TellsBelief,
    WrappedAgent,
    repeat_rows,
)
from ...adapt.spaces import RowSpace
from ...adapt.takeover import find_latent
from ...robots.robot import Float
from .forced import LEAST_PROBABILITY, ConstantNoise, find_memory

NO_REWARDS = {
    "maesn": "What it learns of a task is an embedding that its policy alone reads.",
    "maml": "What it learns of a task are the parameters of its policy, which says nothing of rewards.",
    "mlsh": "What it learns of a task is which of its policies to use, which says nothing of rewards.",
    "pearl": "Its critics, which judge whole futures and not single rewards, are no part of a bundle.",
    "pearl-ft": "Its critics judge whole futures with a bonus for randomness, and tell no reward of one decision.",
    "ppo": "What it learns of a task are the parameters of its policy, which says nothing of rewards.",
    "recurrent-updater": "All that it knows of a task is a memory that its policy alone reads.",
    "rl2": "All that it knows of a task is a memory that its policy alone reads.",
    "sac": "Its critics judge whole futures with a bonus for randomness, and tell no reward of one decision.",
    "spirl": "Its critics judge whole futures with a bonus for the skill prior, and tell no reward of one decision.",
    "varibad": "This bundle has no decoder of whether a state is rewarded; it is there where variBAD was trained with "
    "reward_model bernoulli, and exported by this version.",
}
"""Why an agent of a kind predicts no rewards."""
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
        observation: Before each action, and where the last one led, shape (T + 1, O); where that is not known, (T, O):
            the last one stands in.
        action: Shape (T, A).
        reward: Of each step, shape (T,).
        terminated: The task ended with the last step.
    """
    starts = range(0, len(action), space.horizon)
    pieces = [slice(start, start + space.horizon) for start in starts]
    latent = [find_latent(space, observation[: len(action)][piece], action[piece]) for piece in pieces]
    places = [*starts, min(len(action), len(observation) - 1)]
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
        self._guide = bundle.make_guide()
        self._agent = self._lead(make_hosted(bundle, RandomNoise(rng)))
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

    def _lead(self, agent: RuntimeAgent) -> RuntimeAgent:
        """The agent, led by the logs of the bundle where there are some, as `supple adapt` has it."""
        return agent if self._guide is None else lead(agent, self._guide)

    def fork(self, noise: ConstantNoise | None = None) -> RuntimeAgent:
        """A copy that knows the same, at the begin of an episode that is to be as good as it can.

        Args:
            noise: Of its acting; what it draws before that is the middle.
        """
        noise = noise or ConstantNoise()
        value, noise.value = noise.value, 0.0
        fork = self._lead(self._bundle.make_agent(noise))
        fork.load_state(repeat_rows(self._agent.state(), 1))
        fork.begin_episode(explore=False)
        noise.value = value
        return fork

    def read_policy(self, episode: LoggedDecisions) -> Policy:
        """What it would choose at each decision of an episode."""
        quiet, shift = ConstantNoise(), ConstantNoise()
        shift.value = 1.0
        agent, loc, told = self.fork(quiet), list[Float](), list[NDArray[np.float64] | None]()
        quiet.take_probability()
        for latent in act_along(agent, episode):
            loc.append(latent)
            told.append(quiet.take_probability())
        middle = np.stack(loc)
        if agent.space.choices:
            known = [one.reshape(-1, one.shape[-1])[0] for one in told if one is not None]
            return Policy(middle, np.zeros_like(middle), np.stack(known) if len(known) == len(loc) else None)
        shifted = np.stack(list(act_along(self.fork(shift), episode)))
        return Policy(middle, shifted - middle)


class Policy(NamedTuple):
    """A policy along one episode."""

    loc: Float
    """Of each decision, or the likeliest choice, (K, Z)."""
    scale: Float
    """Its standard deviation, (K, Z); 0 where nothing is drawn, and of choices."""
    probability: NDArray[np.float64] | None = None
    """Of each named choice, (K, C); None for numbers, and where nothing is drawn."""

    @property
    def is_gaussian(self) -> bool:
        """Whether it has a density over latents."""
        return bool((self.scale > LEAST_SCALE).all())


def find_ability(agent: RuntimeAgent, ability: type[Any]) -> Any:
    """The agent that has an ability: this one, or one inside it; None where there is none."""
    while not isinstance(agent, ability):
        if not isinstance(agent, WrappedAgent):
            return None
        agent = agent.inside
    return agent


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
    """Nats per dimension of a latent, or per named choice; None where the policy has no density."""
    reward_nll: float | None
    """Nats per decision; None where the agent predicts no rewards."""


def predict_episode(learner: Learner, episode: LoggedDecisions, policy: Policy) -> Predicted:
    """The scores of an episode that the learner was not shown; it does not learn from it.

    Args:
        learner: After some episodes.
        episode: A later one.
        policy: What the learner would choose in it.
    """
    command = None
    if policy.probability is not None:
        chosen = policy.probability[np.arange(len(episode.latent)), episode.latent[:, 0].astype(np.int64)]
        command = float(-np.log(np.maximum(chosen, LEAST_PROBABILITY)).mean())
    elif policy.is_gaussian:
        scale = policy.scale.astype(np.float64)
        distance = (episode.latent - policy.loc) / scale
        command = float((0.5 * distance**2 + np.log(scale) + 0.5 * math.log(2.0 * math.pi)).mean())
    reward, teller = None, find_ability(learner.fork(), PredictsReward)
    if teller is not None:
        chance = teller.predict_rewarded(episode.observation[1:])[0].astype(np.float64)
        chance = np.clip(chance, 1e-6, 1.0 - 1e-6)
        reward = float(-np.log(np.where(episode.rewarded, chance, 1.0 - chance)).mean())
    return Predicted(command, reward)


def compute_distance(policy: Policy, last: Policy) -> float | None:
    """Mean over decisions of KL(last | policy), nats; None where one of them has no density.

    Args:
        policy: After n episodes.
        last: After more of them, along the same episode.
    """
    if policy.probability is not None and last.probability is not None:
        share, mine = (np.maximum(one, LEAST_PROBABILITY) for one in (last.probability, policy.probability))
        return float((share * np.log(share / mine)).sum(axis=-1).mean())
    if not (policy.is_gaussian and last.is_gaussian and policy.loc.shape == last.loc.shape):
        return None
    own, other = policy.scale.astype(np.float64), last.scale.astype(np.float64)
    apart = last.loc.astype(np.float64) - policy.loc
    divergence = np.log(own / other) + (np.square(other) + np.square(apart)) / (2.0 * np.square(own)) - 0.5
    return float(divergence.sum(axis=-1).mean())


def read_spread(learner: Learner) -> float | None:
    """Mean standard deviation of the belief about the task; None of an agent that tells none."""
    teller = find_ability(learner.fork(), TellsBelief)
    return None if teller is None else float(teller.read_belief().scale.mean())


def show_in_turn(
    bundle: Bundle, episodes: Sequence[LoggedDecisions], counts: Sequence[int], rng: np.random.Generator
) -> Iterator[Learner]:
    """The learner after each number of shown episodes; it is the same object, which goes on learning.

    Args:
        bundle: The learner.
        episodes: At least as many as the largest of `counts`; the longest one says how long they may be.
        counts: Numbers of shown episodes, increasing, from 0 on.
        rng: Of what the learner draws.
    """
    learner = Learner(bundle, rng, max(len(episode.latent) for episode in episodes))
    for number in range(max(counts) + 1):
        if number in counts:
            yield learner
        if number < max(counts):
            learner.show(episodes[number])


def rehearse_inference(
    learners: Iterator[Learner],
    rest: Sequence[LoggedDecisions],
    also: Callable[[Learner], Mapping[str, Any]] = lambda learner: {},
) -> list[dict[str, Any]]:
    """After each number of shown episodes: scores of later episodes, the belief, and what else is asked.

    Args:
        learners: See `show_in_turn`.
        rest: Episodes behind all that is shown.
        also: More that is told of the learner, as JSON.
    """
    found, policies = list[dict[str, Any]](), list[list[Policy]]()
    for learner in learners:
        policies.append([learner.read_policy(episode) for episode in rest])
        scores = [predict_episode(learner, *pair) for pair in zip(rest, policies[-1], strict=True)]
        record: dict[str, Any] = {"shown": learner.episodes, "belief": read_spread(learner)}
        for name in Predicted._fields:
            values = [getattr(one, name) for one in scores]
            known = [value for value in values if value is not None]
            record[name] = float(np.mean(known)) if known else None
        found.append({**record, **also(learner)})
    for record, told in zip(found, policies, strict=True):
        away = [compute_distance(*pair) for pair in zip(told, policies[-1], strict=True)]
        known = [value for value in away if value is not None]
        record["distance"] = float(np.mean(known)) if len(known) == len(away) else None
    return found
