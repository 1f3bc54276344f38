"""Which robot a command is about: named on the command line, recorded in keys and bundles, found again from there.

    --robot maze                       a built-in family of `robots/families.py`
    --robot my_arm.py:ARM              the family ARM of a Python file
    --robot my_package.robots:ARM      the same of a module that Python finds
    --robot my_arm.py:quick            the family of the preset `quick` in the file's PRESETS

A user's module runs only where the user names it. What a bundle or a stage records of a robot is data: the reference
without its folder, the settings, and a digest of the family's code and files.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, cast

import numpy as np

from ..errors import FOREIGN, BundleError, ConfigError, SuppleError, describe_foreign
from ..plain_config import read_config
from ..robots.families import FAMILIES
from ..robots.family import ONLY_TASKS, BuiltFrom, ChecksTasks, RobotFamily, make_simulator
from ..robots.planner import PlannerConfig
from ..robots.spec import RobotSpec
from ..robots.task import Task, TaskSet, goals_of, load_tasks_csv
from .keys import compute_code_digest, compute_digest, compute_file_digest, compute_versions
from .user_modules import look_in, run_file

_SHOWN = 3
"""Settings that differ, of those that a message names."""
PRESETS_NAME = "PRESETS"
"""In a user's module: a dict of `RunConfig` by name."""
Given = TypeVar("Given")
Record = dict[str, Any]
"""{"family": reference, "config": settings, "digest": of code and files}."""


@dataclass(frozen=True, slots=True)
class RobotChoice:
    """A robot family and how it was named."""

    reference: str
    """As in a record: a name of `FAMILIES`, `file.py:NAME` without a folder, or `package.module:NAME`."""
    family: RobotFamily
    module: Path | None = None
    """File of the user's module; None for a built-in family."""

    @property
    def argument(self) -> str:
        """What names it again after `--robot`, from the present folder."""
        where, _, name = self.reference.rpartition(":")
        # a module of a package is found by its name alone, since it may import what is beside it
        return f"{self.module}:{name}" if self.module is not None and where.endswith(".py") else self.reference

    @property
    def spec(self) -> RobotSpec:
        """The contract of every robot.

        Raises:
            ConfigError: The family of a user gives something else.
        """
        return self._require("spec", self.family.spec(), RobotSpec)

    @property
    def tasks(self) -> TaskSet:
        """The family's own tasks; see `spec` for errors."""
        return self._require("tasks", self.family.tasks(), TaskSet)

    def _require(self, call: str, given: object, kind: type[Given]) -> Given:
        if isinstance(given, kind):
            return given
        raise ConfigError(
            f"--robot {self.reference} {call}: expected a {kind.__name__}, got {type(given).__name__}; return one"
        )

    @property
    def record(self) -> Record:
        """What a key or a bundle says of the robot."""
        return {"family": self.reference, "config": _plain(self.family), "digest": compute_robot_digest(self)}

    @property
    def record_without_tasks(self) -> Record:
        """The same for stages that know no tasks, without the settings that only decide these (`ONLY_TASKS`)."""
        record = self.record
        for name in _task_fields(self.family):
            del record["config"][name]
        return record


def compute_robot_digest(choice: RobotChoice) -> str:
    """Digest of the family's code, with what it imports, of its files by content, and of its libraries' versions."""
    module = choice.module or Path(sys.modules[type(choice.family).__module__].__file__ or "")
    parts: dict[str, Any] = {"code": compute_code_digest(str(module))}
    built = list(_list_built(choice.family))
    if built:
        files = {path for family in built for path in family.files()}
        parts["files"] = sorted(map(compute_file_digest, files))  # wherever they are
        parts["libraries"] = compute_versions([name for family in built for name in family.libraries()])
    return compute_digest(parts)


def _list_built(value: object) -> Iterator[BuiltFrom]:
    """What of a family depends on files or libraries: itself, or a family in a field of it."""
    if isinstance(value, BuiltFrom):
        yield value
    if is_dataclass(value) and not isinstance(value, type):
        for item in fields(value):
            yield from _list_built(getattr(value, item.name))


