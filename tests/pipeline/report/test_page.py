import json
import re
import shutil
from collections.abc import Mapping
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from supple.errors import BundleError, ConfigError, RunError
from supple.pipeline.cli import main
from supple.pipeline.progress import JsonProgress
from supple.pipeline.report.page import SECTIONS, make_report
from supple.pipeline.report.style import VARIABLES
from supple.pipeline.robots import find_robot
from supple.pipeline.run_files import REPORT_NAME
from supple.robots.maze_family import Maze


class Links(HTMLParser):
    """Collects ids, addresses and pictures, and checks that tags are closed in order."""

    VOID = frozenset(("meta", "link", "br", "img", "hr", "input"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.plots: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [found[name] for name in ("href", "src", "xlink:href", "action") if name in found]
        if tag == "svg":
            self.plots.append(found.get("aria-label", ""))
        assert tag not in ("script", "iframe", "object", "img")
        assert not any(name.startswith("on") for name in found)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_has_every_part_and_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = Links(text)
    assert links.open == []
    assert len(links.ids) == len(set(links.ids))
    assert {address for address in links.addresses if not address.startswith("#")} == {"data:,"}
    assert {address[1:] for address in links.addresses if address.startswith("#")} <= set(links.ids)
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    # goals, play data, 3 fans, 3 skill losses, 1 meta-training, 2 maps, 1 adaptation, 1 change of skills, trips before
    # and after of 2 tasks
    assert len(links.plots) == 17
    assert all(len(alt) > 20 for alt in links.plots)
    for words in (
        *(
            "before adaptation",
            "after inference",
            "after fine-tuning",
            "The logs lead as in the table, also before adaptation.",
        ),
        *("x (cell)", "low-level steps", "nats per action axis", "success (fraction of episodes)", "100 N"),
        *(
            "Which skills changed",
            "of 2 tasks the policy chooses otherwise",
            "component 1 (",
            "all stages finished",
            "mujoco 3.17.0",
            "&#34;layout_size&#34;: ",
            "on the robot",
        ),
    ):
        assert words in text, words
    assert not any(color in text for color in VARIABLES), "a stand-in colour was left"


def test_the_story_is_told_once_and_in_order(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r'<section id="(\w+)">', text)
    assert found == list(SECTIONS)
    assert found[:7] == ["task", "data", "skills", "learning", "adaptation", "safety", "cost"]
    heads = re.findall(r"<h[123]>(.*?)</h[123]>", text)
    assert len(heads) == len(set(heads))
    assert text.count('aria-label="Success (fraction of episodes) on the train tasks') == 1
    seen = re.sub(r"<(svg|style|pre)\b.*?</\1>", "", text, flags=re.DOTALL)
    shares = re.findall(r"([\d.]+) ?%", re.sub(r"<[^>]*>", " ", seen))
    assert set(shares) == {"95"}, "fractions, but for the level of intervals"
    assert "RMSE" not in text


def test_numbers_are_those_of_the_summary(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    records = json.loads((page.parent / "summary.json").read_text())
    assert len(records) >= 6
    for record in records:
        if record["metric"] == "success_stochastic":
            assert f"<td>{record['low']:.2f} to {record['high']:.2f}</td>" in text


def test_same_artefacts_same_page(page: Path, adapted_run: Path, tmp_path: Path) -> None:
    again = make_report(adapted_run, tmp_path / "new" / "again.html")
    assert again.read_bytes() == page.read_bytes()
    assert [path.name for path in again.parent.iterdir()] == ["again.html"]


def test_episodes_that_are_played_for_the_page_are_counted(adapted_run: Path, tmp_path: Path) -> None:
    told: list[tuple[str, float]] = []

    class View(JsonProgress):
        def start(self, stage: str, total: float | None, step: float, unit: str) -> None:
            told.append((f"{stage}, {unit}s", total or 0.0))

        def update(self, step: float, metrics: Mapping[str, Any]) -> None:
            told.append(("", step))

    make_report(adapted_run, tmp_path / "page.html", view=View(StringIO()))
    (name, total), *steps = told
    done = [step for _, step in steps]
    # 2 test tasks, 5 trips before and adapted; and for the map 8 episodes of all 5 tasks
    assert (name, total) == ("report, episodes", 2 * 5 * 2 + 5 * 8)
    assert done == sorted(done)
    assert 0.5 * total < done[-1] <= total + 1e-6


def test_a_robot_that_cannot_be_made_here_is_left_out_with_the_reason(
    adapted_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("maze: expected a package, got none; install it")

    monkeypatch.setattr(Maze, "make", refuse)
    text = make_report(adapted_run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("No drawings of the robot: maze: expected a package, got none; install it.") == 3
    assert "before adaptation" in text


def test_unfinished_run_says_what_is_missing(tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    for name in ("adapt", "export"):
        shutil.rmtree(folder / name)
    for name in ("report.html", "run.json"):
        (folder / name).unlink(missing_ok=True)
    assert (folder / "summary.json").is_file()  # of an older adaptation; it is none of this one's results
    partial = (folder / "meta-train").rename(folder / "meta-train.partial")
    record = json.loads((partial / "stage.json").read_text())
    (partial / "key.json").write_text(json.dumps(record["fields"]))
    (partial / "stage.json").unlink()
    with (partial / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 9, "succ')
    (folder / "a film.webm").write_bytes(b"film")
    text = make_report(folder, tmp_path / "pages" / "page.html").read_text(encoding="utf-8")
    assert '<video class="film" controls preload="metadata" src="../run/a%20film.webm">' in text
    (folder / "a film.webm").unlink()
    text = make_report(folder).read_text(encoding="utf-8")
    assert "<video" not in text
    assert len(Links(text).plots) == 9  # goals, play data, fans, skill losses and the epochs so far
    for words in (
        "No table of results: the stage adapt has not begun.",
        "No audit log: the stage adapt has not begun.",
        "No trips: there is no policy bundle yet",
        "No map: there is no policy bundle yet",
        "not finished: meta-train, export, adapt",
    ):
        assert words in text, words
    shutil.rmtree(folder / "extract")
    shutil.rmtree(partial)
    shutil.rmtree(folder / "map-logs")
    text = make_report(folder).read_text(encoding="utf-8")
    assert "No drawings of skills" in text
    assert "No skill losses: the stage extract has not begun." in text
    assert "No learning curve: the stage meta-train has not begun." in text
    assert "not finished: extract, meta-train, export, adapt" in text  # nobody knows whether logs were to come along


def test_wrong_folders_are_refused(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"nowhere: expected a run folder, got nothing there; .*supple run demo"):
        make_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"export: expected a run folder, got the folder of one stage; pass .*tiny"):
        make_report(tiny_run / "export")
    with pytest.raises(RunError, match=r"expected a run folder with a stage such as generate/, got none"):
        make_report(tmp_path)
    shutil.copytree(tiny_run / "generate", tmp_path / "run" / "generate")
    (tmp_path / "run" / "run.json").write_text("{")
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "run.json: expected strict JSON" in capsys.readouterr().err
    (tmp_path / "run" / "run.json").write_text("[]")
    with pytest.raises(RunError, match="expected an object, got a list"):
        make_report(tmp_path / "run")
    assert not (tmp_path / "run" / REPORT_NAME).exists()
    (tmp_path / "run" / "run.json").unlink()
    out = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "run"), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["path"] == str(out)
    assert out.is_file()


def test_every_name_of_a_robot_and_its_tasks_is_text(
    hostile: ModuleType, hostile_run: Path, hostile_page: Path, tmp_path: Path
) -> None:
    text = hostile_page.read_text(encoding="utf-8")
    links = Links(text)  # refuses scripts and tags that are not closed
    assert links.open == []
    assert len(links.ids) == len(set(links.ids))
    assert all(re.fullmatch(r"[\w.-]+", name) for name in links.ids)
    assert {address for address in links.addresses if not address.startswith("#")} == {"data:,"}
    assert links.text.count(hostile.IMAGE) >= 3  # folder, preset and setting
    assert "line break <script>window.hacked=1</script>" in " ".join(links.text.split())
    assert "{{ 7*7 }}" in text
    assert "\u202e" not in text
    assert r"\u202e" in text
    assert r"$\frac{x}$" in text
    assert "return before adaptation" in links.text  # nobody tells success
    for word in ("cell", "maze", "succe"):
        assert word not in re.sub(r"<pre.*?</pre>", "", text, flags=re.DOTALL).lower(), word
    again = make_report(hostile_run, tmp_path / "again.html", robot=find_robot(f"{hostile.__file__}:{hostile.IMAGE}"))
    assert again.read_bytes() == hostile_page.read_bytes()


def test_a_robot_of_the_users_own_is_named_again_for_drawings(
    hostile: ModuleType, hostile_run: Path, tmp_path: Path
) -> None:
    text = make_report(hostile_run, tmp_path / "page.html").read_text(encoding="utf-8")
    assert "No drawings: " in text
    assert "name it again, as in --robot path/to/hostile_robots.py" in text
    links = Links(text)
    assert len(links.plots) == 6  # 3 skill losses, 1 meta-training, 1 adaptation, 1 change of skills
    assert "v line" in links.text  # axes as recorded with the data
    with pytest.raises(
        BundleError, match=r"expected robot 'hostile_robots.py:.* as it was, got another family of 'maze'"
    ):
        make_report(hostile_run, tmp_path / "page.html", robot=find_robot("maze"))
