"""`python -m benchmarks.meta`: tiny cells run, killed and resumed equal; records, gates, references and refusals."""

import json
import re
import shutil
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch

from benchmarks.meta.__main__ import main as bench_meta
from benchmarks.meta.cell_evaluate import load_scores, make_evaluate
from benchmarks.meta.cell_table import find_record, judge_gate
from benchmarks.meta.cell_train import make_train
from benchmarks.meta.cells import CELLS, Gate, Reference, find_cells
from benchmarks.meta.oracle import compute_oracle
from benchmarks.results import collect_meta
from benchmarks.results.collect_meta import collect, judge, load_seeds, make_curve, oracle_rows, score_rows
from benchmarks.results.records import Record, load_records
from supple.errors import RunError
from supple.meta.baselines.config import PpoConfig, SacConfig, TaskSacConfig
from supple.meta.config import EvaluationConfig
from supple.meta.evaluation import evaluate_agent
from supple.meta.gradient.config import MamlConfig
from supple.pipeline.action_spaces import make_space
from supple.pipeline.cli import main
from supple.pipeline.keys import compute_plain, compute_record_digest, load_record
from supple.pipeline.learners import MamlSettings, PpoSettings, SacSettings
from supple.pipeline.robots import choose_builtin
from supple.pipeline.testing_kills import COMPARED, Kills, kill_once
from supple.robots.bandits import BernoulliBandits
from supple.robots.gridnavi import GridNavi
from supple.robots.krazy_world import KrazyWorld
from supple.robots.navigation import POINT_ROBOT, PointNavigation
from supple.robots.random_mazes import RANDOM_MAZE_PRESETS, RandomMazes
from supple.robots.task import goals_of

DEMOS = ("demo-maml", "demo-rl2")
ROOT = Path(__file__).parents[3]


