"""`supple run image-maze`, tiny: from pictures in play data to adapted policies that need a camera."""

import dataclasses
import json
import subprocess
import sys
import threading
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.acting_path import make_acting_path
from supple.adapt.bundle import Bundle, load_bundle, make_bundle, require_robot
from supple.adapt.bundle_folder import find_bundle
from supple.adapt.eye import SeeingRobots, Sight, open_eyes
from supple.adapt.log_agent import require_guide
from supple.adapt.loop import Adapter
from supple.adapt.remote.client import PolicyClient, PolicyError
from supple.adapt.remote.server import PolicyServer, serve_policy
from supple.adapt.runtime_agent import RandomNoise, SeenRows
from supple.adapt.session import AgentSession, make_middle
from supple.adapt.takeover import find_latent
from supple.adapt.watch import CommandTap, Operator, Watch, find_watch
from supple.datasets import open_store
from supple.datasets.store import find_store
from supple.errors import BundleError, SpecError
from supple.pipeline.cli import main
from supple.pipeline.deploy.cpp_path import compile_program, find_compiler
from supple.pipeline.deploy.graph_file import make_graph_file
from supple.pipeline.keys import PACKAGE_ROOT
from supple.pipeline.replay.logs import see_store
from supple.pipeline.report.plane import find_plane
from supple.pipeline.report.run_folder import load_run
from supple.pipeline.report.scenes import draw_play
from supple.pipeline.stages import map_logs, serve
from supple.pipeline.summary import load_success
from supple.pipeline.testing_kills import TINY
from supple.robots.family import make_robots
from supple.robots.image_maze import ImageMaze
from supple.robots.maze_picture import MazeCamera
from supple.robots.spec import RobotSpec
from supple.skills.checkpoint import load_checkpoint

LEARNING = TINY[TINY.index("--extract.skill.num-updates") :]
ROBOT = {
    "layout-size": 10,
    "layout-seed": 1,
    "play-size": 8,
    "episode-steps": 40,
    "num-train-tasks": 3,
    "num-test-tasks": 2,
    "planner.episode-steps": 100,
}
OPTIONS = tuple(word for name, value in ROBOT.items() for word in (f"--robot.{name}", str(value)))
FAMILY = ImageMaze(layout_size=10, layout_seed=1, play_size=8, episode_steps=40, num_train_tasks=3, num_test_tasks=2)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("images") / "run"
    small = ("--generate.steps", "700", "--extract.skill.image-channels", "4", "4")
    small = (*small, "--explore.episodes", "6", "--explore.rows", "2")
    small = (*small, "--ingest.only", "images", "infos/qpos")  # which play data have, and what is explored has not
    assert main(["run", "image-maze", "--out", str(out), "--no-report", *OPTIONS, *small, *LEARNING]) == 0
    return out


def test_pictures_go_through_all_stages(run: Path) -> None:
    store = open_store(run / "ingest")
    assert store.schema.feature("image").role == "image"
    assert store.load("image").shape == (700, 32, 32, 1)
    facts = json.loads((run / "extract" / "skill.json").read_text())
    assert facts["robot"]["image"] == {"height": 32, "width": 32, "channels": 1}
    assert not (run / "extract" / "pictures").exists()  # the memory map is gone
    bundle = load_bundle(find_bundle(run / "export"))
    assert bundle.eye is not None
    assert bundle.contract.observation_dim == 4 + 32
    assert bundle.contract.to_json()["schema_version"] == 3
    assert (
        "It needs a camera: pictures of 32 x 32 pixels x 1 channels"
        in (find_bundle(run / "export") / "README.md").read_text()
    )
    assert load_success(run / "adapt")
    (policy,) = {
        load_bundle(folder).contract.kind for folder in (run / "adapt" / "policies").iterdir() if folder.is_dir()
    }
    assert policy == "policy"
    own = load_bundle(run / "adapt" / "policies" / "0")
    assert own.eye is not None
    np.testing.assert_array_equal(own.golden["eye.feature"], bundle.golden["eye.feature"])


