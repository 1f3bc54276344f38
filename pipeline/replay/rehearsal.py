"""Adaptation rehearsed on a log: what the bundle would infer from the first episodes, and how many it will need.

`task_inference` shows the log to the agent; `episodes_needed` predicts from the recorded adaptations of the bundle to
other tasks: `records.jsonl` of a stage `adapt`, such as the one of the run that the bundle is from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.spaces import RowSpace
from ...datasets.episode import Episode
from ...errors import ConfigError, RunError
from ...robots.family import TellsSuccess
from ...strict_json import load_json_lines
from ..report.measure import format_number
from ..report.tables import NUMBER, Table
from ..settings.off_policy import OffPolicyConfig
from ..settings.replay import RehearsalConfig
from ..stages.adapt import RECORDS_NAME
from .episodes_needed import (
    LEAST,
    LEVEL,
    Calibration,
    Needed,
    calibrate,
    compute_distances,
    find_bound,
    find_needed,
    predict_needed,
    rank_bundles,
    summarise,
)
from .open_loop import read_reward
from .predicted_return import estimate_return, read_later
from .rewards import Rewarded, RewardReader, cut_off, find_rewards
from .section import Ground, Level, Replay, Section, TitledTable
from .task_inference import NO_REWARDS, Learner, LoggedDecisions, find_decisions, rehearse_inference, show_in_turn

if TYPE_CHECKING:
    from ...skills.model import SkillModel

PART, TITLE, SALT = "rehearsal", "Adaptation rehearsal", 4
TRUSTED, DOUBTED = 0.8, 0.3
"""Probabilities of reaching the task within the recorded episodes, from which the verdict is trust, or caution."""
ON_POLICY = ("maesn", "maml", "mlsh", "ppo")
"""Kinds that learn from episodes of their own policy alone."""
NO_INFERENCE = ("policy",)
"""Kinds that adapt to nothing."""
Truth = NDArray[np.bool_]


class Reference(NamedTuple):
    """Recorded adaptations of a bundle: R tasks, E episodes of each."""

    tasks: tuple[str, ...]
    goals: tuple[tuple[float, ...], ...]
    returns: NDArray[np.float64]
    """Shape (R, E)."""
    success: Truth
    """Shape (R, E)."""


def find_records(bundle: Path) -> Path | None:
    """The records of adaptation in the run that a bundle is from; None where there are none.

    Args:
        bundle: A folder of `run`, or a bundle in it.
    """
    for folder in (bundle, *bundle.resolve().parents[:3]):
        for path in (folder / RECORDS_NAME, folder / "adapt" / RECORDS_NAME):
            if path.is_file():
                return path
    return None


def load_reference(path: Path, success_return: float | None = None) -> Reference:
    """The adaptations of a file of records.

    Args:
        path: `records.jsonl`, or the folder of `adapt` that has it.
        success_return: Return from which on an episode is a success, where the records do not tell.

    Raises:
        ConfigError: The records do not tell success, and no return was given.
        RunError: The file is damaged.
    """
    path = path / RECORDS_NAME if path.is_dir() else path
    again = "adapt again, or name another folder"
    by_task: dict[tuple[str, tuple[float, ...]], list[Mapping[str, Any]]] = {}
    for record in load_json_lines(path, RunError, again):
        if record.get("kind") == "episode":
            _require_record(record, path, again)
            by_task.setdefault((record["task"], tuple(record["goal"])), []).append(record)
    if not by_task:
        raise RunError(f"{path}: expected records of episodes, got none; {again}")
    if len(axes := {len(goal) for _, goal in by_task}) > 1:
        raise RunError(f"{path}: expected goals with the same number of axes, got {sorted(axes)}; {again}")
    least = min(len(records) for records in by_task.values())
    returns = np.array([[float(one["return"]) for one in records[:least]] for records in by_task.values()])
    if all("success" in one for records in by_task.values() for one in records[:least]):
        success = np.array([[bool(one["success"]) for one in records[:least]] for records in by_task.values()])
    elif success_return is not None:
        success = returns >= success_return
    else:
        raise ConfigError(
            f"{path}: expected records that tell success, got none; pass the return of a success (success_return)"
        )
    names, goals = zip(*by_task, strict=True)
    return Reference(names, goals, returns, success)


def _require_record(record: Mapping[str, Any], path: Path, again: str) -> None:
    """Checks what is read of a record of an episode.

    Raises:
        RunError: The task, the goal, the return or the success is missing or of another type.
    """
    goal, value = record.get("goal"), record.get("return")
    numbers = [value, *goal] if isinstance(goal, list) else [None]
    whole = all(isinstance(one, int | float) and not isinstance(one, bool) and math.isfinite(one) for one in numbers)
    told = isinstance(record.get("success", False), bool)
    if not (whole and told and isinstance(record.get("task"), str)):
        raise RunError(
            f"{path}: expected records of episodes with task, goal, return and success, got {dict(record)!s:.120}; "
            f"{again}"
        )


def rehearse(
    replay: Replay,
    config: RehearsalConfig,
    reference: Path | None = None,
    off_policy: OffPolicyConfig | None = None,
    encoder: SkillModel | None = None,
) -> Section:
    """The section.

    Args:
        replay: The learner and the log, whose episodes are one task.
        config: See there.
        reference: Records of adaptations of this bundle, see `load_reference`.
        off_policy: How the returns of its policies are estimated; see there for where rewards come from, too.
        encoder: The skill model of the bundle, which tells the skills of logged windows; None: they are searched for.

    Raises:
        BundleError: The host of the bundle does not adapt as the trainer did.
        ConfigError: The records do not tell success.
        Interrupted: Somebody asked to stop; what was done is kept.
        RunError: The records are damaged.
        StoreError: A chunk of the log is damaged.
    """
    kind, off_policy = replay.bundle.contract.kind, off_policy or OffPolicyConfig()
    if replay.bundle.task or kind in NO_INFERENCE:
        return skip("the bundle is the policy of one task, with nothing left to infer; give the learner's bundle.")
    reader, reason = find_seen_rewards(replay, off_policy)
    if reader is None:
        return skip(f"every learner knows its task by rewards. {reason}")
    findings, tables, warnings = list[str](), list[TitledTable](), list[str]()
    data: dict[str, Any] = {"kind": kind, "rewards": reader.origin}
    counts = sorted({count for count in config.shown if count < replay.episodes})
    scores = infer(replay, config, counts, reader, off_policy, encoder) if replay.episodes > 1 and counts else []
    if scores:
        tables.append(TitledTable("What is predicted of later episodes", make_scores_table(scores)))
        findings += describe_scores(scores)
        data["inference"] = scores
    elif replay.episodes == 1:
        warnings.append("The log is one episode: nothing is left that could be predicted from it.")
    else:
        numbers = ", ".join(map(str, config.shown)) or "none"
        warnings.append(
            f"Nothing is left that could be predicted: the log has {replay.episodes} episodes, and those to be shown "
            f"are the first {numbers} (--rehearsal.shown)."
        )
    goals = find_goals(replay)
    if len(set(goals)) > 1:
        warnings.append(
            f"The log has {len(set(goals))} different goals, and a rehearsal takes its episodes for those of one task: "
            "give the episodes of one task."
        )
    if evaluated := count_evaluations(replay):
        warnings.append(
            f"{evaluated} of the {replay.episodes} episodes of the log are evaluations, from which a learner does not "
            "learn: they are taken for episodes of the adaptation here. Log with --evaluations 0."
        )
    if scores and all(one.get("return") is not None for one in scores):
        tables.append(TitledTable("What it would earn with what it knows", make_returns_table(scores)))
        findings.insert(0, describe_returns(scores, off_policy.discount))
    elif scores and config.returns:
        warnings.append(
            f"{replay.episodes - max(counts)} episodes are behind the first {max(counts)}. An estimated return needs "
            f"{off_policy.least_episodes} with a decision and a reward: name smaller numbers (--rehearsal.shown)."
        )
    if kind in ON_POLICY:
        warnings.append(
            f"A learner of kind {kind} learns from its own policy: on a log of another one its steps are biased."
        )
    if all(one["reward_nll"] is None for one in scores):
        warnings.append(f"A bundle of kind {kind} predicts no rewards. {NO_REWARDS.get(kind, '')}".strip())
    grounds: list[Ground] = []
    success = read_success(replay, config, reader)
    if success is None:
        warnings.append(
            "Neither the log nor the robot's family tells which episodes succeeded: give the task, or success_return."
        )
    elif reference is None:
        warnings.append(
            "No records of adaptation of this bundle are known, so that the number of episodes cannot be predicted; "
            "run supple adapt on other tasks in simulation, and name its folder as the reference."
        )
    else:
        known = load_reference(reference, config.success_return)
        require_goals(known, replay, reference)
        known = leave_out(known, goals)
        more = predict(replay, config, known, success)
        findings, grounds = [*more.findings, *findings], more.grounds
        tables, warnings, data = [*more.tables, *tables], [*more.warnings, *warnings], {**data, **more.data}
    return Section(
        name=PART, title=TITLE, findings=findings, tables=tables, data=data, grounds=grounds, warnings=warnings
    )


def count_evaluations(replay: Replay) -> int:
    """Episodes that the log of `supple adapt` calls evaluations."""
    if not replay.has("evaluation"):
        return 0
    return sum(bool((np.asarray(one.arrays["evaluation"]) > 0).any()) for _, one in replay.read_episodes())


def require_goals(known: Reference, replay: Replay, path: Path) -> None:
    """Checks that the goals of a reference are those of the bundle's robot.

    Raises:
        ConfigError: They have another number of axes.
    """
    axes = len(replay.spec.goal.axes)
    if len(known.goals[0]) not in (0, axes):
        raise ConfigError(
            f"{path}: expected goals of {axes} axes, those of '{replay.spec.name}', got {len(known.goals[0])}; name "
            "the adaptations of this bundle (--records)"
        )


def find_seen_rewards(replay: Replay, config: OffPolicyConfig) -> tuple[RewardReader | None, str]:
    """How the rewards are read that the learner is shown: those of the log, where nobody asks for others."""
    if config.rewards == "auto":
        reader, _ = find_rewards(replay, "log")
        if reader is not None:
            return reader, ""
    return find_rewards(replay, config.rewards)


def skip(reason: str) -> Section:
    """The section of a log that cannot be rehearsed on."""
    return Section(name=PART, title=TITLE, findings=[], skipped=f"Not done: {reason}")


def infer(
    replay: Replay,
    config: RehearsalConfig,
    counts: Sequence[int],
    reader: RewardReader,
    off_policy: OffPolicyConfig,
    encoder: SkillModel | None,
) -> list[dict[str, Any]]:
    """The scores after each number of shown episodes, see `rehearse_inference`, and the `return` of the policy then.

    They are of the episodes behind the largest number; the return is of all of these up to `most_steps`.
    """
    shown = max(counts)
    within = int((np.cumsum(replay.store.episodes.length[shown:]) <= off_policy.most_steps).sum())
    later = max(config.rest, within) if config.returns else config.rest
    space = RowSpace(replay.bundle.contract.space, replay.spec, replay.bundle.weights)

    def decide(number: int, episode: Episode) -> dict[str, Any]:
        told = read_rewarded(replay, reader, number, episode)
        if told is None:
            return {}
        reward = told.reward.astype(np.float32)
        found = find_decisions(space, told.observation, told.action, reward, terminated=told.terminated)._asdict()
        return {name: one.tolist() if isinstance(one, np.ndarray) else one for name, one in found.items()}

    numbers = range(min(replay.episodes, shown + later))
    records = replay.map_episodes("rehearsal_decisions", decide, only=numbers)
    episodes = {number: read_decisions(record) for number, record in zip(numbers, records, strict=True) if record}
    first = [one for number, one in episodes.items() if number < shown]
    rest = {number: one for number, one in episodes.items() if number >= shown}
    if not rest:
        return []

    def score() -> dict[str, Any]:
        told = {number: (one, reader.read(number, replay.store.episode(number))) for number, one in rest.items()}
        judged = read_later(replay, off_policy, encoder, told) if config.returns else []

        def earn(learner: Learner) -> dict[str, Any]:
            return {"return": estimate_return(replay, off_policy, learner, judged) if judged else None}

        known = [count for count in counts if count <= len(first)] or [len(first)]
        learners = show_in_turn(replay.bundle, [*first, *rest.values()], known, replay.make_rng(SALT))
        return {"scores": rehearse_inference(learners, list(rest.values())[: config.rest], earn)}

    scores: list[dict[str, Any]] = replay.keep("rehearsal", "scores", score)["scores"]
    return scores


def read_rewarded(replay: Replay, reader: RewardReader, number: int, episode: Episode) -> Rewarded | None:
    """An episode as the learner is shown it; None where nothing of it is left.

    Of an episode that was cut off, the last logged reward counts here, although nobody knows where its step led.
    """
    reward = None if reader.computed else read_reward(replay, episode)
    if reward is None:
        return reader.read(number, episode)
    episode = cut_off(replay, number, episode)
    if not episode.length:
        return None
    reward = reward[: episode.length]
    observation, action = (np.asarray(episode.arrays[name], np.float32) for name in ("observation", "action"))
    return Rewarded(observation, action, reward.astype(np.float64), episode.terminated, episode.length)


def find_goals(replay: Replay) -> list[tuple[float, ...]]:
    """The goals of the log's task, where somebody named it or the log recorded it."""
    if replay.tasks:
        return [task.goal for task in replay.tasks]
    name = next((one.name for one in replay.store.schema.features if one.role == "goal"), None)
    if name is None:
        return []
    goals = [np.atleast_1d(episode.arrays[name][0]).astype(float) for _, episode in replay.read_episodes()]
    return [tuple(goal) for goal in np.unique(np.array(goals), axis=0).tolist()]


