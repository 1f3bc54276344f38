"""The verb `adapt` for bundles of learners that are not SiMPL."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from ...adapt.bundle_folder import find_bundle
from ...adapt.learner_bundle import load_learner_bundle
from ...bounds import Count, Seed
from ...errors import ConfigError, RunError
from ...robots.task import load_tasks_csv
from ...strict_json import load_json, load_json_lines
from ..cli_common import Common, Options, Runner
from ..stages.adapt import RECORDS_NAME
from ..stages.adapt_learner import RETURNS_NAME, AdaptLearnerConfig, find_own_tasks, find_simulator, make_adapt_learner

AGAIN = "remove the folder and adapt again"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptLearner:
    """Arguments of `supple adapt` with such a bundle."""

    bundle: tyro.conf.Positional[Path]
    """A bundle, or a folder of `export` that holds one."""
    tasks: Path | None = None
    """CSV file of goals, a column for each axis of the robot's goal and perhaps name; without it, the first test tasks
    of the bundle's robot family."""
    num_tasks: Count | None = None
    """So many of these test tasks; without it, 10, or all where there are fewer. Not with --tasks."""
    out: Path | None = None
    """Folder to make; without it, runs/adapt-<key>."""
    seed: Seed = 0
    """Seed of exploration and resets."""
    adapt: Annotated[AdaptLearnerConfig, tyro.conf.arg(name="")] = field(default_factory=AdaptLearnerConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Adapts, and prints the records (--json) or a table of returns.

        Raises:
            ConfigError: tasks are both given and counted, or fewer are there.
        """
        bundle = load_learner_bundle(find_bundle(self.bundle))
        robot = find_simulator(bundle)
        if self.tasks is not None and self.num_tasks is not None:
            raise ConfigError("adapt: expected --tasks or --num-tasks, got both; drop one of them")
        if self.tasks is None:
            tasks = find_own_tasks(robot, self.num_tasks)
        else:
            tasks = load_tasks_csv(self.tasks, bundle.contract.robot.goal.names)
        result = runner.run(make_adapt_learner(self.bundle, tasks, self.adapt, self.seed), self.out)
        show_returns(runner, result.folder, replay=result.status in ("skipped", "reused"))


def show_returns(runner: Runner, folder: Path, *, replay: bool) -> None:
    """Prints returns as a table or as records; `replay` prints the episodes of an earlier run as records too.

    Raises:
        RunError: the folder's returns are damaged.
    """
    if replay:
        for record in load_json_lines(folder / RECORDS_NAME, RunError, AGAIN):
            runner.view.record(record.pop("kind"), record, "")
    returns = load_json(folder / RETURNS_NAME, list, RunError, AGAIN)
    for record in returns:
        runner.view.record("return", record, "")
    runner.view.record("folder", {"folder": str(folder)}, make_return_table(returns))


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
