"""Which curves share a panel, whose colour they have, and what a reader finds in the legend."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from benchmarks.results.figures import BAND, RANDOM_COLOR, choose_colors, make_figures, make_legend
from benchmarks.results.labels import find_owner, name_benchmark, name_method, name_tasks
from benchmarks.results.panels import MOST_OURS, Series, split_panels
from benchmarks.results.records import Record, load_records

ROOT = Path(__file__).resolve().parents[3]
MAZE = [
    Series("simpl", "flat-40"),
    Series("simpl-blind", "flat-40"),
    Series("sac", "flat-40"),
    Series("spirl", "flat-40"),
    Series("simpl-25-epochs", "flat-40"),
    Series("simpl-published", "flat-40"),
    Series("spirl-published", "flat-40"),
    Series("simpl-fig6a-published", "flat-40"),
    Series("simpl", "flat-10"),
    Series("simpl", "flat-20"),
    Series("simpl-fig6a-published", "flat-20"),
    Series("simpl-fig6a-published", "flat-10"),
]
METHODS = ("simpl", "simpl-blind", "simpl-x", "sac", "random", "random-init-published", "oracle-exact")
SERIES = st.builds(
    Series,
    st.sampled_from([*METHODS, "simpl-published", "simpl-fig6a-published", "simpl-blind-published"]),
    st.sampled_from(["", "flat-40", "flat-20", "other"]),
)


def make_curve(
    method: str, places: Sequence[float], metric: str = "success_stochastic", tasks: str = ""
) -> list[Record]:
    compared = method.endswith(("-published", "-exact"))
    low, high = (None, None) if compared else (0.1, 0.9)
    facts = {"benchmark": "b", "axis": "episode", "mean": 0.5, "low": low, "high": high, "tasks": tasks}
    return [Record(method=method, metric=metric, place=place, **facts) for place in places]


def draw(records: Sequence[Record]) -> Figure:
    (figure,) = make_figures(records).values()
    return figure


def list_legend(figure: Figure) -> list[str]:
    (legend,) = figure.legends
    return [text.get_text() for text in legend.get_texts()]


def test_the_maze_has_methods_then_numbers_of_tasks_then_variants() -> None:
    methods, tasks, variants = split_panels(MAZE)
    assert methods.title == "Methods, 40 train tasks"
    assert [one.method for one in methods.series] == ["simpl", "sac", "spirl", "simpl-published", "spirl-published"]
    assert {one.tasks for one in methods.series} == {"flat-40"}
    # most tasks first; what was published of 40 tasks in the same figure is here, not above
    assert tasks.title == "Number of train tasks"
    assert [(one.method, one.tasks) for one in tasks.series] == [
        ("simpl", "flat-40"),
        ("simpl-fig6a-published", "flat-40"),
        ("simpl", "flat-20"),
        ("simpl-fig6a-published", "flat-20"),
        ("simpl", "flat-10"),
        ("simpl-fig6a-published", "flat-10"),
    ]
    assert variants.title == "Variants"
    assert [one.method for one in variants.series] == ["simpl", "simpl-blind", "simpl-25-epochs"]
    assert tasks.beside == variants.beside == {Series("simpl", "flat-40")}
    assert methods.beside == frozenset()


@pytest.mark.parametrize("gone", MAZE)
def test_the_other_panels_stay_whatever_is_missing(gone: Series) -> None:
    panels = split_panels(one for one in MAZE if one != gone)
    assert panels[0].title == "Methods, 40 train tasks"
    assert {one for panel in panels for one in panel.series} == set(MAZE) - {gone}


@given(st.lists(SERIES, max_size=20))
@example([Series(f"simpl{end}", tasks) for end in ("", "-blind", "-blind-published") for tasks in ("", "flat-40")])
def test_every_curve_has_a_panel_and_one_that_shows_its_end(series: list[Series]) -> None:
    panels = split_panels(series)
    assert {one for panel in panels for one in panel.series} == set(series)
    whole = [one for panel in panels for one in panel.series if one not in panel.beside]
    assert sorted(whole) == sorted(set(series))
    assert all(panel.beside < set(panel.series) for panel in panels if len(panels) > 1)


def test_few_of_ours_share_one_panel_however_much_they_are_compared_with() -> None:
    ours = [Series(f"m{index}", "") for index in range(MOST_OURS)]
    compared = [Series(f"r{index}-exact", "") for index in range(9)]
    (panel,) = split_panels([*ours, *compared, Series("random", "")])
    assert len(panel.series) == MOST_OURS + 10
    methods, variants = split_panels([*ours, *compared, Series("m0-first-order", "")])
    assert [one.method for one in variants.series] == ["m0", "m0-first-order"]
    assert len(methods.series) == MOST_OURS + 9


def test_published_curves_have_the_colour_of_ours_and_random_ones_none() -> None:
    colors = choose_colors([Series("simpl-published", "a"), *MAZE, Series("random", "a"), Series("oracle-exact", "a")])
    for tasks in ("flat-40", "flat-20", "flat-10"):
        assert colors[Series("simpl-fig6a-published", tasks)] == colors[Series("simpl", tasks)]
    assert colors[Series("spirl-published", "flat-40")] == colors[Series("spirl", "flat-40")]
    assert colors[Series("random", "a")] == RANDOM_COLOR
    ours = [colors[one] for one in MAZE if one.ours]
    assert ours == [f"C{index}" for index in range(len(ours))]
    assert colors[Series("oracle-exact", "a")] not in ours


def test_names_are_as_a_reader_says_them() -> None:
    assert [find_owner(method) for method in ("simpl-fig6a-published", "simpl-published", "oracle-exact")] == [
        "simpl",
        "simpl",
        "oracle-exact",
    ]
    methods = ("rl2", "maml-first-order", "simpl-blind", "oracle-exact", "posterior-sampling-reference")
    assert [name_method(method) for method in methods] == [
        "RL²",
        "MAML first order",
        "SiMPL, blind search",
        "oracle, told the task",
        "posterior sampling",
    ]
    assert name_method("pretrained-published") == "pretrained (published)"
    assert [name_tasks(tasks) for tasks in ("flat-20", "random-40-10-0", "navigation_2d-2000-40-0")] == [
        "20 train tasks",
        "40 train tasks",
        "navigation_2d-2000-40-0",
    ]
    assert name_benchmark("maze-20-seed7") == "Maze of 20 x 20 cells, layout 7"
    assert name_benchmark("robot") == "robot"


def test_a_figure_has_one_legend_outside_of_its_panels() -> None:
    records = [*make_curve("simpl", (0, 20, 40)), *make_curve("simpl-published", (20, 40))]
    records += [*make_curve("pretrained-published", (20, 40)), *make_curve("simpl", (10, 20), "return_training")]
    figure = draw(records)
    assert list_legend(figure) == ["SiMPL", "pretrained (published)", "published, same colour", "95 % interval"]
    assert all(panel.get_legend() is None for panel in figure.axes)
    # success and return while training side by side, what was published in both
    assert [len(panel.get_lines()) for panel in figure.axes] == [3, 3]
    ours, published, _ = figure.axes[0].get_lines()
    assert (ours.get_linestyle(), published.get_linestyle()) == ("-", "--")
    assert to_hex(ours.get_color()) == to_hex(published.get_color())
    (band,) = figure.axes[0].collections
    assert band.get_alpha() == BAND


def test_a_legend_says_only_what_is_there() -> None:
    records = [*make_curve("sac-published", (1, 2)), *make_curve("oracle-exact", (1, 2))]
    colors = choose_colors(Series(record.method, record.tasks) for record in records)
    assert [entry.get_label() for entry in make_legend(records, colors)] == ["SAC (published)", "oracle, told the task"]
    two = [*make_curve("sac", (1, 2), tasks="flat-40"), *make_curve("sac", (1, 2), tasks="flat-20")]
    colors = choose_colors(Series(record.method, record.tasks) for record in two)
    assert [entry.get_label() for entry in make_legend(two, colors)] == [
        "SAC, 40 train tasks",
        "SAC, 20 train tasks",
        "95 % interval",
    ]


def test_a_panel_ends_where_its_own_curves_do() -> None:
    records = make_curve("simpl", (0, 20, 40, 100, 300))
    for method in ("sac", "spirl", "maml"):
        records += make_curve(method, (0, 40))
    records += make_curve("simpl-blind", (0, 20))
    methods, variants = draw(records).axes
    assert max(max(line.get_xdata()) for line in methods.get_lines()) == 300
    assert [list(line.get_xdata()) for line in variants.get_lines()] == [[0, 20], [0, 20]]
    # no panel of the variants where none was measured
    assert len(draw([*records, *make_curve("simpl", (10, 20), "return_training")]).axes) == 3
    # the first 40 of 300 episodes have about half of the axis; a short axis is linear
    assert (methods.get_xscale(), variants.get_xscale()) == ("symlog", "linear")
    left, middle, right = (methods.transData.transform((place, 0))[0] for place in (0, 40, 300))
    assert 0.4 < (middle - left) / (right - left) < 0.6


def test_greedy_success_is_drawn_only_where_there_is_no_other() -> None:
    greedy = make_curve("simpl", (0, 20, 40), "success_greedy")
    assert draw(greedy).axes[0].get_ylabel().startswith("success of the greedy policy")
    (panel,) = draw([*greedy, *make_curve("simpl", (0, 20, 40))]).axes
    assert panel.get_ylabel().replace("\n", " ") == "success of the policy (share of episodes)"


def test_two_places_are_left_to_the_tables() -> None:
    assert make_figures(make_curve("simpl", (1, 2))) == {}
    assert list(make_figures(make_curve("simpl", (1, 2, 3)))) == ["b-episode"]


def test_colours_are_the_same_in_all_figures_of_a_benchmark() -> None:
    records = load_records(ROOT / "docs" / "results" / "maze.json")
    figures = make_figures([record for record in records if record.benchmark == "maze-20-seed0"])
    assert len(figures) == 4
    colors: dict[str, set[str]] = {}
    for figure in figures.values():
        (legend,) = figure.legends
        for entry, text in zip(legend.legend_handles, legend.get_texts(), strict=True):
            if entry is not None and hasattr(entry, "get_color"):
                colors.setdefault(text.get_text(), set()).add(to_hex(entry.get_color()))
    assert {name: found for name, found in colors.items() if len(found) > 1} == {}
    assert len(colors) >= 5