def read_decisions(record: Mapping[str, Any]) -> LoggedDecisions:
    """What `infer` kept of an episode."""
    arrays = {name: np.array(record[name], np.float32) for name in ("observation", "latent", "reward")}
    return LoggedDecisions(**{**record, **arrays, "rewarded": np.array(record["rewarded"], np.bool_)})


def read_success(
    replay: Replay, config: RehearsalConfig, reader: RewardReader
) -> tuple[Truth, NDArray[np.float64]] | None:
    """Which episodes succeeded and what they returned, (E,) each; None where nobody tells."""
    success, returns = [], []
    goals = find_goals(replay)
    for number, episode in replay.read_episodes():
        rewarded = read_rewarded(replay, reader, number, episode)
        returns.append(0.0 if rewarded is None else float(rewarded.reward.sum(dtype=np.float64)))
        task, family = replay.find_task(number), replay.family
        goal = task.goal if task is not None else goals[0] if len(goals) == 1 else None
        told = np.asarray(episode.arrays["success"]) if replay.has("success") else None
        if told is not None and told.min() >= 0:  # -1: nobody tells
            success.append(bool((told > 0).any()))
        elif config.success_return is not None:
            success.append(returns[-1] >= config.success_return)
        elif goal is not None and family is not None and isinstance(family, TellsSuccess) and rewarded is not None:
            steps = len(rewarded.action)
            seen = rewarded.observation[:, : replay.bundle.contract.state_dim]
            after = np.concatenate([seen[1:], seen[-1:]])[:steps]
            repeated = np.repeat(np.array(goal, np.float32)[None], steps, axis=0)
            success.append(bool(family.compute_success(after, rewarded.reward.astype(np.float32), repeated).any()))
        else:
            return None
    return np.array(success), np.array(returns)