def find_robot(reference: str) -> RobotChoice:
    """The robot of that name; a user's module is run for it.

    Raises:
        ConfigError: There is no such family, file, module or name; or the module fails.
    """
    if reference in FAMILIES:
        return RobotChoice(reference, FAMILIES[reference])
    where, colon, name = reference.rpartition(":")
    if not colon or not where or not name:
        raise ConfigError(
            f"--robot: expected one of {', '.join(FAMILIES)}, FILE.py:NAME or PACKAGE.MODULE:NAME, got {reference!r}; "
            "choose one"
        )
    module, file, label = load_user_module(where)
    family = vars(module).get(name)
    if not is_family(family) and name in load_presets(module, where):
        family = load_presets(module, where)[name].robot
    if not is_family(family):
        found = [key for key, value in vars(module).items() if is_family(value)]
        raise ConfigError(
            f"--robot {reference}: expected the name of a robot family in {where}, one of "
            f"{', '.join(found) or 'which there is none'}, got {name!r}; name a frozen dataclass object with spec, "
            "make and tasks"
        )
    if not getattr(family, "__dataclass_params__").frozen:  # noqa: B009 (typing knows no such attribute)
        raise ConfigError(
            f"--robot {reference}: expected an object of a frozen dataclass, got one of {type(family).__name__}, which "
            "can be changed; write @dataclass(frozen=True) above its class"
        )
    return RobotChoice(f"{label}:{name}", cast(RobotFamily, family), file)


def choose_builtin(family: RobotFamily) -> RobotChoice:
    """A built-in family with any settings, as if it had been named.

    Raises:
        ConfigError: It is not one of `FAMILIES`.
    """
    for name, known in FAMILIES.items():
        if type(known) is type(family):
            return RobotChoice(name, family)
    raise ConfigError(
        f"robot: expected a family of {', '.join(FAMILIES)}, got {type(family).__name__}; add it to FAMILIES"
    )


def is_family(value: object) -> bool:
    """Whether this is a family: an object of a frozen dataclass with the calls of `RobotFamily`."""
    calls = all(callable(getattr(type(value), name, None)) for name in ("spec", "make", "tasks"))
    return calls and is_dataclass(value) and not isinstance(value, type)


def load_user_module(where: str) -> tuple[ModuleType, Path, str]:
    """A user's module by file or by dotted name, its file, and the name that records have of it.

    Raises:
        ConfigError: It is not there, or it fails.
    """
    path = Path(where)
    try:
        if path.suffix == ".py":
            if not path.is_file():
                raise ConfigError(f"{where}: expected a Python file, got nothing there; check the path")
            path = path.resolve()
            known = next((m for m in list(sys.modules.values()) if getattr(m, "__file__", None) == str(path)), None)
            module = known or run_file(path)
            return module, path, path.name
        look_in(Path.cwd())  # as `python -m` does
        module = importlib.import_module(where)
        return module, Path(module.__file__ or ""), where
    except SuppleError:
        raise
    except FOREIGN as error:  # a script that ends itself is no module either
        raise ConfigError(f"{where}: expected a module that runs, got {describe_foreign(error)}; correct it") from error


def load_presets(module: ModuleType, where: str) -> dict[str, Any]:
    """The presets of a user's module, of which each has a robot; empty where it has none.

    Raises:
        ConfigError: `PRESETS` is no dict of presets.
    """
    presets = vars(module).get(PRESETS_NAME, {})
    if not isinstance(presets, dict) or not all(is_family(getattr(value, "robot", None)) for value in presets.values()):
        raise ConfigError(f"{where} {PRESETS_NAME}: expected a dict of RunConfig by name, got another; correct it")
    return dict(presets)


def find_recorded(record: object, given: RobotChoice | None, where: str, *, accept_change: bool = False) -> RobotChoice:
    """The robot of a record; no code runs for it that the user did not name.

    Args:
        record: Of a bundle or a stage.
        given: What the user named, which must be the recorded one; None takes a built-in family by its record.
        where: What holds the record, for the message.
        accept_change: Whether a given robot whose code or settings changed since is taken.

    Raises:
        BundleError: There is no such record, the family is a user's and nobody named it, or the named one differs.
    """
    if record is None and given is not None:
        if accept_change:
            return given
        raise BundleError(
            f"{where}: expected the robot that it was made for, got none, so that nothing can be compared with "
            f"'{given.reference}' but its axes; pass --accept-robot-change if they mean the same"
        )
    if not isinstance(record, Mapping) or not isinstance(record.get("family"), str):
        raise BundleError(f"{where}: expected the robot that it was made for, got {record!r:.80}; pass --robot")
    record = _rename_old(record)
    reference = record["family"]
    if given is None:
        if reference not in FAMILIES:
            raise BundleError(
                f"{where}: expected --robot for a robot of the user's own, '{reference}', got none; name it again, "
                f"as in --robot path/to/{reference}"
            )
        kind = type(FAMILIES[reference])
        family = read_config(kind, record.get("config"), f"{where}.config", _task_fields(kind))
        # the code of a built-in family is of this version; the stage's key counts it
        return RobotChoice(reference, cast(RobotFamily, family))
    mine, config = given.record_without_tasks, record.get("config")
    if isinstance(config, Mapping):
        record = {**record, "config": {key: config[key] for key in config if key not in _task_fields(given.family)}}
    name = next((key for key in mine if key in record and record[key] != mine[key]), None)
    if name is not None and not accept_change:
        then, now, remedy = "as it was", f"another {name} of '{given.reference}'", ""
        if name == "digest":
            now = (
                f"other code or files of '{given.reference}', or of what it imports, such as another version of Supple"
            )
        if name == "config":
            changes = list(_list_changes(record["config"], mine["config"]))
            shown = [f"{field} {json.dumps(value)[:40]}" for field, value, _ in changes[:_SHOWN]]
            then = f"with {', '.join(shown)}"
            now = f"{', '.join(json.dumps(value)[:40] for *_, value in changes[:_SHOWN])} in '{given.reference}'"
            remedy = f"pass --robot.{changes[0][0].replace('_', '-')} as then, or "
        raise BundleError(
            f"{where}: expected robot '{reference}' {then}, got {now}; {remedy}pass "
            "--accept-robot-change if its observations, actions and goals still mean the same"
        )
    return given


