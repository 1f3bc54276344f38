"""The whole verb on the tiny run: every part, a page and a JSON, bags, kills, and input that is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.datasets import open_store
from supple.datasets.bags.writer import write_bags
from supple.pipeline.cli import main
from supple.pipeline.interrupt import Interrupted
from supple.pipeline.replay import driver, open_loop
from supple.pipeline.replay.forced import Forced
from supple.pipeline.replay.saved import load_section

QUICK = (
    *("--samples", "2", "--off-policy.bootstraps", "2", "--off-policy.fitted-q.iterations", "2"),
    *("--off-policy.most-steps", "400", "--simulator.episodes", "2", "--predictions", "1"),
    *("--rehearsal.shown", "0", "1", "--rehearsal.rest", "1"),
)
OPEN_LOOP = ("--parts", "open_loop", "--samples", "0", "--predictions", "0")


def run(*words: object) -> int:
    return main(["replay", *map(str, words)])


@pytest.fixture(scope="module")
def bags(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short episodes of the tiny run as MCAP logs."""
    store, folder = open_store(tiny_run / "ingest"), tmp_path_factory.mktemp("logs") / "bags"
    episodes = []
    for number in range(5):
        episode = store.episode(number)
        arrays = {name: array[: 40 + number] for name, array in episode.arrays.items()}
        episodes.append((number, type(episode)(arrays, False, True)))
    write_bags(folder, episodes, store.schema)
    return folder


