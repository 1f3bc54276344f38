"""Stage `explore`: skills that play where the tasks are, and where they go."""

import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from supple.datasets.d4rl_writer import IMAGES
from supple.errors import ConfigError
from supple.meta.collect import Seen
from supple.meta.space import SkillSpace
from supple.meta.testing import PointBatch
from supple.pipeline.cli import main
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.keys import load_record
from supple.pipeline.progress import make_progress
from supple.pipeline.robots import RobotChoice
from supple.pipeline.settings.explore import ExploreConfig
from supple.pipeline.stage import Machine, Stage, Work
from supple.pipeline.stages.explore import Explorer, RecordedRobots, explore
from supple.robots.family import PlayChunk
from supple.robots.gymnasium_family import GymnasiumFamily
from supple.robots.spec import Axis
from supple.skills.checkpoint import save_skill_model
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

ROWS, STEPS, HORIZON = 3, 40, 5
SMALL = ("--robot.layout-size", "10", "--robot.layout-seed", "1", "--robot.episode-steps", "60")


def test_what_is_recorded_is_what_the_robot_saw_and_was_told() -> None:
    """Commands are those within the limits; of a row that ran longer there is more; a reset begins anew."""
    robot = RecordedRobots(PointBatch(2, episode_steps=5, noise=0.0))
    rng, goals = np.random.default_rng(0), np.full((2, 2), 99.0, np.float32)
    robot.reset(np.arange(2), goals, rng)
    robot.step(np.arange(2), np.full((2, 2), 9.0, np.float32))
    robot.reset(np.arange(2), goals, rng)
    robot.step(np.arange(2), np.array([[0.5, 0.0], [7.0, -7.0]], np.float32))
    robot.step(np.array([1]), np.array([[0.25, 0.0]], np.float32))
    short, long = robot.take_episodes(2)
    assert short.observation.tolist() == [[[0.0, 0.0]]]
    assert short.action.tolist() == [[[0.5, 0.0]]]
    assert long.observation.tolist() == [[[0.0, 0.0], [1.0, -1.0]]]
    assert long.action.tolist() == [[[1.0, -1.0], [0.25, 0.0]]]
    assert long.reward.shape == (1, 2)


@pytest.fixture
def explorer() -> Explorer:
    """It has seen one episode along x: a state for each metre, and so a place for each."""
    config = SkillConfig(
        skill_dim=2, skill_horizon=HORIZON, encoder_hidden=(8,), decoder_hidden=(8,), prior_hidden=(8,)
    )
    model = SkillModel(2, 2, config, PointBatch(1).spec)
    explorer = Explorer(SkillSpace(model), ExploreConfig(enabled=True, stay=2), seed=0)
    explorer.begin_episodes(ROWS)
    return explorer


def walk(steps: int) -> PlayChunk:
    """An episode that goes on by 1 m a step along x."""
    observation = np.stack([np.arange(steps), np.zeros(steps)], axis=1).astype(np.float32)
    action = np.tile(np.array([1.0, 0.0], np.float32), (steps, 1))
    return PlayChunk(observation[None], action[None], np.zeros((1, steps), np.float32), {})


def see(explorer: Explorer, place: float) -> Seen:
    seen = torch.tensor([[place, 0.0]]).repeat(ROWS, 1)
    return Seen(seen, explorer._space.prior_of(seen), np.arange(ROWS), torch.zeros(ROWS))


def test_without_a_map_skills_are_drawn_from_the_prior(explorer: Explorer) -> None:
    seen = see(explorer, 0.0)
    drawn = torch.stack([explorer.choose(seen) for _ in range(2000)])
    assert torch.allclose(drawn.mean(dim=0), seen.prior.loc, atol=0.15)
    assert torch.allclose(drawn.std(dim=0), seen.prior.scale, rtol=0.1)
    explorer.learn([walk(HORIZON)])  # shorter than a skill and the state behind it: nothing to learn
    explorer.learn([walk(HORIZON + 1)])  # one skill, which has no deviation
    assert explorer.places == 0


