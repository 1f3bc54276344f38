"""The verb `report`: one HTML page about a run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ..cli_common import AboutRobot, Common, Options, Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(AboutRobot):
    """Arguments of `supple report`."""

    run: tyro.conf.Positional[Path]
    """A folder of `supple run`, finished or not."""
    out: Path | None = None
    """HTML file to write; without it, report.html in the run folder. An older one is replaced."""
    accept_robot_change: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the robot that --robot names although its code or settings are not those of the run."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the page and prints its path."""
        from ..report.page import make_report

        path = make_report(
            *(self.run, self.out),
            robot=self.choice,
            accept_robot_change=self.accept_robot_change,
            threads=self.options.threads,
            view=runner.view,
        )
        runner.view.record("report", {"path": str(path)}, f"{path}: report of {self.run}")
