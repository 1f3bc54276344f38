"""Run folders made of known numbers: what is collected from them, what replaces what, and what is refused."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.results.collect_results import collect, gather, main, make_cost_row, make_row, merge, name_method
from benchmarks.results.collect_runs import compute_episode_seconds, load_finished, require_same
from benchmarks.results.figures import make_compute_figure
from benchmarks.results.published import CURVES
from benchmarks.results.records import load_records
from supple.errors import RunError
from supple.pipeline.keys import compute_digest

WALL_S = {"generate": 10.0, "ingest": 5.0, "extract": 100.0, "meta-train": 600.0}
TASKS = ("goal_1_1", "goal_2_2")
EXPLORATION = 20
EVALUATED = (0, 1, 2, 20, 30)


def write_stage(folder: Path, config: dict[str, Any], seed: int, wall_s: float, code: str = "c0ffee") -> None:
    folder.mkdir(parents=True)
    fields = {"config": config, "seed": seed, "device": "cpu", "versions": {"numpy": "2"}, "code": code}
    clock = {"wall_s": wall_s, "machine": "2 cores, x86_64", "threads": 2, "command": f"supple run maze --seed {seed}"}
    write_stage_record(folder, {"schema": 1, "stage": folder.name, "fields": fields, "inputs": {}, "clock": clock})


def write_stage_record(folder: Path, record: dict[str, Any]) -> None:
    """Writes the record of a stage that made nothing, with the digests that it has to have."""
    digests = {"key": compute_digest(record["fields"]), "outputs": {}, "output_digest": compute_digest({})}
    (folder / "stage.json").write_text(json.dumps({**record, **digests}))


def success(seed: int, task: int, episode: int) -> float:
    """Known success of one cell: seed 0 and the first task are the worst."""
    return min(1.0, 0.01 * episode + 0.1 * seed + 0.2 * task)


def adapt_records(seed: int, episodes: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for episode in range(episodes + 1):
        for task in TASKS:
            if episode:
                stage = "explore" if episode <= EXPLORATION else "play"
                record = {"kind": "episode", "stage": stage, "episode": episode, "task": task, "return": episode % 2}
                records.append(record | {"wall_s": 10.0 + 3.0 * episode})
        for index, task in enumerate(TASKS):
            if episode in EVALUATED:
                value = success(seed, index, episode)
                record = {"kind": "evaluation", "stage": "x", "episode": episode, "task": task, "n": 20}
                both = {"success_stochastic": value, "success_greedy": value / 2, "wall_s": 11.0 + 3.0 * episode}
                both |= {"return_stochastic": 3 * value, "return_greedy": 2 * value}
                records.append(record | both)
    return records


def write_adapt(folder: Path, seed: int, *, method: str = "simpl", episodes: int = 35) -> None:
    learner = {"kind": method, "exploration_episodes": EXPLORATION if method == "simpl" else 0}
    write_stage(folder, {"adapt": {"evaluations": 20}, "learner": learner, "maze": {}, "tasks": []}, seed, 50.0)
    lines = "".join(json.dumps(record) + "\n" for record in adapt_records(seed, episodes))
    (folder / "records.jsonl").write_text(lines)
    (folder / "metrics.jsonl").write_text(lines)


def write_run(
    folder: Path, seed: int, *, layout_seed: int = 0, epochs: int = 7, updates: int = 9, tasks: str = "flat-40"
) -> Path:
    for name, wall_s in WALL_S.items():
        config: dict[str, Any] = {"skill": {"seed": seed}, "updates": updates}
        if name == "meta-train":
            maze = {"layout_size": 20, "layout_seed": layout_seed}
            config = {"robot": {"family": "maze", "config": maze}, "tasks": {"name": tasks}}
        write_stage(folder / name, config, seed, wall_s * (1 + seed))
    (folder / "meta-train" / "meta.json").write_text(json.dumps({"environment_steps": 1_000_000}))
    metrics = [{"step": n, "success_posterior": n / 10 + seed / 100, "wall_s": 30.0 * n} for n in range(1, epochs + 1)]
    metrics = [record | {"return_posterior": 2 * record["success_posterior"]} for record in metrics]
    (folder / "meta-train" / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in metrics))
    (folder / "summary.json").write_text(json.dumps([{"commit": "abc1234"}]))
    write_adapt(folder / "adapt", seed)
    return folder


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    return [write_run(tmp_path / f"seed{seed}", seed) for seed in range(3)]


def find(rows: list[dict[str, Any]], method: str, metric: str, **at: Any) -> dict[str, Any]:
    (row,) = [r for r in rows if (r["method"], r["metric"], r["at"]) == (method, metric, at)]
    return row


def test_success_is_a_mean_over_tasks_and_seeds(folders: list[Path]) -> None:
    rows = collect([load_finished(folder) for folder in folders], "maze-20-seed0", "simpl")
    row = find(rows, "simpl", "success_stochastic", episode=20)
    # .2 + mean of (0, .1, .2) over seeds + mean of (0, .2) over tasks. Variances of the mean: .01 / 3 and .02 / 2, with
    # together 1.684 degrees of freedom, so q = 5.2. That is the variance of 18 trials.
    assert row["mean"] == pytest.approx(0.4)
    assert (row["low"], row["high"]) == pytest.approx((0.0762, 0.8434), abs=1e-4)
    assert (row["n"], row["seeds"], row["tasks"], row["commit"]) == (6, [0, 1, 2], "flat-40", "abc1234")
    assert row["machine"] == "2 cores, x86_64, 2 threads"
    assert row["wall_s"] == pytest.approx(715.0 * 2)  # seeds take once, twice and three times as long
    assert row["command"] == "supple run maze --seed 0; supple run maze --seed 1; supple run maze --seed 2"
    assert find(rows, "simpl", "success_greedy", episode=20)["mean"] == pytest.approx(0.2)


def test_what_skills_explored_is_part_of_the_cost(folders: list[Path]) -> None:
    for seed, folder in enumerate(folders):
        write_stage(folder / "explore", {"explore": {"episodes": 400}}, seed, 100.0)
    rows = collect([load_finished(folder) for folder in folders], "maze", "simpl")
    assert find(rows, "simpl", "explore_wall_s")["mean"] == pytest.approx(100.0)
    assert find(rows, "simpl", "chain_wall_s")["mean"] == pytest.approx(715.0 * 2 + 100.0)
    shutil.rmtree(folders[1] / "explore")
    write_stage(folders[1] / "explore", {"explore": {"episodes": 20}}, 1, 100.0)
    with pytest.raises(RunError, match=r"expected explore\.explore\.episodes = 400"):
        require_same([load_finished(folder) for folder in folders])


def test_the_end_of_exploration_is_marked_and_k_counts_inference_episodes(folders: list[Path]) -> None:
    rows = collect([load_finished(folder) for folder in folders], "maze", "simpl")
    at_20 = find(rows, "simpl", "success_stochastic", episode=20)["mean"]
    assert find(rows, "simpl", "success_stochastic", stage="inferred")["mean"] == at_20
    of_k = [r["at"] for r in rows if r["method"] == "simpl" and "inference_episodes" in r["at"]]
    assert of_k == [{"inference_episodes": k} for k in (1, 2, 20)] * 2  # neither 0 nor 30; stochastic and greedy
    assert find(rows, "simpl", "success_stochastic", inference_episodes=2)["mean"] == pytest.approx(0.22)


def test_training_return_is_a_mean_of_whole_windows(folders: list[Path]) -> None:
    rows = collect([load_finished(folders[0])], "maze", "simpl")
    windows = [r for r in rows if r["metric"] == "return_training"]
    # every second episode is rewarded; the last five of 35 are no whole window
    assert [(r["at"]["episode"], r["mean"]) for r in windows] == [(10, 0.5), (20, 0.5), (30, 0.5)]


def test_the_interval_is_over_seeds_as_well_as_tasks() -> None:
    # the seeds differ, the tasks do not: a variance of .25 / 3, that of 3 trials, and q = t(.975, 2) = 4.303
    table = np.repeat([[0.0], [0.5], [1.0]], 20, axis=1)
    row = make_row("success_stochastic", {"episode": 40}, table)
    assert (row["mean"], row["low"], row["high"], row["n"]) == (0.5, 0.0362, 0.9638, 60)
    assert make_row("success_stochastic", {}, table[1:2])["low"] == pytest.approx(0.2879, abs=1e-2)  # 20 trials


def test_gather_keeps_windows_apart(folders: list[Path]) -> None:
    run = load_finished(folders[1])
    pairs = [(run, run.adaptations[""])]
    assert gather(pairs, "evaluation", "success_stochastic", lambda e: e)[30] == pytest.approx(np.array([[0.4, 0.6]]))
    assert gather(pairs, "episode", "return", lambda episode: episode)[7].tolist() == [[1.0, 1.0]]


def test_costs_come_from_the_stages(folders: list[Path]) -> None:
    rows = collect([load_finished(folder) for folder in folders], "maze", "simpl")
    row = find(rows, "simpl", "meta_training_wall_s")
    # 600, 1200, 1800: mean 1200, deviation 600, t(.975, 2) = 4.3027
    assert (row["mean"], row["n"]) == (1200.0, 3)
    assert row["high"] == pytest.approx(1200 + 4.3027 * 600 / np.sqrt(3), abs=0.1)
    assert find(rows, "simpl", "chain_wall_s")["mean"] == pytest.approx(1430.0)
    assert find(rows, "simpl", "low_level_steps")["mean"] == 1_000_000
    # two tasks: 12 rounds of 3 s and 2 of 2 s, those after an evaluation; the round with one does not count
    assert find(rows, "simpl", "finetune_episode_wall_s")["mean"] == pytest.approx((12 * 1.5 + 2 * 1.0) / 14, abs=1e-4)


def test_success_while_meta_training_is_by_minute(folders: list[Path]) -> None:
    rows = collect([load_finished(folder) for folder in folders[:2]], "maze", "simpl")
    # epochs of 30 s: two per minute, and the seventh is no whole minute
    minutes = [(r["at"]["meta_training_minute"], r["mean"]) for r in rows if r["metric"] == "success_train"]
    assert minutes == [(1, pytest.approx(0.155)), (2, pytest.approx(0.355)), (3, pytest.approx(0.555))]


@pytest.mark.parametrize("name", ["return_last", "return", ""])
def test_other_learners_say_otherwise_how_well_they_do_on_train_tasks(folders: list[Path], name: str) -> None:
    path = folders[0] / "meta-train" / "metrics.jsonl"
    values = {"return_prior": 9.0, "other": 9.0} | ({name: 0.5} if name else {})
    path.write_text("".join(json.dumps({"step": n, "wall_s": 30.0 * n, **values}) + "\n" for n in range(1, 5)))
    shutil.rmtree(folders[0] / "adapt")
    write_adapt(folders[0] / "adapt", 0, method="ppo")
    rows = collect([load_finished(folders[0])], "kitchen", "distral", measure="return")
    trained = [(row["at"], row["mean"]) for row in rows if row["metric"] == "return_train"]
    assert trained == [({"meta_training_minute": n}, 0.5) for n in (1, 2)] * bool(name)
    assert find(rows, "distral", "return_stochastic", episode=20)["wall_s"] == pytest.approx(715.0)  # all stages


def test_a_single_seed_has_no_interval_of_its_cost() -> None:
    assert make_cost_row("wall_s", [3.0]) == {
        "metric": "wall_s",
        "at": {},
        "mean": 3.0,
        "low": None,
        "high": None,
        "n": 1,
    }


def test_seconds_of_an_episode_leave_evaluations_out() -> None:
    def record(kind: str, stage: str, episode: int, wall_s: float) -> dict[str, Any]:
        return {"kind": kind, "stage": stage, "episode": episode, "wall_s": wall_s}

    metrics = [
        record("episode", "explore", 1, 1.0),
        record("episode", "play", 2, 3.0),
        record("episode", "play", 3, 9.0),
        record("evaluation", "finetune", 3, 9.0),
        record("episode", "play", 4, 10.0),
        record("episode", "explore", 4, 10.0),
        record("episode", "play", 5, 14.0),
        record("episode", "play", 5, 14.0),
    ]
    assert compute_episode_seconds(metrics) == [2.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("suffix", "algorithm", "name"),
    [
        ("", "simpl", "ours"),
        ("spirl", "spirl", "spirl"),
        ("sac-300", "sac", "sac-300"),
        ("blind", "simpl", "ours-blind"),
    ],
)
def test_methods_are_named_by_folder(suffix: str, algorithm: str, name: str) -> None:
    assert name_method("ours", suffix, algorithm) == name


def test_baselines_are_methods_without_inference(folders: list[Path]) -> None:
    for seed, folder in enumerate(folders):
        write_adapt(folder / "adapt-spirl", seed, method="spirl")
        write_adapt(folder / "adapt-sac", seed, method="sac")
        (folder / "adapt-late.partial").mkdir()
    rows = collect([load_finished(folder) for folder in folders], "maze", "simpl")
    assert {r["method"] for r in rows if r["command"].startswith("supple")} == {"simpl", "spirl", "sac"}
    spirl = [r for r in rows if r["method"] == "spirl"]
    assert {key for r in spirl for key in r["at"]} == {"episode"}
    assert (spirl[0]["wall_s"], find(rows, "sac", "success_greedy", episode=0)["wall_s"]) == (230.0, 0.0)


def test_the_return_is_collected_where_tasks_pay_for_their_parts(folders: list[Path]) -> None:
    runs = [load_finished(folder) for folder in folders]
    shares, returns = collect(runs, "maze", "simpl"), collect(runs, "maze", "simpl", measure="return")
    for end, times in (("stochastic", 3.0), ("greedy", 4.0)):  # greedy success is half of the stochastic one
        share, found = (
            find(rows, "simpl", f"{name}_{end}", episode=2) for rows, name in ((shares, "success"), (returns, "return"))
        )
        assert found["mean"] == pytest.approx(times * share["mean"])
    assert find(returns, "simpl", "return_train", meta_training_minute=1)["mean"] == pytest.approx(
        2.0 * find(shares, "simpl", "success_train", meta_training_minute=1)["mean"]
    )
    assert not [row for row in returns if row["metric"].startswith("success")]


def test_published_numbers_stand_beside_ours_in_the_published_maze_only(folders: list[Path], tmp_path: Path) -> None:
    rows = collect([load_finished(folders[0])], "maze", "simpl")
    row = find(rows, "simpl-published", "success_stochastic", episode=40)
    assert (row["mean"], row["command"]) == (0.74, "digitised from the paper's figure 4, +-.02")
    k = [r["mean"] for r in rows if r["method"] == "simpl-published" and "inference_episodes" in r["at"]]
    assert k == [0.26, 0.32, 0.39, 0.44, 0.47, 0.53]
    elsewhere = collect([load_finished(write_run(tmp_path / "other", 0, layout_seed=7))], "maze-7", "simpl")
    assert not [r for r in elsewhere if "published" in r["method"]]


def test_published_values_are_shares_or_subtasks() -> None:
    for curve in CURVES:
        most = 4 if curve.tasks == "kitchen" else 1  # subtasks, or a share
        assert all(0 <= value <= most for value in curve.success.values())


def test_merge_replaces_one_method_of_one_task_set_and_keeps_the_rest() -> None:
    def row(method: str, mean: int, benchmark: str = "maze", tasks: str = "flat-40") -> dict[str, Any]:
        return {"benchmark": benchmark, "method": method, "tasks": tasks, "mean": mean}

    old = [row("a", 1), row("b", 1), row("a", 2), row("a", 1, "other"), row("a", 1, tasks="flat-10")]
    new = [row("a", 7), row("c", 7)]
    assert merge(old, new) == [*new, row("b", 1), row("a", 1, "other"), row("a", 1, tasks="flat-10")]
    assert merge(old[1:2], new) == [row("b", 1), *new]


def test_merge_keeps_what_another_cell_brought_on_another_axis() -> None:
    def row(mean: float, **at: int) -> dict[str, Any]:
        return {"benchmark": "semicircle", "method": "random", "tasks": "20", "at": at, "mean": mean}

    old = [row(0.1, episode_index=1), row(0.2, episode_index=2), row(0.5)]
    new = [row(0.3, gradient_step=0), row(0.6)]
    assert merge(old, new) == [*old[:2], *new]
    own = [{**one, "method": "pearl"} for one in old]
    assert merge(own, [{**row(0.4, episode_index=3), "method": "pearl"}])[1:] == own[2:]


@pytest.mark.parametrize("method", ["random", "random-skill", "oracle-exact", "psrl-reference", "maml-published"])
def test_merge_keeps_the_places_of_what_learners_are_compared_with(method: str) -> None:
    def row(method: str, mean: float, place: int) -> dict[str, Any]:
        at = {"gradient_step": place}
        return {"benchmark": "navigation", "method": method, "metric": "return", "at": at, "mean": mean}

    old = [row(method, -1.0, 0), row("maml", -2.0, 0), row(method, -1.0, 1), row("maml", -2.0, 1)]
    found = merge(old, [row(method, -3.0, 0), row("maml", -4.0, 0)])
    assert found == [row(method, -3.0, 0), row("maml", -4.0, 0), row(method, -1.0, 1)]


def test_the_command_writes_records_and_plots_and_is_idempotent(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results" / "maze.json"
    arguments = [*map(str, folders), "--benchmark", "m", "--out", str(out)]
    assert main([*arguments, "--method", "simpl"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        str(out),
        *(str(out.parent / f"m-{axis}.svg") for axis in ("episode", "inference_episodes", "meta_training_minute")),
    ]
    first = json.loads(out.read_bytes())
    assert merge(first, collect([load_finished(folder) for folder in folders], "m", "simpl")) == first
    assert main([*arguments, "--method", "simpl-again", "--command", "make curve"]) == 0
    assert (out.parent / "maze-compute.svg").is_file()  # two budgets make a curve
    records = load_records(out)
    assert {r.command for r in records if r.method == "simpl-again"} == {"make curve"}
    assert len(records) - len(first) == len([r for r in records if r.method == "simpl"])
    assert records[-1].method.endswith("-published")


def test_compute_figure_has_a_line_per_place_in_the_order_of_cost(folders: list[Path], tmp_path: Path) -> None:
    rows = [row for folder in folders for row in collect([load_finished(folder)], "m", f"of-{folder.name}")]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(rows[::-1]))
    figure = make_compute_figure(load_records(path))
    assert figure is not None
    (line,) = figure.axes[0].get_lines()  # a place that only one budget has come to has none
    assert list(line.get_xdata()) == [10.0, 20.0, 30.0]
    assert list(line.get_ydata()) == pytest.approx([0.3, 0.4, 0.5])
    assert make_compute_figure(load_records(path)[:1]) is None
    path.write_text(json.dumps([row | {"tasks": row["method"]} for row in rows]))  # a budget each, of other tasks
    assert make_compute_figure(load_records(path)) is None


def test_runs_that_differ_in_more_than_their_seed_are_refused(folders: list[Path], tmp_path: Path) -> None:
    runs = [load_finished(folder) for folder in folders]
    assert require_same(runs) == []
    other = load_finished(write_run(tmp_path / "other", 5, updates=10))
    with pytest.raises(RunError, match=r"other.*generate\.updates = 9.*got 10"):
        require_same([*runs, other])
    with pytest.raises(RunError, match=r"seed0: expected a seed of its own, got 0 again"):
        require_same([runs[0], runs[1], runs[0]])


def test_other_code_and_missing_baselines_are_told(folders: list[Path]) -> None:
    record = json.loads((folders[1] / "extract" / "stage.json").read_text())
    record["fields"]["code"] = "other"
    write_stage_record(folders[1] / "extract", record)
    robot = json.loads((folders[1] / "meta-train" / "stage.json").read_text())
    robot["fields"]["config"]["robot"]["digest"] = "other"
    write_stage_record(folders[1] / "meta-train", robot)
    write_adapt(folders[0] / "adapt-sac", 0, method="sac")
    code, missing = sorted(require_same([load_finished(folder) for folder in folders]), key=len)
    assert (code, missing) == (
        f"{folders[1]}: other code than {folders[0]} in extract, meta-train",
        f"adapt-sac: not in {folders[1]}, {folders[2]}; its records have fewer seeds",
    )


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("adapt", "expected a finished adapt folder, got none"),
        ("meta-train", r"meta-train: expected a stage folder with stage\.json"),
    ],
)
def test_an_unfinished_run_is_refused_in_one_line(
    folders: list[Path], damage: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (folders[0] / damage).rename(folders[0] / f"{damage}.partial")
    out = tmp_path / "out.json"
    assert main([str(folders[0]), "--benchmark", "m", "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert len(error.splitlines()) == 1
    with pytest.raises(RunError, match=message):
        load_finished(folders[0])
    assert not out.exists()


def test_what_is_under_way_is_collected_as_far_as_all_seeds_have_come(folders: list[Path]) -> None:
    partial = folders[1] / "adapt.partial"
    (folders[1] / "adapt").rename(partial)
    with pytest.raises(RunError, match="got none"):
        load_finished(folders[1])
    record = json.loads((partial / "stage.json").read_text())
    (partial / "stage.json").unlink()
    (partial / "records.jsonl").unlink()
    (partial / "key.json").write_text(json.dumps(record["fields"]))
    lines = [json.dumps(line) for line in adapt_records(1, 25)]
    (partial / "metrics.jsonl").write_text("\n".join(lines) + '\n{"kind": "epi')
    runs = [load_finished(folder, unfinished=True) for folder in folders[:2]]
    (warning,) = require_same(runs)
    assert warning == f"{partial}: not finished; only what all seeds have reached is collected"
    rows = [row for row in collect(runs, "m", "simpl") if row["method"] == "simpl"]
    evaluated = [row["at"]["episode"] for row in rows if row["metric"] == "success_greedy" and "episode" in row["at"]]
    assert evaluated == [0, 1, 2, 20]
    assert [row["at"]["episode"] for row in rows if row["metric"] == "return_training"] == [10, 20]
    assert find(rows, "simpl", "success_stochastic", episode=20)["n"] == 4


def test_seeds_that_were_evaluated_elsewhere_give_what_all_of_them_have(folders: list[Path]) -> None:
    path = folders[1] / "adapt" / "records.jsonl"
    lines = [
        line for line in path.read_text().splitlines() if json.loads(line)["kind"] != "evaluation" or ": 2," not in line
    ]
    path.write_text("\n".join(lines) + "\n")
    record = json.loads((folders[1] / "adapt" / "stage.json").read_text())
    record["fields"]["config"]["adapt"] = {"evaluations": 20, "episodes": 30, "evaluate_at": [1, 20]}
    write_stage_record(folders[1] / "adapt", record)
    runs = [load_finished(folder) for folder in folders]
    (warning,) = require_same(runs)
    assert "other episodes or evaluations; only what all seeds have is collected" in warning
    rows = [row for row in collect(runs, "m", "simpl") if row["metric"] == "success_greedy" and "episode" in row["at"]]
    assert [row["at"]["episode"] for row in rows] == [0, 1, 20, 30]
    record["fields"]["config"]["adapt"]["evaluations"] = 5
    write_stage_record(folders[1] / "adapt", record)
    with pytest.raises(RunError, match=r"adapt\.evaluations"):
        require_same([load_finished(folder) for folder in folders])


def test_no_run_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--benchmark", "m"]) == 2
    assert "at least one run folder" in capsys.readouterr().err