def run_json(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    capsys.readouterr()
    run = bench_meta if arguments[0] == "bench-meta" else main
    words = arguments[1:] if arguments[0] == "bench-meta" else arguments
    assert run([*words, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both demonstrations with two seeds."""
    folder = tmp_path_factory.mktemp("bench") / "bench-meta"
    assert bench_meta([*DEMOS, "--seeds", "0", "1", "--out", str(folder), "--checkpoint-period", "0"]) == 0
    return folder


@pytest.mark.parametrize("name", DEMOS)
def test_records_pass_the_schema_and_hold_the_means_of_the_episodes(out: Path, name: str) -> None:
    cell = CELLS[name]
    records = load_records(out / name / "records.json")
    assert {record.benchmark for record in records} == {cell.benchmark}
    assert (out / name / "returns.svg").read_text().startswith("<?xml")
    assert (out / name / "beliefs.svg").is_file() == (name == "demo-rl2")
    runs = load_seeds(out, name, cell)
    assert [run.seed for run in runs] == [0, 1]
    returns = np.array([run.scores["agent"]["return"] for run in runs])  # (seeds, tasks, places)
    ours = [r for r in records if (r.method, r.metric) == (cell.config.learner.method, "return")]
    assert [record.place for record in ours] == runs[0].scores["agent"]["places"]
    for index, record in enumerate(ours):
        assert record.axis == cell.axis
        assert record.mean == pytest.approx(returns[:, :, index].mean(), abs=1e-4)
        assert record.low is not None
        assert record.high is not None
        assert record.low <= record.mean <= record.high
        assert record.n == returns[:, :, index].size


def test_axes_count_gradient_steps_from_nought_and_episodes_from_one(out: Path) -> None:
    maml, rl2 = (load_seeds(out, name, CELLS[name])[0].scores["agent"] for name in DEMOS)
    assert (maml["axis"], maml["places"], "return_trial" in maml) == ("gradient_step", [0, 1, 2], False)
    assert (rl2["axis"], rl2["places"]) == ("episode_index", [1, 2])
    np.testing.assert_allclose(rl2["return_trial"], np.sum(rl2["return"], axis=1))


@pytest.mark.parametrize(
    "choice",
    [
        SacSettings(config=TaskSacConfig(sac=SacConfig(hidden=(8,))), tasks=1, iterations=1),
        PpoSettings(config=PpoConfig(hidden=(8,), iterations=0, tasks=1, episodes=1), rollouts=1),
    ],
)
def test_seeds_are_runs_of_their_own_where_nothing_is_trained(choice: Any) -> None:
    bench = PointNavigation(variant=POINT_ROBOT, num_train=1, num_test=2)
    tasks, robot = bench.tasks(), bench.make(2)
    train, test = goals_of(tasks.train), goals_of(tasks.test)
    space = make_space("unit", robot.spec)
    returns = []
    for seed in (0, 0, 1):
        learner = choice.make_learner(space, robot, train, seed=seed, device="cpu")
        agent = choice.make_agent(learner, 1000)
        rng = np.random.default_rng(0)
        found = evaluate_agent(agent, robot, space, test, EvaluationConfig(), rng, device=torch.device("cpu"))
        returns.append(found.returns)
    np.testing.assert_array_equal(returns[0], returns[1])
    assert (returns[0] != returns[2]).all()


def test_random_choices_depend_on_no_seed_of_the_training(out: Path) -> None:
    one, other = load_seeds(out, "demo-rl2", CELLS["demo-rl2"])
    assert one.scores["random"] == other.scores["random"]
    assert one.scores["agent"] != other.scores["agent"]


def test_finished_cells_are_skipped_and_shown_again(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (out / "demo-rl2" / "records.json").read_bytes()
    (out / "demo-rl2" / "records.json").unlink()
    events = run_json(["bench-meta", "demo-rl2", "--seeds", "0", "1", "--out", str(out)], capsys)
    assert [event["status"] for event in events if event["event"] == "finish"] == ["skipped"] * 5
    (result,) = (event for event in events if event["event"] == "result")
    assert (result["cell"], result["gates"]) == ("demo-rl2", [])
    assert (out / "demo-rl2" / "records.json").read_bytes() == before
    assert result["rows"] == json.loads(before)


def test_only_the_seeds_that_are_asked_for_are_shown(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert bench_meta(["demo-maml", "--seeds", "1", "--out", str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("seeds 1")
    heads = [line.split("  ")[1].strip() for line in printed[1:6]]
    assert heads == ["gradient_step", "maml", "maml, IQM", "random", "oracle-exact"]


def test_a_seed_can_be_verified_and_described(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seed = out / "demo-maml" / "seed0"
    found = run_json(["verify", str(seed)], capsys)
    assert [(event["kind"], Path(event["path"]).name) for event in found] == [
        ("stage", "train"),
        ("stage", "evaluate"),
        ("run", "seed0"),
    ]
    (facts,) = run_json(["info", str(seed / "train")], capsys)
    assert (facts["kind"], facts["same code"]) == ("stage bench-train", True)


def test_a_run_of_a_module_that_has_moved_is_described_as_of_other_code(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "train"
    shutil.copytree(out / "demo-maml" / "seed0" / "train", folder)
    record = load_record(folder)
    assert "meta/gradient/maml_learner.py" in record["module"]
    record |= {"module": ["pipeline/keys.py", "pipeline/gone.py"]}
    (folder / "stage.json").write_text(json.dumps(record | {"record_digest": compute_record_digest(record)}))
    (facts,) = run_json(["info", str(folder)], capsys)
    assert (facts["kind"], facts["same code"]) == ("stage bench-train", False)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("name", DEMOS)
def test_killed_at_random_moments_equals_uninterrupted(out: Path, tmp_path: Path, name: str) -> None:
    command = [name, "--out", str(tmp_path / "killed"), "--checkpoint-period", "0"]
    published = tmp_path / "killed" / name / "seed0" / "train"
    published.parent.mkdir(parents=True)
    rng, kills = np.random.default_rng(0), Kills()
    while kills.detected < 3 and kills.injected < 20:
        kill_once(command, published, int(rng.integers(1, 30)), rng.uniform(0.0, 0.2), kills, 60.0, bench_meta)
        if published.exists():  # it was published before the kill
            shutil.rmtree(published.parent)
            published.parent.mkdir()
    kill_once(command, published, sys.maxsize, 0.0, kills, 60.0, bench_meta)
    assert (kills.crashed, kills.hung) == (0, 0), published.parent.with_suffix(".log").read_text()
    assert kills.detected >= 1
    for stage in ("train", "evaluate"):
        one, two = load_record(out / name / "seed0" / stage), load_record(published.parent / stage)
        assert [field for field in COMPARED if one[field] != two[field]] == []


def test_list_shows_every_cell_with_gate_and_minutes(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench_meta(["--list"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert lines.keys() == CELLS.keys()
    assert " 8 min  return at gradient_step 1 >= -14; return at gradient_step 2 >= -5" in lines["maml-2d-navigation"]
    assert lines["rl2-tabular-10"].endswith("return_trial >= 150")
    assert lines["maml-krazy-5x5-4096"].endswith("no gate")
    (event,) = run_json(["bench-meta", "rl2-bandit-10-5", "--list"], capsys)
    assert (event["cell"], event["benchmark"]) == ("rl2-bandit-10-5", "meta-bandit-10-5")
    assert event["gates"] == [{"at_least": 6.6, "place": 1, "metric": "return"}]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["maml-3d"], r"expected cells of all, demo-maml, .*, got 'maml-3d'; see python -m benchmarks.meta --list"),
        ([], "expected at least one cell, got none; name some of all, demo-maml"),
        (["demo-maml", "--seeds", "-1"], "benchmarks.meta --seeds: expected seeds of 0 or more, got -1; name some"),
    ],
)
def test_refusals(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert bench_meta([*arguments, "--out", str(tmp_path / "out")]) == 2
    printed = " ".join(capsys.readouterr().err.split())
    assert printed.startswith("supple: benchmarks.meta")
    assert re.search(message, printed), printed
    assert not (tmp_path / "out").exists()


def test_all_stands_for_every_cell_but_the_demonstrations() -> None:
    assert find_cells(("all",)).keys() == {name for name in CELLS if not name.startswith("demo-")}
    assert list(find_cells(("demo-rl2", "demo-maml", "demo-rl2"))) == ["demo-rl2", "demo-maml"]


def test_no_two_cells_would_replace_each_others_records() -> None:
    names = [(cell.benchmark, cell.config.learner.method) for name, cell in find_cells(("all",)).items()]
    assert len(set(names)) == len(names)


def test_every_cell_has_records() -> None:
    """A cell without records would be a promise in the tables of the documentation."""
    recorded = {(record.benchmark, record.method) for record in load_records(ROOT / "docs/results/meta.json")}
    cells = find_cells(("all",)).values()
    assert [cell for cell in cells if (cell.benchmark, cell.config.learner.method) not in recorded] == []


def test_a_gate_is_passed_by_its_interval_or_by_the_mean_alone() -> None:
    cell = replace(CELLS["demo-maml"], gates=(Gate(-14.0, 1),))
    row = {"benchmark": cell.benchmark, "method": "maml", "metric": "return", "axis": "gradient_step", "place": 1}
    judged = {
        (low, mean): judge_gate(cell.gates[0], Record(**row, mean=mean, low=low, high=0.0))
        for low, mean in ((-14.0, -10.0), (-14.1, -10.0), (-20.0, -14.1), (None, -14.0))
    }
    assert list(judged.values()) == ["the interval", "the mean alone", "neither", "the mean alone"]
    other = [Record(**row | {"place": 2}), Record(**row | {"metric": "success"}), Record(**row | {"axis": "episode"})]
    assert find_record(other, cell, cell.gates[0]) is None
    assert find_record([*other, Record(**row, mean=-1.0)], cell, cell.gates[0]) == Record(**row, mean=-1.0)
    assert find_record([Record(**row | {"metric": "return_trial", "place": ""})], cell, Gate(1.0, None, "return_trial"))


def test_gates_and_references_stand_where_the_cells_are_evaluated() -> None:
    for name, cell in CELLS.items():
        evaluation = cell.config.evaluation
        steps, episodes = evaluation.adapt_steps, evaluation.trial.episodes
        places = range(steps + 1) if steps else range(1, episodes + 1)
        for gate in cell.gates:
            assert (gate.place is None) == (gate.metric == "return_trial"), name
            assert gate.place is None or gate.place in places, name
        for reference in cell.references:
            assert reference.method.endswith(("-published", "-exact")), name
            # what was published may end before our evaluation does
            expected = {1} if reference.metric == "return_trial" else {len(places), min(len(places), 4)}
            assert len(reference.values) in expected, name
            assert reference.source, name


def make_row(method: str, metric: str, at: dict[str, int], mean: float) -> dict[str, Any]:
    return {"method": method, "metric": metric, "at": at, "mean": mean}


def test_a_gate_is_passed_at_its_own_place_and_metric_only() -> None:
    cell = replace(CELLS["demo-maml"], gates=(Gate(-14.0, 1), Gate(-5.0, 2), Gate(3.0, None, "return_trial")))
    rows = [
        make_row("maml", "return", {"gradient_step": 1}, -14.0),
        make_row("maml", "return", {"gradient_step": 2}, -5.1),
        make_row("random", "return", {"gradient_step": 2}, 0.0),
        make_row("maml", "return_trial", {}, 3.5),
    ]
    assert [verdict.passed for verdict in judge(cell, rows)] == [True, False, True]


def test_means_and_places_by_hand() -> None:
    # two seeds, two tasks: the mean of 1, 3, 5, 7 is 4; trials of 10, 20, 30, 40 have the mean 25
    scores = [
        {"axis": "episode_index", "places": [1], "return": [[1.0], [3.0]], "return_trial": [10.0, 20.0]},
        {"axis": "episode_index", "places": [1], "return": [[5.0], [7.0]], "return_trial": [30.0, 40.0]},
    ]
    one, whole = score_rows(scores, "rl2")
    assert (one["at"], one["mean"], one["n"]) == ({"episode_index": 1}, 4.0, 4)
    assert (whole["at"], whole["metric"], whole["mean"]) == ({}, "return_trial", 25.0)


def test_references_are_records_without_an_interval(out: Path) -> None:
    cell = replace(
        CELLS["demo-rl2"],
        references=(
            Reference("bayes-exact", (4.0, 11.07), "a proof"),
            Reference("paper-published", (20.0,), "a paper", "return_trial"),
        ),
    )
    rows = collect("demo-rl2", cell, load_seeds(out, "demo-rl2", cell))
    bayes = [row for row in rows if row["method"] == "bayes-exact"]
    assert [(row["at"], row["mean"]) for row in bayes] == [({"episode_index": 1}, 4.0), ({"episode_index": 2}, 11.07)]
    (paper,) = (row for row in rows if row["method"] == "paper-published")
    assert (paper["at"], paper["low"], paper["command"], paper["seeds"]) == ({}, None, "a paper", [])
    assert oracle_rows({"oracle": None}) == []


def test_a_cell_that_changed_since_its_run_is_refused(out: Path) -> None:
    old = CELLS["demo-maml"]
    learner = MamlSettings(config=MamlConfig(hidden=(8,), iterations=5, tasks=2, episodes=2), rollouts=2)
    cell = replace(old, config=replace(old.config, learner=learner))
    with pytest.raises(RunError, match="seed0: expected a run of the cell as it is now, got one with other settings"):
        load_seeds(out, "demo-maml", cell, [0])


def test_a_cell_that_is_evaluated_otherwise_now_is_refused(out: Path) -> None:
    old = CELLS["demo-maml"]
    cell = replace(old, config=replace(old.config, evaluation_seed=7))
    with pytest.raises(RunError, match="seed1: expected a run of the cell as it is now"):
        load_seeds(out, "demo-maml", cell, [1])


def test_seeds_of_several_versions_of_the_code_do_not_mix(out: Path) -> None:
    cell = CELLS["demo-maml"]
    one, other = load_seeds(out, "demo-maml", cell)
    with pytest.raises(RunError, match="demo-maml: expected seeds of one version of the code, got several"):
        collect("demo-maml", cell, [one, other._replace(code="other")])


def test_seeds_that_are_under_way_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "demo-maml" / "seed0" / "train.partial").mkdir(parents=True)
    (tmp_path / "demo-maml" / "seedling").mkdir()
    assert load_seeds(tmp_path, "demo-maml", CELLS["demo-maml"]) == []


def test_the_course_of_training_is_the_return_after_the_most_learning() -> None:
    clock = {"environment_steps": 5, "wall_s": 1.0}
    assert make_curve([{"return_0": -9.0, "return_1": -3.0, **clock}]) == [(5.0, -3.0)]
    assert make_curve([{"return_trial": 4.0, "return_first": 1.0, "return_last": 3.0, **clock}]) == [(5.0, 4.0)]


def test_runs_are_collected_into_records_tables_and_plots(
    out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(collect_meta, "DEMO", "no-")
    path = tmp_path / "meta.json"
    other = {"benchmark": "meta-other", "method": "maml", "metric": "return", "mean": 1.0, "tasks": "t"}
    path.write_text(json.dumps([{**other, "command": "c", "commit": "", "machine": ""}]))
    assert collect_meta.main([str(out), "--out", str(path)]) == 0
    assert collect_meta.main([str(out), "--out", str(path)]) == 0
    records = load_records(path)
    assert [record.benchmark for record in records[:1]] == ["meta-other"]
    assert {record.benchmark for record in records} == {"meta-other", "meta-navigation-2d", "meta-gridnavi"}
    assert len({(r.benchmark, r.method, r.metric, r.axis, r.place) for r in records}) == len(records)
    assert (tmp_path / "meta-gridnavi-episode_index.svg").is_file()
    assert (tmp_path / "meta-navigation-2d-gradient_step.svg").is_file()
    capsys.readouterr()
    assert collect_meta.main([str(tmp_path / "nowhere"), "--out", str(path)]) == 2
    assert "nowhere: expected finished cells, got none; run python -m benchmarks.meta first" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("robot", "goals", "expected"),
    [
        # the best arm pays .5 and .9 of 10 pulls
        (BernoulliBandits(pulls=10, arms=2), [[0.5, 0.1], [0.2, 0.9]], 7.0),
        # two moves away: -.1, then 1 in the 14 steps from the second on
        (GridNavi(), [[0.0, 2.0]], 13.9),
        # distances .1 and then 0, where it ends
        (PointNavigation(), [[0.2, 0.0]], -0.1),
        (KrazyWorld(), [[0.0]], 3.0),
        (PointNavigation(variant=POINT_ROBOT), [[0.2, 0.0]], None),
        (KrazyWorld(episode_steps=10), [[0.0]], None),
        # maze 100 of 7 x 7 cells: up twice, then right four times; each step but the last costs 1/48
        (RandomMazes(maze=RANDOM_MAZE_PRESETS["7"]), [[100.0]], 1.0 - 5 / 48),
    ],
)
def test_oracles_by_hand(robot: Any, goals: list[list[float]], expected: float | None) -> None:
    found = compute_oracle(robot, np.array(goals, np.float32))
    assert found == (None if expected is None else pytest.approx(expected, abs=1e-6))


def test_robots_and_tasks_of_all_cells_fit_their_learners() -> None:
    for large in {cell.config.robot.name: cell.config.robot for cell in CELLS.values()}.values():
        few = {"num_train": 4} if "num_train" in {item.name for item in fields(cast(Any, large))} else {}
        robot: Any = replace(cast(Any, large), **few)
        spec, tasks = robot.spec(), robot.tasks()
        assert goals_of(tasks.train).shape[1:] == goals_of(tasks.test).shape[1:] == spec.goal.shape
    for cell in CELLS.values():
        assert (cell.config.space == "choice") == bool(cell.config.robot.spec().choices)


def test_a_key_says_which_robot_space_and_learner() -> None:
    stage = make_train(CELLS["demo-rl2"].config, 0)
    config = compute_plain(stage.config, "cell")
    assert config["robot"] == choose_builtin(GridNavi(num_train=16)).record
    assert (config["space"], config["learner"]["name"]) == ("choice", "rl2")
    assert config["learner"]["settings"]["config"]["iterations"] == 4
    assert "meta/memory/rl2_learner.py" in stage.module


def test_a_learner_is_evaluated_only_where_one_was_trained(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="train: expected a meta-trained learner, got none; run the cell from its"):
        make_evaluate(CELLS["demo-rl2"].config, tmp_path / "train", 0)


def test_scores_that_lack_a_field_are_refused(tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"tasks": "t", "oracle": null, "agent": {}}')
    with pytest.raises(RunError, match=r"scores.json: expected the field random, got none; run its stage again"):
        load_scores(tmp_path)
