"""What tells where a real robot moved and whether it is stopped: no command removes it, whatever went wrong.

A work folder is scratch: a stage that fails before its first checkpoint leaves none. The audit log of a real robot in
it is none. Its stop has to outlive every error, and every start with other options, until a person ends it.
"""

from pathlib import Path

from ..adapt.audit import GONE, LATCH, LogState, look_at_log
from ..errors import RunError
from ..strict_json import load_json

AUDIT_NAME = "audit.jsonl"
"""What the safety limits did while a stage moved robots. No restart clears it."""
LATCH_NAME = AUDIT_NAME + LATCH
"""... and whether a stop holds, see `adapt/audit.py`."""
LOG_FOLDER = "log"
"""All that happened while a stage moved robots, a file for each start, see `cell_log.py`. No restart clears it."""
EVIDENCE = (AUDIT_NAME, LATCH_NAME, LOG_FOLDER)
"""Top-level names in a stage or work folder that outlive its work."""


KEY_NAME = "key.json"
"""In a work folder: what its work is for, and `MOVED`."""
MOVED = "moved"
"""Whether a real robot was opened for this work; no part of what it is for."""


def find_evidence(folder: Path) -> LogState | None:
    """What the audit log of a real robot in this folder says; None where there is none, or only that of a simulator.

    A log that was taken away from where a real robot was opened is a stop.
    """
    state = look_at_log(folder / AUDIT_NAME)
    if state is not None and state.hardware:
        return state
    try:
        moved = MOVED in load_json(folder / KEY_NAME, dict, RunError, "")
    except RunError:  # it is told by whoever needs it
        return None
    return LogState(hardware=True, stop_reason=GONE) if moved else None


def advise_again(folder: Path, then: str = "run the stage again") -> str:
    """What to do about a folder that is no good: to remove it, unless it is evidence."""
    if find_evidence(folder) is None:
        return f"remove {folder} and {then}"
    return f"keep {folder}, which has the audit log of a real robot, and pass another --out"