def test_what_was_explored_comes_along_and_leads_without_pictures(run: Path) -> None:
    """The store of it has none, and the map has the robot's own axes; the agent of the bundle sees all."""
    store = open_store(run / "ingest-explored")
    assert [feature.name for feature in store.schema.features] == ["observation", "action", "reward"]
    assert store.provenance["origin"] == "skills that explored by themselves"
    assert store.rows == 6 * 40
    bundle = load_bundle(find_bundle(run / "export"))
    assert bundle.logs["state"].shape == (6 * 4, 4)
    assert bundle.logs["reward.axes"].shape[1] == bundle.contract.state_dim == 4
    first = (store.load("observation")[0] - bundle.weights["space.mean"][:4]) / bundle.weights["space.std"][:4]
    np.testing.assert_allclose(bundle.logs["state"][0], first, atol=4e-3)
    tensors, _ = load_checkpoint(run / "adapt" / "adapted.safetensors")
    assert tensors["log.belief"].shape == (2, len(bundle.logs["place"]))


def test_the_report_draws_what_was_explored_and_no_data_of_other_mazes(run: Path) -> None:
    plane = find_plane(FAMILY)
    (plot,) = draw_play(load_run(run), plane, elsewhere=True)
    assert plot.caption == "6 of 6 episodes in which the skills explored the place of the tasks"
    data, explored = draw_play(load_run(run), plane, elsewhere=False)
    assert data.caption == "The first 7 episodes of the data"
    assert explored.svg == plot.svg


def test_a_map_of_features_is_refused(run: Path) -> None:
    """It has as many axes as the policy sees."""
    bundle = load_bundle(find_bundle(run / "export"))
    wide = {**bundle.logs, "state": np.zeros((24, 36), np.float16), "metric": np.eye(36, dtype=np.float32)}
    wide["place"] = np.zeros((len(bundle.logs["place"]), 36), np.float32)
    with pytest.raises(BundleError, match="expected 'state' of width 4, got 36"):
        require_guide(wide, bundle.contract, "logs")


def test_a_bundle_that_needs_pictures_refuses_a_robot_without(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = load_bundle(find_bundle(run / "export"))
    require_robot(bundle.contract, FAMILY.spec())
    with pytest.raises(BundleError, match="expected one with a camera, got one without"):
        require_robot(bundle.contract, dataclasses.replace(FAMILY, images=False).spec())
    blind = (*OPTIONS, "--robot", "image-maze", "--robot.no-images", "--accept-robot-change", "--num-tasks", "1")
    out = run.parent / "blind"
    assert main(["adapt", str(run / "export"), "--out", str(out), "--episodes", "1", *blind]) == 2
    assert "expected one with a camera, got one without" in capsys.readouterr().err


Seen = tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]


def take_walk(bundle: Bundle, steps: int) -> tuple[list[Seen], list[np.ndarray[Any, Any]]]:
    """What a robot measured and showed on its way, and what the policy would have it do there by its means."""
    assert bundle.eye is not None
    inner = make_robots(FAMILY, 1)
    robots = SeeingRobots(inner, bundle.eye.settings, bundle.eye.weights)
    noise = RandomNoise(np.random.default_rng(0))
    noise.quiet = True
    agent, row = bundle.make_agent(noise), np.arange(1)
    agent.begin_task(1)
    agent.begin_episode()
    seen = robots.reset(row, np.ones((1, 2), np.float32), np.random.default_rng(0))
    shown, commands = [], []
    for step in range(steps):
        shown.append((seen[0, :4].copy(), robots.take_images(row)[0].copy()))
        if step % agent.space.horizon == 0:
            control = agent.space.hold(agent.act(SeenRows(seen, row, np.zeros(1, np.float32))))
        commands.append(control(seen)[0])
        seen = robots.step(row, np.full((1, 2), 0.9, np.float32)).observation  # so that it sees something
    return shown, commands


def test_a_session_sees_what_the_robots_of_training_see(run: Path) -> None:
    bundle = load_bundle(run / "adapt" / "policies" / "0")
    shown, commands = take_walk(bundle, 35)
    assert max(np.abs(first[1].astype(int) - last[1]).max() for first, last in pairwise(shown)) > 50
    session = AgentSession(bundle, greedy=True)
    assert session.measured.names == ("x", "y", "vx", "vy")
    assert session.image == FAMILY.spec().image
    for _ in range(2):  # pictures of the episode before are forgotten
        session.reset()
        told = []
        for measured, picture in shown:
            told.append(session.act(measured, picture))
            session.observe(0.0)
        assert session.end_episode(*shown[-1], terminated=False)["steps"] == 35
        np.testing.assert_allclose(told, commands, atol=1e-5)
    session.reset()
    dark = [session.act(measured, session.image.make_dark()) for measured, _ in shown]
    assert np.abs(np.array(dark) - commands).max() > 1e-2  # it does look


