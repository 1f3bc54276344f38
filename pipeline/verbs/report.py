"""The verb `report`: one HTML page about a run."""

from dataclasses import dataclass, field
from pathlib import Path

import tyro

from ..cli_common import AboutRobot, Common, Options, Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(AboutRobot):
    """Arguments of `supple report`."""

    run: tyro.conf.Positional[Path]
    """A folder of `supple run`, finished or not."""
    out: Path | None = None
    """HTML file to write; without it, report.html in the run folder. An older one is replaced."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the page and prints its path."""
        from ..report.page import make_report

        path = make_report(self.run, self.out, robot=self.choice, threads=self.options.threads, view=runner.view)
        runner.view.record("report", {"path": str(path)}, f"{path}: report of {self.run}")
