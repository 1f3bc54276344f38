"""Tables and plots from records: what is shown, what is refused, and that the README holds what the records say."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from benchmarks.results.figures import make_figures
from benchmarks.results.pages import VIEWS, fill_section, find_page, load_pages, render_tables, write_results
from benchmarks.results.records import load_records
from supple.errors import ConfigError, SourceError
from supple.pipeline.cli import parse

ROOT = Path(__file__).resolve().parents[3]


def make_record(**fields: Any) -> dict[str, Any]:
    record = {
        "benchmark": "maze",
        "method": "simpl",
        "metric": "success_stochastic",
        "at": {"episode": 40},
        "mean": 0.81,
        "low": 0.76,
        "high": 0.86,
        "n": 30,
        "seeds": [0, 1, 2],
        "tasks": "flat_test",
        "command": "supple run maze --seed 0",
        "commit": "abc1234",
        "wall_s": 5120,
        "machine": "2 cores",
    }
    return record | fields


def write_records(folder: Path, *records: dict[str, Any], name: str = "maze") -> Path:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(records))
    return path


def test_table_has_methods_as_rows_and_milestones_as_columns(tmp_path: Path) -> None:
    records = [
        make_record(),
        make_record(at={"episode": 21}, mean=0.444, low=0.3, high=0.6, n=28),
        make_record(at={"episode": 22}, mean=0.5),  # not a milestone: only the plot shows it
        make_record(method="sac", mean=0.03, low=0, high=0.07, command="supple run maze --method sac"),
    ]
    table = render_tables(load_records(write_records(tmp_path, *records)))
    assert table.splitlines() == [
        "**maze**",
        "",
        "| method | metric | episode 21 | episode 40 | n |",
        "| --- | --- | --- | --- | --- |",
        "| simpl | success_stochastic | 0.44 [0.30, 0.60] | 0.81 [0.76, 0.86] | 28-30 |",
        "| sac | success_stochastic |  | 0.03 [0.00, 0.07] | 30 |",
        "",
        "Made by `supple run maze --seed 0`, `supple run maze --method sac`.",
    ]


def test_stages_keep_the_order_of_the_file(tmp_path: Path) -> None:
    records = [make_record(at={"stage": stage}) for stage in ("before", "inferred", "adapted")]
    table = render_tables(load_records(write_records(tmp_path, *records)))
    assert "| method | metric | before | inferred | adapted | n |" in table


def test_speed_and_reliability_records_are_shown(tmp_path: Path) -> None:
    speed = make_record(at={}, metric="steps_per_s", mean=212000, low=None, high=None, ratio=51.2, peer="one robot")
    counts = {"injected": 20, "detected": 20, "silent": 0, "crashed": 0, "hung": 0}
    faults = make_record(metric="kill", benchmark="faults", at={}) | counts
    del faults["mean"], faults["low"], faults["high"]
    table = render_tables(load_records(write_records(tmp_path, speed, faults)))
    assert "212,000, 51.2 x one robot" in table
    assert "20 injected, 20 detected, 0 silent, 0 crashed, 0 hung" in table


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"benchmark": "maze"}, r"\[0\].*field method"),
        (make_record(mean=float("nan")), r"\[0\]\.mean.*finite.*nan"),
        (make_record(mean="0.8"), r"\[0\]\.mean.*'0.8'"),
        (make_record(at={"episode": 1, "stage": "x"}), r"\[0\]\.at.*one axis"),
        ({k: v for k, v in make_record().items() if k != "mean"}, "mean, ratio or the five counts"),
        ([1], "expected a record, got list"),
    ],
)
def test_a_wrong_record_is_refused_by_name(tmp_path: Path, record: Any, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        load_records(write_records(tmp_path, record))


@pytest.mark.parametrize("text", ["", "{", '{"benchmark": 1}'])
def test_a_file_that_is_no_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "maze.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=r"maze\.json: expected a JSON list"):
        load_records(path)


def test_section_is_replaced_and_the_rest_stays() -> None:
    text = "a\n<!-- results:maze -->\nold\n<!-- /results:maze -->\nb <!-- results:demo --><!-- /results:demo -->\n"
    filled = fill_section(text, "maze", "new \\1")
    assert filled == text.replace("\nold\n", "\n\nnew \\1\n\n")
    assert fill_section(filled, "maze", "new \\1") == filled


def test_missing_markers_are_refused() -> None:
    with pytest.raises(SourceError, match="results:speed"):
        fill_section("nothing here", "speed", "new")


def test_figure_draws_every_place_in_order(tmp_path: Path) -> None:
    records = [make_record(at={"episode": e}, mean=e / 100, low=0, high=1) for e in (40, 21, 30)]
    records.append(make_record(at={"stage": "inferred"}))
    figures = make_figures(load_records(write_records(tmp_path, *records)))
    assert list(figures) == ["maze-episode"]
    line = figures["maze-episode"].axes[0].lines[0]
    assert [list(map(float, line.get_xdata())), list(map(float, line.get_ydata()))] == [[21, 30, 40], [0.21, 0.3, 0.4]]


def test_same_records_make_the_same_bytes(tmp_path: Path) -> None:
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    write_records(results, *(make_record(at={"episode": e}) for e in (21, 30, 40)))
    (tmp_path / "README.md").write_text("<!-- results:maze --><!-- /results:maze -->")
    first = {path: path.read_bytes() for path in write_results(tmp_path)}
    assert first == {path: path.read_bytes() for path in write_results(tmp_path)}
    assert [path.name for path in first] == ["README.md", "maze-episode.svg"]


def test_records_without_a_section_are_refused(tmp_path: Path) -> None:
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    write_records(results, make_record(at={"episode": 1}))
    (tmp_path / "README.md").write_text("<!-- results:speed --><!-- /results:speed -->")
    with pytest.raises(SourceError, match=r"docs/results/maze.json: expected the markers <!-- results:maze -->"):
        write_results(tmp_path)
    assert (tmp_path / "README.md").read_text() == "<!-- results:speed --><!-- /results:speed -->"


def test_a_summary_has_one_metric_on_one_axis(tmp_path: Path) -> None:
    results = tmp_path / "docs" / "results"
    results.mkdir(parents=True)
    maze = {"benchmark": "maze-20-seed0", "tasks": "flat-40"}
    write_records(
        results,
        make_record(at={"episode": 40}, mean=0.11, **maze),
        make_record(at={"episode": 40}, metric="success_greedy", mean=0.22, **maze),
        make_record(at={"stage": "inferred"}, mean=0.33, **maze),
        make_record(at={"episode": 40}, mean=0.44, **maze | {"tasks": "flat-20"}),
    )
    (tmp_path / "docs" / "maze.md").write_text("<!-- results:maze --><!-- /results:maze -->")
    (tmp_path / "README.md").write_text("<!-- results:maze-summary --><!-- /results:maze-summary -->")
    write_results(tmp_path)
    shown = [
        [f"0.{digit}{digit}" in (tmp_path / page).read_text() for digit in (1, 2, 3, 4)]
        for page in ("README.md", "docs/maze.md")
    ]
    assert shown == [[True, False, False, False], [True, True, True, True]]


def test_faults_are_summed_by_folder(tmp_path: Path) -> None:
    def make_faults(file: str, injected: int, silent: int, hung: int) -> dict[str, Any]:
        counts = {"injected": injected, "detected": injected - silent - hung, "silent": silent, "hung": hung}
        return make_record(benchmark="mutants", method=file, at={}, **counts, crashed=0)

    records = [
        make_faults("skills/model.py", 6, 0, 1),
        make_faults("meta/simpl/pool.py", 12, 1, 0),
        make_faults("meta/simpl/config.py", 3, 2, 0),
    ]
    table = VIEWS["mutants"]({"mutants": load_records(write_records(tmp_path, *records))})
    assert table.splitlines()[2:] == [
        "| `meta/simpl/` | 2 | 15 | 12 (80.0%) | 0 | 3 |",
        "| `skills/` | 1 | 6 | 6 (100.0%) | 1 | 0 |",
        "| all | 3 | 21 | 18 (85.7%) | 1 | 3 |",
    ]


def test_pages_show_what_the_records_say() -> None:
    pages = load_pages(ROOT)
    records = {"maze": load_records(ROOT / "docs" / "results" / "maze.json")}
    readme = pages[ROOT / "README.md"]
    for view in ("maze-summary", "maze-first"):
        assert fill_section(readme, view, VIEWS[view](records)) == readme, "run: make results"
    for path in sorted((ROOT / "docs" / "results").glob("*.json")):
        text = pages[find_page(pages, path.stem)]
        found = load_records(path)
        tables = VIEWS[path.stem]({path.stem: found}) if path.stem in VIEWS else render_tables(found)
        assert fill_section(text, path.stem, tables) == text, f"run: make results ({path.name})"
    text = (ROOT / "README.md").read_text()
    for name, body in re.findall(r"<!-- results:(\w+) -->(.*?)<!-- /results:\1 -->", text, re.DOTALL):
        assert (ROOT / "docs" / "results" / f"{name}.json").is_file() or not body.strip()


def load_commands() -> set[str]:
    return {
        record.command for path in sorted((ROOT / "docs" / "results").glob("*.json")) for record in load_records(path)
    }


def recorded_commands() -> list[str]:
    return sorted(part for command in load_commands() for part in command.split("; ") if part.startswith("supple "))


def test_no_recorded_command_names_a_place_on_one_machine() -> None:
    assert [command for command in load_commands() if re.search(r"(^|[\s='\"])/\w", command)] == []


@pytest.mark.parametrize("command", recorded_commands())
def test_a_recorded_command_is_one_that_the_program_takes(command: str) -> None:
    verb, *arguments = shlex.split(command.replace("seedS", "seed1").replace(" S", " 1"))[1:]
    try:
        assert parse(verb, arguments) is not None
    except ConfigError as error:
        if "got none; pip install --no-deps" not in str(error):  # an example on the model of a package
            raise
        pytest.skip(str(error))


def test_commands_that_the_program_does_not_take_are_refused() -> None:
    with pytest.raises(ConfigError, match="method"):
        parse("run", ["maze", "--method", "sac"])
