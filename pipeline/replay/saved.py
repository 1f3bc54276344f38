"""Sections on disk: what a part found is written once, and pages are drawn from it as often as wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from markupsafe import Markup

from ...errors import RunError
from ...strict_json import load_json
from ..folder import write_record
from ..report.curves import Plot
from ..report.tables import Table
from .section import Ground, Section, TitledTable

SECTIONS = "sections"
"""Folder of sections in that of a replay."""


def save_section(folder: Path, section: Section) -> None:
    """Writes a section as `<name>.json`; it is there whole or not at all."""
    folder.mkdir(exist_ok=True)
    write_record(
        folder / f"{section.name}.json",
        {
            **{name: getattr(section, name) for name in ("name", "title", "skipped")},
            **{name: list(getattr(section, name)) for name in ("findings", "warnings")},
            "grounds": [list(ground) for ground in section.grounds],
            "data": dict(section.data),
            "tables": [
                {
                    "title": title,
                    "head": list(table.head),
                    "groups": {name: [list(row) for row in rows] for name, rows in table.groups.items()},
                }
                for title, table in section.tables
            ],
            "figures": [{"svg": str(figure.svg), "caption": figure.caption} for figure in section.figures],
        },
    )


def load_section(path: Path) -> Section:
    """Reads what `save_section` wrote.

    Raises:
        RunError: It is missing or damaged.
    """
    again = f"remove {path.parent.parent} and replay again"
    found: dict[str, Any] = load_json(path, dict, RunError, again)
    try:
        tables = [
            TitledTable(
                one["title"],
                Table(tuple(one["head"]), {name: [tuple(row) for row in rows] for name, rows in one["groups"].items()}),
            )
            for one in found.pop("tables")
        ]
        figures = [Plot(Markup(one["svg"]), one["caption"]) for one in found.pop("figures")]
        grounds = [Ground(*pair) for pair in found.pop("grounds")]
        return Section(**found, tables=tables, figures=figures, grounds=grounds)
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path}: expected a section of a replay, got {error!r:.100}; {again}") from error
