"""The verb `adapt`: a bundle meets tasks that it never saw. What it can be told depends on the bundle's kind."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...adapt.bundle import load_bundle
from ...adapt.bundle_folder import find_bundle, read_files, read_kind
from ...bounds import Seed
from ...errors import ConfigError, RunError
from ...strict_json import load_json_lines
from ..cli_common import AboutRobot, Common, Options, Runner, Verb, parse_verb
from ..robots import load_tasks
from ..settings.adapt import AdaptStageConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapt(AboutRobot):
    """Arguments of `supple adapt`."""

    bundle: tyro.conf.Positional[Path]
    """A policy bundle, or a folder of `export` or `run` that holds one."""
    tasks: Path | None = None
    """CSV file of goals, a column for each goal axis and perhaps name; without it, the bundle's own test tasks."""
    out: Path | None = None
    """Folder to make; without it, runs/adapt-<key>."""
    seed: Seed = 0
    """Seed of exploration, sampling and resets."""
    accept_robot_change: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the robot that --robot names although its code or settings are not those that the bundle was made for."""
    adapt: Annotated[AdaptStageConfig, tyro.conf.arg(name="")] = field(default_factory=AdaptStageConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Adapts, and prints the records (--json) or a table of success."""
        from ..stages.adapt import find_robot_of, find_test_tasks, make_adapt

        bundle = load_bundle(find_bundle(self.bundle))
        robot = find_robot_of(bundle, self.choice, accept_change=self.accept_robot_change)
        tasks = find_test_tasks(bundle) if self.tasks is None else load_tasks(robot, self.tasks)
        result = runner.run(make_adapt(self.bundle, tasks, robot, self.adapt, self.seed), self.out)
        show_result(runner, result.folder, replay=result.status in ("skipped", "reused"))


OTHER_KINDS = (
    "A bundle of another kind than SiMPL takes --tasks or --num-tasks, --episodes, --seed and --out; "
    "supple adapt BUNDLE --help explains them."
)


def parse_adapt(arguments: Sequence[str], description: str) -> Verb:
    """The arguments of `adapt`, for SiMPL or for the kind of the bundle that stands among them.

    Raises:
        BundleError: options that only another kind has, and no whole bundle to tell the kind.
        ConfigError: see `parse_verb`.
    """
    description = f"{description}\n\n{OTHER_KINDS}"
    kind = find_kind(arguments)
    if kind not in (None, "simpl"):
        from .adapt_learner import AdaptLearner

        return parse_verb(AdaptLearner, "adapt", description, arguments, None, see="adapt BUNDLE")
    try:
        return parse_verb(Adapt, "adapt", description, arguments, None)
    except ConfigError:
        if kind is None:
            require_bundle(arguments, description)
        raise


def require_bundle(arguments: Sequence[str], description: str) -> None:
    """Refuses a bundle that is not there or damaged, where the arguments are right for some learner's bundle.

    Raises:
        BundleError: says what is wrong with the bundle.
    """
    from .adapt_learner import AdaptLearner

    try:
        parsed = parse_verb(AdaptLearner, "adapt", description, arguments, None)
    except ConfigError:
        return
    read_files(find_bundle(parsed.bundle))


def find_kind(arguments: Sequence[str]) -> str | None:
    """The kind of the first bundle that is named; None where none is."""
    kinds = (read_kind(find_bundle(Path(one))) for one in arguments if not one.startswith("-"))
    return next((kind for kind in kinds if kind is not None), None)


def show_result(runner: Runner, folder: Path, *, replay: bool) -> None:
    """Prints success as a table or as records; `replay` prints the episodes of an earlier run as records too."""
    from ..results.summary import load_success, make_table
    from ..stages.adapt import RECORDS_NAME

    if replay:
        for record in load_json_lines(folder / RECORDS_NAME, RunError, "remove the folder and adapt again"):
            runner.view.record(record.pop("kind"), record, "")
    success = load_success(folder)
    for record in success:
        runner.view.record("success", record, "")
    if success:
        runner.view.record("folder", {"folder": str(folder)}, make_table(success))
