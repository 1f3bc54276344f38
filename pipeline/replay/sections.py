"""The sections of the open loop: what its records say, in sentences, tables, figures and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...robots.limits import RobotLimits
from ..report.measure import format_count, format_number
from ..report.tables import NUMBER, Table
from ..settings.replay import OpenLoopConfig
from .drawings import MOST_AXES, MOST_STEPS, draw_commands, draw_novelty, draw_responses
from .latency import PERCENTILES, find_percentile, merge_bins
from .novelty import FAR, SIGNALS, Known, score
from .open_loop import collect, compute_spreads, find_horizons, find_reward, force_episode, to_physical
from .over_episodes import compute_spread
from .section import Ground, Replay, Section, TitledTable
from .verdict import judge_clamps, judge_faults, judge_latency, judge_unknown, show_percent

Records = Sequence[Mapping[str, Any]]
WEAK_SIGN = (
    "Alike is not good: the error of imitation is a weak sign of success. A policy may do a task in another way than "
    "the log, and a small error may grow on the robot."
)
SEARCHED = "The nearest skill was searched, since the skill encoder is not there (--skills): errors are lowest ones."
READS_REWARDS = ("rl2", "varibad")
"""Kinds of bundles whose agent reads the reward of its last decision while it acts."""


def make_open_loop(replay: Replay, config: OpenLoopConfig, records: Records) -> Section:
    """Action errors at each horizon, likelihood, direction, smoothness."""
    if replay.spec.choices:
        return make_choices(replay, config, records)
    horizons, axes = find_horizons(replay, config), to_physical(replay.spec)
    spreads = compute_spreads(records)
    groups: dict[str, list[tuple[str, ...]]] = {}
    data: dict[str, Any] = {"horizons": {}}
    for steps in horizons:
        rows, found = [], dict[str, dict[str, Any]]()
        for index, (name, unit, factor) in enumerate(axes):
            measured = {
                "rmse": compute_spread(collect(records, steps, "square", index), root=True),
                "mae": compute_spread(collect(records, steps, "absolute", index)),
                "nearest": compute_spread(collect(records, steps, "nearest", index), root=True),
            }
            found[name] = {kind: value.to_json(factor) for kind, value in measured.items() if value is not None}
            found[name] |= {"unit": unit, "log_spread": float(spreads[index]) * factor}
            shown = ["none" if value is None else value.show(factor) for value in measured.values()]
            rows.append((name, unit or "none", *shown, format_number(float(spreads[index]) * factor)))
        windows = sum(record["horizons"].get(str(steps), {}).get("windows", 0) for record in records)
        title = f"Over {steps} step{'s' * (steps > 1)}, {steps * replay.spec.control_period:g} s"
        title += f", {format_count(windows)} windows"
        if windows:
            groups[title] = rows
        data["horizons"][str(steps)] = {"windows": windows, "axes": found}
    head = (
        "action axis",
        "unit",
        *(f"{NUMBER}{name}" for name in ("RMSE", "MAE", f"nearest of {config.samples}, RMSE")),
    )
    tables = [TitledTable("Departure from the logged commands", Table((*head, f"{NUMBER}spread of the log"), groups))]
    cosine = compute_spread([record["cosine"] for record in records if record["cosine"] is not None])
    nll = compute_spread([record["nll"] for record in records if record["nll"] is not None])
    shares = compute_shares(records, spreads, axes)
    findings = [describe_shares(shares)]
    if cosine is not None:
        findings.append(f"Direction: the cosine between the two commands is {cosine.show()} on average; 1 is the same.")
    if nll is not None:
        findings.append(
            f"Likelihood: a logged command has -log p = {nll.show()} nats per step under the policy, on the scale on "
            "which the limits of the robot are -1 and 1."
        )
    rows, smooth = [], {}
    for index, (name, unit, factor) in enumerate(axes):
        pair = [
            compute_spread([record["change"][who][index] for record in records], root=True) for who in ("policy", "log")
        ]
        assert pair[0] is not None, "there are episodes"
        assert pair[1] is not None, "there are episodes"
        rows.append((name, f"{unit}/s", pair[0].show(factor), pair[1].show(factor)))
        smooth[name] = {"unit": f"{unit}/s", "policy": pair[0].to_json(factor), "log": pair[1].to_json(factor)}
    head = ("action axis", "unit", f"{NUMBER}policy", f"{NUMBER}log")
    tables.append(TitledTable("Smoothness: change of the command, root of the mean square", Table(head, {"": rows})))
    data |= {
        "cosine": None if cosine is None else cosine.to_json(),
        "nll": None if nll is None else nll.to_json(),
        "smoothness": smooth,
        "error_share": float(np.mean(list(shares.values()))) if shares else None,
        "samples": config.samples,
    }
    return Section(
        name="open_loop",
        title="Open loop",
        findings=findings,
        tables=tables,
        figures=draw_example(replay, config),
        data=data,
        grounds=judge_faults(*count_faults(records)),
        warnings=[WEAK_SIGN, *find_warnings(replay, records)],
    )


def make_choices(replay: Replay, config: OpenLoopConfig, records: Records) -> Section:
    """Of a robot that chooses among named actions: how often policy and log choose the same, and how likely it is."""
    found, names = [record["choices"] for record in records], replay.spec.choices
    counts = np.array([one["counts"] for one in found])
    agree = compute_spread([float(np.trace(one) / one.sum()) for one in counts], shares=True)
    assert agree is not None, "there are episodes"
    total = counts.sum(axis=0)
    often = total.sum(axis=1) / total.sum()
    findings = [
        f"Policy and log choose the same action in {show_percent(agree)} of the steps. A policy that always chooses "
        f"'{names[int(often.argmax())]}', the log's most frequent one, would in {often.max():.1%}."
    ]
    nll = compute_spread([record["nll"] for record in records if record["nll"] is not None])
    entropy = float(-(often[often > 0.0] * np.log(often[often > 0.0])).sum())
    if nll is not None:
        findings.append(
            f"Likelihood: a logged choice has -log p = {nll.show()} nats per step under the policy; under one that "
            f"chooses each action as often as the log, {entropy:.3g} nats."
        )
    hits = compute_spread([one["hits"] for one in found if one["hits"] is not None], shares=True)
    if hits is not None:
        findings.append(f"One of {config.samples} draws of the policy is the logged choice in {show_percent(hits)}.")
    horizons: dict[str, Any] = {}
    rows = []
    for steps in find_horizons(replay, config):
        parts = [one["windows"][str(steps)] for one in found if str(steps) in one["windows"]]
        distance = compute_spread([part["distance"] for part in parts], shares=True)
        windows = sum(part["windows"] for part in parts)
        if distance is not None:
            horizons[str(steps)] = {"windows": windows, "distance": distance.to_json()}
            seconds = f"{steps * replay.spec.control_period:g} s"
            rows.append((f"{steps} step{'s' * (steps > 1)}, {seconds}", format_count(windows), show_percent(distance)))
    head = ("over", f"{NUMBER}windows", f"{NUMBER}different choices")
    tables = [TitledTable("Departure: how much the shares of the choices differ", Table(head, {"": rows}))]
    chosen = []
    for index, name in enumerate(names):
        if total[index].sum():
            instead = total[index].copy()
            instead[index] = 0
            most = f"{names[int(instead.argmax())]}, {instead.max() / total[index].sum():.0%}" if instead.any() else ""
            same = f"{total[index, index] / total[index].sum():.0%}"
            chosen.append((name, f"{often[index]:.1%}", same, most or "none"))
    head_of = ("logged choice", f"{NUMBER}share of the log", f"{NUMBER}policy chooses it too", "most often instead")
    tables.append(TitledTable("Choice by choice", Table(head_of, {"": chosen})))
    change = {who: compute_spread([one["change"][who] for one in found]) for who in ("policy", "log")}
    assert change["policy"] is not None, "there are episodes"
    assert change["log"] is not None, "there are episodes"
    findings.append(
        f"The policy changes its choice {change['policy'].show()} times per second, the log {change['log'].show()}."
    )
    error = (1.0 - agree.mean) / (1.0 - float(often.max())) if often.max() < 1.0 else None
    return Section(
        name="open_loop",
        title="Open loop",
        findings=findings,
        tables=tables,
        data={
            "agreement": agree.to_json(),
            "nll": None if nll is None else nll.to_json(),
            "nll_of_frequencies": entropy,
            "hits": None if hits is None else hits.to_json(),
            "horizons": horizons,
            "counts": total.tolist(),
            "changes": {who: value.to_json() for who, value in change.items() if value is not None},
            "error_share": error,
            "samples": config.samples,
        },
        grounds=judge_faults(*count_faults(records)),
        warnings=[WEAK_SIGN, *find_warnings(replay, records)],
    )


def count_faults(records: Records) -> tuple[int, int]:
    """Commands that are not finite, and all."""
    return sum(record["faults"] for record in records), sum(record["steps"] for record in records)


def compute_shares(
    records: Records, spreads: NDArray[np.float64], axes: Sequence[tuple[str, str, float]]
) -> dict[str, float]:
    """The action error of each axis as a share of the spread of the log, of axes that move."""
    shares = {}
    for index, (name, _, _) in enumerate(axes):
        error = compute_spread(collect(records, 1, "square", index), root=True)
        if error is not None and spreads[index] > 0.0:
            shares[name] = error.mean / float(spreads[index])
    return shares


def describe_shares(shares: Mapping[str, float]) -> str:
    """The same as a sentence."""
    if not shares:
        return "The log commands the same all the time, so that its error says nothing."
    worst, mean = max(shares, key=lambda name: shares[name]), float(np.mean(list(shares.values())))
    text = f"The action error is {mean:.2f} of the spread of the logged commands on average over the axes"
    text += f", {shares[worst]:.2f} in '{worst}', the worst" if len(shares) > 1 else ""
    known = "below" if mean < 1.0 else "not below"
    return f"{text}. That is {known} 1, the error of a policy that always commands the mean of the log."


def find_warnings(replay: Replay, records: Records) -> list[str]:
    """What limits these numbers."""
    warnings = []
    if invalid := int((~replay.store.load_valid()).sum()):
        warnings.append(f"{invalid} steps of the log have valid = 0: they are compared with nothing.")
    if len(records) == 1:
        warnings.append("The log is one episode, so that there are no intervals: nothing says how others would differ.")
    if find_reward(replay) is None and replay.bundle.contract.kind in READS_REWARDS:
        warnings.append("The log has no rewards: the memory of the policy, which reads them, saw zeros.")
    contract = replay.bundle.contract
    if not replay.bundle.task and contract.kind not in ("policy",):
        warnings.append(
            f"The bundle is a learner ({contract.kind}) that was not adapted: in every episode it acts as at the begin "
            "of an unknown task. Replay a bundle of adapt (policies/0) to judge the policy of one task."
        )
    return warnings


def draw_example(replay: Replay, config: OpenLoopConfig) -> list[Any]:
    """Commands through the episode of median length."""
    number = int(np.argsort(replay.store.episodes.length, kind="stable")[replay.episodes // 2])
    episode = replay.store.episode(number)
    forced = force_episode(replay, config.samples, number, episode)
    finite = np.nan_to_num(forced.action), np.nan_to_num(forced.samples)
    plots = draw_commands(replay.spec, replay.spec.control_period, episode.arrays["action"], *finite)
    first = plots[0]
    more = f" Its first {MOST_STEPS} steps." if episode.length > MOST_STEPS else ""
    hidden = len(replay.spec.action.axes) - MOST_AXES
    more += f" {hidden} further axes are not drawn." if hidden > 0 else ""
    about = f"{first.caption}. Episode {number}; dark: the log, coloured: the policy, band: its samples.{more}"
    return [first._replace(caption=about), *plots[1:]]


def make_limits(replay: Replay, limits: RobotLimits, records: Records) -> Section:
    """What the safety limits would have done to the policy's commands, and to those of the log."""
    found = [record["limits"] for record in records]
    share = {
        who: compute_spread(
            [one["steps"][who] / record["steps"] for one, record in zip(found, records, strict=True)], shares=True
        )
        for who in ("policy", "log")
    }
    assert share["policy"] is not None, "there are episodes"
    assert share["log"] is not None, "there are episodes"
    counts: dict[tuple[str, str], dict[str, int]] = {}
    for one in found:
        for who in ("policy", "log"):
            for axis, kinds in one[who].items():
                for kind, count in kinds.items():
                    counts.setdefault((axis, kind), {"policy": 0, "log": 0})[who] += count
    largest: dict[tuple[str, str], dict[str, Any]] = {}
    for record, one in zip(records, found, strict=True):
        for row in one["largest"]:
            pair = (row["axis"], row["kind"])
            if pair not in largest or row["excess"] > largest[pair]["excess"]:
                largest[pair] = {**row, "episode": record["number"]}
    names = list(replay.spec.action.names)
    rows = []
    for axis, kind in sorted(counts, key=lambda pair: (names.index(pair[0]), pair[1])):
        row = largest.get((axis, kind))
        where = (
            "none"
            if row is None
            else f"{format_number(row['excess'])} {row['unit']}, episode {row['episode']}, step {row['step']}"
        )
        pair_counts = counts[(axis, kind)]
        rows.append((axis, kind, format_count(pair_counts["policy"]), format_count(pair_counts["log"]), where))
    head = (
        "action axis",
        "limit",
        f"{NUMBER}policy, steps",
        f"{NUMBER}log, steps",
        "largest change of the policy's command",
    )
    beyond: dict[str, int] = {}
    for one in found:
        for axis, count in one["beyond"].items():
            beyond[axis] = beyond.get(axis, 0) + count
    findings = [
        "No command of the policy would have been changed."
        if not any(c["policy"] for c in counts.values())
        else judge_clamps(share["policy"], share["log"]).sentence
    ]
    findings += [
        f"Observation '{axis}' is beyond its limits in {count} steps: there the robot would be stopped."
        for axis, count in beyond.items()
    ]
    return Section(
        name="limits",
        title="Safety limits",
        findings=findings,
        tables=[TitledTable("Commands that the limits would change", Table(head, {"": rows}))] if rows else [],
        data={
            "share": {who: value.to_json() for who, value in share.items() if value is not None},
            "counts": [{"axis": axis, "kind": kind, **value} for (axis, kind), value in sorted(counts.items())],
            "largest": list(largest.values()),
            "observations_beyond": beyond,
            "limits": limits.to_json(),
        },
        grounds=[judge_clamps(share["policy"], share["log"])],
    )


