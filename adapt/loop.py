"""Episodes and adaptation with an agent of the numpy runtime, without torch: what a robot cell runs.

`run_episode` is the rollout loop of `meta/collect.py` on numpy arrays; `Adapter` plays episodes with N tasks
side by side, one row of the robot each, and grants steps of adaptation between them. One row is the case of a real
robot. A state taken between two episodes resumes exactly. `Adapter.evaluate` plays further episodes with a fork
of the agent, which leaves the adaptation as it is.

Axes: N tasks, B repeats of a task, R rows, r rows still running, K decisions, O observation, Z latent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, RobotFault, RunError, make_text
from ..robots.robot import Float, Holds, RobotBatch, Stops
from ..robots.task import Task, goals_of
from .contract import Budget
from .densities import DensityNoise
from .eye import SeeingRobots
from .policy_change import choose_states
from .runtime_agent import Arrays, Noise, RowEpisodes, RuntimeAgent, SeenRows, TellsDensity, repeat_rows
from .takeover import relabel
from .watch import find_watch

Record = dict[str, Any]
AGENT, PLAYED = "agent.", "played."
"""What begins so in a state belongs to the agent, or to an episode that was played and not learned from yet."""
_TAKEN, _BEFORE, _STATES = "takeover.steps", "takeover.before.", "states"


def run_episode(robot: RobotBatch, agent: RuntimeAgent, goals: Float, rng: np.random.Generator) -> RowEpisodes:
    """Runs one episode in the first `len(goals)` rows; the agent has been told that it begins.

    A robot that `Holds` is held at the end: it would follow its last command while the agent learns, or while a person
    is asked. A robot that `Stops` is stopped at once where the agent raises, or a person interrupts.

    Args:
        robot: At least as many rows as goals.
        agent: Chooses.
        goals: Shape (R, G).
        rng: Source of what is random in the robot.

    Raises:
        RobotFault: The agent chose what is not finite.
    """
    try:
        played = _run_episode(robot, agent, goals, rng)
        if isinstance(robot, Holds):
            robot.hold()
        return played
    except BaseException as error:
        if isinstance(robot, Stops):
            try:
                robot.stop(f"the episode was cut off: {type(error).__name__} {make_text(error)}".rstrip())
            except RobotFault as problem:  # it is no more than the first error, and no less
                if str(problem) != str(error) and not getattr(error, "__notes__", ()):
                    error.add_note(str(problem))
        raise


def _run_episode(robot: RobotBatch, agent: RuntimeAgent, goals: Float, rng: np.random.Generator) -> RowEpisodes:
    rows, space, spec, watch = len(goals), agent.space, robot.spec, find_watch(robot)
    decisions = -(-spec.episode_steps // space.horizon)
    active = np.arange(rows)
    now = robot.reset(active, goals, rng)
    observation = np.zeros((rows, decisions + 1, now.shape[1]), np.float32)
    latent = np.zeros((rows, decisions, space.latent_dim), np.float32)
    reward = np.zeros((rows, decisions), np.float32)
    length, steps = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    terminated = np.zeros(rows, np.bool_)
    lowest, highest = np.full(rows, np.inf, np.float32), np.full(rows, -np.inf, np.float32)
    success: NDArray[np.bool_] | None = None
    observation[:, 0] = now
    for decision in range(decisions):
        last = reward[active, decision - 1] if decision else np.zeros(len(active), np.float32)
        seen = SeenRows(now.copy(), active, last)
        chosen = agent.act(seen)
        if not np.isfinite(chosen).all():
            raise RobotFault(
                f"agent: expected finite choices, got {np.array2string(chosen, threshold=8)}; stop: the observation is "
                "far outside of the training data"
            )
        latent[active, decision] = chosen
        if watch is not None and isinstance(agent, TellsDensity):
            asked, volume = space.ask(chosen)
            watch.note_choice(active, asked, agent.read_log_prob(seen, chosen) - volume)
        length[active] += 1
        running, control = np.ones(len(active), np.bool_), space.hold(chosen)
        for _ in range(min(space.horizon, spec.episode_steps - decision * space.horizon)):
            index = active[running]
            result = robot.step(index, control(now)[running].astype(np.float32))
            now[running] = result.observation
            reward[index, decision] += result.reward
            lowest[index] = np.minimum(lowest[index], result.reward)
            highest[index] = np.maximum(highest[index], result.reward)
            if result.success is not None:
                success = np.zeros(rows, np.bool_) if success is None else success
                success[index] |= result.success
            steps[index] += 1
            terminated[index] = result.terminated
            running[running] = ~(result.terminated | result.truncated)
            if not running.any():
                break
        observation[active, decision + 1] = now
        active, now = active[running], now[running]
        if not len(active):
            break
    reward_range = np.stack([lowest, highest], axis=1)
    return RowEpisodes(observation, latent, reward, length, terminated, steps, reward_range, success)


class Evaluation(NamedTuple):
    """Extra episodes of N tasks."""

    returns: NDArray[np.float64]
    """Shape (N, B)."""
    success: NDArray[np.bool_] | None
    """Shape (N, B); None where the robot does not tell."""


class Adapter:
    """Plays episodes of N tasks and lets the agent adapt between them; see the module's docstring."""

    def __init__(
        self,
        agent: RuntimeAgent,
        robot: RobotBatch,
        tasks: Sequence[Task],
        budget: Budget,
        episodes: int,
        rng: np.random.Generator,
        *,
        make_fork: Callable[[Noise], RuntimeAgent] | None = None,
        off_policy: bool = False,
    ) -> None:
        """Starts before the first episode.

        Args:
            agent: Draws its noise from `rng` too, so that one state holds both.
            robot: At least N rows.
            tasks: What to adapt to.
            budget: Episodes of a round; a step of adaptation is due between two rounds where the agent has any.
            episodes: Per task, in all.
            rng: Source of all that is random.
            make_fork: Makes another agent of the same bundle, which acts with the given noise; for `evaluate`.
            off_policy: The agent learns from steps that a person commanded. Of one that does not, an episode with such
                steps is forgotten and does not count.

        Raises:
            ConfigError: The robot has fewer rows than there are tasks.
        """
        if robot.rows < len(tasks):
            raise ConfigError(
                f"adaptation to {len(tasks)} tasks: expected as many robot rows, got {robot.rows}; make more rows"
            )
        self._make_fork, self._off_policy = make_fork, off_policy
        self.agent, self.robot, self.budget, self.episodes = agent, robot, budget, episodes
        self.tasks, self.goals = tuple(tasks), goals_of(tasks)
        self.rng = rng
        self.episode = 0
        self.states: Float = np.zeros((len(self.tasks), 0, len(robot.spec.observation.axes)), np.float32)
        """States of the last episode that was learned from, raw, shape (N, M, O); M is 0 before."""
        self._played: RowEpisodes | None = None
        self._taken_over = 0  # steps of that episode
        self._before: Arrays | None = None
        self.agent.begin_task(len(self.tasks))

    def run(self) -> Iterator[list[Record]]:
        """Runs to the last episode, yielding one record per task for each."""
        while self.episode < self.episodes:
            yield self.round()

    def round(self) -> list[Record]:
        """One episode per task, after a step of adaptation where one is due."""
        self.play()
        return self.learn()

    def play(self) -> None:
        """The first half of a round: a step of adaptation where one is due, and the episode; nothing if that is done.

        A state that is taken now holds the episode, so that a kill while the agent learns from it does not lose it.
        """
        if self._played is None:
            if self.budget.adapt_steps and self._place == 0 and self._step > 0:
                self.agent.adapt()
            watch = find_watch(self.robot)
            if watch is not None and not watch.has_operator:
                watch = None
            if watch is not None and not self._off_policy:
                self._before = self.agent.state()
            self.agent.begin_episode()
            played = run_episode(self.robot, self.agent, self.goals, self.rng)
            over = None if watch is None else watch.find_taken_over()
            if over is not None and isinstance(self.robot, SeeingRobots):
                over = over._replace(observation=self.robot.see_path(over.observation))
            self._taken_over = 0 if over is None else int(over.taken.sum())
            self._played = played if over is None else relabel(self.agent.space, played, over)

    @property
    def _place(self) -> int:
        return self.episode % self.budget.episodes

    @property
    def _step(self) -> int:
        return self.episode // self.budget.episodes

    def learn(self) -> list[Record]:
        """The second half of a round: the agent takes in the episode.

        Raises:
            RunError: No episode was played.
        """
        if self._played is None:
            raise RunError("adaptation: expected an episode to learn from, got none; call play first")
        place, step, played = self._place, self._step, self._played
        helped: Record = {}
        if self._taken_over:
            helped = {"taken_over": self._taken_over, "learned": self._off_policy}
        if self._taken_over and not self._off_policy and self._before is not None:
            self.agent.load_state(self._before)
        else:
            self.agent.observe(played)
            self.episode += 1
        self.states = choose_states(played)
        self._played, self._taken_over = None, 0
        # without steps of adaptation there is one round, however long
        explores = (place if self.budget.adapt_steps else self.episode - 1) < self.budget.exploration_episodes
        return [
            {
                "stage": "explore" if explores else "play",
                "episode": self.episode,
                "adaptations": step if self.budget.adapt_steps else 0,
                "task": task.name,
                "goal": list(task.goal),
                "return": float(played.reward[row].sum(dtype=np.float64)),
                "steps": int(played.steps[row]),
                "terminated": bool(played.terminated[row]),
                **({} if played.success is None else {"success": bool(played.success[row])}),
                **(helped if row == 0 else {}),
            }
            for row, task in enumerate(self.tasks)
        ]

    def fork(self, noise: Noise, repeats: int = 1) -> RuntimeAgent:
        """Another agent that knows what this one knows, at the begin of an episode that is to be as good as it can.

        It acts, and learns nothing of what a host would learn.

        Args:
            noise: Its own.
            repeats: Consecutive rows in the task of each row.

        Raises:
            RunError: The adapter was made without a way to fork its agent.
        """
        if self._make_fork is None:
            raise RunError("adaptation: expected an agent that can be forked, got none; give the adapter make_fork")
        fork = self._make_fork(noise)
        fork.load_state(repeat_rows(self.agent.state(), repeats))
        fork.begin_episode(explore=False)
        return fork

    def evaluate(self, repeats: int, seed: int, *, greedy: bool) -> Evaluation:
        """Plays extra episodes with the policies as they stand; for simulators, which have rows to spare.

        A fork of the agent plays, with noise of its own: nothing of the adaptation changes, random states included.

        Args:
            repeats: Episodes of each task, B; > 0.
            seed: The same seed gives the same episodes after the same number of episodes.
            greedy: Take the mean of the policy, or its likeliest choice.

        Raises:
            RunError: The adapter was made without a way to fork its agent.
        """
        rng = np.random.default_rng(np.random.SeedSequence([seed, self.episode, int(greedy)]))
        most = max(1, self.robot.rows // len(self.tasks))
        returns, success = [], []
        for begin in range(0, repeats, most):
            count, noise = min(most, repeats - begin), DensityNoise(rng)
            fork = self.fork(noise, count)
            noise.quiet = greedy
            played = run_episode(self.robot, fork, np.repeat(self.goals, count, axis=0), rng)
            returns.append(played.reward.sum(axis=1, dtype=np.float64).reshape(-1, count))
            if played.success is not None:
                success.append(played.success.reshape(-1, count))
        return Evaluation(np.concatenate(returns, axis=1), np.concatenate(success, axis=1) if success else None)

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Everything that the next episode depends on: arrays by name, and JSON facts."""
        arrays = {f"{AGENT}{name}": value for name, value in self.agent.state().items()}
        if self._played is not None:
            found = self._played._asdict().items()
            arrays |= {f"{PLAYED}{name}": value for name, value in found if value is not None}
            arrays[_TAKEN] = np.array([self._taken_over])
            arrays |= {f"{_BEFORE}{name}": value for name, value in (self._before or {}).items()}
        arrays[_STATES] = self.states
        goals = [list(task.goal) for task in self.tasks]
        return arrays, {"episode": self.episode, "rng": self.rng.bit_generator.state, "tasks": goals}

    def load_state(self, arrays: Arrays, facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other tasks.
        """
        if facts.get("tasks") != [list(task.goal) for task in self.tasks]:
            raise RunError("adaptation checkpoint: expected this run's tasks, got others; start a new run folder")
        try:
            self.rng.bit_generator.state = facts["rng"]
            self.episode = int(facts["episode"])
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(f"adaptation checkpoint: expected a whole state, got {error}; start again") from error
        played = {n.removeprefix(PLAYED): v for n, v in arrays.items() if n.startswith(PLAYED)}
        before = {n.removeprefix(_BEFORE): v for n, v in arrays.items() if n.startswith(_BEFORE)}
        self._taken_over, self._before = int(arrays[_TAKEN][0]) if _TAKEN in arrays else 0, before or None
        self._played = RowEpisodes(**played) if played else None
        self.states = arrays.get(_STATES, self.states)
        self.agent.load_state({n.removeprefix(AGENT): v for n, v in arrays.items() if n.startswith(AGENT)})
