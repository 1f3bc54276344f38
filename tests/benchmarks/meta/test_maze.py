"""Cells in the maze of SiMPL: what they read, what of it is in their keys, cloned starts, and a run of seconds."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.meta.__main__ import main as bench_meta
from benchmarks.meta.cell_train import Inputs, make_train, name_random, require_inputs
from benchmarks.meta.cells import CELLS
from benchmarks.meta.maze_cells import MAZE_CELLS
from benchmarks.meta.oracle import compute_oracle
from benchmarks.results.records import load_records
from supple.datasets.episode import Episode
from supple.datasets.schema import Feature, Schema
from supple.datasets.store_writer import write_store
from supple.errors import ConfigError, RunError, SpecError
from supple.meta.baselines.config import SacConfig
from supple.meta.config import CloneConfig
from supple.meta.gradient.config import MamlConfig
from supple.meta.inference.config import PearlConfig
from supple.meta.space import RawSpace, SkillSpace, UnitSpace
from supple.pipeline.action_spaces import make_space
from supple.pipeline.cli import main
from supple.pipeline.interrupt import Interrupted, StopRequest
from supple.pipeline.keys import compute_plain, compute_record_digest, load_record
from supple.pipeline.learners import BcMamlSettings, BcPearlSettings
from supple.pipeline.progress import PlainProgress
from supple.pipeline.stage import Machine, Stage, run_stage
from supple.pipeline.stages.export import load_trained
from supple.pipeline.testing_kills import COMPARED
from supple.robots.maze_family import Maze
from supple.robots.spec import Axis, RobotSpec
from supple.robots.task import goals_of
from supple.skills.checkpoint import save_skill_model
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

DEMO = "demo-bc-pearl-maze"
ROBOT = Maze(layout_size=10, layout_seed=1, episode_steps=20, num_train_tasks=2, num_test_tasks=1)
PUSH = (0.5, -0.75)
"""What the play data do everywhere."""


SPEC = ROBOT.spec()
OTHER = replace(SPEC, name="other")
"""A robot with the same axes."""


def write_skills(folder: Path, robot: RobotSpec | None = SPEC, seed: int = 0) -> Path:
    width: dict[str, Any] = {f"{part}_hidden": (8,) for part in ("encoder", "decoder", "open_decoder", "prior")}
    model = SkillModel(4, 2, SkillConfig(skill_horizon=5, skill_dim=3, seed=seed, **width), robot)
    model.normaliser.fit(torch.arange(12.0).view(3, 4))
    save_skill_model(folder, model)
    return folder


def write_play(folder: Path, robot: RobotSpec | None = SPEC, steps: int = 30) -> Path:
    def feature(name: Any, axes: tuple[Axis, ...]) -> Feature:
        units, names = (tuple(getattr(axis, field) for axis in axes) for field in ("unit", "name"))
        return Feature(name=name, shape=(len(axes),), units=units, role=name, axes=names)

    features = feature("observation", SPEC.observation.axes), feature("action", SPEC.action.axes)
    rng = np.random.default_rng(0)
    episodes = [
        Episode(
            {
                "observation": rng.uniform(1.0, 9.0, (steps, 4)).astype(np.float32),
                "action": np.tile(np.array(PUSH, np.float32), (steps, 1)),
            },
            terminated=False,
            truncated=True,
        )
        for _ in range(4)
    ]
    write_store(folder, episodes, Schema(features=features, control_period=SPEC.control_period, robot=robot), {})
    return folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """Skills and play data of robots with the maze's axes."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "skills").mkdir()
    return {"skills": write_skills(folder / "skills"), "play": write_play(folder / "play")}


def options(given: Inputs) -> list[str]:
    return [word for role, path in given.items() for word in (f"--{role}", str(path))]