def leave_out(reference: Reference, goals: Sequence[tuple[float, ...]]) -> Reference:
    """The reference without tasks that are those of the log: they would be told, not predicted."""
    kept = [
        row
        for row, goal in enumerate(reference.goals)
        if not any(len(goal) == len(one) and np.allclose(goal, one) for one in goals)
    ]
    return Reference(
        tuple(reference.tasks[row] for row in kept),
        tuple(reference.goals[row] for row in kept),
        reference.returns[kept],
        reference.success[kept],
    )


def calibrate_after(reference: Reference, count: int, steady: int) -> Calibration:
    """What the reference says of predictions from the first `count` episodes.

    Raises:
        ConfigError: There are fewer than two reference tasks, or too few episodes of them.
    """
    shown = reference.success[:, :count], reference.returns[:, :count]
    features = summarise(*shown)
    groups = np.unique(np.array(reference.goals), axis=0, return_inverse=True)[1].reshape(-1)
    between = compute_distances(features[0], features)[1]
    return calibrate(find_needed(reference.success, steady), between, find_bound(shown[0], steady), groups)


def predict_after(
    reference: Reference,
    calibration: Calibration,
    success: Truth,
    returns: NDArray[np.float64],
    count: int,
    steady: int,
) -> Needed:
    """What is said of a task after its first `count` episodes.

    Args:
        reference: Other tasks.
        calibration: For as many episodes.
        success: Of the task's episodes, at least `count`, shape (E,).
        returns: The same.
        count: n.
        steady: Successes in a row that make a task reached.

    Raises:
        ConfigError: There are too few episodes of the reference.
    """
    here = success[None, :count], returns[None, :count]
    features = summarise(reference.success[:, :count], reference.returns[:, :count])
    distance, _ = compute_distances(summarise(*here)[0], features)
    bound = int(find_bound(here[0], steady)[0])
    needed = find_needed(reference.success, steady)
    return predict_needed(needed, reference.success.shape[1], distance, bound, calibration)


