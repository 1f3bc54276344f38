"""The verb `adapt`: a bundle meets tasks that it never saw."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ...adapt.bundle import load_bundle
from ...adapt.bundle_folder import find_bundle
from ...bounds import Count, Seed
from ...errors import ConfigError, RunError
from ...strict_json import load_json, load_json_lines
from ..cli_common import AboutRobot, Common, Options, Runner
from ..evidence import advise_again
from ..robots import load_tasks
from ..settings.adapt import AdaptStageConfig, Watching
from ..settings.motion import MotionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapt(AboutRobot):
    """Arguments of `supple adapt`."""

    bundle: tyro.conf.Positional[Path]
    """A policy bundle, or a folder of `export` or `run` that holds one."""
    tasks: Path | None = None
    """CSV file of goals, a column for each goal axis and perhaps name; without it, the test tasks that the bundle
    names, or else those of its robot family."""
    num_tasks: Count | None = None
    """Number of these test tasks; without it, all that the bundle names, or 10 of the family's. Not with --tasks."""
    out: Path | None = None
    """Folder to make; without it, runs/adapt-<key>."""
    seed: Seed = 0
    """Seed of exploration, sampling and resets."""
    accept_robot_change: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the robot that --robot names although its code or settings are not those that the bundle was made for."""
    motion: Annotated[MotionConfig, tyro.conf.arg(name="")] = field(default_factory=MotionConfig)
    adapt: Annotated[AdaptStageConfig, tyro.conf.arg(name="")] = field(default_factory=AdaptStageConfig)
    watching: Annotated[Watching, tyro.conf.arg(name="")] = field(default_factory=Watching)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Adapts, and prints the records (--json) or a table of the results.

        Raises:
            ConfigError: Tasks are both given and counted, or fewer are there.
        """
        from ..stages.adapt import find_robot_of, find_test_tasks, make_adapt

        if self.tasks is not None and self.num_tasks is not None:
            raise ConfigError("adapt: expected --tasks or --num-tasks, got both; drop one of them")
        bundle = load_bundle(find_bundle(self.bundle))
        robot = find_robot_of(bundle, self.choice, accept_change=self.accept_robot_change)
        if self.tasks is None:
            tasks = find_test_tasks(bundle, robot.family, self.num_tasks)
        else:
            tasks = load_tasks(robot, self.tasks)
        if self.watching.live and not self.options.json:
            from ..adapt_view import AdaptView

            runner.view = AdaptView(sys.stdout)
        stage = make_adapt(self.bundle, tasks, robot, self.adapt, self.seed, self.motion, self.watching)
        result = runner.run(stage, self.out)
        show_result(runner, result.folder, replay=result.status in ("skipped", "reused"))


def show_result(runner: Runner, folder: Path, *, replay: bool) -> None:
    """Prints success, or returns where no success is told, as a table or as records.

    Args:
        runner: Has the view.
        folder: Of the stage.
        replay: Print the episodes of an earlier run as records too.
    """
    from ..stages.adapt import RECORDS_NAME, RETURNS_NAME
    from ..summary import load_success, make_table

    if replay:
        for record in load_json_lines(folder / RECORDS_NAME, RunError, advise_again(folder, "adapt again")):
            runner.view.record(record.pop("kind"), record, "")
    success = load_success(folder)
    for record in success:
        runner.view.record("success", record, "")
    returns = load_json(folder / RETURNS_NAME, list, RunError, advise_again(folder, "adapt again"))
    for record in returns:
        runner.view.record("return", record, "")
    told = any(record["metric"] == "success_stochastic" for record in success)
    runner.view.record("folder", {"folder": str(folder)}, make_table(success) if told else make_return_table(returns))


def make_return_table(returns: Sequence[Mapping[str, Any]]) -> str:
    """Mean returns along the episodes or steps of adaptation, with 95 % intervals over tasks."""
    axis = next(iter(returns[0]["at"]))
    rows: list[tuple[str, ...]] = [(axis, "return", "95 % interval", "n")]
    for record in returns:
        interval = f"{record['low']:.2f} to {record['high']:.2f}"
        rows.append((str(record["at"][axis]), f"{record['mean']:.2f}", interval, str(record["n"])))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)
