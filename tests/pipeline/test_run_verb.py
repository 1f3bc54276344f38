"""`supple run`: what it refuses before it makes anything, and what it tells at the end."""

import re
import shutil
import signal
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from supple.pipeline.cli import main
from supple.pipeline.cli_common import Runner, take_group
from supple.pipeline.stage import StageResult

FILE = """
import gymnasium
from supple.robots.gymnasium_family import GymnasiumFamily
from supple.robots.spec import Axis


class Steps(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))
    action_space = gymnasium.spaces.Discrete(3)

    def __init__(self, place):
        self.place = place


class Pushes(Steps):
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,))


GOAL = (Axis("place", "m", -1.0, 1.0),)
STEPS = GymnasiumFamily(name="steps", environment=Steps, goal=GOAL, episode_steps=20)
PUSHES = GymnasiumFamily(name="pushes", environment=Pushes, goal=GOAL, episode_steps=20)
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("STEPS", "got 'steps', which chooses among 3; train it without skills: supple meta-train --robot"),
        ("PUSHES", "got none for 'pushes'; give the family a reward, a function of observations and goals, or pass"),
    ],
)
def test_a_robot_that_no_chain_can_train_is_refused_before_play_data_are_made(
    name: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.py").write_text(FILE)
    out = tmp_path / "run"
    assert main(["run", "quick", "--robot", f"{tmp_path / 'odd.py'}:{name}", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (out / "generate").exists()


def test_the_settings_of_a_robot_are_repeated_where_it_is_named_again() -> None:
    given = [
        "supple",
        "run",
        "--robot.size",
        "3",
        "--out",
        "x",
        "--robot.low",
        "-1",
        "-2",
        "--robot.no-noise",
        "--seed",
        "1",
    ]
    assert take_group("--robot.", given) == ["--robot.size", "3", "--robot.low", "-1", "-2", "--robot.no-noise"]
    assert take_group("--robot.", ["supple", "run", "--robot", "maze", "--robot.size=4"]) == ["--robot.size=4"]


def test_logs_of_other_places_are_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "image-maze", "--explore.no-enabled", "--out", str(tmp_path / "run")]) == 2
    assert (
        "--map.enabled: expected logs of the place of the tasks, got play data of 'image-maze"
        in capsys.readouterr().err
    )
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize("named", ["odd.py:OWN", "odd:OWN"])
def test_an_error_in_code_that_the_command_names_is_one_line_about_its_file(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "odd.py").write_text(FILE + OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    assert main(["generate", "--robot", named, "--steps", "10", "--out", "out"]) == 2
    monkeypatch.delitem(sys.modules, "odd", raising=False)
    error = capsys.readouterr().err
    assert "odd.py: expected code that runs, got RuntimeError: no rail today (line 3" in error
    assert "Traceback" not in error


OWN = """

from dataclasses import dataclass
from supple.robots.family import Plays


@dataclass(frozen=True, kw_only=True)
class Own(Plays):
    name = "own"
    play_steps = 5

    def spec(self):
        raise RuntimeError("no rail today")

    def make(self, rows, threads=1): ...

    def tasks(self): ...

    def play(self, rows, seed, threads=1): ...

    def compute_success(self, observation, reward, goals): ...


