"""Each example goes through the whole chain, tiny, and its robots keep their word."""

import json
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets import open_store
from supple.datasets.log_family import LogFamily
from supple.pipeline.cli import main
from supple.pipeline.robots import find_robot
from supple.pipeline.testing_kills import CHAIN
from supple.robots.env_family import EnvFamily
from supple.robots.family import make_robots
from supple.robots.task import goals_of

EXAMPLES = Path(__file__).parents[2] / "examples"
NO_DEPENDENCIES = {
    "panda_reach.py:panda": "gym_hil",
    "panda_push.py:push": "gym_hil",
    "ur5e_reach.py:ur5e": "robosuite",
}
"""Examples whose model files come from a package that is installed without what it depends on. `make test` installs
gym-hil; robosuite is half a gigabyte, and left to whoever wants it."""
NAMES = (
    *("my_arm.py:arm", "gymnasium_reacher.py:reacher", "dm_control_reacher.py:reacher", "jaco_reach.py:jaco"),
    *("jaco_lift.py:lift", "loaded_arm.py:loaded"),
    *(
        pytest.param(name, marks=pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed"))
        for name, package in NO_DEPENDENCIES.items()
    ),
)
FEW_TASKS = ("--robot.episode-steps", "30", "--robot.num-train-tasks", "3", "--robot.num-test-tasks", "2")
OTHER_FIELDS = {"loaded_arm.py:loaded": ("--robot.num-train", "3", "--robot.num-test", "2")}
"""Of robots that call these otherwise."""
TINY = (
    *("--generate.steps", "400", "--generate.rows", "2"),
    *("--extract.skill.num-updates", "20", "--extract.skill.batch-size", "16", "--extract.log-every", "10"),
    *("--learner.config.epochs", "3", "--learner.config.updates-per-epoch", "1"),
    *("--learner.config.pool-episodes", "40", "--learner.config.warmup-epochs", "1"),
    *("--learner.config.prior-tasks", "1", "--learner.config.posterior-tasks", "2"),
    *("--learner.config.batch", "8", "--learner.config.success-batch", "0", "--learner.config.hidden", "8", "8"),
    *("--adapt.episodes", "4", "--learner.deployment.exploration-episodes", "2", "--adapt.evaluations", "1"),
    *("--learner.deployment.finetune.batch", "4", "--learner.deployment.finetune.min-transitions", "4"),
)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_an_example_goes_through_the_whole_chain(name: str, tmp_path: Path) -> None:
    options = (*OTHER_FIELDS.get(name, FEW_TASKS), *TINY)
    assert main(["run", f"{EXAMPLES / name}", "--out", str(tmp_path / "run"), "--device", "cpu", *options]) == 0
    for stage in CHAIN:
        assert (tmp_path / "run" / stage / "stage.json").is_file()
    assert not list((tmp_path / "run").rglob("*.partial"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


@pytest.fixture(scope="module")
def arm_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sessions of one episode."""
    folder = tmp_path_factory.mktemp("arm") / "log"
    subprocess.run(
        [sys.executable, str(EXAMPLES / "arm_log.py"), str(folder), "--episodes", "2", "--sessions", "2"], check=True
    )
    return folder


def test_a_log_of_the_arm_becomes_what_the_arm_did(arm_log: Path, tmp_path: Path, capsys: Any) -> None:
    """The mapping is drafted from names and units; noise, losses and clocks of the log are small in the store."""
    mapping, arm = tmp_path / "map.toml", f"{EXAMPLES / 'my_arm.py'}:ARM"
    assert main(["inspect", str(arm_log), "--robot", arm, "--write-mapping", str(mapping), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert facts["questions"] == []
    out = str(tmp_path / "ingest")
    assert main(["ingest", str(arm_log), "--robot", arm, "--mapping", str(mapping), "--out", out]) == 0
    store, spec = open_store(out), find_robot(arm).family.spec()
    assert store.schema.robot == spec
    assert (store.episodes.length > 2).all()
    assert 800 < store.rows <= 1000, "nearly all steps of two episodes of 25 s are there"
    replay = LogFamily(robot=find_robot(arm).family, log=arm_log, mapping=mapping).replay()
    seen = replay.reset(np.array(spec.goal.low), np.random.default_rng(0))
    assert seen == pytest.approx(store.load("observation")[0])
    # joints have another order in the log: where the hand is follows from where the joints are
    observation = dict(zip(spec.observation.names, store.load("observation").T, strict=True))
    pitch = observation["shoulder"], observation["elbow"], observation["wrist"]
    lengths, angles = (0.35, 0.3, 0.1), np.cumsum(pitch, axis=0)
    reach = sum(length * np.cos(angle) for length, angle in zip(lengths, angles, strict=True))
    height = 0.3 - sum(length * np.sin(angle) for length, angle in zip(lengths, angles, strict=True))
    # the pose is up to 20 ms older than the joints, and the hand moves at up to 5 m/s
    assert np.median(np.abs(height - observation["hand_z"])) < 0.01
    assert np.median(np.abs(reach * np.cos(observation["base"]) - observation["hand_x"])) < 0.01
    # commands lead the joints by a step or two, and nothing else explains them as well
    for record in store.provenance["quality"]:
        assert record["lag_steps"] in (1, 2)
        assert record["topics"]["/joint_states"]["rate"] == pytest.approx(100.0)
        assert record["topics"]["/joint_command"]["jitter_p99"] > 0.0
    assert main(["verify", out, "--deep"]) == 0


@pytest.mark.slow
def test_a_log_of_the_arm_goes_through_the_whole_chain(arm_log: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    name = f"{EXAMPLES / 'my_arm.py'}:arm"
    command = ["run", name, "--from-log", str(arm_log), "--out", str(run), "--device", "cpu", *FEW_TASKS, *TINY]
    assert main(command) == 0
    assert not (run / "generate").exists()
    for stage in CHAIN[1:]:
        assert (run / stage / "stage.json").is_file()
    assert json.loads((run / "run.json").read_text())["from_log"] == str(arm_log)
    assert "all stages finished" in (run / "report.html").read_text()
    # more logs: a store in the place of the log
    assert main(["append", str(run / "ingest"), str(arm_log), "--out", str(tmp_path / "store")]) == 0
    more = ["run", name, "--from-log", str(tmp_path / "store"), "--out", str(tmp_path / "more"), "--until", "ingest"]
    assert main(more) == 0
    assert open_store(tmp_path / "more").rows == 2 * open_store(run).rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mapping", "map.toml"], "--mapping: expected --from-log with it"),
        (["--from-log", "log", "--until", "generate"], "--until: expected a stage behind generate"),
        (["--from-log", "no-such-log"], "no-such-log: expected a source of data, got 'No such file or directory'"),
    ],
)
def test_a_run_from_no_log_is_refused(options: list[str], message: str, tmp_path: Path, capsys: Any) -> None:
    assert main(["run", "demo", "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", NO_DEPENDENCIES)
def test_a_missing_package_is_named(name: str, monkeypatch: pytest.MonkeyPatch, capsys: Any, tmp_path: Path) -> None:
    package, (file, preset) = NO_DEPENDENCIES[name], name.split(":")
    copied = shutil.copy(EXAMPLES / file, tmp_path)  # the file itself may have been loaded by another test
    for other in ("panda_reach", file.removesuffix(".py")):  # what an example is made from
        shutil.copy(EXAMPLES / f"{other}.py", tmp_path)
        monkeypatch.delitem(sys.modules, other, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda wanted: None if wanted == package else find_spec(wanted))
    assert main(["run", f"{copied}:{preset}", "--out", str(tmp_path / "run"), "--until", "generate"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"expected the package {package.replace('_', '-')}, got none; pip install --no-deps" in line


@pytest.mark.parametrize("name", NAMES)
def test_the_reward_of_an_example_is_a_function_of_what_it_observes(name: str) -> None:
    """So that episodes count for other tasks, too; and success is told."""
    family = find_robot(f"{EXAMPLES / name}").family
    tasks = family.tasks()
    goals = goals_of((*tasks.train, *tasks.test))
    robots, rng, running = make_robots(family, 3), np.random.default_rng(0), np.arange(3)
    now = robots.reset(running, goals[:3], rng)
    action, script = family.spec().action, family.script if isinstance(family, EnvFamily) else None
    waypoint = None if script is None else rng.uniform(script.low, script.high, (3, len(script.low)))
    paid = []
    for _ in range(family.spec().episode_steps):
        command = rng.uniform(action.low, action.high, (len(running), *action.shape))
        if script is not None and waypoint is not None:
            command = np.clip(script.steer(now, waypoint[running]), action.low, action.high)
        step = robots.step(running, command.astype(np.float32))
        reward, terminated = robots.compute_reward(step.observation, goals)
        own = (np.arange(len(running)), running)
        assert np.array_equal(reward[own], step.reward)
        assert np.array_equal(terminated[own], step.terminated)
        assert step.success is not None
        assert np.array_equal(step.success, step.reward > 0.0)
        paid.append(reward.max(axis=0))
        on = ~(step.terminated | step.truncated)
        running, now = running[on], step.observation[on]
        if not len(running):
            break
    # random commands, or the way to random waypoints, come by some of the goals, and not by most
    assert 0.02 < np.max(paid, axis=0).mean() < 0.8
    robots.close()


def test_play_of_the_jaco_lifts_the_brick() -> None:
    """From over the brick with the fingers at random, into a place in the air."""
    family = find_robot(f"{EXAMPLES / 'jaco_lift.py'}:lift").family
    assert isinstance(family, EnvFamily)
    assert family.script is not None
    robots, row, place = family.make(1), np.zeros(1, np.int64), np.array([[0.05, 0.05, 0.2]], np.float32)
    step, now = None, robots.reset(row, place, np.random.default_rng(0))
    assert now[0, 6] < 0.02, "the brick is on the floor"
    for _ in range(family.spec().episode_steps):
        step = robots.step(row, family.script.steer(now, place))
        now = step.observation
        if step.terminated[0]:
            break
    assert step is not None
    assert step.terminated[0]
    assert np.linalg.norm(now[0, 4:7] - place[0]) < 0.05
    robots.close()