@pytest.fixture(scope="module")
def out(given: Inputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demonstration, run."""
    folder = tmp_path_factory.mktemp("bench") / "out"
    assert bench_meta([DEMO, "--out", str(folder), *options(given)]) == 0
    return folder


def test_records_name_what_was_read_and_which_random_choices_were_drawn(out: Path) -> None:
    records = load_records(out / DEMO / "records.json")
    assert {record.benchmark for record in records} == {"meta-point-maze-10-seed1"}
    assert {record.method for record in records} == {"bc-pearl-skill", "random-skill"}
    commands = {row["command"] for row in json.loads((out / DEMO / "records.json").read_text())}
    assert commands == {f"python -m benchmarks.meta {DEMO} --seeds 0 --skills SKILLS --play PLAY"}


def test_skills_and_play_data_are_in_the_key_by_content(out: Path, given: Inputs, tmp_path: Path) -> None:
    inputs = {stage: load_record(out / DEMO / "seed0" / stage)["inputs"] for stage in ("train", "evaluate")}
    assert (set(inputs["train"]), set(inputs["evaluate"])) == ({"skills", "play"}, {"skills", "train"})
    moved: dict[Any, Path] = {role: shutil.copytree(path, tmp_path / role) for role, path in given.items()}
    assert bench_meta([DEMO, "--out", str(out), *options(moved)]) == 0


@pytest.mark.parametrize("role", ["skills", "play"])
def test_other_skills_or_play_data_are_another_run(
    out: Path, given: Inputs, tmp_path: Path, role: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if role == "skills":
        (tmp_path / "skills").mkdir()
        other = write_skills(tmp_path / "skills", seed=1)
    else:
        other = write_play(tmp_path / "play", steps=31)
    changed: Any = {**given, role: other}
    assert bench_meta([DEMO, "--out", str(out), *options(changed)]) == 2
    assert f"inputs.{role}" in capsys.readouterr().err


def test_interrupted_and_resumed_equals_uninterrupted_and_clones_once(
    out: Path, given: Inputs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    start = BcPearlSettings.start

    def count(self: BcPearlSettings, learner: Any, play: Path) -> str:
        started.append(play)
        return start(self, learner, play)

    monkeypatch.setattr(BcPearlSettings, "start", count)
    stage = replace(make_train(CELLS[DEMO].config, 0, given), folder=tmp_path / "train")
    stop = StopRequest()
    stop.signal = 15
    with pytest.raises(Interrupted):
        run(stage, stop)
    assert run(stage, StopRequest()) == "resumed"
    assert started == [given["play"]]
    one, two = load_record(out / DEMO / "seed0" / "train"), load_record(tmp_path / "train")
    assert [field for field in COMPARED if one[field] != two[field]] == []


def run(stage: Stage, stop: StopRequest) -> str:
    view = PlainProgress(sys.stderr, sys.stdout, 1e9)
    return run_stage(stage, Machine(), view, stop).status


def test_a_trained_cell_is_exported_with_the_skills_that_it_was_trained_with(
    out: Path, given: Inputs, tmp_path: Path
) -> None:
    seed = out / DEMO / "seed0"
    assert load_trained(seed).skills == given["skills"]
    assert main(["export", str(seed), "--out", str(tmp_path / "export")]) == 0
    assert set(load_record(tmp_path / "export")["inputs"]) == {"train", "skills"}
    copy = shutil.copytree(seed, tmp_path / "seed0")
    record = load_record(copy / "train")
    record["inputs"]["skills"]["path"] = str(tmp_path / "gone")
    (copy / "train" / "stage.json").write_text(json.dumps(record | {"record_digest": compute_record_digest(record)}))
    with pytest.raises(RunError, match=r"train: expected the skills that it was trained with at .*gone, got none"):
        load_trained(copy)


@pytest.mark.parametrize(
    ("cell", "roles", "missing"),
    [
        (DEMO, ["play"], "--skills FOLDER, got none; pass the folder that supple extract wrote"),
        (DEMO, ["skills"], "--play FOLDER, got none; pass the folder that supple ingest wrote"),
        ("pearl-maze-skill", [], "--skills FOLDER, got none; pass the folder that supple extract wrote"),
    ],
)
def test_what_is_not_given_is_asked_for_before_anything_runs(
    given: Inputs, tmp_path: Path, cell: str, roles: Sequence[Any], missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    some: Any = {role: given[role] for role in roles}
    assert bench_meta(["demo-maml", cell, "--out", str(tmp_path / "out"), *options(some)]) == 2
    assert " ".join(capsys.readouterr().err.split()) == f"supple: benchmarks.meta {cell}: expected {missing}"
    assert not (tmp_path / "out").exists()


def test_skills_and_play_data_of_another_robot_are_refused(given: Inputs, tmp_path: Path) -> None:
    (tmp_path / "skills").mkdir()
    config = CELLS[DEMO].config
    asked = {OTHER: r"got data of robot 'other'; use data", None: "got data of a robot that nobody named; ingest"}
    for number, (robot, message) in enumerate(asked.items()):
        for role, write in (("skills", write_skills), ("play", write_play)):
            folder = tmp_path / f"{role}{number}"
            folder.mkdir(exist_ok=True)
            other: Inputs = {**given, role: write(folder / "in" if role == "play" else folder, robot)}
            with pytest.raises(SpecError, match=rf"{role}{number}.*: expected data of robot 'maze', {message}"):
                require_inputs(DEMO, config, other)
    with pytest.raises(RunError, match=r"nowhere/skill.json: expected a skill model, got No such file"):
        require_inputs(DEMO, config, {**given, "skills": tmp_path / "nowhere"})
    require_inputs("demo-maml", CELLS["demo-maml"].config, {})


def test_spaces_that_are_learned_from_data(given: Inputs) -> None:
    """Columns 0, 4, 8 and on have the means 4 .. 7 and the standard deviation sqrt(32 / 3)."""
    spec = ROBOT.spec()
    raw, skill = (make_space(name, spec, given["skills"]) for name in ("raw", "skill"))
    assert isinstance(raw, RawSpace)
    torch.testing.assert_close(raw.normalise(torch.tensor([4.0, 5.0, 6.0, 7.0])), torch.zeros(4))
    torch.testing.assert_close(raw.std, torch.full((4,), (32 / 3) ** 0.5))
    assert isinstance(skill, SkillSpace)
    assert (skill.horizon, skill.latent_dim) == (5, 3)
    assert isinstance(make_space("unit", spec), UnitSpace)
    with pytest.raises(RunError, match="raw actions: expected the folder of a skill model, got none"):
        make_space("raw", spec)
    names = {name: name_random(name) for name in ("choice", "unit", "raw", "skill")}
    assert names == {"choice": "random", "unit": "random", "raw": "random-raw", "skill": "random-skill"}


def test_the_first_policy_of_pearl_does_what_the_data_do_whatever_its_z_is(given: Inputs) -> None:
    config = PearlConfig(sac=SacConfig(hidden=(16,)), embedding_dim=2, tasks=2, rollouts=1, iterations=1, replay=500)
    cloning = CloneConfig(noise_dim=2, updates=400, learning_rate=0.01)
    choice = BcPearlSettings(config=config, cloning=cloning)
    robot = ROBOT.make(choice.rows(len(ROBOT.tasks().train)))
    space = make_space("raw", robot.spec, given["skills"])
    learner: Any = choice.make_learner(space, robot, goals_of(ROBOT.tasks().train), seed=0, device="cpu")
    critic = {name: value.clone() for name, value in learner.sac.critic.state_dict().items()}
    said = choice.start(learner, given["play"])
    assert said.startswith("cloned the play data: -")  # nats of a density: a narrow one is above 1
    assert said.endswith("per decision after 400 updates")
    z = 2.0 * torch.randn(50, 2, generator=torch.Generator().manual_seed(3))
    here = space.normalise(torch.rand(50, 4, generator=torch.Generator().manual_seed(4)) * 8.0 + 1.0)
    policy = learner.sac.policy_at(here, z)
    torch.testing.assert_close(policy.loc.detach(), torch.tensor(PUSH).expand(50, 2), atol=0.25, rtol=0.0)
    assert all(torch.equal(critic[name], value) for name, value in learner.sac.critic.state_dict().items())


@pytest.mark.parametrize("space_name", ["raw", "skill"])
def test_the_first_policy_of_maml_does_what_the_data_do(given: Inputs, space_name: Any) -> None:
    cloning = CloneConfig(updates=400, learning_rate=0.01)
    choice = BcMamlSettings(config=MamlConfig(hidden=(16,), tasks=2, episodes=1), cloning=cloning)
    robot = ROBOT.make(choice.rows(len(ROBOT.tasks().train)))
    space = make_space(space_name, robot.spec, given["skills"])
    learner: Any = choice.make_learner(space, robot, goals_of(ROBOT.tasks().train), seed=0, device="cpu")
    choice.start(learner, given["play"])
    observation = torch.rand(50, 4, generator=torch.Generator().manual_seed(4)) * 8.0 + 1.0
    params = {name.removeprefix("policy."): value.detach() for name, value in learner.meta.items() if "policy" in name}
    loc = learner.policy(params, space.normalise(observation)).loc
    if isinstance(space, SkillSpace):
        window = observation[:, None].expand(-1, 5, -1)
        skill = space.model.encode(window, torch.tensor(PUSH).expand(50, 5, 2)).loc
        prior = space.prior_of(observation)
        expected = ((skill - prior.loc) / prior.scale).mean(0)
        torch.testing.assert_close(loc.mean(0), expected, atol=0.2, rtol=0.0)
    else:
        torch.testing.assert_close(loc, torch.tensor(PUSH).expand(50, 2), atol=0.25, rtol=0.0)


def test_a_clone_has_to_read_the_z_that_the_learner_reads() -> None:
    with pytest.raises(ConfigError, match=r"BcPearlSettings.cloning: expected noise_dim = 7, got 5; the cloned policy"):
        BcPearlSettings(config=PearlConfig(embedding_dim=7))
    with pytest.raises(ConfigError, match=r"BcMamlSettings.cloning: expected noise_dim = 0, got 2; the cloned policy"):
        BcMamlSettings(cloning=CloneConfig(noise_dim=2))


def test_the_published_maze_has_the_published_tasks_and_every_goal_can_be_reached() -> None:
    published, tasks = Maze(), Maze().tasks()
    assert (published.name, tasks.name) == ("point-maze-20-seed0", "flat-40")
    assert (len(tasks.train), len(tasks.test)) == (40, 10)
    assert compute_oracle(published, goals_of(tasks.test)) == 1.0
    assert compute_oracle(replace(published, episode_steps=500), goals_of(tasks.test)) is None
    assert compute_oracle(ROBOT, goals_of(ROBOT.tasks().test)) is None


def test_every_cell_of_the_maze_can_be_made(tmp_path: Path) -> None:
    for name, cell in MAZE_CELLS.items():
        config = cell.config
        skills = write_skills(tmp_path, config.robot.spec())
        assert config.roles == (("skills", "play") if "bc-" in name else ("skills",))
        assert ("zarr" in make_train(config, 0).libraries) == ("bc-" in name)
        robot = config.robot.make(config.learner.rows(len(config.robot.tasks().train)))
        space = make_space(config.space, robot.spec, skills)
        learner = config.learner.make_learner(space, robot, goals_of(config.robot.tasks().train), seed=0, device="cpu")
        assert learner.space is space


def test_cells_that_read_nothing_have_nothing_more_in_their_keys() -> None:
    stage = make_train(CELLS["demo-maml"].config, 0, {"skills": Path("unused")})
    assert compute_plain(stage.config, "cell").keys() == {"robot", "space", "learner"}
    assert (stage.inputs, stage.libraries) == ({}, ("numpy", "torch", "safetensors"))
