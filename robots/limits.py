"""What a robot may be told and may be seen to do: limits of one robot, each with the source that it comes from.

A command is limited in its value and in its changes. What the changes are called depends on what the axis commands:

    place     position, velocity, acceleration, jerk
    speed     velocity, acceleration, jerk
    force     effort, effort_rate
    another   value, rate

Limits come from the contract of the robot, from a model of it, and from a TOML file of the operator. A model and a file
only tighten what is there, or add what is missing.

Axes: A action.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import ConfigError, SpecError
from ..plain_files import read_plain_file
from .spec import Axis, RobotSpec
from .units import read_unit, split_unit

CHAINS = {
    "place": ("position", "velocity", "acceleration", "jerk"),
    "speed": ("velocity", "acceleration", "jerk"),
    "force": ("effort", "effort_rate"),
    "another": ("value", "rate"),
}
"""Quantities by what an axis commands: of the command, and of its changes per second, per s^2 and per s^3."""
TRACKING = "tracking_error"
CONTRACT = "contract"


class Bound(NamedTuple):
    """The ends of a quantity, and what says so."""

    low: float
    high: float
    source: str

    def meet(self, other: Bound) -> Bound:
        """The tighter end of each; the source is that of the tighter one, or both."""
        if (self.low, self.high) == (max(self.low, other.low), min(self.high, other.high)):
            return self
        inside = other.low >= self.low and other.high <= self.high
        source = other.source if inside else f"{self.source}, {other.source}"
        return Bound(max(self.low, other.low), min(self.high, other.high), source)


class HalfSpace(NamedTuple):
    """normal . place >= offset for a place that is observed."""

    axes: tuple[str, ...]
    """Observation axes."""
    normal: tuple[float, ...]
    offset: float
    """In the unit of the axes times that of the normal."""
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopLimits:
    """What stops a robot beside its axes; None for no such limit."""

    max_age: float | None = None
    """Seconds from a measurement to its use."""
    late_after: float | None = None
    """Seconds between two commands of an episode from which on the later one is late. A late command is not followed:
    the robot is told to hold."""
    late_steps: int | None = None
    """Late commands in a row that do not stop the robot yet."""
    frozen_steps: int | None = None
    """Steps in a row that an observation may repeat bit for bit."""
    clamped_steps: int | None = None
    """Commands of one episode that may be clipped."""


def find_kind(axis: Axis, commanded: str | None) -> str:
    """What an action axis commands, a key of `CHAINS`: from its unit, see `units.py`."""
    return "place" if commanded is not None else read_unit(axis.unit).kind


def find_scale(axis: Axis) -> float:
    """How many units the number 1 of an axis stands for: 150 for `150 N m`."""
    return split_unit(axis.unit)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobotLimits:
    """All limits of one robot."""

    spec: RobotSpec
    action: tuple[Mapping[str, Bound], ...]
    """By quantity, for each action axis."""
    observation: Mapping[str, Bound] = field(default_factory=dict)
    """Values of observation axes beyond which the robot is stopped, by name: a box for a tool, a measured torque."""
    half_spaces: tuple[HalfSpace, ...] = ()
    """Beyond which the robot is stopped too."""
    loop: LoopLimits = field(default_factory=LoopLimits)

    @staticmethod
    def of(spec: RobotSpec) -> RobotLimits:
        """The limits that the contract has: values of commands and their first change."""
        action = []
        for axis, chain in zip(spec.action.axes, _find_chains(spec), strict=True):
            bounds = {chain[0]: Bound(axis.low, axis.high, CONTRACT)}
            if axis.rate_limit is not None:
                bounds[chain[1]] = Bound(-axis.rate_limit, axis.rate_limit, CONTRACT)
            action.append(bounds)
        return RobotLimits(spec=spec, action=tuple(action))

    @property
    def chains(self) -> tuple[tuple[str, ...], ...]:
        """Names of the quantities of each action axis, in the order of `CHAINS`."""
        return _find_chains(self.spec)

    def tighten(
        self, found: Mapping[str, Mapping[str, Bound]], observed: Mapping[str, Bound] | None = None
    ) -> RobotLimits:
        """These limits and those of a model, whichever are tighter.

        Args:
            found: By name of the action axis and quantity; quantities that an axis does not have are left out.
            observed: Of observation axes, in the place of those that are there.

        Raises:
            ConfigError: Nothing is left between them.
        """
        action = []
        for axis, bounds, chain in zip(self.spec.action.axes, self.action, self.chains, strict=True):
            known = {name: bound for name, bound in found.get(axis.name, {}).items() if name in chain}
            met = {name: bounds[name].meet(bound) if name in bounds else bound for name, bound in known.items()}
            for name, bound in met.items():
                if not bound.low < bound.high:
                    raise ConfigError(
                        f"limits of action axis '{axis.name}': expected {name} limits that overlap, got "
                        f"[{bound.low:g}, {bound.high:g}] {axis.unit} of {bound.source}; correct one of them"
                    )
            action.append({**bounds, **met})
        return replace(self, action=tuple(action), observation=self.observation if observed is None else observed)

    def override(self, path: Path) -> RobotLimits:
        """These limits and those of a TOML file.

        Raises:
            ConfigError: The file cannot be read, names an axis or a quantity that is not there, or loosens a limit.
        """
        content = read_plain_file(path, ConfigError, "give a TOML file of limits", "a TOML file")
        try:
            data = tomllib.loads(content.decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"{path}: expected TOML, got '{str(error)[:200]}'; correct the file") from error
        return self.override_by(data, str(path))

    def override_by(self, data: Mapping[str, Any], where: str) -> RobotLimits:
        """The same for what such a file holds; see `override`."""
        _require_known(data, ("action", "observation", "half_space", "loop"), where)
        actions = _table(data, "action", where)
        _require_known(actions, self.spec.action.names, f"{where} action")
        action = []
        axes = zip(self.spec.action.axes, self.action, self.chains, self.spec.find_commanded(), strict=True)
        for axis, bounds, chain, commanded in axes:
            table, place = _table(actions, axis.name, where), f"{where} action.{axis.name}"
            _require_known(table, (*chain, *([] if commanded is None else [TRACKING])), place)
            action.append(dict(bounds))
            for name, value in table.items():
                bound = _read_bound(value, f"{place}.{name}", where, pair=name == chain[0])
                unit = _per_second(axis.unit, chain.index(name) if name in chain else 0)
                action[-1][name] = _replace_bound(bounds.get(name), bound, f"{place}.{name}", unit)
        seen = dict(self.observation)
        tables = _table(data, "observation", where)
        _require_known(tables, self.spec.observation.names, f"{where} observation")
        for name, value in tables.items():
            bound = _read_bound(value, f"{where} observation.{name}", where, pair=True)
            seen[name] = _replace_bound(seen.get(name), bound, f"{where} observation.{name}", "")
        spaces = data.get("half_space", [])
        if not isinstance(spaces, list):
            raise ConfigError(
                f"{where} half_space: expected [[half_space]] tables, got {spaces!r:.60}; correct the file"
            )
        half_spaces = tuple(_read_half_space(space, self.spec, where) for space in spaces)
        return replace(
            self,
            action=tuple(action),
            observation=seen,
            half_spaces=(*self.half_spaces, *half_spaces),
            loop=_read_loop(_table(data, "loop", where), self.loop, f"{where} loop"),
        )

    def require_rates(self, where: str) -> None:
        """Refuses limits with which a real robot could jump.

        Raises:
            ConfigError: Naming the axes that have no finite ends, or no limit of their change unless they command a
                force; or an axis in the unit of a measured place that does not say which one it commands.
        """
        self._require_measured(where)
        lines, unknown = [], []
        for axis, bounds, chain in zip(self.spec.action.axes, self.action, self.chains, strict=True):
            ends = bounds[chain[0]]
            missing = chain[0] if not math.isfinite(ends.high - ends.low) else ""
            if not missing and chain[1] not in bounds and chain != CHAINS["force"] and not self.spec.choices:
                missing = chain[1]
            if missing:
                lines.append(f"[action.{axis.name}] {missing} = {'[low, high]' if missing == chain[0] else 'number'}")
                unknown += [f"'{axis.unit}' of {axis.name}"] if chain == CHAINS["another"] else []
        if lines:
            units = f" (units that are no known place, speed or force: {', '.join(unknown)})" if unknown else ""
            raise ConfigError(
                f"{where}: expected a limit of all that may jump before the robot moves, got none{units}; give "
                f"{', '.join(lines)} in the contract, the model or a file of --limits; supple doctor lists all limits"
            )

    def _require_measured(self, where: str) -> None:
        """Refuses a place of which nobody knows where it is measured: its first command would be a jump towards 0."""
        for axis, commanded in zip(self.spec.action.axes, self.spec.find_commanded(), strict=True):
            unit = read_unit(axis.unit)
            like = [seen.name for seen in self.spec.observation.axes if read_unit(seen.unit)[:2] == unit[:2]]
            if commanded is None and unit.kind == "place" and like and not self.spec.choices:
                raise ConfigError(
                    f"{where}: expected the observation axis that action axis '{axis.name}' in {axis.unit} commands, "
                    f"got none, so that its first command would start at 0; name it in the contract with "
                    f"Axis(commands=...), such as '{like[0]}', or give an axis that commands none of them the unit '1'"
                )

    def slow_down(self, share: float, where: str) -> RobotLimits:
        """The same motion in more time: speeds times `share`, accelerations times its square, jerks its cube.

        Forces stay what they are, and so do positions. Other commands keep their value; their rate is scaled.

        Raises:
            ConfigError: An axis that commands no force has no limit of a speed or a rate to scale, or all of them
                command forces: the robot would be as fast as before.
        """
        powers = {"velocity": 1, "acceleration": 2, "jerk": 3, "rate": 1, "effort_rate": 1}
        if self.spec.choices or all(chain == CHAINS["force"] for chain in self.chains):
            got = "named choices" if self.spec.choices else "forces alone, which keep their limits"
            raise ConfigError(f"{where} --slow: expected an axis with a speed to scale, got {got}; leave it out")
        action = []
        for axis, bounds, chain in zip(self.spec.action.axes, self.action, self.chains, strict=True):
            speed = {"position": "velocity", "value": "rate"}.get(chain[0])
            if speed is not None and speed not in bounds:
                raise ConfigError(
                    f"{where} --slow: expected a {speed} limit of action axis '{axis.name}' in '{axis.unit}' to scale, "
                    "got none; give it with --limits"
                )
            slowed = {}
            for name, (low, high, source) in bounds.items():
                factor = share ** powers.get(name, 0)
                slowed[name] = Bound(
                    low * factor, high * factor, source if factor == 1.0 else f"{source} x {factor:.3g}"
                )
            action.append(slowed)
        return replace(self, action=tuple(action))

    def without_tracking(self) -> RobotLimits:
        """The same for a robot that is sent nothing."""
        return replace(self, action=tuple({k: v for k, v in one.items() if k != TRACKING} for one in self.action))

    def to_json(self) -> list[dict[str, Any]]:
        """One row per limit: axis, quantity, low, high, unit and source."""
        units = {axis.name: axis.unit for axis in (*self.spec.action.axes, *self.spec.observation.axes)}
        rows: list[dict[str, Any]] = []
        for axis, bounds, chain in zip(self.spec.action.axes, self.action, self.chains, strict=True):
            for name, (low, high, source) in bounds.items():
                order = chain.index(name) if name in chain else 0
                unit = _per_second(axis.unit, order)
                rows.append(
                    {"axis": axis.name, "limit": name, "low": low, "high": high, "unit": unit, "source": source}
                )
        for axis_name, (low, high, source) in self.observation.items():
            found = {"limit": "observed", "low": low, "high": high, "unit": units[axis_name], "source": source}
            rows.append({"axis": axis_name, **found})
        for space in self.half_spaces:
            terms = " + ".join(f"{weight:g} {name}" for weight, name in zip(space.normal, space.axes, strict=True))
            found = {"limit": "half-space", "low": space.offset, "high": math.inf, "unit": units[space.axes[0]]}
            rows.append({"axis": terms, **found, "source": space.source})
        for one in fields(self.loop):
            value = getattr(self.loop, one.name)
            if value is not None:
                unit = "s" if one.name in ("max_age", "late_after") else "steps"
                rows.append(
                    {"axis": "loop", "limit": one.name, "low": 0, "high": value, "unit": unit, "source": "loop"}
                )
        return [
            {**row, **{end: row[end] if math.isfinite(row[end]) else None for end in ("low", "high")}} for row in rows
        ]

    def describe(self) -> str:
        """A table of all limits and their sources."""
        rows = [("axis", "limit", "low", "high", "unit", "source")]
        for row in self.to_json():
            ends = ["" if row[end] is None else f"{row[end]:g}" for end in ("low", "high")]
            rows.append((row["axis"], row["limit"], *ends, row["unit"], row["source"]))
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def _find_chains(spec: RobotSpec) -> tuple[tuple[str, ...], ...]:
    pairs = zip(spec.action.axes, spec.find_commanded(), strict=True)
    return tuple(CHAINS[find_kind(axis, commanded)] for axis, commanded in pairs)


def _per_second(unit: str, order: int) -> str:
    """The unit of a change: m, m/s, m/s^2."""
    base, slash, _ = unit.partition("/s")
    order += bool(slash)
    return unit if order == bool(slash) else f"{base}/s" + (f"^{order}" if order > 1 else "")


def _table(data: Mapping[str, Any], name: str, where: str) -> Mapping[str, Any]:
    table = data.get(name, {})
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} {name}: expected a table, got {table!r:.60}; correct the file")
    return table


def _require_known(table: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in table:
        if name not in known:
            raise ConfigError(f"{where}: expected names among {', '.join(known)}, got '{name}'; correct the name")


def _number(value: Any, where: str) -> float:
    # TOML has whole numbers of any length, which no float holds
    if type(value) not in (int, float) or (type(value) is int and abs(value) >= 2**1000) or not math.isfinite(value):
        raise ConfigError(f"{where}: expected a finite number, got {value!r:.60}; correct it")
    return float(value)


def _read_bound(value: Any, where: str, source: str, *, pair: bool) -> Bound:
    """A number m stands for [-m, m]."""
    if pair and isinstance(value, list) and len(value) == 2:
        low, high = (_number(end, where) for end in value)
    else:
        high = _number(value, where)
        low = -high
    if not low < high:
        expected = "[low, high] with low < high, or a number > 0" if pair else "a number > 0"
        raise ConfigError(f"{where}: expected {expected}, got {value!r:.60}; correct it")
    return Bound(low, high, source)


def _replace_bound(known: Bound | None, given: Bound, where: str, unit: str) -> Bound:
    if known is not None and (given.low < known.low or given.high > known.high):
        raise ConfigError(
            f"{where}: expected a limit within [{known.low:g}, {known.high:g}] {unit} of {known.source}, got "
            f"[{given.low:g}, {given.high:g}]; a file can only tighten a limit that is there"
        )
    return given


def _read_half_space(data: Any, spec: RobotSpec, where: str) -> HalfSpace:
    where = f"{where} half_space"
    if not isinstance(data, Mapping) or set(data) != {"axes", "normal", "offset"}:
        raise ConfigError(f"{where}: expected axes, normal and offset, got {data!r:.80}; correct the file")
    axes, normal = data["axes"], data["normal"]
    good = isinstance(axes, list) and isinstance(normal, list) and len(axes) == len(normal) > 0
    if not good or len(set(map(str, axes))) < len(axes) or any(name not in spec.observation.names for name in axes):
        raise ConfigError(
            f"{where}: expected distinct axes among {list(spec.observation.names)} and one number of the normal for "
            f"each, got {axes!r:.80} and {normal!r:.80}; correct them"
        )
    numbers = tuple(_number(value, f"{where} normal") for value in normal)
    if not any(numbers):
        raise ConfigError(f"{where} normal: expected a direction, got {list(numbers)}; correct it")
    return HalfSpace(tuple(axes), numbers, _number(data["offset"], f"{where} offset"), where)


def _read_loop(table: Mapping[str, Any], known: LoopLimits, where: str) -> LoopLimits:
    _require_known(table, [one.name for one in fields(LoopLimits)], where)
    for name, value in table.items():
        before = getattr(known, name)
        if name.endswith("_steps") and (type(value) is not int or not 0 <= value < 2**31):
            raise ConfigError(f"{where}.{name}: expected a whole number from 0, got {value!r:.60}; correct it")
        if not name.endswith("_steps") and not _number(value, f"{where}.{name}") > 0:
            raise ConfigError(f"{where}.{name}: expected seconds > 0, got {value!r:.60}; correct it")
        if before is not None and value > before:
            raise ConfigError(
                f"{where}.{name}: expected at most {before}, got {value}; a file can only tighten a limit"
            )
    return replace(known, **table)


def require_finite(limits: RobotLimits) -> None:
    """Refuses an axis that has no ends.

    Raises:
        SpecError: Naming the first such action axis.
    """
    for axis, bounds, chain in zip(limits.spec.action.axes, limits.action, limits.chains, strict=True):
        low, high, _ = bounds[chain[0]]
        if not (math.isfinite(low) and math.isfinite(high)):
            raise SpecError(
                f"safety limits: expected finite low < high for action axis '{axis.name}', got [{low}, {high}] "
                f"{axis.unit}; give the axis limits in the robot's spec"
            )