def test_a_session_wants_the_pictures_of_the_contract(run: Path) -> None:
    bundle = load_bundle(find_bundle(run / "export"))
    session = AgentSession(bundle)
    session.reset(task=True)
    measured = make_middle(session.measured)
    with pytest.raises(SpecError, match=r"expected the newest picture beside the observation, uint8 of shape \(32, 32"):
        session.act(measured)
    with pytest.raises(SpecError, match=r"expected pictures as uint8 of shape \(1, 32, 32, 1\), got float64"):
        session.act(measured, np.zeros((32, 32, 1)))  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="expected observation with 4 axes"):
        session.act(np.zeros(36), np.zeros((32, 32, 1), np.uint8))
    session.act(measured, np.zeros((32, 32, 1), np.uint8))  # the episode goes on
    session.observe(0.0)
    with pytest.raises(SpecError, match="end_episode: expected the newest picture"):
        session.end_episode(measured, terminated=False)
    assert session.end_episode(measured, np.zeros((32, 32, 1), np.uint8), terminated=False)["learned"]


def test_pictures_go_over_the_socket(run: Path) -> None:
    bundle = load_bundle(run / "adapt" / "policies" / "0")
    shown, commands = take_walk(bundle, 12)
    policy = PolicyServer(AgentSession(bundle, greedy=True), {})
    token = "a-token-of-a-test-that-sees"
    server = serve_policy(policy, "127.0.0.1", 0, token)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        port = server.socket.getsockname()[1]
        with PolicyClient(f"ws://127.0.0.1:{port}", token, timeout=10.0) as client:
            client.reset(task=True)
            told = []
            for measured, picture in shown:
                told.append(client.act(measured.tolist(), picture)["action"])
                client.observe(0.0)
            np.testing.assert_allclose(told, commands, atol=1e-5)
            with pytest.raises(PolicyError, match=r"expected a picture of 1024 bytes, \(32, 32, 1\), got 1023"):
                client.act(shown[0][0].tolist(), bytes(1023))
            with pytest.raises(PolicyError, match="expected the newest picture"):
                client.act(shown[0][0].tolist())
            assert client.end_episode(shown[-1][0].tolist(), shown[-1][1].tobytes(), terminated=False)["steps"] == 12
            with pytest.raises(PolicyError):  # longer than any picture
                client.act(shown[0][0].tolist(), bytes(2048))
    finally:
        server.shutdown()
        thread.join(5.0)


