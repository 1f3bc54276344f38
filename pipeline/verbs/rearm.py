"""The verb `rearm`: a person ends a stop of the safety limits."""

from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...adapt.audit import AuditLog
from ...bounds import Range, require_bounds
from ...errors import RunError
from ..cli_common import Common, Options, Runner
from ..evidence import AUDIT_NAME
from ..folder import is_published, name_partial


@dataclass(frozen=True, slots=True, kw_only=True)
class Rearm:
    """Arguments of `supple rearm`."""

    path: tyro.conf.Positional[Path]
    """An audit log, or the folder of `supple adapt` that a fault has left."""
    code: str | None = None
    """The next code of the operator's list: ends the stop. Without it, the stop is only shown."""
    issue: Annotated[int, Range(0, 100)] = 0
    """Print so many new codes, each good for one stop of this log. Write them down: they are nowhere else."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Shows the stop, issues codes, ends the stop."""
        require_bounds(self)
        path = find_log(self.path)
        with closing(AuditLog(path, simulator=None)) as log:
            reason, codes = log.stop_reason, log.issue_codes(self.issue) if self.issue else []
            lines = [f"{path}: {'armed' if reason is None else f'stopped: {reason}'}"]
            if codes:
                lines += [f"{len(codes)} codes, each for one stop; write them down, no file holds them:", *codes]
            if self.code is not None:
                log.rearm(self.code)
                lines.append("armed again; every row is reset before it moves")
            facts = {"path": str(path), "stop_reason": reason, "armed": log.stop_reason is None, "codes": codes}
        runner.view.record("rearm", facts, "\n".join(lines))


def find_log(path: Path) -> Path:
    """The audit log at `path`, in the folder there, or in its work folder.

    Raises:
        RunError: There is none, or it belongs to a stage that has ended.
    """
    for candidate in (path, path / AUDIT_NAME, name_partial(path) / AUDIT_NAME):
        if candidate.is_file():
            if is_published(candidate.parent):
                raise RunError(f"{candidate}: expected a log in use, got that of a finished stage; nothing is stopped")
            return candidate
    raise RunError(f"{path}: expected an audit log, or a folder with {AUDIT_NAME}, got none; check the path")
