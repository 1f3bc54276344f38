"""Stage `map-logs`: from a run's logs to a bundle that takes them along, and to an agent that is guided by them."""

import io
import json
import re
import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from supple.adapt import log_map
from supple.adapt.bundle import load_bundle
from supple.adapt.bundle_folder import LOGS, MANIFEST
from supple.adapt.host.hosts import make_hosted
from supple.adapt.log_agent import Guide, LogAgent
from supple.adapt.log_paths import PathGuide
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.datasets.store import open_store
from supple.errors import BundleError, SpecError, SuppleError, UntoldReward
from supple.meta.testing import PointBatch
from supple.pipeline.cli import main
from supple.pipeline.interrupt import StopRequest
from supple.pipeline.log_events import find_moments
from supple.pipeline.progress import PlainProgress
from supple.pipeline.run_files import STORE_NAME
from supple.pipeline.stage import Machine, Stage, Work
from supple.pipeline.stages.map_logs import (
    ask_along,
    ask_at,
    ask_events,
    draw_episodes,
    explain_untold,
    is_paid_by_state,
    look_for_other_logs,
    require_skills,
)
from supple.pipeline.verbs.look import describe
from supple.robots.maze_family import Maze
from supple.robots.robot import PaysAlongPath, WrappedRobots
from supple.robots.task import Task
from supple.skills.checkpoint import load_skill_model

