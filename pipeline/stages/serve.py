"""Stage `serve`: a session of a policy server that outlives its process.

While it serves, the work folder holds the newest two checkpoints of the session, its snapshots and what was known of
each task that ended, and `metrics.jsonl` a record for each episode and for what the guards did. The stage does not end
by itself. Where it is finished, it writes `records.jsonl` and `returns.json` as the stage `adapt` does, and a bundle of
each task's policy in `policies/<index of the task>/`.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from time import sleep
from typing import Any, Literal, NamedTuple

import numpy as np

from ...adapt.background_learner import BackgroundLearner
from ...adapt.bundle import Bundle, load_bundle
from ...adapt.guard_config import GuardConfig
from ...adapt.guards import guard_agent
from ...adapt.log_agent import lead
from ...adapt.policy_change import make_acting
from ...adapt.remote.server import SNAPSHOT, TASK, Keeper, PolicyServer, Record, State, read_known
from ...adapt.runtime_agent import Noise, RandomNoise, RuntimeAgent
from ...adapt.session import AgentSession, Pay
from ...errors import BundleError, RunError
from ...plain_files import write_durably
from ...robots.family import Hardware, make_simulator
from ..folder import write_record
from ..interrupt import Interrupted
from ..metrics import load_metrics
from ..robots import RobotChoice
from ..stage import Stage, Work
from .adapt import POLICIES, RECORDS_NAME, RETURNS_NAME, compute_returns, find_robot_of, strip, to_tensors

Listen = Callable[[PolicyServer], None]
"""Answers clients until somebody asks this process to stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How a session acts and learns."""

    greedy: bool = False
    """The mean of the policy in place of a sample."""
    learn: bool = False
    """It takes steps of gradients, in a process beside."""
    guard: Literal["on", "off"] = "on"
    """Guard every update."""
    guards: GuardConfig = field(default_factory=GuardConfig)
    """Their limits."""
    robot: RobotChoice | None = None
    """Whose rewards the guards compare; without it, the robot of the bundle where it is built in."""


@contextmanager
def open_policy(serving: Serving, folder: Path, seed: int, keeper: Keeper | None = None) -> Iterator[PolicyServer]:
    """A server's policy; what learns ends with the context.

    Args:
        serving: How it acts and learns.
        folder: Of the bundle.
        seed: Of what the agent draws.
        keeper: Writes down what the session is.

    Raises:
        BundleError: The bundle is damaged, or made for another robot than the named one.
    """
    bundle = load_bundle(folder)
    robot = bundle.contract.robot
    facts: dict[str, Any] = {
        "bundle": bundle.digest,
        "kind": bundle.contract.kind,
        "control_period": robot.control_period,
        "episode_steps": robot.episode_steps,
        "observation": [[axis.name, axis.unit] for axis in bundle.contract.measured.axes],
        **({} if bundle.contract.image is None else {"picture": list(bundle.contract.image.shape)}),
        "action": [[axis.name, axis.unit] for axis in robot.action.axes],
    }
    guarded = serving.guard == "on"
    with ExitStack() as stack:
        learner, pay = None, None
        if serving.learn and not bundle.task and (bundle.kind.hosted or guarded):
            learner = stack.enter_context(
                open_learner(folder, bundle, serving.guards, seed, guarded=guarded, greedy=serving.greedy)
            )
            pay = open_pay(bundle, serving.robot, stack) if guarded else None
            facts["knows_rewards"] = pay is not None
        session = AgentSession(bundle, seed=seed, greedy=serving.greedy, learner=learner, pay=pay)
        adapts = learner is not None or not bundle.kind.hosted
        yield PolicyServer(session, facts, adapts=adapts, learner=learner, keeper=keeper)


def open_pay(bundle: Bundle, named: RobotChoice | None, stack: ExitStack) -> Pay | None:
    """The rewards of the robot's family; None where nobody named it, or where it is a real one.

    Raises:
        BundleError: The named robot is not the bundle's.
    """
    try:
        family = find_robot_of(bundle, named).family
    except BundleError:
        if named is not None:
            raise
        return None
    if isinstance(family, Hardware):
        return None
    return stack.enter_context(closing(make_simulator(family, 1))).compute_reward


@contextmanager
def open_learner(
    folder: Path, bundle: Bundle, guards: GuardConfig, seed: int, *, guarded: bool, greedy: bool = False
) -> Iterator[BackgroundLearner]:
    """A learner beside; where it takes steps of gradients, a child takes them. It ends with the context.

    Args:
        folder: Of the bundle.
        bundle: The same, loaded.
        guards: Limits of its updates.
        seed: Of what the learner draws.
        guarded: Guard them. Without, only the longest time of an update counts.
        greedy: Extra episodes are played by the mean of a policy, as all others are.
    """
    rng, guide = np.random.default_rng([seed, 1]), bundle.make_guide()

    def make_copy(noise: Noise) -> RuntimeAgent:
        if greedy and isinstance(noise, RandomNoise):
            noise.quiet = True
        return bundle.make_agent(noise)

    with ExitStack() as stack:
        fast = True
        if bundle.kind.hosted:
            from ...adapt.host.hosts import HOSTS, make_hosted
            from ...adapt.updates import BesideAgent, UpdateChild

            fast = not HOSTS[bundle.contract.kind].while_observing
            child = stack.enter_context(closing(UpdateChild(folder, bundle, guards.update_seconds)))

        def make_agent(learner: BackgroundLearner) -> RuntimeAgent:
            agent: RuntimeAgent
            if bundle.kind.hosted:
                hosted, verbs = make_hosted(bundle, RandomNoise(rng)), ("adapt",) if fast else ("observe",)
                agent = BesideAgent(hosted, child, rng, learner.go_on, verbs=verbs)
            else:
                agent = bundle.make_agent(RandomNoise(rng))
            if guarded:
                agent = learner.guards = guard_agent(
                    *(agent, bundle, guards),
                    play=learner.play,
                    read_signals=learner.take_signals,
                    hold=learner.hold,
                    make_agent=make_copy,
                    seed=seed,
                )
            return agent if guide is None else lead(agent, guide)

        learner = BackgroundLearner(make_agent, rng, off_policy=bundle.kind.off_policy, observes_fast=fast)
        yield stack.enter_context(closing(learner))


class Session(NamedTuple):
    """What was kept of a session."""

    arrays: State
    facts: dict[str, Any]
    snapshots: dict[str, State]


class SessionFolder:
    """Keeps a session in the work folder of its stage; see `Keeper`."""

    def __init__(self, work: Work) -> None:
        """Takes the work of a stage."""
        self._work = work
        self._folder = work.folder / "checkpoint"
        self._waiting: deque[Record] = deque()
        self._written: set[str] = set()
        self._failed = False

    def _name(self, name: str) -> Path:
        return self._folder / f"{name}.safetensors"

    def restore(self) -> Session | None:
        """What was kept last; None where nothing was. A snapshot that is damaged is left out, and that is said.

        Raises:
            RunError: What was kept is damaged.
        """
        from ...skills.checkpoint import load_checkpoint, save_checkpoint

        checkpoint = self._work.restore(save_checkpoint, load_checkpoint)
        if checkpoint is None:
            return None
        facts, snapshots = dict(checkpoint.facts), {}
        for number, *_ in facts.get("snapshots", []):
            try:
                snapshots[f"{SNAPSHOT}{number}"] = load_arrays(self._name(f"{SNAPSHOT}{number}"))
            except RunError as error:
                self._work.view.note(f"serve: snapshot {number} is left out: {error}")
        facts["snapshots"] = [told for told in facts.get("snapshots", []) if f"{SNAPSHOT}{told[0]}" in snapshots]
        self._written = {*snapshots, *(f"{TASK}{task}" for task in range(1, int(facts.get("tasks", 1))))}
        for path in (*self._folder.glob(f"{SNAPSHOT}*"), *self._folder.glob(f"{TASK}*")):
            if path.stem not in self._written:  # of after this checkpoint: their names are given again
                path.unlink()
        return Session({name: value.numpy() for name, value in checkpoint.tensors.items()}, facts, snapshots)

    def keep(
        self, arrays: State, facts: Mapping[str, Any], copies: Mapping[str, State], records: Sequence[Record]
    ) -> None:
        """See `Keeper.keep`; a person is told where it fails."""
        self._waiting.extend(records)
        try:
            self._write(arrays, facts, copies)
        except Exception as error:
            if not self._failed:
                self._tell(f"nothing is kept any more, and the robot goes on: {error}")
            self._failed = True
            raise
        if self._failed:
            self._tell("all is kept again")
        self._failed = False

    def _tell(self, text: str) -> None:
        with suppress(OSError, ValueError):  # a terminal that has gone is no reason not to keep
            self._work.view.note(f"serve: {text}")

    def _write(self, arrays: State, facts: Mapping[str, Any], copies: Mapping[str, State]) -> None:
        from ...skills.checkpoint import save_checkpoint

        self._folder.mkdir(exist_ok=True)
        for name in [name for name in copies if name not in self._written]:
            save_checkpoint(self._name(name), to_tensors(copies[name]), {})
            self._written.add(name)
        while self._waiting:
            self._work.metrics.append(self._waiting[0])
            self._waiting.popleft()
        self._work.save(lambda: (to_tensors(arrays), facts))
        for name in [name for name in self._written if name.startswith(SNAPSHOT) and name not in copies]:
            self._name(name).unlink(missing_ok=True)
            self._written.remove(name)

    def load_tasks(self, session: Session) -> dict[int, State]:
        """What was known of each task at its end, or is known now, by its number from 1 on; none without an episode.

        Raises:
            RunError: A file is damaged.
        """
        count = int(session.facts["tasks"])
        found = {task: self._name(f"{TASK}{task}") for task in range(1, count)}
        tasks = {task: load_arrays(path) for task, path in found.items() if path.is_file()}
        if session.facts["session"]["episodes"]:
            tasks[count] = read_known(session.arrays)
        return tasks


def load_arrays(path: Path) -> State:
    """The arrays of a checkpoint; see `load_checkpoint` for errors."""
    from ...skills.checkpoint import load_checkpoint

    return {name: value.numpy() for name, value in load_checkpoint(path)[0].items()}


def make_serve(path: Path, serving: Serving, seed: int, listen: Listen, *, finish: bool = False) -> Stage:
    """The stage.

    Args:
        path: A bundle.
        serving: How the session acts and learns.
        seed: Of what the agent draws.
        listen: Answers clients.
        finish: Ends the session in place of serving it.
    """
    plain = {name: getattr(serving, name) for name in ("greedy", "learn", "guard", "guards")}
    robot = None if serving.robot is None else serving.robot.record
    return Stage(
        name="serve",
        config={**plain, "robot": robot},
        inputs={"bundle": path},
        seed=seed,
        module=("pipeline/stages/serve.py", "adapt/host/update_child.py"),
        libraries=("numpy", "torch", "safetensors"),
        body=partial(serve, serving, None if finish else listen),
    )


def serve(serving: Serving, listen: Listen | None, work: Work) -> None:
    """Goes on with the session until somebody asks to stop; or finishes it, where nobody is to be listened to.

    Raises:
        Interrupted: Somebody asked to stop; all is kept.
        RunError: There is no session to finish, or it is damaged.
    """
    import torch

    torch.set_num_threads(work.machine.threads)
    work.machine = replace(work.machine, tensorboard=False)  # it takes a second to load, while a client waits
    kept = SessionFolder(work)
    session = kept.restore()
    if listen is None:
        finish(work, kept, session, serving)
        return
    with open_policy(serving, work.inputs["bundle"], work.seed, kept) as policy:
        if session is not None:
            policy.load_whole_state(*session)
            first = "; an update is taken first" if policy.health()["learning"] else ""
            work.view.note(
                f"serve: the session goes on after {policy.health()['episodes']} episodes of task "
                f"{session.facts['tasks']}; an episode that was under way is lost{first}"
            )
            while policy.health()["learning"] and not work.stop:  # else the next episode had the policy before
                sleep(0.02)
            policy.keep_learned()
        if not work.stop:
            listen(policy)
        episodes = policy.health()["episodes"]
    raise Interrupted("serve", episodes, work.stop.signal or 2)


def finish(work: Work, kept: SessionFolder, session: Session | None, serving: Serving) -> None:
    """Writes records, returns and a bundle of each task's policy.

    Raises:
        RunError: There is no session, or none with an episode.
    """
    from ...adapt.host.plain_policy import write_task_policy

    tasks = {} if session is None else kept.load_tasks(session)
    if session is None or not tasks:
        raise RunError(
            f"{work.stage.folder}: expected a session with an episode to finish, got none; serve without --finish first"
        )
    learner = session.facts.get("learner", {})
    if learner.get("updates"):
        work.view.note("serve: an update has not ended, or waits for an extra episode; the policy before it is written")
    if learner.get("unjudged"):
        work.view.note(
            "serve: the guards have not judged the newest policy by an episode; call finish of the client, and play "
            "what it asks for, before --finish"
        )
    bundle = load_bundle(work.inputs["bundle"])
    records = [tell_stage(strip(record), bundle) for record in load_metrics(work.metrics.path)]
    text = "".join(json.dumps(record, allow_nan=False) + "\n" for record in records)
    write_durably(work.folder / RECORDS_NAME, text.encode())
    write_record(work.folder / RETURNS_NAME, compute_returns(records, bundle))
    guide = bundle.make_guide()

    def make_fork(noise: Noise) -> RuntimeAgent:
        copy = bundle.make_agent(noise)
        if isinstance(noise, RandomNoise):
            noise.quiet = serving.greedy
        return copy if guide is None else lead(copy, guide)

    (work.folder / POLICIES).mkdir()
    for task, state in tasks.items():
        goals = [record["goal"] for record in records if record["task"] == task and "goal" in record]
        final = make_acting(make_fork, state, RandomNoise(np.random.default_rng(work.seed)))
        source = {"adapted_from": bundle.digest, "task": str(task), "goal": goals[-1] if goals else []}
        write_task_policy(work.folder / POLICIES / str(task - 1), bundle, final, 0, source)


def tell_stage(record: Record, bundle: Bundle) -> Record:
    """An episode's record with its place in a round of the budget, as `loop.py` tells it."""
    if record["kind"] != "episode":
        return record
    budget, place = bundle.contract.budget, int(record["episode"]) - 1
    place = place % budget.episodes if budget.adapt_steps else place
    return {**record, "stage": "explore" if place < budget.exploration_episodes else "play"}
