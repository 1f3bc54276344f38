import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread
from scipy.stats import binomtest

from supple.adapt.bundle import load_bundle
from supple.adapt.policy import make_agent
from supple.errors import RunError
from supple.meta.collect import Episodes
from supple.meta.simpl.config import FinetuneConfig
from supple.meta.simpl.finetune import Finetuner
from supple.meta.space import SkillSpace
from supple.pipeline.cli import main
from supple.pipeline.report.curves import compute_adaptation, compute_wilson, format_count, pool_success
from supple.pipeline.report.maze import CENTRE, compute_wall_outline
from supple.pipeline.report.page import REPORT_NAME, format_seconds, make_report
from supple.pipeline.report.rollouts import compute_fans, compute_map, compute_trips, load_adapted, split_rounds
from supple.pipeline.report.run_folder import load_run
from supple.pipeline.report.style import VARIABLES
from supple.robots.maze import MazeBatch
from supple.robots.task import Task
from supple.skills.checkpoint import load_skill_model, save_checkpoint
from supple.skills.gaussian import Gaussian

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


class Links(HTMLParser):
    """Collects ids, addresses and pictures, and checks that tags are closed in order."""

    VOID = frozenset(("meta", "link", "br", "img", "hr", "input"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.plots: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.ids += [found["id"]] if "id" in found else []
        self.addresses += [found[name] for name in ("href", "src", "xlink:href", "action") if name in found]
        if tag == "svg":
            self.plots.append(found.get("aria-label", ""))
        assert tag not in ("script", "iframe", "object")
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def adapted_run(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny run, as if its first test task had been rewarded: that one has a policy of its own."""
    folder = tmp_path_factory.mktemp("report") / "run"
    shutil.copytree(tiny_run, folder)
    agent = make_agent(load_bundle(folder / "export" / "bundle"), torch.device("cpu"))
    hidden = tuple(int(bias.shape[-1]) for bias in list(agent.critic.biases)[:-1])
    embedding = torch.linspace(-1, 1, agent.embedding_dim)
    tuner = Finetuner(agent.space, 4, 6, embedding, hidden, FinetuneConfig(pool_episodes=1), 0)
    tuner.start_from(agent.policy, agent.critic, 0.01)
    tensors = {f"0.{name}": value.detach() for name, value in tuner.state_dict().items()}
    tasks = load_run(folder).stages["adapt"].config["tasks"]
    (folder / "adapt" / "adapted.safetensors").unlink()
    save_checkpoint(folder / "adapt" / "adapted.safetensors", tensors, {"tasks": tasks})
    return folder


@pytest.fixture(scope="module")
def page(adapted_run: Path) -> Path:
    return make_report(adapted_run)


def test_the_page_has_every_part_and_needs_nothing_from_elsewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = Links(text)
    assert links.open == []
    assert len(links.ids) == len(set(links.ids))
    assert {address for address in links.addresses if not address.startswith("#")} == {"data:,"}
    assert {address[1:] for address in links.addresses if address.startswith("#")} <= set(links.ids)
    assert "@import" not in text
    assert set(re.findall(r"url\((.)", text)) <= {"#"}
    # 1 adaptation, 3 trips of the adapted task and 1 of the other, 3 fans, 3 skill losses, 3 meta curves, 2 maps
    assert len(links.plots) == 16
    assert all(len(alt) > 20 for alt in links.plots)
    for words in (
        *("before adaptation", "after inference", "after fine-tuning", "No episode of adaptation reached this goal"),
        *("x (cells)", "low-level steps", "wall-clock time (", "nats per action axis", "success (% of episodes)"),
        *("component 1 (", "all stages finished", "mujoco 3.17.0", "&#34;layout_size&#34;: "),
    ):
        assert words in text, words
    assert not any(color in text for color in VARIABLES), "a stand-in colour was left"


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


def test_unfinished_run_says_what_is_missing(tiny_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    for name in ("adapt", "export"):
        shutil.rmtree(folder / name)
    for name in ("summary.json", "report.html", "run.json"):
        (folder / name).unlink(missing_ok=True)
    partial = (folder / "meta-train").rename(folder / "meta-train.partial")
    record = json.loads((partial / "stage.json").read_text())
    (partial / "key.json").write_text(json.dumps(record["fields"]))
    (partial / "stage.json").unlink()
    with (partial / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 9, "succ')
    text = make_report(folder).read_text(encoding="utf-8")
    assert len(Links(text).plots) == 9  # fans, skill losses and the epochs so far
    for words in (
        "No table of success: the stage adapt has not begun.",
        "No trips: there is no policy bundle yet",
        "No map: there is no policy bundle yet",
        "not finished: meta-train, export, adapt",
    ):
        assert words in text, words
    shutil.rmtree(folder / "extract")
    shutil.rmtree(partial)
    text = make_report(folder).read_text(encoding="utf-8")
    assert "No drawings of skills" in text
    assert "No skill losses: the stage extract has not begun." in text
    assert "No learning curves: the stage meta-train has not begun." in text


def test_wrong_folders_are_refused(tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RunError, match=r"nowhere: expected a run folder, got nothing there; .*supple run demo"):
        make_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"export: expected a run folder, got the folder of one stage; pass .*tiny"):
        make_report(tiny_run / "export")
    with pytest.raises(RunError, match=r"expected a run folder with a stage such as generate/, got none"):
        make_report(tmp_path)
    shutil.copytree(tiny_run / "generate", tmp_path / "run" / "generate")
    (tmp_path / "run" / "summary.json").write_text("{")
    assert main(["report", str(tmp_path / "run")]) == 2
    assert "summary.json: expected JSON" in capsys.readouterr().err
    (tmp_path / "run" / "summary.json").write_text("{}")
    with pytest.raises(RunError, match="list of records"):
        make_report(tmp_path / "run")
    assert not (tmp_path / "run" / REPORT_NAME).exists()
    (tmp_path / "run" / "summary.json").unlink()
    out = tmp_path / "page.html"
    assert main(["report", str(tmp_path / "run"), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["path"] == str(out)
    assert out.is_file()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_chromium_shows_the_page(page: Path, tmp_path: Path) -> None:
    """Wide: no console message and much to see. As narrow as a phone: no sideways scrolling."""

    def show(file: Path, width: int, height: int) -> tuple[np.ndarray, str]:
        picture = tmp_path / f"{width}.png"
        flags = [
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--enable-logging=stderr", f"--user-data-dir={tmp_path / f'profile-{width}'}"),
            *(f"--window-size={width},{height}", f"--screenshot={picture}"),
        ]
        assert CHROMIUM is not None
        done = subprocess.run(
            [CHROMIUM, *flags, file.as_uri()], capture_output=True, text=True, timeout=120, check=True
        )
        return imread(picture)[..., :3], done.stderr

    image, log = show(page, 1280, 1600)
    assert "CONSOLE" not in log
    assert image.shape == (1600, 1280, 3)
    colors = np.unique((image.reshape(-1, 3) * 255).astype(np.int64) @ (65536, 256, 1))
    assert len(colors) > 50
    background = (image == image[0, 0]).all(axis=2).mean()
    assert 0.05 < background < 0.95

    measured = tmp_path / "measured.html"
    line = "<script>const e=document.documentElement;console.log(`size ${e.scrollWidth} ${e.scrollHeight}`)</script>"
    measured.write_text(page.read_text(encoding="utf-8").replace("</body>", f"{line}</body>"), encoding="utf-8")
    phone = tmp_path / "phone.html"  # in a frame, since a window cannot be as narrow as a phone
    phone.write_text('<iframe src="measured.html" width="360" height="800" frameborder="0"></iframe>', encoding="utf-8")
    _, log = show(phone, 800, 900)
    found = re.search(r"size (\d+) (\d+)", log)
    assert found is not None
    assert int(found[1]) == 360
    assert 4000 < int(found[2]) < 20000


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 400), st.floats(0, 1))
def test_wilson_agrees_with_scipy(trials: int, share: float) -> None:
    successes = round(trials * share)
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    low, high = compute_wilson(np.array([successes / trials]), np.array([float(trials)]))
    assert low[0] == pytest.approx(expected.low, abs=1e-6)
    assert high[0] == pytest.approx(expected.high, abs=1e-6)


def test_long_curves_are_pooled() -> None:
    at = np.arange(1.0, 121.0)
    curve = pool_success(at, (at % 2), trials=10)
    assert len(curve.at) == 60
    assert curve.at[0] == 1.5  # epochs 1 and 2
    assert (curve.mean == 0.5).all()
    low, _ = compute_wilson(np.array([0.5]), np.array([20.0]))  # 2 epochs of 10 episodes
    assert curve.low == pytest.approx(np.full(60, low[0]))


def test_adaptation_curve_averages_tasks_before_episodes() -> None:
    records = [
        {"episode": episode, "task": task, "success": success}
        for task, successes in (("a", (0, 0, 1, 1)), ("b", (1, 1, 1, 1)))
        for episode, success in enumerate(successes, start=1)
    ]
    curve = compute_adaptation(records, points=2)
    assert curve.at.tolist() == [1.5, 3.5]
    assert curve.mean.tolist() == [0.5, 1.0]
    # two tasks at 0 and 1: the bootstrap of their mean reaches both ends; at 1 and 1 it has no width
    assert (curve.low.tolist(), curve.high.tolist()) == ([0.0, 1.0], [1.0, 1.0])


def test_formats() -> None:
    assert [format_count(value) for value in (0, 950, 1500, 2.5e6, 3e9)] == ["0", "950", "1.5 k", "2.5 M", "3 G"]
    assert [format_seconds(value) for value in (0.31, 42.4, 600, 9000)] == ["0.3 s", "42 s", "10 min", "2 h 30 min"]


def test_walls_are_drawn_where_the_robot_meets_them() -> None:
    layout = np.ones((5, 5), np.bool_)
    layout[1:4, 1:4] = False
    outline = compute_wall_outline(layout)
    # the wall of x = 4 is one run of five cells: its left edge is at 4 - 0.2 - 0.5
    assert outline.vertices[-5].tolist() == pytest.approx([4 + CENTRE - 0.5, CENTRE - 0.5])
    assert outline.vertices[-3].tolist() == pytest.approx([4 + CENTRE + 0.5, 4 + CENTRE + 0.5])
    robot = MazeBatch(layout, 1, start=(2, 2))
    robot.reset(np.array([0]), np.zeros((1, 2), np.float32), np.random.default_rng(0))
    for _ in range(400):
        x = robot.step(np.array([0]), np.array([[0.3, 0.0]], np.float32)).observation[0, 0]
    assert x + 0.1 == pytest.approx(4 + CENTRE - 0.5, abs=0.02)  # the particle's radius is 0.1


def test_fans_start_from_one_state_and_are_reproducible(tiny_run: Path) -> None:
    space = SkillSpace(load_skill_model(tiny_run / "extract"))
    layout = np.ones((7, 7), np.bool_)
    layout[1:6, 1:6] = False

    def draw(seed: int) -> tuple[np.ndarray, ...]:
        robot = MazeBatch(layout, 5, terminate_at_goal=False)
        return tuple(compute_fans(robot, space, skills=5, chain=3, seed=seed))

    at_rest, moving, chains = draw(0)
    assert at_rest.shape == (5, space.horizon + 1, 2)
    assert chains.shape == (5, 3 * space.horizon + 1, 2)
    for paths in (at_rest, moving, chains):
        assert (paths[:, 0] == 2.0).all()  # the start cell of this layout
    assert len(np.unique(at_rest[:, -1], axis=0)) == 5
    # at 3 cells/s the first step alone goes 3 cells
    assert moving[:, 1, 0] - 2.0 == pytest.approx(np.full(5, 0.03), abs=0.01)
    assert all((one == other).all() for one, other in zip(draw(0), (at_rest, moving, chains), strict=True))
    assert not (draw(1)[0] == at_rest).all()


def test_trips_of_a_policy_that_was_not_tuned_yet_are_those_of_inference(adapted_run: Path) -> None:
    agent = make_agent(load_bundle(adapted_run / "export" / "bundle"), torch.device("cpu"))
    tasks, tuners = load_adapted(adapted_run / "adapt" / "adapted.safetensors", agent, 4)
    assert list(tuners) == [0]
    layout = np.ones((7, 7), np.bool_)
    layout[1:6, 1:6] = False
    goals = (Task("near", (2.0, 2.0)), Task("far", (5.0, 1.0)))
    robot = MazeBatch(layout, 6, episode_steps=20)
    near, far = compute_trips(agent, robot, goals, tuners, episodes=3, seed=1)
    assert list(near.trips) == ["before", "inferred", "adapted"]
    assert list(far.trips) == ["before"]
    assert all(trip.reached and len(trip.path) == 2 for trip in near.trips["before"])  # it starts at the goal
    assert all(not trip.reached and len(trip.path) == 21 for trip in far.trips["before"])
    far, near = compute_trips(agent, robot, goals[::-1], tuners, episodes=3, seed=1)
    for one, other in zip(far.trips["inferred"], far.trips["adapted"], strict=True):
        assert (one.path == other.path).all()
    assert not (far.trips["inferred"][0].path == far.trips["before"][0].path).all()
    assert len(tasks) == 2


def test_damaged_policies_are_refused(adapted_run: Path, tmp_path: Path) -> None:
    agent = make_agent(load_bundle(adapted_run / "export" / "bundle"), torch.device("cpu"))
    path = tmp_path / "adapted.safetensors"
    save_checkpoint(path, {"0.embedding": torch.zeros(agent.embedding_dim)}, {"tasks": [{"name": "a", "goal": [1, 2]}]})
    with pytest.raises(RunError, match=r"adapted.safetensors: expected adapted policies, got .*Missing key"):
        load_adapted(path, agent, 4)


def test_rounds_are_split_by_row() -> None:
    def numbered(*shape: int) -> torch.Tensor:
        return torch.arange(6.0).reshape(6, *[1] * len(shape)).expand(6, *shape)

    episodes = Episodes(
        numbered(3, 4), numbered(2, 5), Gaussian(numbered(3, 5), numbered(3, 5) + 10), *[numbered()] * 4, numbered(4, 4)
    )
    rounds = split_rounds(episodes, 3)
    assert [part.length.tolist() for part in rounds] == [[0, 1], [2, 3], [4, 5]]
    assert rounds[2].prior.scale[:, 0, 0].tolist() == [14, 15]
    assert rounds[1].path.shape == (2, 4, 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000))
def test_map_keeps_distances_of_flat_embeddings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plane = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    train, test = rng.normal(size=(9, 2)) * (3.0, 1.0), rng.normal(size=(4, 2))
    found = compute_map(train @ plane + 5, test @ plane + 5, np.ones(9, np.bool_), np.zeros(4, np.bool_))
    both, flat = np.concatenate((train, test)), np.concatenate((found.train, found.test))
    expected = np.linalg.norm(both[:, None] - both, axis=2)
    assert np.linalg.norm(flat[:, None] - flat, axis=2) == pytest.approx(expected, abs=1e-9)
    assert found.train.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert sum(found.share) == pytest.approx(1.0)
    assert found.train[:, 0].var() >= found.train[:, 1].var()


def test_map_of_one_axis_or_one_task() -> None:
    one = np.array([True])
    single = compute_map(np.array([[1.0], [3.0]]), np.array([[2.0]]), np.ones(2, np.bool_), one)
    assert np.abs(single.train).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert single.share == (1.0, 0.0)
    alone = compute_map(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]), one, one)
    assert alone.test.tolist() == [[0.0, 0.0]]
