"""What is wrong with the wiring of a log, in plain sentences, and when a number is a finding.

A number is a finding where it is beyond its tolerance by more than `QUANTILE` standard errors: a number that the log
cannot tell is none. The tolerances are what a good robot may have, not what a test can find.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..bounds import Positive, require_bounds
from .spec import RobotSpec
from .wiring import UNITS, Sensors, Wiring, pair_axes

QUANTILE = 3.0
"""Standard errors beyond a tolerance."""
UNIT_TOLERANCE = 0.15
"""Share by which a ratio may differ from that of two units."""
UNTOLD = 0.25
"""A gain with a larger standard error is not told by the log."""

Kind = Literal["order", "sign", "unit", "gain", "bias", "delay"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerances:
    """What is no finding.

    Raises:
        ConfigError: A number is out of range.
    """

    delay: Positive | None = None
    """Seconds from command to motion; without it, a tenth of the control period."""
    gain: Positive = 0.1
    """Share by which motion may be larger or smaller than commanded, or than measured otherwise."""
    bias: Positive = 0.01
    """Offset as a share of the range of the command, or of the limits of the measured axis."""

    def __post_init__(self) -> None:
        require_bounds(self)

    def find_delay(self, spec: RobotSpec) -> float:
        """Seconds from command to motion that are no finding."""
        return 0.1 * spec.control_period if self.delay is None else self.delay


class Finding(NamedTuple):
    """One thing that is wrong."""

    kind: Kind
    where: Literal["sensor", "command"]
    """A command path where nothing tells it from a sensor."""
    joints: tuple[str, ...]
    """Axes that it concerns; all where it is a delay of all."""
    value: float
    """Ratio, offset in the unit of the axis, or seconds; 0 for the order."""
    error: float
    """Its standard error."""
    sentence: str


def find_faults(spec: RobotSpec, sensors: Sensors, wiring: Wiring, tolerances: Tolerances) -> list[Finding]:
    """All that is wrong, the worst kind first."""
    found = [*_list_sensor_faults(spec, sensors, tolerances), *_list_command_faults(spec, sensors, wiring, tolerances)]
    order: tuple[Kind, ...] = ("order", "sign", "unit", "delay", "gain", "bias")
    return sorted(found, key=lambda one: order.index(one.kind))


def list_untold(spec: RobotSpec, wiring: Wiring) -> list[str]:
    """Command axes whose gain the log does not tell: they hardly move."""
    return [name for name, error in zip(spec.action.names, wiring.gain_error, strict=True) if not error < UNTOLD]


def _list_sensor_faults(spec: RobotSpec, sensors: Sensors, tolerances: Tolerances) -> Iterator[Finding]:
    names = sensors.joints
    position, _ = pair_axes(spec.observation)
    for joint, source in enumerate(sensors.source.tolist()):
        if source > joint or (source != joint and sensors.source[source] != joint):
            pair = (names[joint], names[source])
            yield Finding(
                *("order", "sensor", pair, 0.0, 0.0),
                f"joint '{names[joint]}' is logged under the name of '{names[source]}': the observed places fit only "
                "so; correct the order of the joints in the log",
            )
    for joint, (name, gain, error) in enumerate(zip(names, sensors.gain, sensors.gain_error, strict=True)):
        axis = spec.observation.axes[position[joint]]
        told = np.isfinite(error)
        if told and gain < 0.0 and abs(gain) > QUANTILE * error:
            yield Finding(
                *("sign", "sensor", (name,), float(gain), float(error)),
                f"joint '{name}': its sensor has the reversed sign: the observed places fit only the opposite",
            )
        factor = 1.0 / abs(gain)
        if unit := _find_unit_of(factor):
            yield Finding(
                *("unit", "sensor", (name,), factor, 0.0),
                f"joint '{name}': logged positions are {factor:.3g} times too large: {unit}",
            )
        elif told and abs(abs(gain) - 1.0) - tolerances.gain > QUANTILE * error:
            yield Finding(
                *("gain", "sensor", (name,), factor, float(error * factor**2)),
                f"joint '{name}': its sensor shows {factor:.2f} times the real motion, by the observed places",
            )
        span = axis.high - axis.low
        least = tolerances.bias * (span if np.isfinite(span) else 2.0)
        bias, spread = float(sensors.bias[joint]), float(sensors.bias_error[joint])
        if np.isfinite(spread) and abs(bias) - least > QUANTILE * spread:
            yield Finding(
                *("bias", "sensor", (name,), -bias, spread),
                f"joint '{name}': its sensor shows {-bias:+.3f} {axis.unit} too much, by the observed places",
            )
    for name, rate in zip(names, sensors.wrong_rate().tolist(), strict=True):
        if rate < 0.0:
            yield Finding(
                *("sign", "sensor", (name,), rate, 0.0),
                f"joint '{name}': its velocity has the reversed sign against the change of its position",
            )
        elif rate > 0.0:
            unit = _find_unit_of(rate) or _find_unit_of(1.0 / rate)
            yield Finding(
                *("unit", "sensor", (name,), 1.0 / rate, 0.0),
                f"joint '{name}': its velocity is {1.0 / rate:.3g} times the change of its position"
                + (f": {unit}" if unit else ""),
            )


def _list_command_faults(
    spec: RobotSpec, sensors: Sensors, wiring: Wiring, tolerances: Tolerances
) -> Iterator[Finding]:
    names, span = spec.action.names, (spec.action.high - spec.action.low).astype(np.float64)
    aside = "" if np.isfinite(sensors.distance) else ", or its sensor: nothing in the log tells which"
    told = wiring.gain_error < UNTOLD * np.maximum(1.0, np.abs(wiring.gain))
    for joint, source in enumerate(wiring.source.tolist()):
        if source > joint or (source != joint and wiring.source[source] != joint):
            yield Finding(
                *("order", "command", (names[joint], names[source]), 0.0, 0.0),
                f"commands of '{names[joint]}' and '{names[source]}' are swapped: '{names[joint]}' follows what "
                f"'{names[source]}' is told{aside}",
            )
    for joint, name in enumerate(names):
        gain, error = float(wiring.gain[joint]), float(wiring.gain_error[joint])
        if told[joint] and gain < 0.0 and abs(gain) > QUANTILE * error:
            yield Finding(
                *("sign", "command", (name,), gain, error),
                f"joint '{name}': sign reversed, it moves against its commands{aside}",
            )
        ratio = abs(gain)
        if told[joint] and (unit := _find_unit_of(1.0 / max(ratio, 1e-9))):
            yield Finding(
                *("unit", "command", (name,), gain, error),
                f"joint '{name}': commands are {1.0 / ratio:.3g} times the motion that they cause: {unit}{aside}",
            )
        elif told[joint] and abs(ratio - 1.0) - tolerances.gain > QUANTILE * error:
            yield Finding(
                *("gain", "command", (name,), ratio, error),
                f"joint '{name}': it moves {ratio:.2f} times as far as commanded (standard error {error:.2f}){aside}",
            )
        bias, spread = float(wiring.bias[joint]), float(wiring.bias_error[joint])
        if told[joint] and abs(bias) - tolerances.bias * span[joint] > QUANTILE * spread:
            unit_name = spec.action.axes[joint].unit
            yield Finding(
                *("bias", "command", (name,), bias, spread),
                f"joint '{name}': commands arrive with {bias:+.3f} {unit_name} added (standard error {spread:.3f})"
                f"{aside}",
            )
    yield from _list_delays(spec, wiring, told, tolerances)


def _list_delays(spec: RobotSpec, wiring: Wiring, told: NDArray[np.bool_], tolerances: Tolerances) -> Iterator[Finding]:
    least = tolerances.find_delay(spec)
    if not told.any():
        return
    common, error = wiring.common_delay()
    if abs(common) - least > QUANTILE * error:
        how = "late" if common > 0.0 else "early: a clock or a stamp is wrong"
        yield Finding(
            *("delay", "command", spec.action.names, common, error),
            f"commands arrive {1e3 * abs(common):.0f} ms {how} (standard error {1e3 * error:.1f} ms, tolerance "
            f"{1e3 * least:.0f} ms)",
        )
    for joint, name in enumerate(spec.action.names):
        apart, spread = float(wiring.delay[joint] - common), float(np.hypot(wiring.delay_error[joint], error))
        if told[joint] and abs(apart) - max(least, 0.1 * spec.control_period) > QUANTILE * spread:
            yield Finding(
                *("delay", "command", (name,), float(wiring.delay[joint]), spread),
                f"joint '{name}': its commands arrive {1e3 * wiring.delay[joint]:.0f} ms late, those of the others "
                f"{1e3 * common:.0f} ms",
            )


def _find_unit_of(factor: float) -> str:
    """The units that are mistaken for each other where a number is so many times too large; empty for none."""
    found = (name for ratio, name in UNITS.items() if abs(factor / ratio - 1.0) < UNIT_TOLERANCE)
    return next(found, "")
