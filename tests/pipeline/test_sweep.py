"""`supple sweep`: the runs are those of `supple run`, and its table is that of their records, on any executor."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.errors import RunError, SourceError
from supple.pipeline.cli import main, parse
from supple.pipeline.intervals import compute_interval
from supple.pipeline.sweep_table import load_scores, make_records, make_table
from supple.pipeline.verbs import sweep
from supple.pipeline.verbs.sweep import Sweep

TASKS = ("near", "far")


def write_adapt(folder: Path, seed: int, *, evaluated: bool = True) -> None:
    """The records of an adaptation, of which only the numbers are made up."""
    folder.mkdir(parents=True)
    records: list[dict[str, Any]] = []
    for at, stage in ((0, "before"), (2, "inferred"), (6, "adapted")):
        for index, task in enumerate(TASKS):
            success = min(1.0, 0.1 * at + 0.2 * seed + 0.1 * index)
            both = {"success_stochastic": success, "success_greedy": success / 2}
            both |= {f"return_{how}": 10 * value for how, value in (("stochastic", success), ("greedy", success / 2))}
            facts = {"episode": at, "task": task, "goal": [float(index)]}
            if evaluated:
                records.append({"kind": "evaluation", "stage": stage, **facts, **both, "n": 4})
            else:
                records += [
                    {"kind": "episode", "stage": "play", **facts, "adaptations": at, "return": 10 * success}
                ] * 3
    (folder / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    returns = [{"method": "maml", "metric": "return", "at": {"adaptations": 0}, "mean": 0.0}]
    (folder / "returns.json").write_text(json.dumps(returns))


def test_intervals_are_over_seeds_and_tasks(tmp_path: Path) -> None:
    scores = {}
    for seed in range(3):
        write_adapt(tmp_path / str(seed), seed)
        scores[seed] = load_scores(tmp_path / str(seed))
    records = make_records(scores, {"benchmark": "demo"})
    found = {(one["method"], one["metric"]): one for one in records}
    assert len(records) == len(found) == 3 * 4
    # by hand: 0.2 + 0.2 seed + 0.1 task, seeds 0..2, tasks 0..1: 0.2 + 0.2 + 0.05
    inferred = found["inferred", "success_stochastic"]
    assert inferred["mean"] == pytest.approx(0.45)
    assert (inferred["n"], inferred["seeds"], inferred["tasks"], inferred["at"]) == (24, [0, 1, 2], 2, {"episode": 2})
    table = 0.2 + 0.2 * np.arange(3)[:, None] + 0.1 * np.arange(2)
    assert (inferred["low"], inferred["high"]) == pytest.approx(compute_interval(table, shares=True)[1:])
    assert found["inferred", "success_greedy"]["mean"] == pytest.approx(0.225)
    assert found["adapted", "return_stochastic"]["mean"] == pytest.approx((6 + 7 + 8 + 9 + 10 + 10) / 6)
    lines = make_table(records).splitlines()
    stages = ("before adaptation", "after inference", "after fine-tuning")
    assert [line.startswith(f"demo  {stage}") for stage, line in zip(stages, lines[1:], strict=True)] == [True] * 3
    assert "0.45 [" in lines[2]
    assert lines[2].endswith("3 x 2")


def test_without_evaluations_the_returns_of_the_episodes_count(tmp_path: Path) -> None:
    scores = {}
    for seed in range(2):
        write_adapt(tmp_path / str(seed), seed, evaluated=False)
        scores[seed] = load_scores(tmp_path / str(seed))
    last = make_records(scores, {"benchmark": "rl2"})[-1]
    assert (last["method"], last["metric"], last["at"], last["n"]) == ("maml", "return", {"adaptations": 6}, 12)
    assert last["mean"] == pytest.approx((6 + 7 + 8 + 9) / 4)
    assert "adaptations 6" in make_table([last]).splitlines()[1]


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_goal_that_stands_twice_is_one_task_of_all_its_episodes(tmp_path: Path, evaluated: bool) -> None:
    """The second row of a goal was all that counted of its evaluations."""
    folder = tmp_path / "adapt"
    write_adapt(folder, 0, evaluated=evaluated)
    before, path = load_scores(folder), folder / "records.jsonl"
    more = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        values = {name: value + 0.5 for name, value in record.items() if name.startswith(("success", "return"))}
        more.append(json.dumps(record | values | {"task": f"{record['task']} again"}))
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in more))
    after = load_scores(folder)
    assert after.keys() == before.keys()
    for place, tasks in before.items():
        assert after[place].keys() == tasks.keys()
        for task, score in tasks.items():
            assert after[place][task].n == 2 * score.n
            assert after[place][task].mean == pytest.approx(score.mean + 0.25)


def test_seeds_that_met_other_tasks_are_not_mixed(tmp_path: Path) -> None:
    for seed in range(2):
        write_adapt(tmp_path / str(seed), seed)
    path = tmp_path / "1" / "records.jsonl"
    path.write_text(path.read_text().replace('"goal": [1.0]', '"goal": [1.5]'))
    with pytest.raises(RunError, match="expected the tasks of seed 0 of seed 1 too"):
        make_records({seed: load_scores(tmp_path / str(seed)) for seed in range(2)}, {})
    path.write_text("{}\n")
    with pytest.raises(RunError, match="expected the records of an adaptation"):
        load_scores(tmp_path / "1")


def read(*arguments: str) -> Sweep:
    parsed = parse("sweep", arguments)
    assert isinstance(parsed, Sweep)
    return parsed


def test_every_combination_is_a_run_of_its_own() -> None:
    parsed = read(
        "demo", "maze", "--seeds", "0:2", "7", "--learner", "simpl", "rl2", "--robot", "maze", "--", "--tasks", "a"
    )
    assert parsed.numbers() == [0, 1, 7]
    names = [group.name for group in parsed.groups()]
    assert names == ["demo-maze-simpl", "demo-maze-rl2", "maze-maze-simpl", "maze-maze-rl2"]
    job = parsed.job(parsed.groups()[1], 7)
    words = "demo --robot maze --learner rl2 --seed 7 --out runs/sweep-demo-maze/demo-maze-rl2-seed7"
    assert " ".join(job.arguments).startswith(words)
    assert job.arguments[-2:] == ["--tasks", "a"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "sweep: expected a preset, got none"),
        (["nowhere"], "preset: expected one of"),
        (["demo", "--seeds", "3:x"], "expected numbers, or ranges such as 0:8, got '3:x'"),
        (["demo", "--seeds", "3:3"], "expected each seed once"),
        (["demo", "--seeds", "0:2", "1"], "expected each seed once"),
        (["demo", "--seeds", "0:999999999"], "expected at most 10000 seeds, got '0:999999999'"),
        (["demo", "--seeds", "0:9000", "9000:10001"], "expected at most 10000 seeds, got '9000:10001'"),
        (["demo", "demo"], "got demo twice"),
        (["demo", "--learner", "nobody"], "--learner: expected one of"),
        (["demo", "--", "--out", "here"], "got --out, which sweep decides"),
        (["demo", "--", "--extract.skill.skill-dim", "0"], "skill-dim"),
        (["demo", "--workers", "3"], "--workers: expected 1 with --executor local"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_runs(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sweep", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def fake_runs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Runs that write records only; seed 1 fails. Returns the seeds that were run."""
    seeds: list[int] = []

    def run(job: sweep.RunJob) -> None:
        seeds.append(int(job.arguments[job.arguments.index("--seed") + 1]))
        if seeds[-1] == 1:
            raise SourceError("somewhere: expected luck, got none; try another seed")
        folder = Path(job.arguments[job.arguments.index("--out") + 1])
        if not folder.exists():
            write_adapt(folder / "adapt", seeds[-1])

    monkeypatch.setattr(sweep, "run_one", run)
    monkeypatch.setattr(sweep, "load_record", lambda folder: {"output_digest": folder.parent.name})
    return seeds


