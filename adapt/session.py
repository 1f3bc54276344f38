"""One robot, step by step: what a control loop calls, or a server for it. Any kind of bundle, numpy alone.

`loop.py` drives a robot; here the robot's program drives, and hands over what it saw:

    session = AgentSession(load_bundle("bundle"), seed=0)
    session.reset(task=True)
    while the episode lasts:
        action = session.act(observation)
        session.observe(reward)
    session.end_episode(observation, terminated=False)
    session.adapt()

A policy that sees takes the newest picture of the robot beside each observation: `session.act(observation, picture)`.

Every action is finite, within the limits of the contract, and within its rate limits of the action before; the first
one of the measured state. This checks what leaves the policy, and is no safety layer of the robot (`safety.py`).

Axes: O observation of the policy, M of these axes are measured by the robot, A action, K decisions of an episode,
Z latent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import RobotFault, RunError, SpecError
from ..robots.limits import RobotLimits
from ..robots.spec import ArraySpec
from .action_limits import ActionLimits, slow_down
from .bundle import Bundle
from .eye import Sight
from .log_agent import lead
from .networks import Array
from .novelty import NoveltyScorer
from .runtime_agent import Arrays, RandomNoise, RowEpisodes, SeenRows

if TYPE_CHECKING:
    from .background_learner import BackgroundLearner, Extra

ROW = np.zeros(1, np.int64)
Pay = Callable[[Array, Array], tuple[NDArray[Any], NDArray[Any]]]
"""`compute_reward` of `RobotBatch`."""
AGAIN = "call reset, which begins an episode"


def make_middle(spec: ArraySpec) -> Array:
    """An observation in the middle of its limits, 0 where there are none, (O,): to try a policy without a robot."""
    finite = np.isfinite(spec.low) & np.isfinite(spec.high)
    low, high = np.where(finite, spec.low, np.float32(0.0)), np.where(finite, spec.high, np.float32(0.0))
    return ((low + high) / 2.0).astype(np.float32)


class AgentSession:
    """The agent of a bundle on one robot."""

    def __init__(
        self,
        bundle: Bundle,
        *,
        seed: int = 0,
        greedy: bool = False,
        learner: BackgroundLearner | None = None,
        pay: Pay | None = None,
    ) -> None:
        """Before the first task.

        Args:
            bundle: A loaded bundle.
            seed: Of what the agent draws.
            greedy: Take the mean of the policy, or its likeliest choice, instead of a sample. What an agent explores by
                is the middle of its guesses then, too.
            learner: Learns instead of the session's agent, which takes no steps of gradients and goes on acting
                meanwhile; see `background_learner.py`.
            pay: Computes the rewards of tasks whose goal is told, so that the learner's guards can compare.

        Raises:
            SpecError: An action axis of the robot has no limits.
        """
        self.contract = bundle.contract
        """What the bundle promises."""
        self.measured = bundle.contract.measured
        """The axes of the observations that are handed over, (M,)."""
        self.image = bundle.contract.image
        """The picture that is handed over with each; None where the policy needs none."""
        self._sight: Sight | None = None
        if bundle.eye is not None and self.image is not None:
            self._sight = Sight(1, self.image, bundle.eye.settings, bundle.eye.weights)
        self._spec = spec = bundle.contract.robot
        self._limits = ActionLimits.of(spec)
        self._rng = np.random.default_rng(seed)
        self._noise = RandomNoise(self._rng)
        self._noise.quiet = greedy
        self._agent = bundle.make_agent(self._noise)
        self._learner, self._pay, self._fallen = learner, pay, False
        self._goal: Array | None = None
        guide = bundle.make_guide()
        if guide is not None:
            self._agent = lead(self._agent, guide, lambda: not self._fallen)
        self._playing = self._agent
        self._extra: Extra | None = None
        watched = learner is not None and bundle.novelty is not None
        self._scorer: NoveltyScorer | None = None
        if watched and bundle.novelty is not None:
            self._scorer = NoveltyScorer(bundle.novelty, bundle.contract.own_robot, 1)
        self._horizon = self._agent.space.horizon
        self._decisions = -(-spec.episode_steps // self._horizon)
        self._task = False
        self._running = False
        self.episodes = 0
        """Finished episodes of the task."""
        self._adaptations = 0

    @property
    def adaptations(self) -> int:
        """Steps of adaptation in the task."""
        return self._adaptations if self._learner is None else self._learner.adaptations

    @adaptations.setter
    def adaptations(self, count: int) -> None:
        if self._learner is None:
            self._adaptations = count
        else:
            self._learner.adaptations = count

    @property
    def has_task(self) -> bool:
        """Whether a task has begun."""
        return self._task

    @property
    def goal(self) -> list[float] | None:
        """Of the task; None where nobody told it."""
        return None if self._goal is None else [float(value) for value in self._goal[0]]

    @property
    def running(self) -> bool:
        """Whether an episode has begun and not ended."""
        return self._running

    @property
    def steps(self) -> int:
        """Control steps of the present or the last episode."""
        return self._steps if self._task else 0

    @property
    def learning(self) -> bool:
        """Whether an update is going on; what is done meanwhile is done by the policy before it."""
        return self._learner is not None and self._learner.learning

    @property
    def extra(self) -> bool:
        """Whether the present episode is one that guards asked for, or else the next one is to be."""
        present = self._extra if self._running or self._learner is None else self._learner.extra
        return present is not None

    @property
    def speed(self) -> float:
        """Share of what the policy asks for that the present or last episode had."""
        return 1.0 if self._extra is None else self._extra.speed

    def reset(self, *, task: bool = False, explore: bool = True, goal: ArrayLike | None = None) -> None:
        """Begins an episode; one that was not ended is forgotten.

        Args:
            task: Forget the task, too, and begin another. The first call always does.
            explore: False where the episode is to be as good as it can.
            goal: Of the task, shape (G,), from now on; no agent sees it. Guards refuse rewards that contradict it.

        Raises:
            RobotFault: Guards hold the robot for the rest of the task.
            SpecError: The goal has another shape, or is not within the limits of the contract.
        """
        self._running = False
        told = None if goal is None else self._spec.goal.require_one(goal, "reset")[None]
        if not task:
            self._require_free("reset")
        if task or not self._task:
            self.begin_task(goal=goal)
        elif self._learner is not None and (newest := self._learner.take_newest()) is not None:
            self._agent.load_state(newest)
        self._goal = self._goal if told is None else told
        # fixed for the episode, as the policy is
        self._fallen = self._learner is not None and self._learner.fallen
        self._extra = None if self._learner is None else self._learner.extra
        self._playing = self._agent if self._extra is None else self._extra.agent
        self._before = {name: value.copy() for name, value in self._agent.state().items()}
        self._playing.begin_episode(explore=explore and self._extra is None)
        self._explores = explore
        spec, count = self._spec, self._decisions
        self._observation = np.zeros((1, count + 1, *spec.observation.shape), np.float32)
        self._latent = np.zeros((1, count, self._agent.space.latent_dim), np.float32)
        self._reward = np.zeros((1, count), np.float32)
        self._range = np.array([[np.inf, -np.inf]], np.float32)
        self._steps, self._rewarded = 0, True
        self._clamped, self._scores, self._paid = 0, list[float](), list[Array]()
        self._last_reward, self._spoilt = 0.0, False
        self._running = True

    def begin_task(self, *, goal: ArrayLike | None = None) -> None:
        """Forgets the task, and begins another; `reset` does it where it is asked to.

        Args:
            goal: See `reset`.

        Raises:
            SpecError: See `reset`.
        """
        told = None if goal is None else self._spec.goal.require_one(goal, "reset")[None]
        self._running = False
        if self._learner is not None:
            self._learner.begin_task()
        self._agent.begin_task(1)
        self._task, self.episodes, self._adaptations = True, 0, 0
        self._goal = told

    def abandon(self) -> None:
        """Ends the episode where it is; nothing of it is learned."""
        self._running = False

    def spoil(self) -> None:
        """Something of the episode is not known, such as a reward that could not be read; nothing of it is learned."""
        self._spoilt = True

    def act(self, observation: ArrayLike, picture: NDArray[np.uint8] | None = None) -> Array:
        """The command for this control period, shape (A,), within limits and rate limits; a fresh array.

        Args:
            observation: Shape (M,), in the units and the order of the contract.
            picture: The newest one, uint8 of shape (height, width, channels), where the policy needs pictures.

        Raises:
            RobotFault: There is no episode, it is as long as the contract allows, guards hold the robot, or the command
                is not finite or not within reach of the measured state; the episode is over then.
            SpecError: The observation or the picture has another shape, or the observation is not finite.
        """
        if not self._running:
            raise RobotFault(f"act: expected an episode, got none; {AGAIN}")
        if self._steps == self._spec.episode_steps:
            raise RobotFault(f"act: expected at most {self._steps} steps in an episode, got one more; call end_episode")
        seen = self._see(observation, picture, "act")
        try:
            self._require_free("act")
            self._look(seen)
            sent = self._choose(seen)
        except BaseException:
            self._running = False
            self._forget_nonsense()
            raise
        self._rewarded = False
        self._steps += 1
        command: Array = sent[0].copy()
        return command

    def _see(self, observation: ArrayLike, picture: NDArray[np.uint8] | None, where: str) -> Array:
        """What the policy sees, (1, O): what the robot measured, and the features of its pictures."""
        measured = self.measured.validate(observation, where).reshape(1, -1)
        self.measured.require_rows(measured, 1, where)
        if self._sight is None or self.image is None:
            if picture is not None:
                raise SpecError(f"{where}: expected no picture, since the policy needs none, got one; leave it out")
            return measured
        if picture is None:
            raise SpecError(
                f"{where}: expected the newest picture beside the observation, uint8 of shape {self.image.shape}, got "
                "none; pass it, or take a policy that acts without pictures"
            )
        pictures = self.image.require_rows(np.asarray(picture)[None], 1, where)
        features = (self._sight.look if self._steps else self._sight.begin)(ROW, pictures)
        seen: Array = np.concatenate([measured, features], axis=-1)
        return seen

    def _choose(self, seen: Array) -> Array:
        decision, place = divmod(self._steps, self._horizon)
        with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
            if place == 0:
                self._observation[0, decision] = seen[0]
                last = self._reward[:, decision - 1] if decision else np.zeros(1, np.float32)
                latent = self._playing.act(SeenRows(seen, ROW, last))
                self._latent[0, decision] = latent[0]
                self._control = self._playing.space.hold(latent)
            asked = self._control(seen).astype(np.float32)
            if self.speed < 1.0:
                last_sent = self._sent if self._steps else self._spec.compute_resting(seen).astype(np.float32)
                asked = slow_down(RobotLimits.of(self._spec), asked, last_sent, self.speed)
            requested = asked.astype(np.float64)
        if not (np.isfinite(requested).all() and np.isfinite(self._latent).all()):
            raise RobotFault(
                f"act: expected a finite command, got {requested[0].tolist()}; stop: the observation is far outside of "
                "the training data"
            )
        if self._steps == 0:
            self._history = self._limits.start(self._spec.compute_resting(seen))
        sent, _ = self._limits.apply(requested, self._history)
        if not np.isfinite(sent).all():
            name = self._spec.action.names[int(np.argmin(np.isfinite(sent[0])))]
            raise RobotFault(
                f"act: expected a robot within one step of the limits of axis '{name}', got it further outside; move "
                "it there by hand"
            )
        self._clamped += int((sent != asked).any())
        self._sent: Array = sent
        return sent

    def _look(self, seen: Array) -> None:
        """What guards want to know of the step that led here, (1, O): how unknown it was, and what it should pay."""
        if self._learner is None:
            return
        measured = seen[:, : len(self.measured.axes)]
        if self._steps and self._pay is not None and self._goal is not None:
            computed = self._pay(measured, self._goal)[0].reshape(1)
            self._paid.append(np.stack([np.full(1, self._last_reward, np.float32), computed.astype(np.float32)]))
        if self._scorer is not None and self._steps:
            self._scores.append(float(self._scorer.score(ROW, self._sent, measured)[0]))
        elif self._scorer is not None:
            self._scorer.begin(ROW, measured)
        self._last_reward = 0.0

    def _forget_nonsense(self) -> bool:
        """Back to where the episode began, if what the agent knows is finite no more; whether it was so.

        One wild number of a sensor would else be the end of a memory or of a belief: sums with it stay without a value.
        """
        wild = {
            name
            for name, value in self._agent.state().items()
            if value.dtype.kind == "f" and not np.isfinite(value).all()
        }
        # an empty range is infinite at first
        if not wild - {name for name, value in self._before.items() if not np.isfinite(value).all()}:
            return False
        self._agent.load_state(self._before)
        return True

    def _require_free(self, what: str) -> None:
        if self._learner is not None and (reason := self._learner.held):
            raise RobotFault(
                f"{what}: expected a policy that does as it did, got none: {reason}; look at the robot, then begin a "
                "new task"
            )

    def observe(self, reward: float) -> None:
        """The reward of the control step that followed the last `act`; a step without a call paid nothing.

        Raises:
            RobotFault: No `act` came before, or the reward, or the sum of the episode's rewards, is not finite.
        """
        if not self._running or self._rewarded:
            raise RobotFault(f"observe: expected one reward after each act, got {reward!r:.40}; call act first")
        with np.errstate(over="ignore", invalid="ignore"):
            total = self._reward.sum() + np.float32(reward)
        if not np.isfinite(total):
            self.spoil()
            wanted = "a finite reward, and a finite sum of those of the episode"
            raise RobotFault(f"observe: expected {wanted}, got {reward!r:.40}; check the reward")
        self._reward[0, (self._steps - 1) // self._horizon] += reward
        low, high = self._range[0]
        self._range[0] = min(low, reward), max(high, reward)
        self._last_reward = reward
        self._rewarded = True

    def end_episode(
        self,
        observation: ArrayLike,
        picture: NDArray[np.uint8] | None = None,
        *,
        terminated: bool,
        success: bool | None = None,
    ) -> dict[str, Any]:
        """The agent takes in the episode.

        Args:
            observation: Where it ended, shape (M,).
            picture: Where it ended; see `act`.
            terminated: The task ended it; else a time limit or a person did.
            success: Whether the task was solved; None where nobody knows.

        Returns:
            Number of the episode, steps, decisions, return, whether it is learned from, and whether it was an extra
            one.

        Raises:
            RobotFault: There is no episode with a step in it.
            SpecError: See `act`.
        """
        if not self._running or not self._steps:
            raise RobotFault(f"end_episode: expected an episode with a step in it, got none; {AGAIN}, then act")
        seen = self._see(observation, picture, "end_episode")
        length = -(-self._steps // self._horizon)
        self._observation[0, length] = seen[0]
        ranged = np.isfinite(self._range).all()
        played = RowEpisodes(
            observation=self._observation,
            latent=self._latent,
            reward=self._reward,
            length=np.array([length]),
            terminated=np.array([terminated]),
            steps=np.array([self._steps]),
            reward_range=self._range if ranged else np.zeros((1, 2), np.float32),
            success=None if success is None else np.array([success]),
        )
        learned = self._extra is None and not self._spoilt
        if self._spoilt:
            pass  # an extra episode is asked for again
        elif self._learner is None:
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is found below
                self._agent.observe(played)
            learned = not self._forget_nonsense()
        else:
            from .guards import Play, Signals, compute_agreement  # a control process without a learner starts faster

            self._look(seen)
            unknown = float(np.mean(self._scores)) if self._scores else math.nan
            agreement = compute_agreement(self._paid)
            play = Play(played, Signals(self._clamped / self._steps, unknown, agreement=agreement))
            if self._extra is None:
                learned = self._learner.observe(play, self._agent, explore=self._explores)
            else:
                self._learner.give(play)
        self._running = False
        self.episodes += self._extra is None
        total = float(self._reward.sum(dtype=np.float64))
        told = {"episode": self.episodes, "steps": self._steps, "decisions": length, "return": total}
        return told | {"learned": learned, "extra": self._extra is not None}

    def adapt(self) -> None:
        """One step of adaptation to the episodes since the last one; with a learner, its begin.

        Raises:
            RunError: There is no task, or an episode or another step is under way.
        """
        self._require_between("adapt")
        if self._learner is None:
            self._agent.adapt()
            self.adaptations += 1
        else:
            self._learner.adapt()

    def finish(self) -> None:
        """Has guards judge a policy that no episode has judged yet, as at the end of `supple adapt`; else nothing.

        They ask for extra episodes. See `adapt` for errors.
        """
        self._require_between("finish")
        if self._learner is not None:
            self._learner.finish()

    def state(self) -> dict[str, NDArray[Any]]:
        """All that the agent knows of the task; see `adapt` for errors."""
        self._require_between("state")
        return self._agent.state() if self._learner is None else self._learner.state()

    def load_state(self, arrays: Arrays) -> None:
        """Back to where `state` was taken; an update that is going on ends.

        Raises:
            RunError: An episode is under way, or the state is not one of this agent's.
        """
        self._require_between("load_state")
        if self._learner is None:
            self._agent.load_state(arrays)
        else:
            self._learner.load_state(arrays)

    def whole_state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything that the next episode depends on, but for what its learner has: arrays, and JSON facts.

        Taken between two episodes of a task; an update may be going on, see `BackgroundLearner.whole_state`.
        """
        self._require_between("whole_state")
        return self._agent.state(), {
            "rng": self._rng.bit_generator.state,
            "episodes": self.episodes,
            "adaptations": self._adaptations,
            "goal": self.goal,
            "taken": 0 if self._learner is None else self._learner.taken,
            "given": 0 if self._learner is None else self._learner.given,
        }

    def load_whole_state(self, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Goes on where `whole_state` was taken; its learner has been brought there before.

        Raises:
            RunError: The state is not one of this agent's.
            KeyError: It lacks a part.
            SpecError: Its goal is none of the robot's.
        """
        goal = facts["goal"]
        self._goal = None if goal is None else self._spec.goal.require_one(goal, "session")[None]
        self._agent.begin_task(1)
        self._agent.load_state(arrays)
        self._rng.bit_generator.state = facts["rng"]
        self.episodes, self._adaptations = int(facts["episodes"]), int(facts["adaptations"])
        if self._learner is not None:
            self._learner.taken = int(facts["taken"])
        self._task, self._running = True, False

    def _require_between(self, what: str) -> None:
        if self._running or not self._task:
            got = "one under way" if self._running else "none at all"
            raise RunError(f"{what}: expected to be between two episodes of a task, got {got}; end the episode first")
