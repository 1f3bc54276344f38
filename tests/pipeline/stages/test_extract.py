"""Which robot skills are for, who refuses them, and what is said when they collapse."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from supple.adapt.eye import SeeingRobots, open_eyes
from supple.adapt.host.spaces import export_eye
from supple.datasets import Episode, Feature, Schema, WindowSampler, write_d4rl, write_store
from supple.datasets.schema import make_image_feature
from supple.errors import ConfigError, SpecError
from supple.pipeline import cloning
from supple.pipeline.cli import main
from supple.pipeline.settings.extract import ExtractConfig
from supple.pipeline.stages.extract import HeldOut, compute_report, extract, make_samplers, open_pictures
from supple.robots.family import ChecksData
from supple.robots.maze_family import Maze
from supple.robots.robot import Sees
from supple.robots.spec import ImageSpec
from supple.skills.checkpoint import load_skill_model
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel
from tests.robots.line import Line, LineRobots, record

SIZES = [
    word
    for part in ("encoder", "decoder", "open-decoder", "prior")
    for word in (f"--skill.{part}-hidden", "16")
]  # fmt: skip
FEW = ["--skill.skill-horizon", "4", "--skill.skill-dim", "2", "--skill.batch-size", "64", *SIZES]


def write_pushes(folder: Path, unit: float = 1.0) -> Path:
    """Episodes that push one way or the other."""
    rng = np.random.default_rng(0)
    rows = 2000
    push = rng.choice([-1.0, 1.0], rows // 40).repeat(40)
    arrays = {
        "observations": rng.uniform(0.0, 9.0, (rows, 4)),
        "actions": unit * np.stack([push, -push], axis=1),
        "rewards": np.zeros(rows),
        "terminals": np.zeros(rows, np.bool_),
        "timeouts": np.arange(rows) % 40 == 39,
    }
    return write_d4rl(folder / "log.hdf5", arrays)


def make_skills(folder: Path, *options: str, ingest: tuple[str, ...] = (), unit: float = 1.0) -> int:
    assert main(["ingest", str(write_pushes(folder, unit)), "--out", str(folder / "ingest"), *ingest]) == 0
    return main(["extract", str(folder / "ingest"), "--out", str(folder / "extract"), *FEW, *options])


def test_steps_that_a_log_keeps_as_invalid_are_in_no_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Observations count the rows; every tenth episode has 20 steps in the middle that nobody measured."""
    features = [
        Feature(name="observation", shape=(1,), units=("m",), role="observation", axes=("x",)),
        Feature(name="action", shape=(1,), units=("N",), role="action", axes=("push",)),
        Feature(name="valid", dtype="uint8", shape=(), units=("",), role="other", axes=("valid",)),
    ]
    episodes, held = [], set()
    for number in range(30):
        rows = np.arange(100 * number, 100 * number + 100)
        valid = np.ones(100, np.uint8)
        if number % 10 == 0:
            valid[40:60] = 0
            held |= set(rows[40:60].tolist())
        column = rows[:, None].astype(np.float32)
        episodes.append(Episode({"observation": column, "action": -column, "valid": valid}, False, True))
    store = write_store(tmp_path / "store", episodes, Schema(features=tuple(features), control_period=0.1), {})
    config = ExtractConfig(skill=SkillConfig(skill_horizon=10), validation_fraction=0.5)
    sampler, held_out = make_samplers(store, config)
    beside = WindowSampler(store.load("observation"), store.load("action"), *held_out, 10)
    drawn = set()
    for windows in (sampler, beside):
        seen = windows.take(np.arange(windows.num_windows))[0]
        assert held.isdisjoint(seen.ravel().tolist())
        drawn |= set(seen.ravel().tolist())
    assert len(drawn) == 3000 - 60
    assert sampler.num_windows + beside.num_windows == 27 * 91 + 3 * 2 * 31
    monkeypatch.setattr(cloning, "open_play", lambda *_: store)
    monkeypatch.setattr(cloning, "play_latents", lambda _, observation, action: (observation, action))
    space = SimpleNamespace(horizon=10)
    given = (tmp_path, space, None, np.random.default_rng(0), torch.device("cpu"))
    cloned, _ = cloning.load_decisions(*given)  # type: ignore[arg-type]
    assert held.isdisjoint(cloned.ravel().tolist())


