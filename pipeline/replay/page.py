"""The report of a replay: one self-contained HTML page, and the same as JSON, from the sections on disk."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from ... import __version__
from ...adapt.bundle import Bundle
from ...datasets.store import EpisodeStore
from ...plain_files import write_durably
from ..folder import refuse_place, write_record
from ..report.curves import Plot
from ..report.measure import format_count, format_number
from ..report.page import Tile, render
from ..report.tables import NUMBER, Facts, Table, format_seconds
from .compare import CRITERIA, Candidate, Compared, compare_bundles, describe_order
from .driver import ORDER
from .predictions import FOLDER
from .rehearsal import rank_sections
from .saved import SECTIONS, load_section
from .section import Section, TitledTable
from .verdict import Verdict, decide

TEMPLATE = "replay.html.j2"
PAGE_NAME, JSON_NAME = "report.html", "report.json"
MEANINGS = {
    "trust": "The logs give no reason against a careful first try on the robot.",
    "caution": "Something is unknown or unusual: read the grounds before the policy moves the robot.",
    "do not use": "The logs speak against this policy on this robot.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleView:
    """One bundle on the page."""

    label: str
    bundle: Bundle
    folder: Path
    """Of its stage."""
    sections: Sequence[Section]
    verdict: Verdict

    @property
    def meaning(self) -> str:
        """Of the verdict, a sentence."""
        return MEANINGS[self.verdict.level]


class Shown(NamedTuple):
    """A section as the template prints it."""

    id: str
    section: Section
    figures: list[Plot]


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Everything that the template shows."""

    title: str
    subtitle: str
    sections: Sequence[str]
    tiles: list[Tile]
    bundles: list[BundleView]
    shown: dict[str, list[Shown]]
    comparison: Table | None
    comparison_note: str
    ranking: TitledTable | None
    """By the episodes that the adaptation of each bundle will need."""
    facts: dict[str, Facts]
    log_facts: Facts
    footer: str


def load_view(label: str, bundle: Bundle, folder: Path) -> BundleView:
    """What the stage of a bundle found.

    Raises:
        RunError: A section is damaged.
    """
    found = {path.stem: load_section(path) for path in sorted((folder / SECTIONS).glob("*.json"))}
    known = [found[name] for name in ORDER if name in found]
    sections = [*known, *(section for name, section in found.items() if name not in ORDER)]
    return BundleView(label=label, bundle=bundle, folder=folder, sections=sections, verdict=decide(sections))


def write_report(out: Path, views: Sequence[BundleView], store: EpisodeStore) -> tuple[Path, Path]:
    """Writes the page and the JSON; older ones are replaced."""
    page, record = out / PAGE_NAME, out / JSON_NAME
    for path in (page, record):
        refuse_place(path)
    write_durably(page, render(make_page(views, store), TEMPLATE).encode())
    write_record(record, make_json(views, store))
    return page, record


def make_json(views: Sequence[BundleView], store: EpisodeStore) -> dict[str, Any]:
    """The report for a machine."""
    return {
        "schema": 1,
        "supple": __version__,
        "log": {"digest": store.digest, "episodes": len(store.episodes.length), "steps": store.rows},
        "bundles": [
            {
                "label": view.label,
                "digest": view.bundle.digest,
                "kind": view.bundle.contract.kind,
                "verdict": view.verdict.level,
                "grounds": [ground._asdict() for ground in view.verdict.grounds],
                "sections": {
                    section.name: {
                        "findings": list(section.findings),
                        "warnings": list(section.warnings),
                        "skipped": section.skipped or None,
                        **section.data,
                    }
                    for section in view.sections
                },
            }
            for view in views
        ],
        "take_first": [one.label for one in compare_bundles(to_compare(views))],
    }


def to_compare(views: Sequence[BundleView]) -> list[Candidate]:
    """What bundles are compared by."""
    return [(view.label, view.verdict, view.sections) for view in views]


