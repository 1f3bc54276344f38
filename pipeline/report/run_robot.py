"""The robot that a run is about: its family, where it can be had, and what the run folder says of it by itself."""

from collections.abc import Mapping
from typing import NamedTuple

from ...errors import BundleError
from ...robots.family import RobotFamily
from ...robots.spec import RobotSpec
from ...robots.task import Task
from ..robots import RobotChoice, find_recorded
from .run_folder import RunView


class RunRobot(NamedTuple):
    """What is known of a run's robot."""

    reference: str
    """How it was named on the command line; empty where no stage says."""
    family: RobotFamily | None
    """Makes robots; None for a user's own that was not named for the report."""
    spec: RobotSpec | None
    """Of the family, else as recorded with the data."""
    settings: Mapping[str, object]
    """Of the family, as recorded."""
    train: tuple[Task, ...]
    """Of meta-training; empty before it has begun."""
    test: tuple[Task, ...]
    """Of adaptation, else those that meta-training set aside."""
    reason: str
    """Why nothing can be drawn; empty where there is a family."""


def find_run_robot(run: RunView, given: RobotChoice | None, *, accept_change: bool = False) -> RunRobot:
    """The robot of a run, finished or not.

    Args:
        run: Of `supple run`.
        given: What the user named; None takes a built-in family from the records.
        accept_change: Whether a given robot whose code or settings changed since is taken.

    Raises:
        BundleError: The named robot is not the recorded one.
        SpecError: A recorded spec is damaged, or the robot that is to be accepted has other axes.
    """
    configs = {name: stage.config for name, stage in run.stages.items()}
    record: Mapping[str, object] = {}
    for name in ("meta-train", "adapt", "extract", "generate"):
        found = configs.get(name, {}).get("robot")
        if isinstance(found, Mapping) and not record:
            record = found
    family, spec, reason = None, None, ""
    if record:
        try:
            family = find_recorded(record, given, f"{run.folder}", accept_change=accept_change).family
        except BundleError as error:
            if given is not None:
                raise
            reason = str(error)
    else:
        family, reason = (None, "no stage of the run names a robot") if given is None else (given.family, "")
    recorded = configs.get("ingest", {}).get("robot")
    if family is not None:
        spec = family.spec()
        if accept_change and isinstance(recorded, dict):
            spec.require_source(RobotSpec.from_json(recorded), f"{run.folder}")
    elif isinstance(recorded, dict):
        spec = RobotSpec.from_json(recorded)
    settings = record.get("config")
    tasks = configs.get("meta-train", {}).get("tasks", {})
    test = configs.get("adapt", {}).get("tasks") or tasks.get("test", [])
    return RunRobot(
        str(record.get("family", "")),
        family,
        spec,
        settings if isinstance(settings, Mapping) else {},
        _read_tasks(tasks.get("train", [])),
        _read_tasks(test),
        reason,
    )


def _read_tasks(records: list[dict[str, object]]) -> tuple[Task, ...]:
    return tuple(Task(str(record["name"]), tuple(record["goal"])) for record in records)  # type: ignore[arg-type]