@pytest.mark.parametrize("learn", [(), ("--learn",)], ids=["acts", "learns"])
def test_serving_says_which_pictures_it_wants(
    run: Path, learn: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", str(run), "--self-test", "--json", *learn]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (health,) = (record for record in records if record.get("record") == "self-test" or "picture" in record)
    assert health["picture"] == [32, 32, 1]
    assert [name for name, _ in health["observation"]] == ["x", "y", "vx", "vy"]


def test_guards_ask_the_robot_for_rewards_of_what_it_measured(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[np.ndarray[Any, Any]] = []

    def pay(observation: Any, goals: Any) -> Any:
        asked.append(observation)
        return np.zeros((1, 1)), np.zeros((1, 1), np.bool_)

    monkeypatch.setattr(serve, "open_pay", lambda *given: pay)
    with serve.open_policy(serve.Serving(learn=True), find_bundle(run / "export"), 0) as policy:
        session = policy._session
        session.reset(task=True, goal=[1.0, 1.0])
        assert session.image is not None
        for step in range(3):
            session.act([1.0, 2.0, 0.0, 0.1 * step], session.image.make_dark())
            session.observe(0.0)
        session.end_episode([1.0, 2.0, 0.0, 0.3], session.image.make_dark(), terminated=False)
    np.testing.assert_allclose(asked, [[[1.0, 2.0, 0.0, 0.1 * step]] for step in (1, 2, 3)], atol=1e-6)


def test_what_is_deployed_sees(run: Path) -> None:
    out = run.parent / "deployed"
    bundle = run / "adapt" / "policies" / "0"
    assert main(["deploy", str(bundle), "--out", str(out)]) == 0
    interface = json.loads((out / "interface.json").read_text())
    assert interface["picture"] == {"shape": [32, 32, 1], "frames": 2, "features": 32}
    assert interface["graphs"]["eye"]["inputs"]["pictures"]["shape"] == [1, 2048]
    for found in interface["parity"].values():
        if not isinstance(found, str):
            assert found["pictures"]["feature"] <= 1e-5
    assert "Pictures are 32 x 32 pixels of 1 bytes" in (out / "README.md").read_text()
    done = subprocess.run([sys.executable, out / "loop.py", "--seconds", "0.3"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_controller_in_cpp_sees(run: Path, tmp_path: Path) -> None:
    compiler = find_compiler()
    if compiler is None:
        pytest.skip("no compiler of C++")
    bundle = load_bundle(run / "adapt" / "policies" / "0")
    shown, commands = take_walk(bundle, 25)
    compile_program(compiler, PACKAGE_ROOT / "pipeline/deploy/template/cpp/run.cpp", tmp_path / "run")
    (tmp_path / "path.supple").write_bytes(make_graph_file(make_acting_path(bundle), bundle.contract, bundle.digest))

    def say(call: int, measured: Any, picture: Any) -> bytes:
        return np.int32(call).tobytes() + np.append(measured, 0.0).astype("<f4").tobytes() + picture.tobytes()

    episode = np.int32(1).tobytes() + b"".join(say(2, *seen) for seen in shown) + say(3, *shown[-1])
    asked = np.int32(0).tobytes() + 2 * episode  # pictures of the episode before are forgotten
    done = subprocess.run(
        [tmp_path / "run", tmp_path / "path.supple", "act"], input=asked, capture_output=True, check=True
    )
    answers = np.frombuffer(done.stdout, "<f4").reshape(-1, 3)
    assert (answers[:, 0] == 0.0).all()  # ok
    np.testing.assert_allclose(answers[:, 1:], np.array([*commands, *commands]), atol=1e-5)


HARDWARE = '''
"""A real robot with a camera: the maze behind the calls of a driver."""
import numpy as np
from supple.robots.family import make_robots
from supple.robots.hardware_family import HardwareFamily
from supple.robots.image_maze import ImageMaze
from supple.robots.robot import Holds, Observes, Sees, Step, Stops

MAZE = ImageMaze(layout_size=10, layout_seed=1, play_size=8, episode_steps=40, num_train_tasks=3, num_test_tasks=2)
ROW = np.arange(1)


class Driver(Holds, Observes, Sees, Stops):
    def __init__(self):
        self.robots, self.shown = make_robots(MAZE, 1), 0

    spec = property(lambda self: self.robots.spec)

    def reset(self, goal, rng):
        self.seen = self.robots.reset(ROW, goal[None], rng)[0]
        return self.seen

    def step(self, action):
        step = self.robots.step(ROW, action[None])
        self.seen = step.observation[0]
        return Step(self.seen, float(step.reward[0]), bool(step.terminated[0]), bool(step.truncated[0]))

    def read(self):
        return self.seen if hasattr(self, "seen") else self.reset(np.ones(2, np.float32), np.random.default_rng(0))

    def take_images(self, rows):
        self.shown += 1
        print("shown", flush=True)
        return self.robots.take_images(rows)

    def compute_reward(self, observation, goals):
        return self.robots.compute_reward(observation, goals)

    def hold(self):
        pass

    def stop(self, reason):
        pass

    def close(self):
        pass


ROBOT = HardwareFamily(
    name="camera-robot", connect=Driver, contract=MAZE.spec(), train_goals=((1.0, 1.0),), test_goals=((2.0, 1.0),),
    stops_by_itself=True,
)
'''


@pytest.mark.parametrize("execute", [(), ("--execute",)])
def test_hardware_with_a_camera_is_adapted(
    run: Path, tmp_path: Path, execute: tuple[str, ...], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "camera_robot.py").write_text(HARDWARE)
    robot = ("--robot", f"{tmp_path / 'camera_robot.py'}:ROBOT", "--accept-robot-change", "--updates", "here")
    words = ["adapt", str(run / "export"), "--out", str(tmp_path / "out"), "--episodes", "1", "--num-tasks", "1"]
    assert main([*words, *robot, *execute]) == 0
    assert capfd.readouterr().out.count("shown") >= 41  # at the start, and after each step


def test_the_log_of_an_adaptation_has_the_pictures_that_the_policy_saw(run: Path, tmp_path: Path) -> None:
    words = ["adapt", str(run / "export"), "--episodes", "2", "--num-tasks", "2", "--evaluations", "0", "--log"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    log = tmp_path / "out" / "log"
    assert main(["ingest", str(log), "--robot", "image-maze", *OPTIONS, "--out", str(tmp_path / "store")]) == 0
    store = open_store(tmp_path / "store")
    assert store.rows == 80
    place, shown = store.load("observation")[:, :2], store.load("image")
    drawn = MazeCamera(FAMILY.layout()).draw(place).astype(int)  # of places that were rounded to float32
    assert np.abs(shown - drawn).max() <= 1
    assert len(np.unique(shown, axis=0)) > 10
    assert store.load("skill").any()  # what was chosen is noted, too
    goes = ["replay", str(run / "export"), str(tmp_path / "store"), "--robot", "image-maze", *OPTIONS]
    assert main([*goes, "--samples", "1", "--predictions", "0", "--out", str(tmp_path / "replayed")]) == 0


class Leans(Operator):
    """A person who commands from the eleventh step on."""

    def begin(self, spec: RobotSpec) -> None:
        self.step = 0

    def command(self, requested: Any, observation: Any) -> Any:
        self.step += 1
        return None if self.step <= 10 else np.full(2, 0.5, np.float32)


def test_a_person_who_takes_over_a_robot_that_sees_is_noticed_and_learned_from(run: Path) -> None:
    bundle = load_bundle(find_bundle(run / "export"))
    tap = CommandTap(make_robots(FAMILY, 1))
    robot = open_eyes(Watch(tap, tap, operator=Leans()), bundle.eye)
    rng = np.random.default_rng(0)
    agent, task = bundle.make_agent(RandomNoise(rng)), FAMILY.tasks().test[:1]
    adapter = Adapter(agent, robot, task, bundle.contract.budget, 2, rng, off_policy=True)
    watch = find_watch(robot)
    assert watch is not None
    adapter.play()
    played, over = adapter._played, watch.find_taken_over()
    assert played is not None
    assert over is not None
    assert adapter._taken_over == 30
    assert isinstance(robot, SeeingRobots)
    path, horizon = robot.see_path(over.observation), bundle.contract.space.horizon
    for decision in range(4):
        np.testing.assert_array_equal(path[horizon * decision], played.observation[0, decision])
    latents = [find_latent(agent.space, path[10 * n : 10 * n + 10], over.command[10 * n : 10 * n + 10]) for n in (1, 2)]
    np.testing.assert_array_equal(played.latent[0, 1:3], latents)


LOG = """
from pathlib import Path
from supple.datasets.log_family import LogFamily
from supple.robots.image_maze import ImageMaze

MAZE = ImageMaze(layout_size=10, layout_seed=1, play_size=8, episode_steps=40, num_train_tasks=3, num_test_tasks=2)
ROBOT = LogFamily(robot=MAZE, log=Path("{log}"))
"""


def test_a_log_with_pictures_answers_as_a_robot(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ingest", "ingest-explored"):
        (tmp_path / f"{name}.py").write_text(LOG.format(log=find_store(run / name)))
    words = ["adapt", str(run / "export"), "--episodes", "2", "--num-tasks", "1", "--evaluations", "0"]
    common = ("--accept-robot-change", "--updates", "here")
    robot = ("--robot", f"{tmp_path / 'ingest.py'}:ROBOT", *common)
    assert main([*words, *robot, "--out", str(tmp_path / "out")]) == 0
    robot = ("--robot", f"{tmp_path / 'ingest-explored.py'}:ROBOT", *common)
    assert main([*words, *robot, "--out", str(tmp_path / "blind")]) == 2
    assert "expected pictures of 32 x 32 pixels x 1 channels, got no pictures" in capsys.readouterr().err


def test_a_log_is_seen_as_the_robots_see(run: Path, tmp_path: Path) -> None:
    bundle, store = load_bundle(find_bundle(run / "export")), open_store(run / "ingest")
    assert bundle.eye is not None
    assert bundle.contract.image is not None
    seen = see_store(store, bundle, tmp_path)
    assert seen.schema.robot == dataclasses.replace(bundle.contract.robot, image=None)
    assert "image" not in seen.schema.names
    sight, row = Sight(1, bundle.contract.image, bundle.eye.settings, bundle.eye.weights), np.arange(1)
    for number in (0, 3):
        own, wide = store.episode(number).arrays, seen.episode(number).arrays
        np.testing.assert_array_equal(wide["observation"][:, :4], own["observation"])
        np.testing.assert_array_equal(wide["action"], own["action"])
        features = [
            (sight.look if step else sight.begin)(row, own["image"][step : step + 1])[0]
            for step in range(len(own["image"]))
        ]
        np.testing.assert_allclose(wide["observation"][:, 4:], features, atol=1e-6)
    assert see_store(store, bundle, tmp_path).digest == seen.digest  # it was there


@pytest.mark.parametrize("which", ["export", "adapt/policies/0"])
def test_replay_sees(run: Path, which: str, tmp_path: Path) -> None:
    words = ["replay", str(run / which), str(run / "ingest"), "--robot", "image-maze", *OPTIONS]
    short = (
        "--samples",
        "2",
        "--predictions",
        "1",
        "--off-policy.behaviour.updates",
        "5",
        "--off-policy.fitted-q.updates",
        "2",
    )
    assert main([*words, *short, "--out", str(tmp_path / "replayed")]) == 0
    report = json.loads((tmp_path / "replayed" / "report.json").read_text())
    (bundle,) = report["bundles"]
    skipped = {name for name, section in bundle["sections"].items() if section["skipped"]}
    assert "open_loop" not in skipped
    assert "known_states" not in skipped
    assert "simulator" in skipped


def test_another_eye_is_found_at_loading(run: Path) -> None:
    bundle = load_bundle(find_bundle(run / "export"))
    weights = {name: value.copy() for name, value in bundle.weights.items()}
    weights["eye.head.bias"][3] += 0.01
    with pytest.raises(BundleError, match=r"expected golden 'eye\.feature' within"):
        make_bundle(bundle.contract, weights, bundle.golden, Path("changed"))
    golden = {**bundle.golden, "eye.image": bundle.golden["eye.image"] + 0.5}
    with pytest.raises(BundleError, match="whole numbers from 0 to 255"):
        make_bundle(bundle.contract, bundle.weights, golden, Path("changed"))


def test_data_without_pictures_are_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import h5py

    with h5py.File(run / "generate" / "play.hdf5") as file, h5py.File(run.parent / "blind.hdf5", "w") as other:
        for name in file:
            if name != "images":
                file.copy(name, other)
    out = run.parent / "blind-store"
    assert main(["ingest", str(run.parent / "blind.hdf5"), "--out", str(out)]) == 2
    assert "expected the data set images with the pictures of robot 'image-maze'" in capsys.readouterr().err


def test_events_are_not_mapped_for_a_robot_that_sees(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their distance asks the decoder, which needs pictures."""
    monkeypatch.setattr(map_logs, "ask_events", lambda robot, paths, goals, stop: [])
    words = ["map-logs", str(run / "ingest-explored"), str(run / "extract"), "--robot", "image-maze", *OPTIONS]
    assert main([*words, "--out", str(tmp_path / "events")]) == 2
    assert "expected tasks that pay for a place, for a robot with a camera" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["meta-train", "extract", "--learner", "bc-pearl", "--play", "ingest"], "expected a robot without a camera")],
)
def test_what_reads_observations_alone_is_refused(
    run: Path, arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [str(run / word) if word in ("ingest", "extract") else word for word in arguments]
    assert main([*paths, "--robot", "image-maze", *OPTIONS, "--out", str(run.parent / "refused")]) == 2
    assert named in capsys.readouterr().err
