"""Where the preset `maze` departs from `maze-published`: a table made from the presets and their docstrings."""

import ast
import dataclasses
import inspect
import json
import re
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

from supple.pipeline.keys import compute_plain
from supple.pipeline.presets import PRESETS

PAGE, SECTION = "docs/published-run.md", "departures"
"""The page that holds the table, and the name of its section there."""


EVALUATION = ("adapt.evaluations", "adapt.evaluate_at")
"""Settings that decide what is measured, not what is learned."""


class Departure(NamedTuple):
    """One setting that differs."""

    name: str
    """Path of the field, as on the command line but with the stage in front."""
    ours: Any
    published: Any
    meaning: str
    """The field's docstring, without what it says about the published value."""


def list_departures(ours: Any, published: Any, where: str = "") -> Iterator[Departure]:
    """All fields of two configs of the same type that differ, depth first.

    Args:
        ours: a frozen dataclass.
        published: another of the same type.
        where: path of the two, for the names.
    """
    texts = load_field_texts(type(ours))
    for field in dataclasses.fields(ours):
        name = f"{where}.{field.name}" if where else field.name
        pair = getattr(ours, field.name), getattr(published, field.name)
        if dataclasses.is_dataclass(pair[0]) and not isinstance(pair[0], type):
            yield from list_departures(*pair, name)
        elif pair[0] != pair[1]:
            first, second = (compute_plain(value, name) for value in pair)
            yield Departure(name, first, second, clean(texts.get(field.name, "")))


def load_field_texts(kind: type) -> dict[str, str]:
    """The string below each field of a class, by name."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    texts = {}
    for field, below in pairwise(body):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return texts


def clean(text: str) -> str:
    """The first sentence, without "(published ...)", which the table shows in a column of its own."""
    text = re.sub(r"\s*\(published[^()]*\)", "", text)
    return re.split(r"(?<=\w)\. ", text)[0].rstrip(".")


def render_departures() -> str:
    """The table in Markdown."""
    lines = ["| setting | ours | published | what it is |", "|---|---|---|---|"]
    for name, ours, published, meaning in list_departures(PRESETS["maze"], PRESETS["maze-published"]):
        if name in EVALUATION:
            continue
        cells = (f"`{name}`", json.dumps(ours), json.dumps(published), meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)
