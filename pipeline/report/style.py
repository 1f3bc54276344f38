"""How the report's figures look: SVG whose colours follow the page's light or dark theme.

Matplotlib writes fixed colours. A figure is therefore drawn in stand-in colours, one per role, which `render_svg`
replaces by the page's CSS variables. Text stays text, so that it can be read by a screen reader and scales on a phone.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .names import show

INK: Final = "#0a0b0c"
MUTED: Final = "#1a1b1c"
LINE: Final = "#2a2b2c"
SURFACE: Final = "#3a3b3c"
WALL: Final = "#4a4b4c"
BEFORE: Final = "#5a0b0c"
INFERRED: Final = "#6a0b0c"
ADAPTED: Final = "#7a0b0c"
GOAL: Final = "#8a0b0c"
VARIABLES: Final = {
    INK: "ink",
    MUTED: "muted",
    LINE: "line",
    SURFACE: "surface",
    WALL: "wall",
    BEFORE: "before",
    INFERRED: "inferred",
    ADAPTED: "adapted",
    GOAL: "goal",
}
"""Stand-in colour -> CSS variable."""
STAGES: Final = {
    "before": BEFORE,
    "explore": MUTED,
    "inferred": INFERRED,
    "finetune": ADAPTED,
    "adapted": ADAPTED,
    "known": ADAPTED,
}
"""Key of `measure.MEANINGS` -> its colour."""
SETTINGS: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "supple",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.titlesize": 10.5,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "path.simplify_threshold": 0.4,
    "text.parse_math": False,
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib's settings for everything drawn inside; they are as before afterwards."""
    with rc_context(SETTINGS):
        yield


def make_axes(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure of one panel, inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def render_svg(figure: Figure, name: str, alt: str) -> Markup:
    """The figure as an inline SVG element that fills the width it is given.

    Args:
        figure: drawn within `figure_style`.
        name: unique in the page, of a-z, 0-9 and -; prefix of the ids inside.
        alt: what it shows, for those who do not see it.
    """
    assert re.fullmatch("[a-z0-9-]+", name), "names of others do not go into ids"
    buffer = io.StringIO()
    with warnings.catch_warnings():  # the reader's own fonts are used: what DejaVu lacks matters for the layout only
        warnings.filterwarnings("ignore", r"Glyph .* missing from font", UserWarning)
        figure.savefig(buffer, format="svg", transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(\sid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for color, variable in VARIABLES.items():
        text = text.replace(color, f"var(--{variable})")
    text = text.replace("'DejaVu Sans'", "var(--sans)")
    view = re.search(r'viewBox="[^"]*"', text)
    assert view is not None, "matplotlib writes a viewBox"
    head = Markup('<svg class="plot" role="img" aria-label="{}" {}>').format(show(alt), Markup(view.group()))
    body = "\n".join(line.strip() for line in text[text.index(">") + 1 :].splitlines() if line.strip())
    return head + Markup(body)