class Prediction(NamedTuple):
    """What the section says of the number of episodes."""

    findings: list[str]
    tables: list[TitledTable]
    grounds: list[Ground]
    warnings: list[str]
    data: dict[str, Any]


def predict(
    replay: Replay, config: RehearsalConfig, reference: Reference, log: tuple[Truth, NDArray[np.float64]]
) -> Prediction:
    """How many episodes the robot will need, after each number of logged ones and after all.

    Raises:
        ConfigError: There are fewer than two reference tasks, or too few episodes of them.
    """
    success, returns = log
    tasks, episodes = reference.success.shape
    needed = find_needed(reference.success, config.steady)
    if config.own:
        counts = sorted({count for count in (0, *config.shown, len(success)) if count <= min(len(success), episodes)})
    else:
        counts = [0]
    reached = find_needed(success[None], config.steady)[0] if len(success) >= config.steady else len(success) + 1
    rows, records, last = list[tuple[str, ...]](), list[dict[str, Any]](), None
    for count in counts:
        if config.own and reached <= count - config.steady + 1:
            break
        calibration = calibrate_after(reference, count, config.steady)
        last = predict_after(reference, calibration, success, returns, count, config.steady)
        rows.append(
            (
                str(count),
                show(last.median, episodes),
                f"{last.low} to {show(last.high, episodes)}",
                f"{last.reached:.0%}",
                f"{last.coverage:.0%}",
            )
        )
        records.append(
            {
                "shown": count,
                **{name: value for name, value in last._asdict().items() if name != "weights"},
            }
        )
    assert last is not None, "nothing is reached before the first episode"
    head = (
        "episodes seen",
        f"{NUMBER}episodes needed in all",
        f"{NUMBER}{LEVEL:.0%} interval",
        f"{NUMBER}reached within {episodes}",
        f"{NUMBER}covered reference tasks",
    )
    table = TitledTable("How many episodes the task will need", Table(head, {"": rows}))
    data = {
        "episodes_needed": records,
        "reference": {
            "goals": [list(goal) for goal in reference.goals],
            "needed": needed.tolist(),
            "weights": last.weights.tolist(),
            "episodes": episodes,
        },
        "reached": int(reached) if config.own and reached <= len(success) else None,
    }
    warnings = []
    if tasks < LEAST:
        warnings.append(
            f"The records have {tasks} tasks; {LEAST} are needed before a {LEVEL:.0%} interval can be told from the "
            "whole range."
        )
    if config.own and reached <= len(success):
        sentence = f"The task is reached at episode {reached} of the log: {config.steady} successes in a row."
        return Prediction([sentence], [table], [Ground("trust", sentence)], warnings, data)
    sentence = (
        f"After {counts[-1]} logged episodes: the task will be reached at episode {show(last.median, episodes)} "
        f"({LEVEL:.0%} interval {last.low} to {show(last.high, episodes)}); within {episodes} episodes with "
        f"probability {last.reached:.2f}. This is by {tasks} other tasks that the bundle adapted to."
    )
    level: Level = "trust" if last.reached >= TRUSTED else "caution" if last.reached >= DOUBTED else "do not use"
    ground = Ground(
        level,
        f"The probability of reaching the task within {episodes} episodes is {last.reached:.2f}; trust from {TRUSTED}, "
        f"caution from {DOUBTED}.",
    )
    return Prediction([sentence], [table], [ground], warnings, data)


