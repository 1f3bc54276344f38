"""`supple run image-maze`, tiny: from pictures in play data to adapted policies that need a camera."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from supple.adapt.bundle import load_bundle, make_bundle, require_robot
from supple.adapt.bundle_folder import find_bundle
from supple.adapt.log_agent import require_guide
from supple.adapt.session import AgentSession
from supple.datasets import open_store
from supple.errors import BundleError
from supple.pipeline.cli import main
from supple.pipeline.report.plane import find_plane
from supple.pipeline.report.run_folder import load_run
from supple.pipeline.report.scenes import draw_play
from supple.pipeline.stages import map_logs
from supple.pipeline.summary import load_success
from supple.pipeline.testing_kills import TINY
from supple.robots.image_maze import ImageMaze
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


def test_what_has_no_pictures_refuses_the_bundle(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = load_bundle(find_bundle(run / "export"))
    with pytest.raises(BundleError, match=r"acts without pictures, got one that needs pictures of \(32, 32, 1\)"):
        AgentSession(bundle)
    assert main(["deploy", str(run), "--out", str(run.parent / "deployed")]) == 2
    assert "acts without pictures" in capsys.readouterr().err


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
