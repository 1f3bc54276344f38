import hashlib
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from benchmarks.results.collect_results import collect
from benchmarks.results.collect_runs import load_finished
from supple.adapt.bundle import load_bundle
from supple.errors import RobotFault
from supple.pipeline.cli import VERBS, main, run_program
from supple.pipeline.folder import SEAL_NAME
from supple.pipeline.keys import load_record
from supple.pipeline.presets import PRESETS
from supple.pipeline.verbs.look import Info

STAGES = ["generate", "ingest", "extract", "meta-train", "map-logs", "export", "adapt"]


def tree(folder: Path) -> dict[str, str]:
    """Every file below a folder by its digest; seals say when files were checked, and belong to no result."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != SEAL_NAME)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    capsys.readouterr()
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_chain_makes_every_stage_and_a_summary(tiny_run: Path) -> None:
    for stage in STAGES:
        record = load_record(tiny_run / stage)
        assert record["stage"] == stage
        assert record["fields"]["config"]
        assert (tiny_run / stage / "metrics.jsonl").is_file() == (stage not in ("map-logs", "export"))
        assert not (tiny_run / f"{stage}.partial").exists()
    summary = json.loads((tiny_run / "summary.json").read_text())
    methods = [record["method"] for record in summary if record["metric"] == "success_stochastic"]
    assert methods == ["before", "inferred", "adapted"]
    for record in summary:
        assert record["low"] <= record["mean"] <= record["high"]
        assert record["n"] == 4
        assert record["wall_s"] > 0
    assert list((tiny_run / "extract" / "tensorboard").iterdir())


def test_results_are_collected_from_what_the_chain_wrote(tiny_run: Path) -> None:
    rows = collect([load_finished(tiny_run)], "tiny", "simpl")
    means = {(row["metric"], *row["at"]): row["mean"] for row in rows}
    (inferred,) = [r for r in rows if r["at"] == {"stage": "inferred"} and r["metric"] == "success_stochastic"]
    assert (inferred["n"], inferred["seeds"]) == (2, [0])
    assert all(means[name,] > 0 for name in ("meta_training_wall_s", "chain_wall_s", "low_level_steps"))


def test_the_chain_again_skips_every_stage(
    tiny_run: Path, tiny_options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(tiny_run)
    records = run_json(["run", "demo", "--out", str(tiny_run), *tiny_options], capsys)
    assert [record["status"] for record in records if record["event"] == "finish"] == ["skipped"] * len(STAGES)
    changed = {name for name, digest in tree(tiny_run).items() if before.get(name) != digest}
    assert changed <= {"summary.json"}


def test_the_chain_ends_with_its_report(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [option for option in tiny_options if option != "--no-report"]
    records = run_json(["run", "demo", "--out", str(tmp_path / "run"), "--reuse", str(tiny_run), *options], capsys)
    assert records[-1]["event"] == "run"
    assert Path(str(records[-1]["report"])).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "made"),
    [
        (["--adapt.settings", "finetune.batch=9"], STAGES[6:]),
        (["--learner.config.discount", "0.98"], ["meta-train", *STAGES[5:]]),
        (["--map.places", "30"], STAGES[4:]),
        (["--robot.num-test-tasks", "3"], STAGES[3:]),
        (["--extract.skill.skill-dim", "3"], STAGES[2:]),
        (["--robot.planner.action-noise", "0.3"], STAGES),
        (["--seed", "1"], [*STAGES]),
    ],
)
def test_a_changed_field_reruns_its_stage_and_those_after_it(
    tiny_run: Path,
    tiny_options: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: list[str],
    made: list[str],
) -> None:
    out = tmp_path / "run"
    command = ["run", "demo", "--out", str(out), "--reuse", str(tiny_run), *tiny_options, *change]
    records = run_json(command, capsys)
    status = {str(record["stage"]): record["status"] for record in records if record["event"] == "finish"}
    assert status == {stage: "made" if stage in made else "reused" for stage in STAGES}
    assert main(["verify", str(out)]) == 0


def test_settings_for_new_tasks_reach_the_bundle_without_training_again(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, change = tmp_path / "run", ["--learner.deployment.candidates", "99"]
    records = run_json(["run", "demo", "--out", str(out), "--reuse", str(tiny_run), *tiny_options, *change], capsys)
    status = {str(record["stage"]): record["status"] for record in records if record["event"] == "finish"}
    assert status == {stage: "made" if stage in STAGES[5:] else "reused" for stage in STAGES}
    assert load_bundle(out / "export" / "bundle").contract.learner["candidates"] == 99
    assert main(["export", str(out / "meta-train"), "--out", str(tmp_path / "again")]) == 0
    trained_with = load_bundle(tiny_run / "export" / "bundle").contract.learner["candidates"]
    assert load_bundle(tmp_path / "again" / "bundle").contract.learner["candidates"] == trained_with


def test_another_value_in_the_same_run_folder_is_refused(
    tiny_run: Path, tiny_options: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    before = tree(tiny_run)
    assert main(["run", "demo", "--out", str(tiny_run), *tiny_options, "--extract.skill.skill-dim", "3"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "extract: expected config.extract.skill.skill_dim = 3, got 10 from an earlier run" in error
    assert tree(tiny_run) == before


def test_same_seed_same_digests(tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    assert main(["run", "demo", "--out", str(tmp_path / "again"), *tiny_options]) == 0
    for stage in STAGES:
        one, two = load_record(tiny_run / stage), load_record(tmp_path / "again" / stage)
        for name in ("key", "outputs", "output_digest", "metrics_digest"):
            assert one[name] == two[name], stage


def test_adapt_prints_one_record_per_task_stage_and_episode(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goals = tmp_path / "goals.csv"
    goals.write_text("x,y\n2,2\n5,2\n8,3\n")
    command = ["adapt", str(tiny_run / "export" / "bundle"), "--tasks", str(goals), "--out", str(tmp_path / "adapted")]
    command += ["--episodes", "3", "--evaluations", "2"]
    command += ["--settings", "exploration_episodes=2", "finetune.batch=8", "finetune.min_transitions=8"]
    first, again = run_json(command, capsys), run_json(command, capsys)
    episodes = [(record["episode"], record["task"]) for record in first if record["event"] == "episode"]
    assert episodes == [(episode, f"task{task}") for episode in (1, 2, 3) for task in (0, 1, 2)]
    stages = [record["stage"] for record in first if record["event"] == "evaluation"]
    assert stages == ["before"] * 3 + ["inferred"] * 3 + ["adapted"] * 3
    kept = ("episode", "evaluation", "success")
    assert [record for record in again if record["event"] in kept] == [r for r in first if r["event"] in kept]
    assert [record["status"] for record in again if record["event"] == "finish"] == ["skipped"]


def test_each_verb_explains_itself_with_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    overview = capsys.readouterr().out
    for verb, entry in VERBS.items():
        assert f"  {verb} " in overview
        with pytest.raises(SystemExit) as caught:
            main([verb, "--help"])
        assert caught.value.code == 0
        text = capsys.readouterr().out
        assert all(example in text for example in entry.examples)


@pytest.mark.parametrize(("verb", "paths"), [("explore", ["skills"]), ("map-logs", ["store", "skills"])])
def test_a_verb_that_is_a_stage_cannot_be_switched_off(
    verb: str, paths: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([verb, "--help"])
    assert "--enabled" not in capsys.readouterr().out
    assert main([verb, *paths, "--no-enabled"]) == 2
    assert "--no-enabled" in capsys.readouterr().err


@pytest.mark.parametrize("preset", list(PRESETS))
def test_each_preset_lists_its_options(preset: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["run", preset, "--help"])
    assert caught.value.code == 0
    assert "--learner.config.discount" in capsys.readouterr().out


def test_info_describes_everything_in_a_run(tiny_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, kind in {
        ".": "run",
        "extract": "stage extract",
        "ingest/store": "episode store",
        "export/bundle": "simpl bundle",
    }.items():
        (record,) = run_json(["info", str(tiny_run / name)], capsys)
        assert record["kind"] == kind
    (record,) = run_json(["info", "--self-test"], capsys)
    assert record["requirements"] == "met"
    assert record["self-test"] == "passed"


def test_verify_finds_a_changed_byte_anywhere_in_a_run(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(tiny_run, folder)
    assert main(["verify", str(folder)]) == 0
    for name in load_record(folder / "ingest")["outputs"]:
        flip(folder / "ingest" / name)
        assert main(["verify", str(folder)]) == 2
        assert name in capsys.readouterr().err
        flip(folder / "ingest" / name)
    assert main(["verify", str(folder)]) == 0


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(bytes(data))


Arrays = dict[str, np.ndarray]


def make_arrays(rows: int = 40) -> Arrays:
    rng = np.random.default_rng(0)
    timeouts = np.zeros(rows, np.bool_)
    timeouts[rows // 2 - 1 :: rows // 2] = True
    return {
        "observations": rng.standard_normal((rows, 4)).astype(np.float32),
        "actions": rng.uniform(-1, 1, (rows, 2)).astype(np.float32),
        "rewards": np.zeros(rows, np.float32),
        "terminals": np.zeros(rows, np.bool_),
        "timeouts": timeouts,
    }


def write_hdf5(path: Path, arrays: Arrays) -> Path:
    with h5py.File(path, "w") as file:
        for name, value in arrays.items():
            file.create_dataset(name, data=value)
    return path


def damaged_hdf5(path: Path, how: str) -> None:
    arrays = make_arrays()
    if how == "wrong keys":
        arrays = {f"my_{name}": value for name, value in arrays.items()}
    elif how == "NaN":
        arrays["actions"][7, 1] = np.nan
    elif how == "unequal lengths":
        arrays["rewards"] = arrays["rewards"][:-1]
    elif how == "zero episodes":
        arrays = {name: value[:0] for name, value in arrays.items()}
    elif how in ("external storage", "virtual", "link"):
        del arrays["observations"]
    write_hdf5(path, arrays)
    if how == "truncated":
        path.write_bytes(path.read_bytes()[:-500])
    elif how == "not HDF5":
        path.write_bytes(b"observations,actions\n1,2\n")
    secret = write_hdf5(path.with_name("secret.hdf5"), make_arrays())
    with h5py.File(path, "a") if how in ("external storage", "virtual", "link") else open(os.devnull) as file:
        if how == "external storage":
            path.with_name("raw").write_bytes(bytes(40 * 4 * 4))
            file.create_dataset("observations", (40, 4), np.float32, external=[(str(path.with_name("raw")), 0, 640)])
        elif how == "virtual":
            layout = h5py.VirtualLayout((40, 4), np.float32)
            layout[:] = h5py.VirtualSource(str(secret), "observations", (40, 4), np.float32)
            file.create_virtual_dataset("observations", layout)
        elif how == "link":
            file["observations"] = h5py.ExternalLink(str(secret), "observations")


HDF5_DAMAGE = {
    "truncated": "HDF5",
    "not HDF5": "HDF5",
    "wrong keys": "observations",
    "NaN": "actions",
    "unequal lengths": "rewards",
    "zero episodes": "observations",
    "external storage": "observations",
    "virtual": "observations",
    "link": "observations",
}


def refused(arguments: list[str], out: Path, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command is refused on one line that names the thing, and leaves no file."""
    capsys.readouterr()
    assert main([*arguments, "--out", str(out)]) == 2
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("supple: ")]
    assert len(errors) == 1
    assert captured.err.splitlines()[-1] == errors[0]
    assert named in errors[0]
    assert "; " in errors[0], "the remedy follows the semicolon"
    assert "Traceback" not in captured.err + captured.out
    assert [path for path in out.parent.rglob("*") if path.is_file()] == []
    assert not out.exists()


