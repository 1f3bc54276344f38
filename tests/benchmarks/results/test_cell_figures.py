"""The plot of a cell: what stands where, along an axis or at one place; and boards with the ways of an agent."""

from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from benchmarks.meta.boards import TILES, draw_seen, draw_tiles, draw_visits, make_board_figure
from benchmarks.meta.cell import Gate
from benchmarks.meta.gate_progress import WINDOW
from benchmarks.results.cell_figures import make_cell_figure
from benchmarks.results.figures import make_figures
from benchmarks.results.records import Record
from supple.robots.krazy_boards import GOAL, KINDS, KRAZY_PRESETS, KrazyConfig, parse_board

RISING = {3: [(10.0 * i, float(i)) for i in range(12)]}
CONFIG = KrazyConfig(size=3, num_goals=1, min_goal_distance=1, death_fraction=0.0, num_teleporters=0, num_locks=0)
BOARD = parse_board("SG. D.I W..", moves=np.array([(0, 1), (1, 0), (-1, 0), (0, -1)]), palette=np.arange(9)[::-1])


def make_row(
    method: str, mean: float, place: int = 1, metric: str = "return", width: float | None = 0.5
) -> dict[str, Any]:
    low, high = (None, None) if width is None else (mean - width, mean + width)
    at = {"episode_index": place}
    return {"method": method, "metric": metric, "at": at, "mean": mean, "low": low, "high": high}


def line_of(panel: Axes, label: str) -> Any:
    (line,) = (line for line in panel.get_lines() if line.get_label() == label)
    return line


def texts_of(panel: Axes) -> dict[tuple[int, int], str]:
    """Letters by (row, column)."""
    return {(round(text.get_position()[1]), round(text.get_position()[0])): text.get_text() for text in panel.texts}


def test_one_place_ranks_the_methods() -> None:
    rows = [make_row("rl2", 6.5), make_row("gittins-published", 6.6, width=None), make_row("random", 5.0)]
    left, right = make_cell_figure("bandit", rows, RISING, [Gate(6.4, 1)]).axes
    assert [label.get_text() for label in left.get_yticklabels()] == ["random  5", "rl2  6.5", "gittins-published  6.6"]
    # an interval where there is one, and a mark
    spans = [line.get_xydata().tolist() for line in left.get_lines() if len(line.get_xdata()) == 2]
    assert [[4.5, 0.0], [5.5, 0.0]] in spans
    assert [[6.0, 1.0], [7.0, 1.0]] in spans
    assert list(line_of(left, "gate").get_xdata()) == [6.4, 6.4]
    assert len(spans) == 3
    assert right.get_xlabel() == "environment steps"


def test_an_axis_shows_what_is_compared_with_as_dashed_lines() -> None:
    rows = [
        make_row("rl2", 1.0),
        make_row("rl2", 2.0, 2),
        make_row("bayes-exact", 4.0),
        make_row("bayes-exact", 5.0, 2),
    ]
    rows += [make_row("sampling-reference", 3.0), make_row("sampling-reference", 3.5, 2)]
    left, _ = make_cell_figure("navi", rows, {}, [Gate(1.5, 2), Gate(9.0, None, "return_trial")]).axes
    for method, values in {"bayes-exact": [4.0, 5.0], "sampling-reference": [3.0, 3.5]}.items():
        line = line_of(left, method)
        assert (line.get_linestyle(), list(line.get_ydata())) == ("--", values)
    assert line_of(left, "gate").get_xydata().tolist() == [[2.0, 1.5]]
    assert left.get_xlabel() == "episode of the trial"


def test_measures_have_panels_of_their_own() -> None:
    rows = [
        make_row("rl2", 1.0, place, metric)
        for place in (1, 2)
        for metric in ("return", "deaths", "return_iqm", "kinds")
    ]
    panels = make_cell_figure("krazy", rows, RISING).axes
    assert [panel.get_ylabel() for panel in panels] == [
        "return of an episode on test tasks",
        "deaths per episode",
        f"return, mean of {WINDOW} iterations",
    ]