OWN = Own()
"""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["demo", "--until", "explore"], "expected a stage of this run, one of generate, ingest, .* got explore"),
        (["demo", "--until", "ingest-explored"], "adapt, got ingest-explored; name another"),
        (["demo", "--map.no-enabled", "--until", "map-logs"], "adapt, got map-logs; name another"),
        (["image-maze", "--learner", "rl2", "--until", "explore"], "meta-train, export, adapt, got explore"),
        (["demo", "--reuse", "nowhere"], "--reuse nowhere: expected a run folder, got nothing there; check"),
        (["demo", "--reuse", "empty"], "--reuse empty: expected a run folder, got one without a finished stage; check"),
        (["demo", "--reuse", "RUN", "nowhere"], "--reuse nowhere: expected a run folder"),
        (["demo", "--reuse", "RUN/extract"], "expected a run folder, got the folder of one stage; pass .*tiny"),
    ],
)
def test_what_is_no_part_of_a_run_is_refused_before_anything_is_made(
    arguments: list[str],
    said: str,
    tiny_run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    words = [word.replace("RUN", str(tiny_run)) for word in arguments]
    assert main(["run", *words, "--out", "run"]) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1
    assert not list(tmp_path.glob("run/*"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--learner", "distral"], "Distral: expected at least 20 train goals, one for each policy, got 3; lower"),
        (["--learner", "sac"], "SAC: expected at least 1 iteration on 1 to 3 tasks"),
        (["--learner", "pearl", "--learner.config.replay", "5"], "PEARL: expected .* room for a visit"),
        (["--learner", "pearl-ft", "--learner.inference-episodes", "0"], "at least 1 inference episode"),
        (["--learner.config.pool-episodes", "1"], "room for a round of .* pool_episodes 1; raise"),
        (["--meta-train.action-space", "choice", "--map.no-enabled"], "expected named choices, got none"),
        (["--extract.skill.hidden-axes", "nose"], "nose"),
        (["--extract.skill.skill-horizon", "2000"], "skill-horizon: expected at most 1000 steps, one episode of play"),
        (["--adapt.settings", "nothing=1"], "settings: expected some of .*, got 'nothing'; correct"),
        (["--adapt.settings", "finetune.batch=0"], "--settings finetune.batch: expected"),
    ],
)
def test_what_a_later_stage_would_refuse_is_refused_before_the_first(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["run", "demo", "--robot.num-train-tasks", "3", "--generate.steps", "100", *arguments, "--out", str(out)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert re.search(said, error)
    assert error.count("\n") == 1
    assert not list(out.glob("*"))


def test_nothing_is_explored_or_mapped_for_a_learner_that_logs_cannot_lead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []

    def fake(runner: Runner, stage: object, out: Path, **_: object) -> StageResult:
        made.append(out.name)
        out.mkdir(parents=True)
        return StageResult(out, "key", "made", "digest", 0.0)

    names = ("explore", "export", "extract", "generate", "ingest", "map_logs", "meta_train")
    for name in names:
        monkeypatch.setattr(f"supple.pipeline.stages.{name}.make_{name}", lambda *_, **__: None)
    monkeypatch.setattr(Runner, "run", fake)
    for learner, exploring, mapping in (("rl2", [], []), ("simpl", ["explore", "ingest-explored"], ["map-logs"])):
        made.clear()
        words = ["run", "image-maze", "--learner", learner, "--until", "export", "--out", str(tmp_path / learner)]
        assert main(words) == 0
        assert made == ["generate", "ingest", "extract", *exploring, "meta-train", *mapping, "export"]
        told = "run: explore, ingest-explored, map-logs left out: no logs can lead 'rl2'" in capsys.readouterr().err
        assert told == (learner == "rl2")


def test_a_signal_while_the_report_is_made_stops_at_once(
    tiny_run: Path, tmp_path: Path, tiny_options: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def make_report(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        pytest.fail("the page went on")

    shutil.copytree(tiny_run, tmp_path / "run")
    (tmp_path / "run" / "report.html").unlink(missing_ok=True)
    monkeypatch.setattr("supple.pipeline.report.page.make_report", make_report)
    options = [option for option in tiny_options if option != "--no-report"]
    assert main(["run", "demo", "--out", str(tmp_path / "run"), *options]) == 128 + signal.SIGINT


def test_a_robot_that_cannot_be_made_here_is_refused_before_anything_is_made_or_reused(
    tiny_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, a stage to reuse was said to be of other code, and with --from-log the log was read first."""
    monkeypatch.setattr("supple.robots.kitchen_robots.find_spec", lambda name: None)
    for more in (["--reuse", str(tiny_run)], ["--from-log", str(tiny_run / "generate")]):
        assert main(["run", "kitchen", "--out", str(tmp_path / "run"), *more]) == 2
        error = capsys.readouterr().err
        assert "expected the package gymnasium-robotics, whose model files it uses, got none" in error
        assert error.count("\n") == 1
        assert not list((tmp_path / "run").glob("*"))


EXAMPLE = Path(__file__).parents[2] / "examples" / "hardware.py"
REAL = """
from dataclasses import replace


def connect():
    raise AssertionError("nobody may connect the robot here")


ALONE = replace(ARM, connect=connect)
"""


@pytest.fixture
def real_robot(tmp_path: Path) -> list[str]:
    """Options of a robot that must not be connected, and of its logs."""
    (tmp_path / "arm.py").write_text(EXAMPLE.read_text() + REAL)
    rng = np.random.default_rng(0)
    angles = 0.05 * rng.standard_normal((6, 40, 2)).cumsum(axis=1)
    with h5py.File(tmp_path / "log.hdf5", "w") as file:
        file["observations"] = np.concatenate([angles, np.sin(angles)], axis=2).reshape(-1, 4).astype(np.float32)
        file["actions"] = rng.uniform(-1.0, 1.0, (240, 2)).astype(np.float32)
        file["rewards"], file["terminals"] = np.zeros(240, np.float32), np.zeros(240, np.bool_)
        file["timeouts"] = np.arange(240) % 40 == 39
    return ["--robot", f"{tmp_path / 'arm.py'}:ALONE", "--from-log", str(tmp_path / "log.hdf5")]


def test_logs_and_skills_alone_need_neither_a_simulator_nor_the_robot(real_robot: list[str], tmp_path: Path) -> None:
    tiny = ["--extract.skill.num-updates", "2"]
    options = ["--learner", "spirl", "--map.enabled", "--map.places", "20", "--until", "export", *tiny]
    assert main(["run", "quick", *real_robot, *options, "--out", str(tmp_path / "run")]) == 0
    assert (tmp_path / "run" / "export" / "bundle" / "bundle.json").is_file()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--until", "export"], "expected a simulated robot, got"),
        (["--learner", "spirl"], "pass --until export, then: supple adapt"),
    ],
)
def test_a_run_neither_trains_on_a_real_robot_nor_moves_it(
    options: list[str], message: str, real_robot: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["run", "quick", *real_robot, *options, "--out", str(out)]) == 2
    assert message in capsys.readouterr().err
    assert not (out / "ingest").exists()