def test_the_way_to_a_place_is_by_logged_skills_and_then_the_prior_has_its_turn(
    explorer: Explorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Places 0, 5, .. 35 m along the walk; all rows aim at the last, and have `stay` skills there."""
    from supple.pipeline.stages import explore as stage

    monkeypatch.setattr(stage, "STATES_OF_A_PLACE", 1)
    explorer.learn([walk(STEPS)])
    assert explorer.places == STEPS // HORIZON - 1  # a place is where a skill began
    log = explorer._map
    assert log is not None
    explorer.begin_episodes(ROWS)
    logged = {skill.tobytes() for skill in log.skill}
    far = int(log.state[:, 0].argmax())
    explorer._weight = np.where(np.arange(log.places) == far, 1.0, 0.0)
    for place in (0.0, 5.0, 10.0, 15.0, 20.0, 25.0):
        chosen = explorer.choose(see(explorer, place)).numpy()
        assert {skill.tobytes() for skill in chosen} <= logged, place
        assert (explorer._target == far).all()
    for _ in range(2):  # there: the prior, so that no two rows choose the same
        chosen = explorer.choose(see(explorer, 30.0)).numpy()
        assert not {skill.tobytes() for skill in chosen} & logged
        assert len({skill.tobytes() for skill in chosen}) == ROWS


def test_the_map_is_made_anew_when_there_is_more_to_it(explorer: Explorer) -> None:
    """Two episodes more than 40 are a twentieth; one more is not."""
    explorer.learn([walk(STEPS)] * 40)
    first = explorer._map
    explorer.learn([walk(STEPS)])
    assert explorer._map is first
    explorer.learn([walk(STEPS)])
    assert explorer._map is not first


def test_who_does_not_arrive_gives_up(explorer: Explorer) -> None:
    """One skill away: twice one, and ten more, then the prior has its turn."""
    from supple.pipeline.stages.explore import LATE, PATIENCE

    explorer.learn([walk(STEPS)] * 30)
    explorer.begin_episodes(ROWS)
    seen = see(explorer, 0.0)
    log = explorer._map
    assert log is not None
    away = log.skills[log.locate(seen.observation.numpy())[0][0, 0]]
    next_place = int(np.flatnonzero(away == 1)[0])
    explorer._weight = np.where(np.arange(log.places) == next_place, 1.0, 0.0)
    returning = 0
    explorer.choose(seen)
    while explorer._returns[0]:
        returning += 1
        explorer.choose(seen)
    assert returning == LATE + PATIENCE + 1


def test_places_without_a_way_are_no_targets(explorer: Explorer) -> None:
    """Two walks that nothing joins: who is on one aims at its own places, which lie further on."""
    other = walk(STEPS)
    other = other._replace(observation=other.observation + np.array([0.0, 500.0], np.float32))
    explorer.learn([walk(STEPS)] * 10 + [other] * 10)
    log = explorer._map
    assert log is not None
    elsewhere = log.state[:, 1] > log.state[:, 1].mean()
    for _ in range(50):
        explorer.begin_episodes(ROWS)
        explorer.choose(see(explorer, 0.0))
        assert explorer._returns.all()
        assert not elsewhere[explorer._target].any()


def test_places_that_were_seldom_visited_are_drawn_more_often(explorer: Explorer) -> None:
    """In proportion to 1 / sqrt(visits + 1): near the start all 40 walks were, far off one."""
    explorer.learn([*[walk(HORIZON * 3)] * 39, walk(STEPS)])
    log = explorer._map
    assert log is not None
    near, far = log.state[:, 0].argmin(), log.state[:, 0].argmax()
    assert explorer._weight[far] > 2.0 * explorer._weight[near]


def test_the_same_seed_explores_the_same_and_the_file_is_play_data_without_pictures(
    tiny_run: Path, tmp_path: Path
) -> None:
    import h5py

    words = ["explore", str(tiny_run), "--robot", "maze", *SMALL, "--episodes", "5", "--rows", "2"]
    for name, seed in (("one", "3"), ("two", "3"), ("other", "4")):
        assert main([*words, "--seed", seed, "--out", str(tmp_path / name)]) == 0
    one, two, other = (load_record(tmp_path / name) for name in ("one", "two", "other"))
    assert one["outputs"] == two["outputs"] != other["outputs"]
    with h5py.File(tmp_path / "one" / "play.hdf5") as file:
        assert file["observations"].shape == (5 * 60, 4)
        assert np.flatnonzero(file["timeouts"][:]).tolist() == [59, 119, 179, 239, 299]
        assert np.abs(file["actions"][:]).max() <= 1.0
        assert IMAGES not in file
        assert file["metadata/origin"][()].decode() == "skills that explored by themselves"
    assert main(["ingest", str(tmp_path / "one"), "--robot", "maze", *SMALL, "--out", str(tmp_path / "store")]) == 0
    maps = ["map-logs", str(tmp_path / "store"), str(tiny_run), "--robot", "maze", *SMALL, "--places", "20"]
    assert main([*maps, "--out", str(tmp_path / "map")]) == 0
    assert json.loads((tmp_path / "map" / "map.json").read_text())["states"] == 5 * 60 // 10


class Edge(gymnasium.Env[Any, Any]):
    """A point that moves by its action, and is lost 3 m from where it began."""

    observation_space, action_space = Box(-9.0, 9.0, (1,), np.float32), Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, place: float) -> None:
        self.place = place

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.x = 0.0
        return np.array([self.x], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += float(action[0])
        return np.array([self.x], np.float32), 0.0, abs(self.x) > 3.0, False, {"success": False}


def test_an_episode_that_ends_for_good_is_recorded_to_its_end(tmp_path: Path) -> None:
    """An environment cannot be stepped behind its end."""
    import h5py

    goal = (Axis("place", "m", -9.0, 9.0),)
    family = GymnasiumFamily(name="edge", environment=Edge, goal=goal, success="info", episode_steps=60)
    config = SkillConfig(skill_dim=2, skill_horizon=5, encoder_hidden=(8,), decoder_hidden=(8,), prior_hidden=(8,))
    model = SkillModel(1, 1, config, family.spec())
    model.action_scale.scale.fill_(3.0)
    (tmp_path / "skills").mkdir()
    save_skill_model(tmp_path / "skills", model)
    (tmp_path / "out").mkdir()
    stage = Stage(
        name="explore",
        folder=tmp_path / "out",
        config={},
        inputs={"skills": tmp_path / "skills"},
        seed=0,
        module="x",
        libraries=(),
        body=print,
    )
    work = Work(stage, Machine(), tmp_path / "out", make_progress("json"), StopRequest())
    goals = np.zeros((1, 1), np.float32)
    explore(ExploreConfig(episodes=5, rows=3), RobotChoice("edge", family), goals, work)
    work.close()
    with h5py.File(tmp_path / "out" / "play.hdf5") as file:
        ends = np.flatnonzero(file["timeouts"][:])
        steps = np.diff(ends, prepend=-1)
        observation, action = file["observations"][:, 0], file["actions"][:, 0]
    assert len(ends) == 5
    assert steps.max() <= 60
    lost = np.abs(observation[ends] + action[ends]) > 3.0
    assert lost.any()
    assert (lost == (steps < 60)).all()


def test_a_real_robot_and_a_run_that_would_not_take_it_along_are_refused(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from supple.pipeline.learners import find_learner
    from supple.pipeline.settings.meta_train import MetaTrainConfig
    from supple.pipeline.stages.explore import make_explore
    from supple.pipeline.stages.meta_train import make_meta_train
    from supple.robots.family import OneRow
    from supple.robots.maze_family import Maze

    class Real(Maze, OneRow):
        """A maze that somebody built."""

    family = Real()
    with pytest.raises(ConfigError, match="expected a simulated robot, got 'real'; record its own logs"):
        make_explore(tiny_run / "extract", ExploreConfig(), RobotChoice("real", family), family.tasks(), 0)
    with pytest.raises(ConfigError, match="expected a simulated robot, got 'real'; train on a simulator of it"):
        make_meta_train(
            *(None, MetaTrainConfig(action_space="unit"), find_learner("rl2"), RobotChoice("real", family)),
            *(family.tasks(), 0),
        )
    run = ["run", "maze", "--explore.enabled", "--map.no-enabled", "--out", str(tmp_path / "run")]
    assert main(run) == 2
    assert "--explore.enabled: expected --map.enabled with it" in capsys.readouterr().err
    assert not (tmp_path / "run" / "generate").exists()
