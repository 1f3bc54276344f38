"""Adaptation rehearsed on a log: what the bundle would infer from the first episodes, and how many it will need.

`task_inference` shows the log to the agent; `episodes_needed` predicts from the recorded adaptations of the bundle to
other tasks: `records.jsonl` of a stage `adapt`, such as the one of the run that the bundle is from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...adapt.spaces import RowSpace
from ...datasets.episode import Episode
from ...errors import ConfigError, RunError
from ...robots.family import TellsSuccess
from ...strict_json import load_json_lines
from ..report.tables import NUMBER, Table
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
from .open_loop import find_reward, read_reward
from .section import Ground, Level, Replay, Section, TitledTable
from .task_inference import LoggedDecisions, find_decisions, rehearse_inference

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
            by_task.setdefault((str(record.get("task")), tuple(record.get("goal", ()))), []).append(record)
    if not by_task:
        raise RunError(f"{path}: expected records of episodes, got none; {again}")
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


def rehearse(replay: Replay, config: RehearsalConfig, reference: Path | None = None) -> Section:
    """The section.

    Args:
        replay: The learner and the log, whose episodes are one task.
        config: See there.
        reference: Records of adaptations of this bundle, see `load_reference`.

    Raises:
        BundleError: The host of the bundle does not adapt as the trainer did.
        ConfigError: The records do not tell success.
        Interrupted: Somebody asked to stop; what was done is kept.
        RunError: The records are damaged.
        StoreError: A chunk of the log is damaged.
    """
    kind = replay.bundle.contract.kind
    if replay.bundle.task or kind in NO_INFERENCE:
        return skip("the bundle is the policy of one task, with nothing left to infer; give the learner's bundle.")
    if find_reward(replay) is None:
        return skip("the log has no rewards, by which every learner knows its task.")
    findings, tables, warnings = list[str](), list[TitledTable](), list[str]()
    data: dict[str, Any] = {"kind": kind}
    counts = sorted({count for count in config.shown if count < replay.episodes})
    if replay.episodes > 1 and counts:
        scores = infer(replay, config, counts)
        tables.append(TitledTable("What is predicted of later episodes", make_scores_table(scores)))
        findings += describe_scores(scores)
        data["inference"] = scores
    else:
        warnings.append("The log is one episode: nothing is left that could be predicted from it.")
    if kind in ON_POLICY:
        warnings.append(
            f"A learner of kind {kind} learns from its own policy: on a log of another one its steps are biased."
        )
    if all(one["reward_nll"] is None for one in data.get("inference", [])):
        warnings.append(f"A bundle of kind {kind} holds nothing that predicts rewards.")
    grounds: list[Ground] = []
    success = read_success(replay, config)
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
        known = leave_out(load_reference(reference, config.success_return), [task.goal for task in replay.tasks])
        more = predict(replay, config, known, success)
        findings, grounds = [*more.findings, *findings], more.grounds
        tables, warnings, data = [*more.tables, *tables], [*more.warnings, *warnings], {**data, **more.data}
    return Section(
        name=PART, title=TITLE, findings=findings, tables=tables, data=data, grounds=grounds, warnings=warnings
    )


def skip(reason: str) -> Section:
    """The section of a log that cannot be rehearsed on."""
    return Section(name=PART, title=TITLE, findings=[], skipped=f"Not done: {reason}")


def infer(replay: Replay, config: RehearsalConfig, counts: Sequence[int]) -> list[dict[str, Any]]:
    """The scores after each number of shown episodes, see `rehearse_inference`."""
    needed = min(replay.episodes, max(counts) + config.rest)
    space = RowSpace(replay.bundle.contract.space, replay.spec, replay.bundle.weights)

    def decide(number: int, episode: Episode) -> dict[str, Any]:
        reward = read_reward(replay, episode)
        assert reward is not None, "the log has rewards"
        observation, action = (np.asarray(episode.arrays[name], np.float32) for name in ("observation", "action"))
        ended = bool(replay.store.episodes.terminated[number])
        found = find_decisions(space, observation, action, reward, terminated=ended)._asdict()
        return {name: one.tolist() if isinstance(one, np.ndarray) else one for name, one in found.items()}

    records = replay.map_episodes("rehearsal_decisions", decide, only=range(needed))
    episodes = [read_decisions(record) for record in records]

    def score() -> dict[str, Any]:
        return {"scores": rehearse_inference(replay.bundle, episodes, counts, replay.make_rng(SALT))}

    scores: list[dict[str, Any]] = replay.keep("rehearsal", "scores", score)["scores"]
    return scores


def read_decisions(record: Mapping[str, Any]) -> LoggedDecisions:
    """What `infer` kept of an episode."""
    arrays = {name: np.array(record[name], np.float32) for name in ("observation", "latent", "reward")}
    return LoggedDecisions(**{**record, **arrays, "rewarded": np.array(record["rewarded"], np.bool_)})


def read_success(replay: Replay, config: RehearsalConfig) -> tuple[Truth, NDArray[np.float64]] | None:
    """Which episodes succeeded and what they returned, (E,) each; None where nobody tells."""
    success, returns = [], []
    for number, episode in replay.read_episodes():
        reward = read_reward(replay, episode)
        assert reward is not None, "the log has rewards"
        returns.append(float(reward.sum(dtype=np.float64)))
        task, family = replay.find_task(number), replay.family
        if replay.has("success"):
            success.append(bool((np.asarray(episode.arrays["success"]) > 0).any()))
        elif config.success_return is not None:
            success.append(returns[-1] >= config.success_return)
        elif task is not None and family is not None and isinstance(family, TellsSuccess):
            observation = np.asarray(episode.arrays["observation"], np.float32)
            after = np.concatenate([observation[1:], observation[-1:]])
            goals = np.repeat(np.array(task.goal, np.float32)[None], len(after), axis=0)
            success.append(bool(family.compute_success(after, reward, goals).any()))
        else:
            return None
    return np.array(success), np.array(returns)


def leave_out(reference: Reference, goals: Sequence[tuple[float, ...]]) -> Reference:
    """The reference without tasks that are those of the log: they would be told, not predicted."""
    kept = [row for row, goal in enumerate(reference.goals) if not any(np.allclose(goal, one) for one in goals)]
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
        counts = sorted({count for count in (*config.shown, len(success)) if count <= min(len(success), episodes)})
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

    rows = [
        (str(one["shown"]), cell(one["command_nll"]), cell(one["reward_nll"]), cell(one["belief"])) for one in scores
    ]
    head = (
        "episodes seen",
        f"{NUMBER}commands, -log p (nats)",
        f"{NUMBER}rewards, -log p (nats)",
        f"{NUMBER}spread of the belief",
    )
    return Table(head, {"": rows})


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