class SeeingLineRobots(LineRobots, Sees):
    """The line with pictures that are the brighter the farther its first joint is."""

    def take_images(self, rows):
        return draw_line(self.position[rows, 0])


def draw_line(place):
    return np.repeat((40.0 * (place + 3.0)).astype(np.uint8), 8 * 12).reshape(-1, 8, 12, 1)


@dataclass(frozen=True)
class SeeingLine(Line):
    def spec(self):
        return replace(super().spec(), image=ImageSpec(8, 12, 1))

    def make(self, rows, threads=1):
        return SeeingLineRobots(self.spec(), rows)


def test_skills_that_see_are_carried_out_from_recorded_states(tmp_path: Path) -> None:
    spec = SeeingLine().spec()
    features = [
        Feature(
            name=array.name,
            shape=array.shape,
            units=tuple(axis.unit for axis in array.axes),
            role=array.name,  # type: ignore[arg-type]
            axes=array.names,
        )
        for array in (spec.observation, spec.action)
    ]
    schema = Schema(
        features=(*features, make_image_feature("image", (8, 12, 1))), control_period=spec.control_period, robot=spec
    )
    episodes = [
        Episode(
            {"observation": one.observation, "action": one.action, "image": draw_line(one.observation[:, 0])},
            False,
            True,
        )
        for one in (record(0, steps=20, noise=0.0), record(1, steps=20, noise=0.0))
    ]
    store = write_store(tmp_path / "store", episodes, schema, {})
    config = SkillConfig(skill_horizon=4, image_channels=(2,), image_features=3, image_frames=2)
    model = SkillModel(6, 2, config, spec)
    held_out = HeldOut(store.episodes.start, store.episodes.length)
    pictures = open_pictures(store, tmp_path / "cache")
    report = compute_report(model, store, held_out, 0, SeeingLine(), 1, pictures)
    assert report["rollout_replayed"] == pytest.approx(0.0, abs=1e-4)
    assert report["rollout_closed"] > 0.0
    # where the simulator is put, the policy sees what its camera shows there, also in place of the pictures before
    simulator = SeeingLine().make(1)
    robot = open_eyes(simulator, export_eye(model, seed=0))
    assert isinstance(robot, SeeingRobots)
    row, state = np.zeros(1, np.int64), episodes[0].arrays["observation"][5:6]
    seen = robot.begin(row, simulator.put(row, state))
    stack = torch.from_numpy(draw_line(state[:, 0]).repeat(2, axis=-1))
    np.testing.assert_allclose(seen, model.see(torch.from_numpy(state), stack).detach().numpy(), atol=1e-5)


def test_skills_carry_the_robot_of_their_data(tmp_path: Path) -> None:
    assert make_skills(tmp_path, "--skill.num-updates", "2", ingest=("--robot", "maze")) == 0
    model = load_skill_model(tmp_path / "extract")
    assert model.robot == Maze().spec()
    assert model.action_scale.scale.tolist() == [1.0, 1.0]
    assert json.loads((tmp_path / "extract" / "skill.json").read_text())["robot"]["name"] == "maze"


def test_data_of_episodes_that_are_shorter_than_a_skill_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_skills(tmp_path, "--skill.skill-horizon", "41", ingest=("--robot", "maze")) == 2
    error = capsys.readouterr().err
    assert "ingest/store: expected an episode of at least 41 steps, one skill, got 40 at most; bring longer" in error
    assert "or shorten skills with --skill.skill-horizon (--extract.skill.skill-horizon of supple run)" in error