def skip(name: str, title: str, reason: str, grounds: Sequence[Ground] = ()) -> Section:
    """A section of a part that could not be done."""
    return Section(name=name, title=title, findings=[], skipped=reason, grounds=grounds)


def make_latency(replay: Replay, records: Records) -> Section:
    """Computing times against the control period."""
    found = [record["latency"] for record in records]
    period = replay.spec.control_period
    missed = compute_spread([one["misses"] / one["steps"] for one in found], shares=True)
    assert missed is not None, "there are episodes"
    bins = {kind: merge_bins(one[kind] for one in found) for kind in ("computing", "response")}
    times = {kind: {f"p{p:g}": find_percentile(counts, p) for p in PERCENTILES} for kind, counts in bins.items()}
    head = ("time", *(f"{NUMBER}{p:g} % (ms)" for p in PERCENTILES))
    rows = [
        (name, *(format_number(1000.0 * value) for value in times[kind].values()))
        for kind, name in (("computing", "computing one command"), ("response", "from observation to command"))
    ]
    misses, steps = sum(one["misses"] for one in found), sum(one["steps"] for one in found)
    p99 = times["response"]["p99"]
    return Section(
        name="latency",
        title="Latency",
        findings=[
            f"99 % of the commands are ready within {format_number(1000 * p99)} ms of their observation; the control "
            f"period is {format_number(1000 * period)} ms.",
            f"{misses} of {format_count(steps)} commands are late in the time of the log.",
        ],
        tables=[TitledTable("Times of the numpy runtime on this machine", Table(head, {"": rows}))],
        figures=[draw_responses(bins["response"], period)],
        data={
            "control_period": period,
            "seconds": times,
            "longest": max(one["longest"] for one in found),
            "misses": misses,
            "steps": steps,
            "missed": missed.to_json(),
        },
        grounds=[judge_latency(missed)],
        warnings=["Measured here: another computer, or a busy one, has other times."],
    )