@pytest.mark.parametrize("how", HDF5_DAMAGE)
def test_a_bad_source_is_refused(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "source.hdf5"
    damaged_hdf5(source, how)
    refused(["ingest", str(source)], tmp_path / "out" / "ingest", HDF5_DAMAGE[how], capsys)


def test_a_good_source_is_not_refused(tmp_path: Path) -> None:
    write_hdf5(tmp_path / "source.hdf5", make_arrays())
    command = ["ingest", str(tmp_path / "source.hdf5"), "--robot", "maze", "--out", str(tmp_path / "out")]
    assert main(command) == 0


def flip_chunk(store: Path) -> None:
    flip(next(path for path in sorted((store / "steps").rglob("c.*")) if path.is_file()))


def delete_chunk(store: Path) -> None:
    next(path for path in sorted((store / "steps").rglob("c.*")) if path.is_file()).unlink()


@pytest.mark.parametrize("damage", [flip_chunk, delete_chunk])
def test_a_damaged_store_is_refused(
    damage: Callable[[Path], None], tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    shutil.copytree(tiny_run / "ingest" / "store", store)
    damage(store)
    refused(["extract", str(store), "--skill.num-updates", "2"], tmp_path / "out" / "extract", "steps/", capsys)


@pytest.mark.parametrize(
    "name", ["bundle.json", "weights.safetensors", "golden.safetensors", "MANIFEST.sha256", "README.md"]
)
def test_a_bundle_with_a_changed_byte_is_refused(
    name: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_run / "export" / "bundle", bundle)
    flip(bundle / name)
    refused(["adapt", str(bundle)], tmp_path / "out" / "adapt", str(bundle), capsys)


def test_a_robot_that_is_not_the_bundles_is_refused(
    tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(["adapt", str(tiny_run), "--robot", "maze"], tmp_path / "out" / "adapt", "in 'maze'; pass --robot.", capsys)
    other = ["adapt", str(tiny_run), "--robot", "maze", "--accept-robot-change"]
    refused(other, tmp_path / "out" / "adapt", "axis 'x' with high", capsys)


def test_skills_of_another_robot_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = make_arrays()
    arrays["actions"] = np.concatenate([arrays["actions"]] * 2, axis=1)
    write_hdf5(tmp_path / "arm.hdf5", arrays)
    assert main(["ingest", str(tmp_path / "arm.hdf5"), "--out", str(tmp_path / "ingest")]) == 0
    options = ["--skill.num-updates", "2", "--skill.batch-size", "4", "--out", str(tmp_path / "extract")]
    assert main(["extract", str(tmp_path / "ingest"), *options]) == 0
    refused(
        ["meta-train", str(tmp_path / "extract")],
        tmp_path / "out" / "meta",
        "got data of a robot that nobody named",
        capsys,
    )


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "no-such-preset"], "demo, quick, maze, maze-published"),
        (["ingest", "nothing.hdf5"], "nothing.hdf5"),
        (["ingest", "d4rl:no-such-data"], "no-such-data"),
        (["extract", "nothing"], "nothing"),
        (["meta-train", "nothing"], "nothing"),
        (["export", "nothing"], "nothing"),
        (["adapt", "nothing"], "nothing"),
        (["generate", "--steps", "0"], "--steps: expected a whole number"),
        (["generate", "--steps", "many"], "--steps"),
        (["generate", "--robot.layout-size", "3"], "--robot.layout-size"),
        (["generate", "--no-such-option", "3"], "--no-such-option"),
        (["run", "demo", "--learner.config.discount", "2"], "discount"),
        (["run", "demo", "--learner.config.reward-prediction", "0"], "expected 'blind'"),
        (["run", "demo", "--robot.task-set", "flat-40", "--generate.steps", "100"], "--robot.task-set"),
        (["frobnicate"], "generate"),
    ],
)
def test_bad_arguments_are_refused(
    arguments: list[str],
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(arguments, tmp_path / "out" / "made", named, capsys)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a,b\n1,2\n", "columns"),
        ("x,y\n1,nan\n", "finite"),
        ("x,y\n", "task"),
        ("x,y\n1,999\n", "999"),
        ("x,y\n-1,-1\n", "corridor"),
    ],
)
def test_a_bad_task_file_is_refused(
    text: str, named: str, tiny_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    goals = tmp_path / "goals.csv"
    goals.write_text(text)
    refused(["adapt", str(tiny_run), "--tasks", str(goals)], tmp_path / "out" / "adapt", named, capsys)
    refused(["adapt", str(tiny_run), "--tasks", str(tmp_path / "no.csv")], tmp_path / "out" / "a", "no.csv", capsys)


def test_an_error_is_a_record_too_with_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", str(tmp_path / "no.hdf5"), "--json"]) == 2
    (record,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert record["event"] == "error"
    assert record["type"] == "SourceError"
    assert "no.hdf5" in record["message"]


def test_a_place_that_cannot_be_written_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "--steps", "100", "--out", "/dev/null/run"]) == 2
    assert "/dev/null/run: expected a place to write to" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 3, None, "bye"])