def test_data_that_nobody_names_give_skills_for_no_robot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four observation and two action axes, as many as the maze has."""
    assert make_skills(tmp_path, "--skill.num-updates", "2", unit=100.0) == 0
    capsys.readouterr()
    for command in (
        ["extract", str(tmp_path / "ingest"), "--robot", "maze"],
        ["meta-train", str(tmp_path / "extract"), "--robot", "maze"],
    ):
        assert main([*command, "--out", str(tmp_path / "out")]) == 2
        assert "expected data of robot 'maze', got data of a robot that nobody named; ingest" in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_skills_of_a_maze_of_another_size_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_skills(tmp_path, "--skill.num-updates", "2", ingest=("--robot", "maze")) == 0
    small = ["--robot", "maze", "--robot.layout-size", "12", "--out", str(tmp_path / "out")]
    assert main(["meta-train", str(tmp_path / "extract"), *small]) == 2
    assert "expected observation axis 'x' with high 14.0 cell, got 22.0; also expected" in capsys.readouterr().err


@pytest.mark.parametrize("unit", [0.01, 100.0])
def test_skills_in_any_unit_say_something(unit: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_skills(tmp_path, "--skill.num-updates", "150", "--skill.learning-rate", "1e-2", unit=unit) == 0
    assert "COLLAPSED" not in capsys.readouterr().out
    report = json.loads((tmp_path / "extract" / "skill-report.json").read_text())
    assert report["collapsed"] == 0.0
    assert report["reconstruction_rmse/action_0"] < 0.3 * unit


def test_a_collapse_is_said_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--skill.num-updates", "150", "--skill.learning-rate", "1e-2", "--skill.kl-weight", "10"]
    assert make_skills(tmp_path, *options, "--json") == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    (record,) = [record for record in records if record["event"] == "collapse"]
    assert record["signs"].startswith("0 of 2 skill axes are active; KL")
    assert "Lower skill.kl-weight" in record["remedy"]
    report = json.loads((tmp_path / "extract" / "skill-report.json").read_text())
    assert report["collapsed"] == 1.0
    assert report["kl"] < 0.01


def test_a_collapse_is_seen_by_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert make_skills(tmp_path, "--skill.num-updates", "150", "--skill.kl-weight", "10") == 0
    out = capsys.readouterr().out
    assert "skills: they have COLLAPSED: 0 of 2 skill axes are active; KL" in out
    assert "Lower skill.kl-weight" in out


def test_skills_longer_than_an_episode_of_the_simulator_are_not_played_in_it(tmp_path: Path) -> None:
    """A log may be longer than an episode; a report that needs four steps of three would be refused after training."""
    short = ("--robot", "maze", "--robot.episode-steps", "3")
    assert make_skills(tmp_path, "--skill.num-updates", "2", *short, ingest=short) == 0
    report = json.loads((tmp_path / "extract" / "skill-report.json").read_text())
    assert "kl" in report
    assert not any(name.startswith("rollout") for name in report)


def test_what_the_family_refuses_is_said_before_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise ConfigError("simulator: expected a package, got none; install it")

    def train(*_: object, **__: object) -> None:
        pytest.fail("was trained before the robot was made")

    monkeypatch.setattr("supple.skills.learner.train", train)
    with monkeypatch.context() as patch:
        patch.setattr(Maze, "make", refuse)
        assert make_skills(tmp_path, "--skill.num-updates", "2", "--robot", "maze", ingest=("--robot", "maze")) == 2
    assert "simulator: expected a package, got none" in capsys.readouterr().err

    class Choosy(Maze, ChecksData):
        def require_data(self, observation: object, where: str) -> None:
            raise SpecError(f"{where}: expected {np.shape(observation)}, got others; bring them")

    config = replace(ExtractConfig(), skill=SkillConfig(skill_horizon=4))
    work = SimpleNamespace(
        machine=SimpleNamespace(threads=1, device="cpu"),
        inputs={"store": tmp_path / "ingest"},
        restore=lambda *_: None,
        folder=tmp_path,
    )
    with pytest.raises(SpecError, match=r"store: expected \(2000, 4\), got others"):
        extract(config, Choosy(), work)  # type: ignore[arg-type]