def make_known(replay: Replay, known: Known, records: Records, same: bool) -> Section:
    """How much of the log is unknown to the policy.

    Args:
        replay: The bundle and the log.
        known: What scores were computed with.
        records: Of `measure_novelty`.
        same: Whether the log is the training data.
    """
    unknown = compute_spread([record["unknown"] for record in records], shares=True)
    alarms = compute_spread([float(record["alarm"]) for record in records], shares=True)
    assert unknown is not None, "there are episodes"
    assert alarms is not None, "there are episodes"
    measured = "By a model of the training data" if known.model else f"By {FAR:g} standard deviations of the training"
    ground = judge_unknown(unknown, measured)
    worst = int(np.argmax([max(record["largest"]) for record in records]))
    episode = replay.store.episode(worst)
    names = SIGNALS if known.model else ("distance from the mean",)
    row = records[worst]
    axis = "" if row["axis"] is None else f", most in '{replay.spec.observation.names[row['axis']]}'"
    findings = [
        ground.sentence,
        f"{show_percent(alarms)} of the episodes have an unknown step."
        + (f" Of episodes like those of the training, at most {known.alpha:.2g} would." if known.model else ""),
        f"The most unknown step is step {row['step']} of episode {worst}{axis}.",
    ]
    return Section(
        name="known_states",
        title="Known states",
        findings=findings,
        figures=[draw_novelty(score(known, episode), names, replay.spec.control_period, worst)],
        data={
            "measured_by": "model" if known.model else "statistics",
            "alpha": known.alpha if known.model else None,
            "unknown_steps": unknown.to_json(),
            "episodes_with_alarm": alarms.to_json(),
            "worst": {"episode": worst, "step": row["step"], "axis": row["axis"]},
            "log_is_training_data": same,
        },
        grounds=[ground],
        warnings=["The log is the data that the policy learned from: it is known by definition."] if same else [],
    )