@pytest.fixture(scope="module")
def replayed(tiny_run: Path, bags: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two bundles on these bags, with every part."""
    out = tmp_path_factory.mktemp("replay") / "out"
    policy = tiny_run / "adapt" / "policies" / "0"
    assert run(tiny_run, bags, "--also", policy, "--out", out, *QUICK) == 0
    return out


def load(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text())
    return found


def test_every_part_of_every_bundle_is_in_the_json_and_on_the_page(replayed: Path) -> None:
    report, page = load(replayed), (replayed / "report.html").read_text()
    assert report["log"]["episodes"] == 5
    assert report["log"]["steps"] == 40 + 41 + 42 + 43 + 44
    assert [one["label"] for one in report["bundles"]] == ["tiny", "policies_0"]
    assert sorted(report["take_first"]) == ["policies_0", "tiny"]
    for bundle in report["bundles"]:
        assert set(bundle["sections"]) == set(driver.ORDER)
        assert bundle["verdict"] in ("trust", "caution", "do not use")
        assert bundle["grounds"]
        for name, section in bundle["sections"].items():
            assert section["skipped"] or section["findings"] or section["warnings"], name
            assert f'id="{bundle["label"]}-{name}"' in page
        done = {name for name, section in bundle["sections"].items() if not section["skipped"]}
        assert done >= {"open_loop", "known_states", "skills", "limits", "latency", "off_policy"}
        assert set(bundle["sections"]["open_loop"]["horizons"]) == {"1", "10", "100"}
        # forces in `100 N` are told in N
        axis = bundle["sections"]["open_loop"]["horizons"]["1"]["axes"]["force_x"]
        assert axis["unit"] == "N"
        assert axis["rmse"]["n"] == 5
        assert axis["rmse"]["low"] < axis["rmse"]["mean"] < axis["rmse"]["high"] < 200
    learner, policy = (bundle["sections"]["rehearsal"]["skipped"] for bundle in report["bundles"])
    assert learner is None
    assert "nothing left to infer" in policy
    assert "Which bundle to take first" in page


def test_predictions_lie_beside_the_log_and_are_read_again(replayed: Path, tiny_run: Path, tmp_path: Path) -> None:
    folder = replayed / "tiny" / "predictions" / "tiny"
    (path,) = folder.iterdir()
    assert path.name == "episode-000000.mcap"
    assert main(["ingest", str(path), "--out", str(tmp_path / "again")]) == 0
    again, log = open_store(tmp_path / "again"), open_store(replayed / "ingest")
    assert {"eval_tiny_action", "eval_tiny_unknown"} <= set(again.schema.names)
    episode, logged = again.episode(0), log.episode(0)
    np.testing.assert_array_equal(episode.arrays["observation"], logged.arrays["observation"])
    np.testing.assert_array_equal(episode.arrays["action"], logged.arrays["action"])
    difference = episode.arrays["eval_tiny_action"] - logged.arrays["action"]
    assert float(np.abs(difference).max()) > 0.01
    mcap = pytest.importorskip("mcap.reader")
    with path.open("rb") as stream:
        topics = {channel.topic for channel in mcap.make_reader(stream).get_summary().channels.values()}
    assert {"/eval/tiny/action", "/eval/tiny/unknown", "/action"} <= topics


def test_the_same_command_does_nothing_again(
    replayed: Path, tiny_run: Path, bags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (replayed / "report.html").read_bytes(), (replayed / "report.json").read_bytes()
    policy = tiny_run / "adapt" / "policies" / "0"
    assert run(tiny_run, bags, "--also", policy, "--out", replayed, *QUICK, "--json") == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event["status"] for event in events if event["event"] == "finish"] == ["skipped"] * 3
    assert [event["bundle"] for event in events if event["event"] == "verdict"] == ["tiny", "policies_0"]
    assert before == ((replayed / "report.html").read_bytes(), (replayed / "report.json").read_bytes())


class Killed(BaseException):
    """Stands for SIGKILL: nobody catches it."""


def test_a_replay_that_was_killed_ends_with_the_same_sections(
    tiny_run: Path, bags: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = (tiny_run, bags, *QUICK, "--parts", "open_loop")
    assert run(*command, "--out", tmp_path / "whole") == 0
    asked = []
    force = open_loop.force_episode

    def force_or_die(*arguments: Any, **options: Any) -> Forced:
        asked.append(arguments[2])
        if len(asked) == 3:
            raise Killed
        return force(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(open_loop, "force_episode", force_or_die)
        with pytest.raises(Killed):
            run(*command, "--out", tmp_path / "killed")
    assert asked == [0, 1, 2]
    kept = tmp_path / "killed" / "tiny.partial" / "checkpoint" / "open_loop.jsonl"
    kept.write_bytes(kept.read_bytes()[:-9])  # the last line was cut off
    assert run(*command, "--out", tmp_path / "killed") == 0
    for part in ("sections", "predictions/tiny"):
        names = sorted(path.name for path in (tmp_path / "whole" / "tiny" / part).iterdir())
        assert names == sorted(path.name for path in (tmp_path / "killed" / "tiny" / part).iterdir())
        for name in set(names) - {"latency.json"}:
            whole, killed = (tmp_path / one / "tiny" / part / name for one in ("whole", "killed"))
            assert whole.read_bytes() == killed.read_bytes(), name
    assert not (tmp_path / "killed" / "tiny" / "checkpoint").exists()
    assert load_section(tmp_path / "killed" / "tiny" / "sections" / "off_policy.json").skipped


def test_a_signal_stops_between_episodes(tiny_run: Path, bags: Path, tmp_path: Path) -> None:
    def stop(*arguments: Any) -> None:
        raise Interrupted("replay", 1, 15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver.Replay, "require_going_on", stop)
        assert run(tiny_run, bags, "--out", tmp_path / "out", *OPEN_LOOP) == 128 + 15
    assert (tmp_path / "out" / "tiny.partial" / "checkpoint" / "open_loop.jsonl").read_bytes().count(b"\n") == 1


def test_one_episode_has_no_intervals(tiny_run: Path, bags: Path, tmp_path: Path) -> None:
    log = bags / "episode-000003.mcap"
    assert run(tiny_run, log, "--out", tmp_path / "out", "--parts", "open_loop", "--predictions", "0") == 0
    found = load(tmp_path / "out")["bundles"][0]["sections"]["open_loop"]
    assert found["horizons"]["1"]["axes"]["force_y"]["rmse"]["low"] is None
    assert any("one episode" in text for text in found["warnings"])
    assert ">nan" not in (tmp_path / "out" / "report.html").read_text()


def test_a_bundle_without_its_run_says_what_it_cannot_know(tiny_run: Path, bags: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_run / "export" / "bundle", tmp_path / "alone")
    assert run(tmp_path / "alone", bags, "--out", tmp_path / "out", "--searched", "2", *OPEN_LOOP) == 0
    found = load(tmp_path / "out")["bundles"][0]["sections"]
    assert found["skills"]["skills"] == "searched"
    assert any("--skills" in text for text in found["skills"]["warnings"])
    assert found["known_states"]["measured_by"] == "statistics"
    assert found["off_policy"]["skipped"] == "Nobody asked what the policy would earn (--parts)."


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing.mcap",), "nothing.mcap: expected a log, got nothing there"),
        ((), "replay: expected logs after the bundle, got none"),
        (("empty.mcap",), "got an empty file"),
        (("bags", "--also", "{run}"), "expected each bundle once"),
        (("bags", "--skills", "{other}"), "expected the skills of the bundle, got others"),
        (("bags", "--training", "bags"), "expected the manifest of an episode store"),
        (("bags", "--records", "none"), "none: expected"),
        (("bags", "--limits", "none.toml"), "none.toml: expected"),
        (("bags", "--mapping", "none.toml"), "none.toml: expected a mapping"),
        (("bags", "--tasks", "two.csv"), "expected 1 task, or 5"),
        (("bags", "--samples", "-1"), "--samples: expected a whole number"),
        (("{run}/ingest", "--mapping", "m.toml"), "expected no options of ingest for an episode store"),
        (("{run}/ingest", "--out", "{run}/ingest/x"), "expected a place of its own"),
        (("bags", "--robot", "arms"), "another"),
        (("damaged",), "damaged"),
    ],
)
def test_what_cannot_be_replayed_is_one_line(
    words: tuple[str, ...],
    message: str,
    tiny_run: Path,
    bags: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bags").symlink_to(bags)
    Path("empty.mcap").touch()
    Path("two.csv").write_text("x,y\n5,5\n6,6\n")
    if "{other}" in words:
        shutil.copytree(tiny_run / "extract", "other")
        record = json.loads(Path("other/skill.json").read_text())
        from supple.skills.checkpoint import load_skill_model, save_skill_model

        model = load_skill_model(tiny_run / "extract")
        model.decoder.layers[0].bias.add_(1.0)
        save_skill_model(Path("other"), model)
        assert record["sha256"] != json.loads(Path("other/skill.json").read_text())["sha256"]
    if "damaged" in words:
        shutil.copytree(tiny_run / "ingest" / "store", "damaged")
        chunk = max(
            (path for path in Path("damaged").rglob("c/*") if path.is_file()), key=lambda path: path.stat().st_size
        )
        content = bytearray(chunk.read_bytes())
        content[len(content) // 2] ^= 1
        chunk.write_bytes(content)
    given = [word.format(run=tiny_run, other="other") for word in words]
    out = () if "--out" in words else ("--out", "out")
    assert run(tiny_run, *given, *out, *OPEN_LOOP) == 2
    shown = capsys.readouterr()
    last = shown.err.strip().splitlines()[-1]
    assert last.startswith("supple: ")
    assert message in last
    assert "Traceback" not in shown.err


def test_a_log_of_another_robot_names_the_difference(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["generate", "--robot", "arms", "--out", str(tmp_path / "arm"), "--steps", "300", "--rows", "1"]) == 0
    capsys.readouterr()
    assert run(tiny_run, tmp_path / "arm", "--out", tmp_path / "out") == 2
    assert "expected" in capsys.readouterr().err.strip().splitlines()[-1]
