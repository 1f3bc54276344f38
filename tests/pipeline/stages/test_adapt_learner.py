"""Cells of the benchmark become bundles, and `supple adapt` runs each as its kind asks for."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.meta.__main__ import main as bench
from benchmarks.meta.cells import CELLS
from supple.adapt.bundle import load_bundle
from supple.adapt.loop import Adapter
from supple.errors import BundleError, RunError
from supple.pipeline.cli import main
from supple.pipeline.evidence import AUDIT_NAME
from supple.pipeline.keys import compute_digest, compute_record_digest, load_record
from supple.pipeline.robots import choose_builtin
from supple.pipeline.stages import adapt as stage
from supple.pipeline.stages.export import find_training, load_trained, make_budget
from supple.pipeline.verbs.look import describe_bundle, verify
from supple.skills.checkpoint import load_checkpoint

DEMOS = ("demo-rl2", "demo-maml", "demo-ppo", "demo-pearl-ft")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Demo cells, trained and exported into `<cell>/export`."""
    folder = tmp_path_factory.mktemp("bench")
    assert bench([*DEMOS, "--out", str(folder)]) == 0
    for cell in DEMOS:
        assert main(["export", str(folder / cell / "seed0"), "--out", str(folder / cell / "export")]) == 0
    return folder


def adapt(trained: Path, cell: str, out: Path, *options: str) -> int:
    given = ["adapt", str(trained / cell / "export"), "--out", str(out), "--num-tasks", "3", "--evaluations", "0"]
    return main([*given, *options])


