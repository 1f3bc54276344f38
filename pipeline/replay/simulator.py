"""Logged commands through the simulator: how far it and the log are apart, and what is wrong with the log's wiring.

The algorithms, and what they can tell, are in `robots/wiring.py`; when a number is a finding, in
`robots/wiring_findings.py`. Some episodes of the log are taken, evenly spread, and cut where the log says that a step
is not valid.

Axes: T steps, O observation, A action, K steps between two starts, J joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ...datasets.episode import Episode
from ...errors import RobotFault, SourceError
from ...robots.family import SetsState
from ...robots.log_replay import LoggedEpisode, ReplaySimulator, compute_divergence
from ...robots.spec import RobotSpec
from ...robots.wiring import Sensors, Wiring, find_sensors, find_wiring, mend_commands, pair_axes
from ...robots.wiring_findings import Finding, Tolerances, find_faults, list_untold
from ..report.curves import Plot
from ..report.measure import format_number
from ..report.names import shorten, with_unit
from ..report.style import ADAPTED, BEFORE, figure_style, make_axes, render_svg
from ..report.tables import NUMBER, Table
from ..robots import find_refusal
from ..settings.replay import SimulatorConfig
from .section import Ground, Level, Replay, Section, TitledTable

PART = "simulator"
TITLE = "Replay in the simulator"
PANEL = (3.7, 2.1)
"""Inches."""
MOST_PANELS = 9
LEVELS: Mapping[str, Level] = {
    "order": "do not use",
    "sign": "do not use",
    "unit": "do not use",
    "delay": "caution",
    "gain": "caution",
    "bias": "caution",
}
"""Of a finding, for the verdict: a policy that reads or drives the wrong joint cannot work."""


def replay_in_simulator(replay: Replay, config: SimulatorConfig) -> Section:
    """The section.

    Raises:
        Interrupted: Somebody asked to stop; what was done is kept.
        StoreError: A chunk of the log is damaged.
    """
    family = replay.family
    if replay.spec.choices:
        return skip("the actions of this robot are choices, which have no gain and no delay.")
    if replay.bundle.eye is not None:
        return skip("the observations of a policy that sees are pictures, which no wiring changes.")
    reason = "it needs a simulator that can be put into a logged state"
    if family is None:
        return skip(f"{reason}, and no robot was named.")
    if not isinstance(family, SetsState):
        return skip(f"{reason}, and the family {family.name} cannot.")
    if refusal := find_refusal(family):
        return skip(f"{reason}, and none can be made: {refusal}.")
    chosen = np.unique(np.linspace(0, replay.episodes - 1, min(config.episodes, replay.episodes)).astype(int)).tolist()
    simulator = ReplaySimulator(family, replay.threads)
    try:

        def find() -> dict[str, Any]:
            pieces = [piece for number in chosen for piece in cut_valid(replay, number, replay.store.episode(number))]
            if not pieces:
                return {"refused": "no episode of the log has two steps that follow each other"}
            try:
                sensors = find_sensors(simulator, pieces)
                wiring, transitions = find_wiring(simulator, mend_sensors(replay.spec, sensors, pieces))
            except (SourceError, RobotFault) as error:
                return {"refused": str(error)}
            return {**to_json(sensors, wiring), "transitions": len(transitions.before)}

        found = replay.keep(PART, "wiring", find)
        if "refused" in found:
            return skip(f"{found['refused']}.")
        sensors, wiring = from_json(found)

        def diverge(number: int, episode: Episode) -> Mapping[str, Any]:
            return measure_divergence(simulator, cut_valid(replay, number, episode), sensors, wiring, config.restart)

        records = replay.map_episodes("simulator_divergence", diverge, only=chosen)
    finally:
        simulator.close()
    return make_section(replay, config, sensors, wiring, found["transitions"], records)


def skip(reason: str) -> Section:
    """The section of a log that cannot be replayed."""
    return Section(name=PART, title=TITLE, findings=[], skipped=f"Not done: {reason}")


def cut_valid(replay: Replay, number: int, episode: Episode) -> list[LoggedEpisode]:
    """The stretches of an episode in which every step is valid."""
    observation, action = (np.asarray(episode.arrays[name], np.float32) for name in ("observation", "action"))
    valid = replay.store.load_valid(number)
    edges = np.flatnonzero(np.diff(np.concatenate([[0], valid.astype(np.int8), [0]])))
    return [LoggedEpisode(observation[a:b], action[a:b]) for a, b in edges.reshape(-1, 2).tolist() if b - a > 1]


def mend_sensors(spec: RobotSpec, sensors: Sensors, pieces: Sequence[LoggedEpisode]) -> list[LoggedEpisode]:
    """What correct sensors would have logged."""
    return [one._replace(observation=sensors.correct(spec.observation, one.observation)) for one in pieces]


def measure_divergence(
    simulator: ReplaySimulator, pieces: Sequence[LoggedEpisode], sensors: Sensors, wiring: Wiring, restart: int
) -> dict[str, Any]:
    """Root mean squares of one episode, as logged and with what was found mended; nothing where it is too short."""
    mended = mend_sensors(simulator.spec, sensors, pieces)
    told = [mend_commands(simulator.spec, wiring, one.action, simulator.parts) for one in pieces]
    record = {}
    for name, episodes, commands in (("logged", pieces, None), ("mended", mended, told)):
        try:
            found = compute_divergence(simulator, episodes, restart, commands)
        except (SourceError, RobotFault):
            return {}
        whole = found.whole[[0, len(found.whole) // 2, -1]]
        record[name] = {"anew": np.minimum(found.anew, 1e9).tolist(), "whole": np.minimum(whole, 1e9).tolist()}
    return record


def to_json(sensors: Sensors, wiring: Wiring) -> dict[str, Any]:
    """Both as JSON; what is not finite as null."""

    def plain(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return [one if np.isfinite(one) else None for one in value.tolist()]
        return value if not isinstance(value, float) or np.isfinite(value) else None

    return {
        "sensors": {name: plain(value) for name, value in sensors._asdict().items()},
        "wiring": {name: plain(value) for name, value in wiring._asdict().items()},
    }


def from_json(found: Mapping[str, Any]) -> tuple[Sensors, Wiring]:
    """What `to_json` wrote."""

    def read(name: str, value: Any) -> Any:
        missing = np.nan if name in ("rate", "distance") else np.inf
        if name == "joints":
            return tuple(value)
        if name == "source":
            return np.array(value, np.int64)
        if not isinstance(value, list):
            return missing if value is None else float(value)
        return np.array([missing if one is None else one for one in value], np.float64)

    sensors = Sensors(**{name: read(name, value) for name, value in found["sensors"].items()})
    return sensors, Wiring(**{name: read(name, value) for name, value in found["wiring"].items()})


def make_section(
    replay: Replay,
    config: SimulatorConfig,
    sensors: Sensors,
    wiring: Wiring,
    transitions: int,
    records: Sequence[Mapping[str, Any]],
) -> Section:
    """Sentences, tables, figures and JSON."""
    spec = replay.spec
    tolerances = Tolerances(delay=config.delay_tolerance, gain=config.gain_tolerance, bias=config.bias_tolerance)
    faults = find_faults(spec, sensors, wiring, tolerances)
    delay, error = wiring.common_delay()
    least = tolerances.find_delay(spec)
    findings = [f"{one.sentence[0].upper()}{one.sentence[1:]}." for one in faults]
    if not faults:
        findings.append(
            "Nothing is wrong beyond the tolerances: order, sign, unit, gain, bias and delay of every joint."
        )
    if np.isfinite(error) and not any(one.kind == "delay" for one in faults):
        findings.append(
            f"Motion follows its command {1e3 * delay:.1f} ms late (standard error {1e3 * error:.1f} ms), within the "
            f"tolerance of {1e3 * least:.1f} ms."
        )
    untold = list_untold(spec, wiring)
    warnings = []
    if untold:
        warnings.append(f"The commands of {', '.join(untold)} hardly move: the log does not tell their wiring.")
    if not np.isfinite(sensors.distance):
        warnings.append(
            "No place of a site is observed, so that a fault of a sensor cannot be told from one of its command."
        )
    whole = [record for record in records if record]
    tables = [TitledTable("From command to motion", make_wiring_table(spec, wiring))]
    if np.isfinite(sensors.distance):
        tables.append(TitledTable("Sensors, by the observed places", make_sensor_table(spec, sensors)))
    figures: list[Plot] = []
    data: dict[str, Any] = {
        **to_json(sensors, wiring),
        "delay": delay if np.isfinite(error) else None,
        "delay_error": error if np.isfinite(error) else None,
        "transitions": transitions,
        "findings": [one._replace(joints=list(one.joints))._asdict() for one in faults],  # type: ignore[arg-type]
        "episodes": len(whole),
    }
    if whole:
        anew, ends = (average(whole, kind) for kind in ("anew", "whole"))
        tables.append(
            TitledTable(
                "Distance of simulator and log, root of the mean square", make_divergence_table(spec, anew, ends)
            )
        )
        figures = draw_divergence(spec, anew)
        data["divergence"] = {
            name: {"anew": anew[name].tolist(), "whole": ends[name].tolist()} for name in ("logged", "mended")
        }
    else:
        warnings.append(f"No episode has {config.restart} valid steps, so that no distance of the simulator is given.")
    return Section(
        name=PART,
        title=TITLE,
        findings=findings,
        tables=tables,
        figures=figures,
        data=data,
        grounds=judge(faults, tolerances, least),
        warnings=warnings,
    )


def judge(faults: Sequence[Finding], tolerances: Tolerances, least: float) -> list[Ground]:
    """One ground for each finding, or one for a log without."""
    if not faults:
        limits = f"gain {tolerances.gain:.0%}, bias {tolerances.bias:.0%} of the range, delay {1e3 * least:.1f} ms"
        return [Ground("trust", f"The log and the simulator agree in the wiring of every joint; tolerances: {limits}.")]
    return [Ground(LEVELS[one.kind], f"{one.sentence[0].upper()}{one.sentence[1:]}.") for one in faults]


def average(records: Sequence[Mapping[str, Any]], kind: str) -> dict[str, NDArray[np.float64]]:
    """Root of the mean over episodes of squares, by `logged` and `mended`."""
    found = {}
    for name in ("logged", "mended"):
        found[name] = np.sqrt(np.mean([np.square(record[name][kind]) for record in records], axis=0))
    return found


def make_wiring_table(spec: RobotSpec, wiring: Wiring) -> Table:
    """Source, gain, bias and delay of each command."""
    names, rows = spec.action.names, []
    for joint, axis in enumerate(spec.action.axes):
        rows.append(
            (
                axis.name,
                names[wiring.source[joint]],
                show(wiring.gain[joint], wiring.gain_error[joint], 3),
                f"{show(wiring.bias[joint], wiring.bias_error[joint], 3)} {axis.unit}",
                f"{show(1e3 * wiring.delay[joint], 1e3 * wiring.delay_error[joint], 1)} ms",
            )
        )
    return Table(("joint", "follows the command of", f"{NUMBER}gain", f"{NUMBER}bias", f"{NUMBER}delay"), {"": rows})


def make_sensor_table(spec: RobotSpec, sensors: Sensors) -> Table:
    """Source, gain and bias of each measured joint: what is shown for a real motion of 1, and at 0."""
    position, _ = pair_axes(spec.observation)
    rows = []
    for joint, name in enumerate(sensors.joints):
        gain, error = float(sensors.gain[joint]), float(sensors.gain_error[joint])
        rows.append(
            (
                name,
                sensors.joints[sensors.source[joint]],
                show(1.0 / gain, error / gain**2, 3),
                f"{show(-sensors.bias[joint] / gain, sensors.bias_error[joint] / abs(gain), 3)} "
                f"{spec.observation.axes[position[joint]].unit}",
            )
        )
    return Table(("joint", "logged under the name of", f"{NUMBER}gain", f"{NUMBER}bias"), {"": rows})


def show(value: float, error: float, digits: int) -> str:
    """`0.800 +- 0.004`; a number that the log does not tell as such."""
    if not np.isfinite(error):
        return "not told"
    return f"{value:.{digits}f} ± {error:.{digits}f}"


def make_divergence_table(
    spec: RobotSpec, anew: Mapping[str, NDArray[np.float64]], ends: Mapping[str, NDArray[np.float64]]
) -> Table:
    """After 1 step, K steps and a whole episode, as logged and with what was found mended."""
    steps = len(anew["logged"])
    groups = {}
    for title, name in (("As logged", "logged"), ("With what was found mended", "mended")):
        cells = np.stack([anew[name][0], anew[name][-1], ends[name][-1]], axis=1)
        groups[title] = [
            (axis.name, axis.unit, *(format_number(float(cell)) for cell in row))
            for axis, row in zip(spec.observation.axes, cells, strict=True)
        ]
    titles = [f"{NUMBER}{when}" for when in ("1 step", f"{steps} steps", "whole episode")]
    return Table(("observation axis", "unit", *titles), groups)


def draw_divergence(spec: RobotSpec, anew: Mapping[str, NDArray[np.float64]]) -> list[Plot]:
    """Distance of each joint over the time since the simulator started from the log."""
    position, _ = pair_axes(spec.observation)
    chosen = position.tolist() or list(range(len(spec.observation.axes)))
    time = spec.control_period * np.arange(1, len(anew["logged"]) + 1)
    plots = []
    for index in chosen[:MOST_PANELS]:
        axis = spec.observation.axes[index]
        with figure_style():
            figure, axes = make_axes(*PANEL)
            axes.plot(time, anew["logged"][:, index], color=BEFORE, linewidth=1.3, label="as logged")
            axes.plot(time, anew["mended"][:, index], color=ADAPTED, linewidth=1.3, linestyle="--", label="mended")
            axes.set_xlabel("time since a start from the log (s)")
            axes.set_ylim(bottom=0.0)
            axes.xaxis.set_major_locator(MaxNLocator(5))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.legend(loc="best")
            axes.set_title(with_unit(axis.name, axis.unit, 0.8 * PANEL[0]), loc="left")
            alt = f"Distance of simulator and log in {axis.name} over time, as logged and with what was found mended."
            plots.append(Plot(render_svg(figure, f"simulator-{index}", alt), shorten(axis.name)))
    return plots