def make_skills(replay: Replay, records: Records, *, encoded: bool) -> Section:
    """How the bundle's skills fit the log."""
    found = [record for record in records if record["windows"]]
    horizon, overflowing = replay.bundle.contract.space.horizon, sum(one.get("overflowing", 0) for one in records)
    beyond = (
        f"{overflowing} windows are of episodes whose skills overflow, and are left out: compare the units of the log."
    )
    if not found:
        reason = beyond if overflowing else f"No episode has {horizon} steps, which a skill lasts."
        return skip("skills", "Skills", reason)
    axes = to_physical(replay.spec)
    names = {"reconstruction": "closed loop", "open_reconstruction": "open loop"}
    rows, data = [], {}
    for index, (name, unit, factor) in enumerate(axes):
        spreads = {
            key: compute_spread([record[key][index] for record in found], root=True) for key in names if key in found[0]
        }
        rows.append((name, unit or "none", *(value.show(factor) for value in spreads.values() if value is not None)))
        data[name] = {key: value.to_json(factor) for key, value in spreads.items() if value is not None}
    head = ("action axis", "unit", *(f"{NUMBER}{names[key]}, RMSE" for key in names if key in found[0]))
    numbers = {
        key: compute_spread([record[key] for record in found if record[key] is not None])
        for key in ("prior_nll", "policy_nll", "kl_to_prior")
        if key in found[0]
    }
    windows = sum(record["windows"] for record in found)
    whose = "of the encoder" if encoded else "nearest to each window, found by search"
    sentences = {
        "prior_nll": "The skill prior gives them -log p = {} nats per skill",
        "policy_nll": "The policy gives them -log p = {} nats per skill",
        "kl_to_prior": "KL of the encoder to the prior: {} nats per skill",
    }
    findings = [f"{format_count(windows)} windows of {horizon} steps; the skills are those {whose}."]
    findings += [f"{sentences[key].format(value.show())}." for key, value in numbers.items() if value is not None]
    more: dict[str, Any] = {}
    if encoded:
        total = sum(record["windows"] for record in found)
        mean = np.sum([record["sum"] for record in found], axis=0) / total
        variance = np.sum([record["sum_of_squares"] for record in found], axis=0) / total - np.square(mean)
        active = int((variance > 0.01).sum())
        more = {"active_dims": active, "skill_dims": len(mean)}
        findings.append(f"{active} of {len(mean)} axes of the skill vary over the log.")
    return Section(
        name="skills",
        title="Skills",
        findings=findings,
        tables=[TitledTable("Reconstruction of the logged commands by skills", Table(head, {"": rows}))],
        data={
            "windows": windows,
            "skills": "encoded" if encoded else "searched",
            "reconstruction": data,
            **{key: value.to_json() for key, value in numbers.items() if value is not None},
            **more,
        },
        warnings=[
            *([beyond] if overflowing else []),
            *([] if encoded else [SEARCHED]),
        ],
    )