SMALL = (
    *("--robot.layout-size", "8", "--robot.episode-steps", "120", "--robot.num-train-tasks", "3"),
    *("--robot.num-test-tasks", "2", "--generate.steps", "6000", "--generate.rows", "6"),
    *("--extract.skill.num-updates", "60", "--learner.config.hidden", "16", "16", "--learner.config.epochs", "1"),
    *("--learner.config.updates-per-epoch", "1", "--learner.config.batch", "16", "--learner.config.prior-tasks", "1"),
    *("--learner.config.posterior-tasks", "2", "--learner.deployment.exploration-episodes", "2"),
    *("--map.places", "120", "--adapt.episodes", "3", "--adapt.evaluations", "1", "--adapt.evaluate-at", "2"),
    *("--no-report",),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run of the demo's chain."""
    folder = tmp_path_factory.mktemp("map") / "run"
    assert main(["run", "demo", *SMALL, "--out", str(folder)]) == 0
    return folder


def test_the_bundle_has_the_logs_with_their_digest_and_size(run: Path) -> None:
    """As many states as the store has skills, and one more for each episode."""
    path = run / "export" / "bundle"
    bundle = load_bundle(path)
    horizon = load_skill_model(run / "extract").config.skill_horizon
    length = open_store(run / "ingest" / STORE_NAME).episodes.length
    assert len(bundle.logs["state"]) == int(((length - 1) // horizon + 1).sum())
    assert LOGS in (path / MANIFEST).read_text()
    size = (path / LOGS).stat().st_size
    assert f"{size / 1e6:.1f} MB" in (path / "README.md").read_text()
    report = json.loads((run / "map-logs" / "map.json").read_text())
    assert report["bytes"] == size
    assert report["places"] == len(bundle.logs["place"]) <= 120
    assert describe(path)["logs"] == f"{report['states']} states, by places"


def test_where_logs_are_thin_the_map_leans_on_the_axes_of_the_rewards(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If any log counted as thin, offsets of the place would stay as far apart, and those of the speed a tenth."""
    monkeypatch.setattr(log_map, "THIN", 0.0)
    robot = (*SMALL[:2], "--robot.layout-seed", "1", *SMALL[2:8])
    words = ["map-logs", str(run / "ingest"), str(run / "extract"), *robot, "--places", "120"]
    assert main([*words, "--out", str(tmp_path / "thin")]) == 0
    thin, whole = load_file(tmp_path / "thin" / LOGS), load_file(run / "map-logs" / LOGS)
    place = np.linalg.qr(whole["reward.axes"].T)[0].T
    assert len(place) < whole["metric"].shape[1]
    across = np.linalg.svd(place)[2][len(place) :]
    assert np.allclose(thin["metric"] @ place.T, whole["metric"] @ place.T, rtol=1e-3, atol=1e-3)
    assert np.allclose(thin["metric"] @ across.T, 0.1 * whole["metric"] @ across.T, rtol=1e-3, atol=1e-3)


def test_how_much_directions_without_reward_count_can_be_said(run: Path, tmp_path: Path) -> None:
    """Three tenths, though these logs are not thin."""
    robot = (*SMALL[:2], "--robot.layout-seed", "1", *SMALL[2:8])
    words = ["map-logs", str(run / "ingest"), str(run / "extract"), *robot, "--places", "120", "--lean", "0.3"]
    assert main([*words, "--out", str(tmp_path / "leant")]) == 0
    leant, whole = load_file(tmp_path / "leant" / LOGS), load_file(run / "map-logs" / LOGS)
    place = np.linalg.qr(whole["reward.axes"].T)[0].T
    across = np.linalg.svd(place)[2][len(place) :]
    assert np.allclose(leant["metric"] @ place.T, whole["metric"] @ place.T, rtol=1e-3, atol=1e-3)
    assert np.allclose(leant["metric"] @ across.T, 0.3 * whole["metric"] @ across.T, rtol=1e-3, atol=1e-3)


def test_states_of_the_bundle_are_those_of_the_store(run: Path) -> None:
    """On the scale of the networks, to half precision."""
    bundle, store = load_bundle(run / "export" / "bundle"), open_store(run / "ingest" / STORE_NAME)
    first = store.load("observation")[store.episodes.start]
    scaled = (first - bundle.weights["space.mean"]) / bundle.weights["space.std"]
    assert bundle.logs["state"][bundle.logs["start"]] == pytest.approx(scaled, abs=4e-3)


def test_the_agent_of_the_run_knows_the_logs_and_a_switch_leaves_them_out(run: Path, tmp_path: Path) -> None:
    """What it believes is in its state."""
    from supple.skills.checkpoint import load_checkpoint

    tensors, _ = load_checkpoint(run / "adapt" / "adapted.safetensors")
    assert tensors["log.belief"].shape == (2, len(load_bundle(run / "export" / "bundle").logs["place"]))
    out = tmp_path / "off"
    few = ["--episodes", "2", "--evaluations", "0", "--logs", "off"]
    assert main(["adapt", str(run), *few, "--out", str(out)]) == 0
    tensors, _ = load_checkpoint(out / "adapted.safetensors")
    assert not any(name.startswith("log.") for name in tensors)


def test_an_adaptation_by_logs_goes_on_from_its_state(run: Path) -> None:
    """Two episodes, and a third by another agent that took over the state: the third of the one that went on."""
    bundle = load_bundle(run / "export" / "bundle")
    family, tasks = (
        Maze(layout_size=8, layout_seed=1, episode_steps=120),
        [Task("a", (2.0, 2.0)), Task("b", (5.0, 6.0))],
    )

    def make() -> Adapter:
        rng = np.random.default_rng(0)
        guide = bundle.make_guide()
        assert guide is not None
        agent = LogAgent(make_hosted(bundle, RandomNoise(rng)), guide)
        return Adapter(agent, family.make(2), tasks, bundle.contract.budget, 3, rng)

    whole, first, second = make(), make(), make()
    wanted = [whole.round() for _ in range(3)]
    found = [first.round() for _ in range(2)]
    arrays, facts = first.state()
    second.load_state(arrays, facts)
    assert [*found, second.round()] == wanted
    for name, value in whole.state()[0].items():
        assert np.array_equal(value, second.state()[0][name]), name


def test_damaged_logs_are_refused(run: Path, tmp_path: Path) -> None:
    """By the digest, before anything is read of them."""
    path = tmp_path / "bundle"
    shutil.copytree(run / "export" / "bundle", path)
    content = bytearray((path / LOGS).read_bytes())
    content[-1] ^= 1
    (path / LOGS).write_bytes(bytes(content))
    with pytest.raises(BundleError, match=rf"{LOGS}: expected the sha256"):
        load_bundle(path)
    (path / LOGS).unlink()
    with pytest.raises(BundleError, match="damaged"):
        load_bundle(path)


def test_logs_of_another_robot_are_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The spec of the robot is that of the store, or nothing is mapped."""
    given = ["map-logs", str(run / "ingest"), str(run / "extract"), "--out", str(tmp_path / "out")]
    assert main([*given, "--robot", "arms"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    few = ["--robot.num-train-tasks", "3", "--robot.num-test-tasks", "2", "--places", "50"]
    size = ["--robot.layout-size", "8", "--robot.layout-seed", "1", "--robot.episode-steps", "120"]
    assert main([*given, "--robot", "maze", *size, *few]) == 0
    assert main(["export", str(run), "--logs", str(tmp_path / "nothing"), "--out", str(tmp_path / "e")]) == 2
    assert "expected a folder of map-logs" in capsys.readouterr().err


def test_of_long_logs_whole_episodes_are_drawn(run: Path) -> None:
    """As many as fit, at least one, the same with the same seed."""
    store = open_store(run / "ingest" / STORE_NAME)
    states = (store.episodes.length - 1) // 10 + 1
    drawn = draw_episodes(store.episodes.length, int(states.sum()) // 2, 10, seed=0)
    assert 0 < states[drawn].sum() <= states.sum() // 2
    assert (np.diff(drawn) > 0).all()
    assert len(draw_episodes(store.episodes.length, 1, 10, seed=0)) == 1
    assert len(draw_episodes(store.episodes.length, int(states.sum()), 10, seed=0)) == len(states)


@pytest.mark.parametrize(("length", "skills"), [([10, 7], 0), ([11, 10], 1), ([11, 11], None), ([21], None)])
def test_logs_of_fewer_than_two_skills_are_refused_by_the_name_of_their_store(
    length: list[int], skills: int | None
) -> None:
    """A skill of 10 steps needs the state behind it."""
    if skills is None:
        require_skills(Path("my/store"), np.array(length), 10)
        return
    with pytest.raises(SpecError, match=rf"^my/store: expected .* skills of 10 steps.* got {skills} in 2 episodes"):
        require_skills(Path("my/store"), np.array(length), 10)


def test_short_logs_and_a_full_disk_are_named(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = (*SMALL[:2], "--robot.layout-seed", "1", *SMALL[2:8])
    words = ["map-logs", str(run / "ingest"), str(run / "extract"), *robot, "--places", "120"]
    with monkeypatch.context() as patched:
        patched.setattr("supple.pipeline.stages.map_logs.draw_episodes", lambda *_: np.zeros(0, np.int64))
        assert main([*words, "--out", str(tmp_path / "short")]) == 2
    assert f"{run / 'ingest'}: expected logs of at least two skills" in capsys.readouterr().err
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, before[1]))
    try:
        assert main([*words, "--out", str(tmp_path / "full")]) == 2
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"{tmp_path / 'full.partial' / LOGS}: expected room to write" in capsys.readouterr().err


def test_old_bundles_have_no_guide(run: Path, tmp_path: Path) -> None:
    """A bundle without logs loads and acts as before."""
    assert main(["export", str(run / "meta-train"), "--out", str(tmp_path / "plain")]) == 0
    bundle = load_bundle(tmp_path / "plain" / "bundle")
    assert not bundle.logs
    assert bundle.make_guide() is None
    assert isinstance(load_bundle(run / "export" / "bundle").make_guide(), Guide)
    with pytest.raises(SuppleError):
        Guide(bundle.logs)


def test_logs_lead_an_agent_over_actions_by_the_decoder_that_they_bring(run: Path, tmp_path: Path) -> None:
    """Without it the bundle would not load; its commands are those of the skill model."""
    import torch

    given = ["run", "demo", *SMALL[:8], "--map.places", "120", "--no-report", "--reuse", str(run)]
    given += ["--extract.skill.num-updates", "60", "--learner", "sac", "--learner.iterations", "1"]
    given += ["--learner.tasks", "1", "--learner.config.updates", "1", "--meta-train.action-space", "raw"]
    given += ["--generate.steps", "6000", "--generate.rows", "6"]
    given += ["--adapt.episodes", "2", "--adapt.evaluations", "0", "--out", str(tmp_path / "raw")]
    assert main(given) == 0
    bundle = load_bundle(tmp_path / "raw" / "export" / "bundle")
    guide = bundle.make_guide()
    assert guide is not None
    assert guide.skills is not None
    model = load_skill_model(run / "extract")
    observation = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32) + 4.0
    latent = np.random.default_rng(1).standard_normal((5, model.config.skill_dim)).astype(np.float32)
    with torch.no_grad():
        wanted = model.make_robot_decoder()(
            torch.cat([model.normaliser(torch.from_numpy(observation)), torch.from_numpy(latent)], dim=1)
        ).clamp(-1.0, 1.0)
    assert guide.skills.hold(latent)(observation) == pytest.approx(wanted.numpy(), abs=1e-5)


def test_where_skills_pass_over_what_is_rewarded_states_within_them_come_along(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As if every skill of the maze were too long: ten states for each, and a guide by paths."""
    monkeypatch.setattr("supple.pipeline.stages.map_logs.LONGEST_STRIDE", 0.0)
    given = ["map-logs", str(run / "ingest"), str(run / "extract"), "--out", str(tmp_path / "map"), "--robot", "maze"]
    size = ["--robot.layout-size", "8", "--robot.layout-seed", "1", "--robot.episode-steps", "120"]
    few = ["--robot.num-train-tasks", "3", "--robot.num-test-tasks", "2", "--places", "50"]
    assert main([*given, *size, *few]) == 0
    assert "the states that it passes come along" in capsys.readouterr().err
    report = json.loads((tmp_path / "map" / "map.json").read_text())
    assert report["states_of_skill"] == 10
    assert report["states"] == int(open_store(run / "ingest" / STORE_NAME).episodes.length.sum())
    assert main(["export", str(run), "--logs", str(tmp_path / "map"), "--out", str(tmp_path / "paths")]) == 0
    bundle = load_bundle(tmp_path / "paths" / "bundle")
    assert isinstance(bundle.make_guide(), PathGuide)
    assert not any(name.startswith("skills.") for name in bundle.logs)
    out = tmp_path / "adapted"
    assert main(["adapt", str(tmp_path / "paths"), "--episodes", "2", "--evaluations", "1", "--out", str(out)]) == 0


def test_a_task_pays_along_a_log_until_it_ends_and_once_where_it_ends() -> None:
    robot, goals = PointBatch(1), np.array([[4.0, 0.0], [-4.0, 0.0]], np.float32)
    path = np.stack([np.arange(8.0), np.zeros(8)], axis=1).astype(np.float32)
    # 3 is within 1 of the goal 4, and so are 4 and 5, but there is no task any more
    assert ask_along(robot, path, goals).T.tolist() == [[0, 0, 0, 1, 0, 0, 0, 0], [0] * 8]
    assert ask_at(robot, path, goals).T.tolist() == [[0, 0, 0, 1, 1, 1, 0, 0], [0] * 8]


class Lingers(PointBatch):
    """A goal pays in each step within 1 m of it, and does not end the task."""

    def compute_reward(self, observation: Any, goals: Any) -> Any:
        reward, reached = super().compute_reward(observation, goals)
        return reward, np.zeros_like(reached)


class Visits(Lingers, PaysAlongPath):
    """Pays once for each time that it comes near, which no state tells."""

    def compute_path_reward(self, path: Any, goals: Any) -> Any:
        near = self.compute_reward(path, goals)[0]
        return np.maximum(np.diff(near, axis=1, prepend=np.float32(0.0)), 0.0), np.zeros(near.shape, np.bool_)


class Silent(Visits):
    """... and states tell nothing at all."""

    def compute_reward(self, observation: Any, goals: Any) -> Any:
        raise UntoldReward("compute_reward: expected a robot whose observation tells its reward, got another")

    def compute_path_reward(self, path: Any, goals: Any) -> Any:
        return Visits.compute_path_reward(Visits(1), path, goals)


def test_logs_without_events_are_said_to_need_more() -> None:
    assert "too few events along the logs (bring more" in explain_untold(Visits(1), tells=False)  # type: ignore[arg-type]
    assert explain_untold(Lingers(1), tells=False) == "the robot tells no reward of a state"  # type: ignore[arg-type]
    assert "no train task rewards enough" in explain_untold(Visits(1), tells=True)  # type: ignore[arg-type]


def test_a_place_that_logs_pass_fast_is_no_event() -> None:
    """Each episode passes the place in one step, and comes back: to its rewards alone it is two events."""
    goals = np.array([[4.0, 0.0]], np.float32)
    path = np.stack([np.array([0.0, 2.0, 4.0, 6.0, 8.0, 6.0, 4.0, 2.0]), np.zeros(8)], axis=1).astype(np.float32)
    assert find_moments([ask_along(Lingers(1), path, goals)] * 3) is not None
    assert ask_events(Lingers(1), [path] * 3, goals, lambda: None) is None
    assert ask_events(WrappedRobots(Lingers(1)), [path] * 3, goals, lambda: None) is None
    still = np.repeat(path, 2, axis=0)  # in two steps, of which one alone is paid
    for robot in (Visits(1), Silent(1), WrappedRobots(Silent(1))):
        rewards = ask_events(robot, [path, still], goals, lambda: None)
        assert rewards is not None
        assert [int(one.sum()) for one in rewards] == [2, 2]


def test_a_task_that_ends_where_it_pays_is_paid_by_states() -> None:
    """What a state would pay behind the end is not asked."""
    robot, goals = PointBatch(1), np.array([[4.0, 0.0]], np.float32)
    path = np.stack([np.arange(8.0), np.zeros(8)], axis=1).astype(np.float32)
    assert is_paid_by_state(robot, path, ask_along(robot, path, goals), goals)
    assert not is_paid_by_state(robot, path, 2.0 * ask_along(robot, path, goals), goals)


def test_where_states_do_not_tell_rewards_nothing_is_paid_for_them() -> None:
    class Refuses(PointBatch):
        def compute_reward(self, observation: Any, goals: Any) -> Any:
            raise UntoldReward("compute_reward: expected a robot whose observation tells its reward, got another")

    path = np.zeros((5, 2), np.float32)
    assert ask_at(Refuses(1), path, np.zeros((3, 2), np.float32)).tolist() == [[0.0] * 3] * 5
    assert ask_along(Refuses(1), path, np.zeros((3, 2), np.float32)).tolist() == [[0.0] * 3] * 5


@pytest.mark.parametrize(("wrong", "got"), [(np.nan, "finite.*nan"), (np.inf, "finite.*inf"), (None, "shape")])
def test_rewards_that_are_no_rewards_are_refused_and_not_taken_for_none(wrong: float | None, got: str) -> None:
    """A map without the shape of rewards would be made in silence."""

    class Errs(PointBatch):
        def compute_reward(self, observation: Any, goals: Any) -> Any:
            reward, terminated = super().compute_reward(observation, goals)
            return (reward[..., 0], terminated) if wrong is None else (reward + wrong, terminated)

    path, goals = np.zeros((5, 2), np.float32), np.zeros((3, 2), np.float32)
    for ask in (ask_at, ask_along):
        with pytest.raises(SpecError, match=f"point compute_reward: expected .*{got}"):
            ask(Errs(1), path, goals)


@pytest.mark.parametrize(("far", "said"), [(9.0, ""), (11.0, "75% of the logged states .* most of all in 'y'")])
def test_logs_of_another_unit_are_told(far: float, said: str, tmp_path: Path) -> None:
    """Three of four states lie so many standard deviations away; what float16 has no number for is refused."""
    said_all: list[str] = []
    stage = Stage(name="map-logs", config={}, inputs={"store": tmp_path}, seed=0, module="x", libraries=(), body=print)
    work = Work(stage, Machine(), tmp_path, PlainProgress(io.StringIO(), io.StringIO(), 1e9), StopRequest())
    work.view.note = said_all.append  # type: ignore[method-assign]
    scaled = np.array([[0.0, 0.0], [0.0, far], [0.0, -far], [1.0, far]], np.float32)
    look_for_other_logs(scaled, ("x", "y"), work)
    assert re.search(said, "".join(said_all)) if said else not said_all
    with pytest.raises(SpecError, match=r"expected logs like those .* got 'x' 1e.05 standard deviations"):
        look_for_other_logs(scaled + np.float32([1e5, 0.0]), ("x", "y"), work)