def load_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rl2_is_deployed_from_its_cell(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert adapt(trained, "demo-rl2", tmp_path / "out", "--episodes", "3", "--json") == 0
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    records = load_lines(tmp_path / "out" / "records.jsonl")
    assert [(record["episode"], record["task"]) for record in records] == [
        (episode, f"test{task}") for episode in (1, 2, 3) for task in range(3)
    ]
    assert [record for record in printed if record["event"] == "episode"] == [
        {"event": "episode", **{key: value for key, value in record.items() if key != "kind"}} for record in records
    ]
    returns = json.loads((tmp_path / "out" / "returns.json").read_text())
    assert [(row["at"], row["n"]) for row in returns] == [({"episode": k}, 3) for k in (1, 2, 3)]
    first = np.mean([record["return"] for record in records if record["episode"] == 1])
    assert returns[0]["mean"] == pytest.approx(first)
    events = load_lines(tmp_path / "out" / AUDIT_NAME)
    assert {event["event"] for event in events} <= {"open", "clamps", "close"}
    assert AUDIT_NAME not in load_record(tmp_path / "out")["outputs"]
    policies = [load_bundle(tmp_path / "out" / "policies" / str(index)) for index in range(3)]
    assert {policy.contract.kind for policy in policies} == {"rl2"}
    assert not np.array_equal(policies[0].task["hidden"], policies[1].task["hidden"])
    known = load_checkpoint(tmp_path / "out" / "adapted.safetensors")[0]["hidden"]
    np.testing.assert_array_equal(policies[1].task["hidden"], known[1].numpy())
    played = ["adapt", str(tmp_path / "out" / "policies" / "1"), "--out", str(tmp_path / "again"), "--num-tasks", "1"]
    assert main([*played, "--evaluations", "1", "--episodes", "1", "--evaluate-at", "1", "8", "9"]) == 0
    assert "adapt: no evaluation at 8, 9 of --evaluate-at: there are 1 episodes, and 1 extra" in capsys.readouterr().err


def test_maml_is_deployed_and_leaves_a_plain_policy_for_each_task(trained: Path, tmp_path: Path) -> None:
    assert adapt(trained, "demo-maml", tmp_path / "out") == 0
    records = load_lines(tmp_path / "out" / "records.jsonl")
    # two steps of adaptation, each after two episodes
    assert [record["adaptations"] for record in records if record["task"] == "test0"] == [0, 0, 1, 1, 2, 2]
    returns = json.loads((tmp_path / "out" / "returns.json").read_text())
    assert [(row["at"], row["n"]) for row in returns] == [({"adaptations": k}, 6) for k in (0, 1, 2)]
    kinds = [load_bundle(tmp_path / "out" / "policies" / str(index)).contract for index in range(3)]
    assert [(contract.kind, contract.provenance["task"]) for contract in kinds] == [
        ("policy", f"test{index}") for index in range(3)
    ]
    played = ["adapt", str(tmp_path / "out" / "policies" / "1"), "--out", str(tmp_path / "again"), "--num-tasks", "1"]
    assert main([*played, "--evaluations", "0"]) == 0
    assert len(load_lines(tmp_path / "again" / "records.jsonl")) == 1


@pytest.mark.parametrize("cell", ["demo-ppo", "demo-pearl-ft"])
def test_what_ppo_and_sac_come_to_is_a_plain_policy(trained: Path, tmp_path: Path, cell: str) -> None:
    assert adapt(trained, cell, tmp_path / "out") == 0
    budget = load_bundle(trained / cell / "export" / "bundle").contract.budget
    returns = json.loads((tmp_path / "out" / "returns.json").read_text())
    assert [row["at"] for row in returns] == [{"adaptations": step} for step in range(budget.adapt_steps + 1)]
    policies = [load_bundle(tmp_path / "out" / "policies" / str(index)) for index in range(3)]
    assert {policy.contract.kind for policy in policies} == {"policy"}
    assert not np.array_equal(*(policy.weights["policy.layers.0.bias"] for policy in policies[:2]))
    played = ["adapt", str(tmp_path / "out" / "policies" / "1"), "--out", str(tmp_path / "again"), "--num-tasks", "1"]
    assert main([*played, "--evaluations", "0"]) == 0


class Cut(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize("cell", DEMOS)
def test_an_adaptation_that_was_cut_off_ends_with_the_same_records(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cell: str
) -> None:
    assert adapt(trained, cell, tmp_path / "whole", "--episodes", "6") == 0
    play = Adapter.play

    def cut(adapter: Adapter) -> None:
        if adapter.episode == 3:
            raise Cut
        play(adapter)

    with monkeypatch.context() as patch:
        patch.setattr(stage.Adapter, "play", cut)
        with pytest.raises(Cut):
            adapt(trained, cell, tmp_path / "cut", "--episodes", "6", "--checkpoint-period", "0")
    assert (tmp_path / "cut.partial" / "checkpoint").is_dir()
    assert adapt(trained, cell, tmp_path / "cut", "--episodes", "6", "--checkpoint-period", "0") == 0
    whole, resumed = load_record(tmp_path / "whole"), load_record(tmp_path / "cut")
    for name in ("key", "outputs", "metrics_digest"):
        assert whole[name] == resumed[name]


def test_tasks_of_ones_own(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    goals = tmp_path / "goals.csv"
    goals.write_text("name,x,y\nleft,-0.25,0.25\nright,0.25,0.25\n")
    command = ["adapt", str(trained / "demo-maml" / "export"), "--tasks", str(goals), "--out", str(tmp_path / "out")]
    assert main([*command, "--episodes", "1", "--evaluations", "0"]) == 0
    records = load_lines(tmp_path / "out" / "records.jsonl")
    assert [(record["task"], record["goal"]) for record in records] == [
        ("left", [-0.25, 0.25]),
        ("right", [0.25, 0.25]),
    ]
    goals.write_text("x,y\n9,9\n")
    capsys.readouterr()
    assert main([*command[:-1], str(tmp_path / "far")]) == 2
    assert capsys.readouterr().err == (
        f"supple: {goals}, task 'task0': expected goal axis 'x' within -0.5 .. 0.5, got 9 1; keep it inside the "
        "limits\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--episodes", "0"], "--episodes: expected a whole number from 1 to"),
        (["--num-tasks", "0"], "--num-tasks: expected a whole number from 1 to"),
        (["--num-tasks", "22"], "--num-tasks: expected 1 to 21, the test tasks of the bundle's robot, got 22"),
        (["--num-tasks", "2", "--tasks", "goals.csv"], "adapt: expected --tasks or --num-tasks, got both"),
        (["--layout-size", "20"], "adapt: Unrecognized options: --layout-size, 20"),
        (["--tasks", "absent.csv"], "absent.csv: expected a CSV file of tasks"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert main(["adapt", str(trained / "demo-rl2" / "export"), "--out", str(tmp_path / "out"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("options", [["--num-tasks", "2"], ["--episodes", "3"], []])
def test_a_path_without_a_bundle_is_refused_as_such_whatever_the_options(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "bundle.json").write_text("{")
    refusals = {
        tmp_path / "nowhere": "expected a bundle, got '[Errno 2]",
        trained / "demo-rl2" / "seed0": "expected a bundle, got a folder without bundle.json; make one: supple export",
        tmp_path / "torn": "expected a regular file 'README.md', got none; the bundle is damaged",
    }
    for path, message in refusals.items():
        assert main(["adapt", *options, str(path), "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"supple: {path}: {message}")
        assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_options_that_no_kind_has_are_refused_where_there_is_no_bundle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["adapt", str(tmp_path), "--num-tasks", "2", "--gears", "5"]) == 2
    assert "Unrecognized options" in capsys.readouterr().err


def test_a_folder_without_a_learner_is_not_exported(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path, found in ((trained / "demo-rl2", "neither"), (tmp_path / "nowhere", "nothing there")):
        assert main(["export", str(path), "--out", str(tmp_path / "out")]) == 2
        assert capsys.readouterr().err == (
            f"supple: {path}: expected a folder of meta-train, or one that holds it, got {found}; check the path\n"
        )
    assert not (tmp_path / "out").exists()


def test_a_folder_of_nothing_that_supple_made_is_neither_described_nor_verified(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for verb in ("info", "verify"):
        assert main([verb, str(trained)]) == 2
        assert capsys.readouterr().err == (
            f"supple: {trained}: expected a store, a bundle, a stage folder or a run folder, got none of these; check "
            "the path\n"
        )


def test_a_damaged_bundle_is_refused_in_one_line(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained / "demo-rl2" / "export" / "bundle", tmp_path / "bundle")
    data = (tmp_path / "bundle" / "weights.safetensors").read_bytes()
    (tmp_path / "bundle" / "weights.safetensors").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert main(["adapt", str(tmp_path / "bundle"), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "weights.safetensors: expected the sha256 that the manifest lists" in error
    assert error.count("\n") == 1


def test_a_training_is_exported_from_its_own_records(trained: Path, tmp_path: Path) -> None:
    seed = trained / "demo-pearl-ft" / "seed0"
    assert find_training(seed / "train") == find_training(seed) == seed / "train"
    with pytest.raises(RunError, match="expected a folder of meta-train, or one that holds it, got neither"):
        find_training(trained)
    config, found = CELLS["demo-pearl-ft"].config, load_trained(seed)
    assert (found.learner.settings, found.robot) == (config.learner, choose_builtin(config.robot).record)
    assert (found.space, found.evaluation) == (config.space, config.evaluation)
    copy = shutil.copytree(seed, tmp_path / "seed0")
    shutil.rmtree(copy / "evaluate")
    assert load_trained(copy).evaluation == config.learner.evaluation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "latent"}, "stage.json space: expected one of choice, raw, skill, unit, got 'latent'"),
        ({"learner": "rl2"}, "expected a learner with its settings, got 'rl2'; train it again"),
        ({"learner": {"name": "dreamer", "settings": {}}}, "expected a learner of simpl, .*, got 'dreamer'; name your"),
    ],
)
def test_a_training_whose_records_say_too_little_is_not_exported(
    trained: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    copy = shutil.copytree(trained / "demo-rl2" / "seed0", tmp_path / "seed0")
    record = load_record(copy / "train")
    record["fields"]["config"] |= change
    record["key"] = compute_digest(record["fields"])
    record["record_digest"] = compute_record_digest(record)
    (copy / "train" / "stage.json").write_text(json.dumps(record))
    with pytest.raises((RunError, BundleError), match=message):
        load_trained(copy)


def test_the_budget_of_a_robot_is_that_of_the_evaluation() -> None:
    budget = make_budget(CELLS["maml-2d-navigation"].config.evaluation, rollouts=40)
    assert (budget.episodes, budget.adapt_steps, budget.total) == (40, 3, 160)
    explored = make_budget(CELLS["e-rl2-krazy-5x5-4096"].config.evaluation, rollouts=1)
    assert (explored.episodes, explored.exploration_episodes, explored.total) == (5, 3, 5)


def test_looking_at_a_bundle(trained: Path) -> None:
    path = trained / "demo-rl2" / "export"
    assert [kind for kind, _, _ in verify(path)] == ["stage", "bundle"]
    facts = describe_bundle(path / "bundle")
    assert (facts["kind"], facts["robot"], facts["learner"]) == (
        "rl2 bundle",
        "gridnavi",
        {"greedy": False, "hidden": 8, "slots": 0, "slot_content": 32},
    )