def show(needed: int, episodes: int) -> str:
    """A number of episodes, or that it is beyond the record."""
    return str(needed) if needed <= episodes else f"more than {episodes}"


def make_scores_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Scores by the number of shown episodes."""

    def cell(value: float | None) -> str:
        return "none" if value is None else f"{value:.3f}"

    names = ("command_nll", "reward_nll", "belief", "distance")
    rows = [(str(one["shown"]), *(cell(one[name]) for name in names)) for one in scores]
    head = (
        "episodes seen",
        f"{NUMBER}commands, -log p (nats)",
        f"{NUMBER}rewards, -log p (nats)",
        f"{NUMBER}spread of the belief",
        f"{NUMBER}distance to the last policy (nats)",
    )
    return Table(head, {"": rows})


def make_returns_table(scores: Sequence[Mapping[str, Any]]) -> Table:
    """Estimated returns by the number of shown episodes, and what the later episodes of the log earned."""
    rows = []
    for one in scores:
        told = one["return"]
        interval = f"{format_number(told['low'])} to {format_number(told['high'])}"
        support = f"{told['support']:.0%}"
        rows.append((str(one["shown"]), format_number(told["value"]), interval, support, told["verdict"]))
    logged = scores[0]["return"]["log"]
    interval = f"{format_number(logged['low'])} to {format_number(logged['high'])}"
    rows.append(("the later log itself", format_number(logged["value"]), interval, "", ""))
    head = (
        "episodes seen",
        f"{NUMBER}discounted return",
        f"{NUMBER}95 % interval",
        f"{NUMBER}decisions within the data",
        "this estimate",
    )
    return Table(head, {"": rows})


def describe_returns(scores: Sequence[Mapping[str, Any]], discount: float) -> str:
    """What the policies would earn, and whether the estimates may be believed."""
    first, last = scores[0]["return"], scores[-1]["return"]

    def show_return(told: Mapping[str, Any]) -> str:
        return f"{format_number(told['value'])} ({format_number(told['low'])} to {format_number(told['high'])})"

    text = f"With what it knows after {scores[-1]['shown']} episodes it would earn {show_return(last)} per episode"
    if len(scores) > 1:
        text += f", with what it knows after {scores[0]['shown']}: {show_return(first)}"
    text += f"; the {last['episodes']} later logged episodes earned {show_return(last['log'])}. "
    text += f"Returns are discounted by {discount:g} per control step. This estimate: {last['verdict']}."
    worst = [reason for level, reason in last["reasons"] if level == last["verdict"] and level != "trust"]
    return text + (f" {worst[0]}" if worst else "")


def describe_scores(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """What inference changed between the first and the last row."""
    first, last, found = scores[0], scores[-1], []
    for name, what in (("reward_nll", "rewards"), ("command_nll", "commands")):
        if first[name] is None or last[name] is None or first is last:
            continue
        change = last[name] - first[name]
        word = "better" if change < 0.0 else "no better"
        found.append(
            f"After {last['shown']} episodes the {what} of later ones are predicted {word}: {last[name]:.3f} nats "
            f"against {first[name]:.3f} after {first['shown']}."
        )
    if first["distance"] is not None and first is not last:
        near = scores[-2]
        between = f"; after {near['shown']} episodes it is {near['distance']:.2f} away" if len(scores) > 2 else ""
        found.append(
            f"The policy after {first['shown']} episodes is {first['distance']:.2f} nats per decision away from that "
            f"after {last['shown']}{between}."
        )
    if first["belief"] is not None and first is not last:
        found.append(
            f"The belief about the task narrows from a spread of {first['belief']:.2f} to {last['belief']:.2f}."
            if last["belief"] < first["belief"]
            else f"The belief about the task does not narrow: its spread goes from {first['belief']:.2f} to "
            f"{last['belief']:.2f}."
        )
    return found


def rank_sections(sections: Mapping[str, Section], rng: np.random.Generator) -> TitledTable | None:
    """Which of several bundles to take: by the episodes that each will need; None where fewer than two can be ranked.

    Args:
        sections: The section of each bundle, by its label.
        rng: Of the bootstrap.
    """
    found, most = {}, 0
    for label, section in sections.items():
        if "reference" in section.data:
            one = section.data["reference"]
            goals = tuple(tuple(goal) for goal in one["goals"])
            found[label] = (goals, np.array(one["needed"], np.int64), np.array(one["weights"], np.float64))
            most = max(most, int(one["episodes"]))
    if len(found) < 2:
        return None
    rows = [
        (one.label, f"{one.mean:.1f}", f"{one.low:.1f} to {one.high:.1f}", f"{one.best:.2f}")
        for one in rank_bundles(found, rng)
    ]
    head = ("bundle", f"{NUMBER}episodes needed, mean", f"{NUMBER}95 % interval", f"{NUMBER}probability of fewest")
    return TitledTable(
        f"Which bundle to take: episodes needed, {most + 1} for more than {most}", Table(head, {"": rows})
    )