def test_a_run_that_fails_is_named_and_the_others_go_on(
    fake_runs: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sweep", "demo", "--seeds", "0:3", "--out", str(tmp_path / "all")]) == 3
    assert fake_runs == [0, 1, 2]
    out, err = capsys.readouterr()
    assert "sweep: demo-seed1 failed: somewhere: expected luck, got none" in err
    assert "1 of 3 runs failed and are not in the table: demo-seed1" in err
    assert "2 x 2" in out
    made = json.loads((tmp_path / "all" / "sweep.json").read_text())
    assert [("failure" in run, run["run"]) for run in made["runs"]] == [
        (False, "demo-seed0"),
        (True, "demo-seed1"),
        (False, "demo-seed2"),
    ]
    assert all(record["seeds"] == [0, 2] for record in made["records"])
    assert main(["sweep", "demo", "--seeds", "1", "--out", str(tmp_path / "none")]) == 2
    assert "got 1 that failed; the first: somewhere" in capsys.readouterr().err


def test_a_sweep_gives_what_supple_run_gives_and_goes_on_here_where_it_was_killed_elsewhere(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    command = ["sweep", "demo", "--seeds", "0", "--out", str(out)]
    elsewhere = ["--executor", "processes", "--workers", "1", "--", *tiny_options]
    running = subprocess.Popen([sys.executable, "-m", "supple", *command, *elsewhere], stderr=subprocess.PIPE)
    while not (out / "demo-seed0" / "ingest").is_dir():
        assert running.poll() is None
        time.sleep(0.02)
    running.kill()
    running.communicate()
    made = (out / "demo-seed0" / "generate" / "stage.json").stat()
    assert main([*command, "--", *tiny_options]) == 0
    assert (out / "demo-seed0" / "generate" / "stage.json").stat() == made
    mine = json.loads((out / "demo-seed0" / "adapt" / "stage.json").read_text())
    theirs = json.loads((tiny_run / "adapt" / "stage.json").read_text())
    assert (mine["key"], mine["output_digest"]) == (theirs["key"], theirs["output_digest"])
    assert mine["clock"]["command"].startswith("supple run demo --seed 0 ")
    # one seed: its tasks are all there is to take samples of
    summary = {
        (one["method"], one["metric"]): one["mean"] for one in json.loads((tiny_run / "summary.json").read_text())
    }
    records = json.loads((out / "sweep.json").read_text())["records"]
    assert {(one["method"], one["metric"]): one["mean"] for one in records} == pytest.approx(summary)