def _list_changes(then: Any, now: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Settings that differ: their path, and both values."""
    if isinstance(then, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys((*then, *now)):
            yield from _list_changes(then.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif then != now:
        yield path, then, now


def _rename_old(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """A record as bundles have it that were written when the maze was two dataclasses, in today's form."""
    match record:
        case {"family": "point-mazes", "config": {"maze": Mapping() as maze, "tasks": Mapping() as tasks}}:
            return {"family": "maze", "config": {**maze, **tasks, "planner": _plain(PlannerConfig())}}
    return record


def find_tasks(choice: RobotChoice, train: Path | None, test: Path | None) -> TaskSet:
    """The family's own tasks, or those of CSV files in the place of its train or test tasks.

    All goals are looked at here: those of test tasks would else be refused after hours of training.

    Raises:
        SourceError: A file is damaged, or one of its goals is no task of this robot.
        SpecError: A goal is outside the limits, or train and test tasks overlap.
    """
    if train is not None and test is not None:
        return TaskSet(f"{train.stem}-{test.stem}", load_tasks(choice, train), load_tasks(choice, test))
    found = choice.tasks
    if train is not None:
        found = TaskSet(f"{train.stem}-{found.name}", load_tasks(choice, train), found.test, found.held_out)
    if test is not None:
        found = TaskSet(f"{found.name}-{test.stem}", found.train, load_tasks(choice, test), found.held_out)
    limits = choice.spec.goal
    for split, tasks in (("train", found.train), ("test", found.test)):
        where = f"{split} tasks of '{choice.reference}'"
        limits.require_rows(limits.require_within(goals_of(tasks), where), len(tasks), where)
    return found


def find_refusal(family: RobotFamily) -> str:
    """Why no robot of a simulated family can be made here, as where a package is missing; empty where one can be."""
    try:
        make_simulator(family, 1).close()
    except ConfigError as error:
        return str(error)
    return ""


def load_tasks(choice: RobotChoice, path: Path) -> tuple[Task, ...]:
    """Tasks of a CSV file, each of which the robot can have.

    Raises:
        SourceError: The file is damaged, or a goal is no task of this robot.
        SpecError: A goal is outside the limits of the spec.
    """
    goal = choice.spec.goal
    tasks = load_tasks_csv(path, goal.names)
    require_tasks(choice, tasks, str(path))
    return tasks


def require_tasks(choice: RobotChoice, tasks: Sequence[Task], where: str) -> None:
    """Checks goals against the limits of the spec, and what else the family knows of its tasks.

    Raises:
        SourceError: A goal is none of the robot's.
        SpecError: A goal is outside the limits.
    """
    goal = choice.spec.goal
    for task in tasks:
        goal.require_one(task.goal, f"{where}, task '{task.name}'")
    if isinstance(choice.family, ChecksTasks):
        choice.family.require_tasks(tasks, where)


def _task_fields(family: Any) -> set[str]:
    """Names of the fields that only decide tasks."""
    return {item.name for item in fields(family) if item.metadata.get(*ONLY_TASKS)}


def _plain(value: Any) -> Any:
    """Settings of a family as JSON: files by name, functions by name, infinite limits as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, Path):
        return value.name
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return f"{type(value).__name__} {getattr(value, '__qualname__', '')}".strip()
