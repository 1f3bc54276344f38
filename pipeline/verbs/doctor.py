"""The verb `doctor`: a list of what has to be true before a robot moves by a bundle."""

import io
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.console import Console
from rich.table import Table

from ...bounds import Range
from ...errors import BundleError
from ..cli_common import AboutRobot, Common, Options, Runner
from .look import find_wrong_requirements

if TYPE_CHECKING:
    from ..deploy.checks import Check

FAILED = 4
"""Exit code where a check failed."""
COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "not checked": "dim"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor(AboutRobot):
    """Arguments of `supple doctor`."""

    bundle: tyro.conf.Positional[Path]
    """A policy bundle, or a folder of `export` or `run` that holds one."""
    limits: Path | None = None
    """JSON file of the robot's own limits: {action axis: {"low": ..., "high": ..., "rate_limit": ...}}. Or the TOML
    file that `supple adapt --limits` takes."""
    bag: Path | None = None
    """A bag of the robot, whose topics are compared with the rate and the axes of the bundle; with --mapping."""
    mapping: Path | None = None
    """How the topics become axes, see `supple inspect --write-mapping`."""
    latency_share: Annotated[float, Range(0.0, 1000.0)] = 0.5
    """Share of the control period in which 99 % of the policy's actions have to be there; the rest is for the robot,
    the network and the safety layer."""
    yes: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Never wait for a person, for scripts. The emergency stop of a real robot is then not acknowledged, and fails."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Prints the list; the exit code is 4 where a check failed."""
        checks = []
        for check in self._run():
            checks.append(check)
            runner.view.record("check", check._asdict(), "")
        counts = {status: sum(check.status == status for check in checks) for status in COLOURS}
        runner.view.record("doctor", {"path": str(self.bundle), **counts}, make_list(checks))
        if counts["failed"]:
            runner.exit_code = FAILED

    def _run(self) -> "Iterator[Check]":
        from ...adapt.bundle import load_bundle
        from ...adapt.bundle_folder import find_bundle
        from ...robots.family import Hardware
        from ...robots.hardware_family import HardwareFamily
        from ...robots.ros.driver import RosConnection
        from ..deploy.checks import (
            Check,
            check_latency,
            check_limits,
            check_motion,
            check_rates,
            check_robot,
            check_ros,
            check_stop,
            check_watchdog,
        )

        wrong = find_wrong_requirements()
        yield Check("versions", "failed" if wrong else "ok", "; ".join(wrong) or "those that this version was made for")
        try:
            bundle = load_bundle(find_bundle(self.bundle))
        except BundleError as error:
            yield Check("bundle", "failed", str(error))
            return
        yield Check("bundle", "ok", f"{bundle.contract.kind}, {bundle.digest[:12]}: every byte is as it was exported")
        if bundle.golden:
            yield Check("golden trial", "ok", "this machine computes what the trainer computed")
        else:
            yield Check("golden trial", "not checked", "a bundle of version 1 has none")
        family = None if self.choice is None else self.choice.family
        yield check_robot(bundle, None if family is None else family.spec())
        yield check_limits(bundle, self.limits)
        if isinstance(family, HardwareFamily):
            yield check_motion(family, self.limits)
        yield check_rates(bundle, self.bag, self.mapping)
        connection = family.connect if isinstance(family, HardwareFamily) else None
        if isinstance(connection, RosConnection):
            yield check_ros(connection.robot)
        yield check_latency(bundle, self.latency_share)
        yield check_watchdog()
        yield check_stop(family is None or isinstance(family, Hardware), None if self.yes else find_person())


def find_person() -> Callable[[str], str] | None:
    """What asks the person at the terminal; None where stdin is none."""
    if not sys.stdin or not sys.stdin.isatty():
        return None

    def ask(question: str) -> str:
        print(question, end="", file=sys.stderr, flush=True)
        return sys.stdin.readline()

    return ask


def make_list(checks: "list[Check]") -> str:
    """The list for people, in colours where stdout is a terminal."""
    table = Table(box=None, show_header=False, pad_edge=False)
    for style in ("", "", ""):
        table.add_column(overflow="fold", style=style)
    for check in checks:
        table.add_row(f"[{COLOURS[check.status]}]{check.status}[/]", check.name, check.said.replace("[", r"\["))
        for detail in check.details:
            table.add_row("", "", detail.replace("[", r"\["))
    printed = io.StringIO()
    Console(file=printed, force_terminal=sys.stdout.isatty(), width=120).print(table)
    return printed.getvalue().rstrip("\n")