def test_training_is_drawn_as_the_running_mean_that_a_gate_is_reached_by() -> None:
    *_, right = make_cell_figure("bandit", [make_row("rl2", 1.0)], {**RISING, 4: []}).axes
    # of 0 .. 9, 1 .. 10 and 2 .. 11, where the last of each stands
    line = line_of(right, "seed 3")
    np.testing.assert_allclose(line.get_xydata(), [[90.0, 4.5], [100.0, 5.5], [110.0, 6.5]])
    assert "seed 4" not in [line.get_label() for line in right.get_lines()]
    short = {0: [(10.0, 1.0), (20.0, 3.0)]}
    *_, right = make_cell_figure("bandit", [make_row("rl2", 1.0)], short).axes
    assert line_of(right, "seed 0").get_xydata().tolist() == [[20.0, 2.0]]


def test_tiles_stand_where_they_are() -> None:
    panel = Figure().subplots()
    draw_tiles(panel, BOARD, CONFIG)
    (image,) = panel.get_images()
    np.testing.assert_array_equal(image.get_array(), [[0, 1, 0], [3, 0, 2], [4, 0, 0]])
    letters = texts_of(panel)
    assert {place: letter for place, letter in letters.items() if letter} == {
        (0, 0): "S",
        (0, 1): "G",
        (1, 0): "D",
        (1, 2): "I",
        (2, 0): "W",
    }
    assert len(TILES) == len(set(TILES)) == len(KINDS)


def test_what_is_seen_has_the_colours_and_buttons_of_the_task() -> None:
    panel = Figure().subplots()
    draw_seen(panel, BOARD, CONFIG)
    (image,) = panel.get_images()
    np.testing.assert_array_equal(image.get_array(), 8 - np.array([[0, 1, 0], [3, 0, 2], [4, 0, 0]]))
    assert panel.get_xlabel() == "buttons → ↓ ↑ ←"
    assert not panel.texts  # no letter gives a kind away


def test_visits_stand_where_the_agent_was() -> None:
    panel = Figure().subplots()
    draw_visits(panel, np.arange(9.0), BOARD, CONFIG, PowerNorm(0.5, 0.0, 8.0))
    (image,) = panel.get_images()
    np.testing.assert_array_equal(image.get_array(), np.arange(9.0).reshape(3, 3))
    colours = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_color() for t in panel.texts}
    assert (colours[0, 1], colours[1, 2], colours[2, 0]) == ("black", "white", "white")  # 1, 5 and 6 of 8


@pytest.mark.parametrize(("boards", "rows"), [([100, 101], 2), (list(range(100, 110)), 4)])
def test_a_figure_has_a_row_for_each_board_and_a_column_for_each_place(boards: list[int], rows: int) -> None:
    visits = np.ones((len(boards), 3, 25))
    visits[0, 1, 7] = 9.0
    places = ["episode 1", "episode 2", "episode 3"]
    figure = make_board_figure(KRAZY_PRESETS["5x5"], boards, visits, "rl2", places)
    panels = figure.axes[:-1]
    assert len(panels) == 5 * rows
    assert [panel.get_title() for panel in panels[:5]] == ["tiles", "as seen", *places]
    assert panels[5].get_ylabel() == "board 101"
    shown = panels[3].get_images()[0].get_array()
    assert shown is not None
    assert shown[1, 2] == 9.0  # the 8th cell in reading order, in the second place
    # the key names what lies on the boards that are drawn, and nothing else
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [". normal", "G goal", "I ice", "D death"]
    assert KINDS[GOAL] == "goal"


def test_summaries_of_the_return_have_no_plots_of_their_own() -> None:
    facts: dict[str, Any] = {"benchmark": "b", "axis": "episode_index", "mean": 1.0}
    records = [
        Record(method=method, metric=metric, place=place, **facts)
        for method in ("rl2", "psrl-reference")
        for metric in ("return", "return_iqm", "return_normalised", "deaths")
        for place in (1.0, 2.0, 3.0)
    ]
    (figure,) = make_figures(records).values()
    labels = [panel.get_ylabel().replace("\n", " ") for panel in figure.axes]
    assert labels == ["return of an episode on test tasks", "deaths per episode"]
    assert line_of(figure.axes[0], "psrl-reference").get_linestyle() == "--"
    assert line_of(figure.axes[0], "rl2").get_linestyle() == "-"