def make_page(views: Sequence[BundleView], store: EpisodeStore) -> Page:
    """Collects what the page shows."""
    several = len(views) > 1
    names: list[str] = ["which_first"] if several else []
    shown: dict[str, list[Shown]] = {}
    for view in views:
        prefix = f"{view.label}-" if several else ""
        shown[view.label] = [
            Shown(f"{prefix}{section.name}", section, [rename(figure, prefix) for figure in section.figures])
            for section in view.sections
        ]
        names += [view.label] if several else ["verdict", *(one.id for one in shown[view.label])]
    period = store.schema.control_period
    return Page(
        title=f"Replay: {', '.join(view.label for view in views)}",
        subtitle=f"{len(store.episodes.length)} logged episodes of robot {views[0].bundle.contract.robot.name}. In "
        "parentheses: 95 % intervals over episodes.",
        sections=[*names, "provenance"],
        tiles=make_tiles(views, store),
        bundles=list(views),
        shown=shown,
        comparison=make_comparison(compare_bundles(to_compare(views))) if several else None,
        comparison_note=describe_order(to_compare(views)),
        ranking=rank_sections(find_rehearsals(views), np.random.default_rng(0)),
        facts={view.label: make_facts(view) for view in views},
        log_facts=[
            ("log", str(store.path)),
            ("digest", store.digest),
            ("episodes", str(len(store.episodes.length))),
            ("steps", format_count(store.rows)),
            ("time", "unknown" if period is None else format_seconds(store.rows * period)),
        ],
        footer=f"Made by Supple {__version__} from a log with digest {store.digest[:12]}.",
    )


def find_rehearsals(views: Sequence[BundleView]) -> dict[str, Section]:
    """The section of the rehearsal of each bundle that has one."""
    return {view.label: one for view in views for one in view.sections if one.name == "rehearsal"}


def rename(figure: Plot, prefix: str) -> Plot:
    """A figure whose ids begin with `prefix`, so that two of one name can stand on one page."""
    if not prefix:
        return figure
    return figure._replace(svg=Markup(re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{prefix}", str(figure.svg))))


def make_tiles(views: Sequence[BundleView], store: EpisodeStore) -> list[Tile]:
    """The verdicts, and of one bundle its key numbers."""
    if len(views) > 1:
        return [Tile(view.label, view.verdict.level, view.bundle.contract.kind) for view in views]
    (view,) = views
    bad = sum(ground.level != "trust" for ground in view.verdict.grounds)
    tiles = [Tile("verdict", view.verdict.level, f"{bad} of {len(view.verdict.grounds)} grounds against trust")]
    data = {section.name: section.data for section in view.sections if not section.skipped}
    if (share := data.get("open_loop", {}).get("error_share")) is not None:
        tiles.append(Tile("action error", format_number(share), "of the spread of the logged commands"))
    for section, key, label, note in (
        ("known_states", "unknown_steps", "unknown", "of the logged steps"),
        ("limits", "share", "clamped", "of the policy's commands"),
    ):
        found = data.get(section, {}).get(key)
        found = found.get("policy") if isinstance(found, dict) and "policy" in found else found
        if found is not None:
            tiles.append(Tile(label, f"{100 * found['mean']:.3g} %", note))
    tiles.append(Tile("log", format_count(len(store.episodes.length)), "episodes"))
    return tiles


def make_facts(view: BundleView) -> Facts:
    """What the bundle is."""
    contract = view.bundle.contract
    facts = [("bundle", view.label), ("digest", view.bundle.digest), ("learner", contract.kind)]
    facts += [
        ("chooses", contract.space.name),
        ("adapted to a task", "yes" if view.bundle.task or contract.kind == "policy" else "no"),
    ]
    if (view.folder / FOLDER).is_dir():
        facts.append(("predictions (MCAP)", str(next((view.folder / FOLDER).iterdir(), view.folder / FOLDER))))
    return facts


def make_comparison(ranked: Sequence[Compared]) -> Table:
    """Which bundle to take first."""
    rows = [(one.label, one.level, *one.shown) for one in ranked]
    return Table(("bundle", "verdict", *(f"{NUMBER}{criterion.title}" for criterion in CRITERIA)), {"": rows})