def test_code_of_a_user_that_ends_the_program_is_no_success(
    code: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, a sys.exit(0) in a task monitor ended `supple adapt` with the exit code of success."""

    def end(self: Info, runner: object) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(Info, "execute", end)
    assert main(["info", str(tmp_path)]) == 2
    assert f"got code that ends this program (SystemExit {code})" in capsys.readouterr().err


def test_a_keyboard_interrupt_that_nobody_typed_is_an_error_of_the_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, "stopped at once; go on with" the same command, which ended there again."""

    def close_window(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("supple.pipeline.stages.generate.write_d4rl", close_window)
    assert main(["generate", "--steps", "10", "--rows", "1", "--out", str(tmp_path / "play")]) == 2
    error = capsys.readouterr().err
    assert "generate: expected code that raises errors of its own, got KeyboardInterrupt (line " in error


@pytest.mark.parametrize(("kind", "code"), [(RobotFault, 2), (KeyboardInterrupt, 130)])
def test_what_stands_beside_an_error_is_told_and_a_trace_is_not(
    kind: type[BaseException], code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: Sequence[str]) -> int:
        error = kind("no link")
        error.add_note("the robot could not be told to stop: OSError; cut its power")
        error.add_note("in a worker:\n  File ...")
        raise error

    assert run_program("supple", fail, ["adapt"]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("; the robot could not be told to stop: OSError; cut its power")
