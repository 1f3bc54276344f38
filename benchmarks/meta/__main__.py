"""`python -m benchmarks.meta`: reproduces cells of the meta-RL results table, seed by seed."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro
from matplotlib.figure import Figure

from supple.errors import ConfigError
from supple.pipeline.cli import run_program
from supple.pipeline.cli_common import RUNS, Common, Options, Runner, parse_verb
from supple.pipeline.folder import write_record
from supple.pipeline.keys import PACKAGE_ROOT
from supple.pipeline.run_files import RUN_NAME
from supple.pipeline.summary import find_commit
from supple.robots.krazy_world import KrazyWorld
from supple.skills.checkpoint import load_checkpoint

from ..results.cell_figures import make_cell_figure
from ..results.collect_meta import REFERENCES, SeedRun, Verdict, collect, judge, load_policies, load_seeds, name_seed
from ..results.collect_results import Row, save_rows
from ..results.pages import save_figures
from ..results.records import group
from .beliefs import follow_learner, has_beliefs, make_belief_figure, play_strips
from .boards import make_board_figure
from .cell_evaluate import RETURNS_NAME, VISITS, make_evaluate
from .cell_table import describe_gate
from .cell_train import Inputs, Role, make_train, require_inputs
from .cells import CELLS, Cell, find_cells
from .references import has_references, make_references

PROGRAM = "python -m benchmarks.meta"
RECORDS_NAME = "records.json"
FIGURE_NAME = "returns.svg"
BELIEFS_NAME = "beliefs.svg"
BOARDS_NAME = "boards.svg"
HEADS = {"return": "", "return_iqm": ", IQM", "return_trial": ", whole trial"}
"""Metrics of the printed table, and what stands after the method's name there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchMeta:
    """Arguments of `python -m benchmarks.meta`."""

    cells: tyro.conf.Positional[Annotated[tuple[str, ...], tyro.conf.arg(metavar="CELL...")]] = ()
    """Cells to run, by name, or `all`; --list shows them."""
    seeds: tuple[int, ...] = (0,)
    """Seeds, each of which is a meta-training of its own."""
    out: Path = RUNS / "bench-meta"
    """Folder with a folder for each cell, in it one for each seed."""
    skills: Path | None = None
    """Folder that `supple extract` wrote, for cells whose actions are skills, or raw with observations on the scale of
    the skills' data. Part of the key by its content."""
    play: Path | None = None
    """Folder that `supple ingest` wrote, or a store, for cells whose learner starts from play data. Part of the key by
    its content."""
    list: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Show the cells with their gates and the expected minutes, and run nothing."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Runs what is not there yet, cell by cell, and shows each when its seeds are done.

        Raises:
            ConfigError: a cell is not known, there are no cells or no seeds, a seed is negative, or a cell needs
                skills or play data that are not given.
            RunError: the skills are missing or damaged.
            StoreError: the play data are.
            SpecError: either is of another robot.
        """
        if self.list:
            list_cells(runner, find_cells(self.cells) if self.cells else CELLS)
            return
        cells = find_cells(self.cells)
        if not self.seeds or min(self.seeds) < 0:
            raise ConfigError(
                f"benchmarks.meta --seeds: expected seeds of 0 or more, got {list_text(self.seeds)}; name some"
            )
        inputs = self.inputs
        for name, cell in cells.items():
            require_inputs(name, cell.config, inputs)
        for name, cell in cells.items():
            for seed in dict.fromkeys(self.seeds):
                runner.view.note(f"{name}, seed {seed}: about {cell.minutes:g} min on one core")
                run_seed(runner, name_seed(self.out, name, seed), name, cell, seed, inputs)
            if has_references(cell.config):
                runner.run(make_references(cell.config), self.out / name / REFERENCES, uses_torch=False)
            conclude(runner, self.out, name, cell, load_seeds(self.out, name, cell, self.seeds))

    @property
    def inputs(self) -> Inputs:
        """What was given for cells to read."""
        given: dict[Role, Path | None] = {"skills": self.skills, "play": self.play}
        return {role: path for role, path in given.items() if path is not None}


def run_seed(runner: Runner, folder: Path, name: str, cell: Cell, seed: int, inputs: Inputs) -> None:
    """Trains and evaluates one seed, unless that is there already; see `run_stage` for errors."""
    trained = runner.run(make_train(cell.config, seed, inputs), folder / "train")
    if trained.status != "skipped" or not (folder / RUN_NAME).is_file():
        write_record(folder / RUN_NAME, {"cell": name, "seed": seed, "commit": find_commit(PACKAGE_ROOT)})
    runner.run(make_evaluate(cell.config, folder / "train", seed, inputs), folder / "evaluate")


def list_text(values: Sequence[int]) -> str:
    """`0, -1`, or `none`."""
    return ", ".join(str(value) for value in values) or "none"


def list_cells(runner: Runner, cells: Mapping[str, Cell]) -> None:
    """One line per cell."""
    width = max(map(len, cells))
    for name, cell in cells.items():
        gates = [gate._asdict() for gate in cell.gates]
        facts = {"cell": name, "benchmark": cell.benchmark, "minutes": cell.minutes, "gates": gates}
        text = "; ".join(describe_gate(gate, cell) for gate in cell.gates) or "no gate"
        runner.view.record("cell", facts, f"{name:<{width}}  {cell.minutes:>4g} min  {text}")


def conclude(runner: Runner, out: Path, name: str, cell: Cell, runs: Sequence[SeedRun]) -> None:
    """Writes the records and the plot of the seeds just asked for, and shows them."""
    rows = collect(name, cell, runs, load_policies(out, name, cell))
    save_rows(out / name / RECORDS_NAME, rows)
    figure = make_cell_figure(name, rows, {run.seed: run.curve for run in runs}, cell.gates)
    save_figures({out / name / FIGURE_NAME: figure, **draw_pictures(out, name, cell, runs[0].seed)})
    verdicts = judge(cell, rows)
    facts: dict[str, Any] = {
        "cell": name,
        "records": str(out / name / RECORDS_NAME),
        "figure": str(out / name / FIGURE_NAME),
        "gates": [{**verdict.gate._asdict(), "mean": verdict.mean, "passed": verdict.passed} for verdict in verdicts],
        "rows": json.loads(json.dumps(rows)),
    }
    lines = [*render_table(name, rows), *(render_verdict(cell, verdict) for verdict in verdicts)]
    lines.append(f"{facts['records']}: the same as records; {facts['figure']}: plot")
    runner.view.record("result", facts, "\n".join(lines))


def draw_pictures(out: Path, name: str, cell: Cell, seed: int) -> dict[Path, Figure]:
    """What one seed believes or where it goes, by the file that each picture belongs in; none for most robots."""
    folder = name_seed(out, name, seed)
    pictures = {}
    if has_beliefs(cell.config):
        strips = [*play_strips(), *follow_learner(cell.config, folder / "train")]
        pictures[out / name / BELIEFS_NAME] = make_belief_figure(strips)
    if isinstance(cell.config.robot, KrazyWorld):
        pictures[out / name / BOARDS_NAME] = draw_boards(cell, cell.config.robot, folder / "evaluate")
    return pictures


def draw_boards(cell: Cell, robot: KrazyWorld, folder: Path) -> Figure:
    """Where the agent that was evaluated in `folder` went on the first test boards."""
    tensors, _ = load_checkpoint(folder / RETURNS_NAME)
    visits = tensors[f"agent.{VISITS}"].numpy()
    rounds, episodes = visits.shape[1:3]
    head = "{} steps of adaptation" if rounds > 1 else "episode {}"
    places = [head.format(place) for place in (range(rounds) if rounds > 1 else range(1, episodes + 1))]
    # after steps of adaptation an episode is as good as another
    along = visits.mean(axis=2) if rounds > 1 else visits[:, 0]
    boards = [int(task.goal[0]) for task in robot.tasks().test]
    return make_board_figure(robot.board, boards, along, cell.config.learner.method, places)


def render_table(name: str, rows: Sequence[Row]) -> list[str]:
    """The returns: a line per method and metric, a column per place; brackets hold 95 % intervals."""
    shown = [row for row in rows if row["metric"] in HEADS]
    seeds = next(row["seeds"] for row in shown)
    lines = [f"{name}, {shown[0]['tasks']}, seeds {list_text(seeds)}"]
    cells: list[list[str]] = []
    for (method, metric), of_one in group(shown, lambda row: (row["method"], row["metric"])).items():
        head = method + HEADS[metric]
        cells.append([head, *(render_number(row) for row in of_one)])
    axis = next(iter(shown[0]["at"]))
    places = list(dict.fromkeys(row["at"][axis] for row in shown if row["at"]))
    cells.insert(0, [axis, *(str(place) for place in places)])
    widths = [max(len(line[column]) for line in cells if column < len(line)) for column in range(len(cells[0]))]
    lines += ["  " + "  ".join(f"{text:<{width}}" for text, width in zip(line, widths, strict=False)) for line in cells]
    return [line.rstrip() for line in lines]


def render_number(row: Row) -> str:
    """A mean, with its interval where it has one."""
    if row["low"] is None:
        return f"{row['mean']:.2f}"
    return f"{row['mean']:.2f} [{row['low']:.2f}, {row['high']:.2f}]"


def render_verdict(cell: Cell, verdict: Verdict) -> str:
    """`gate passed: return at gradient_step 1 >= -14, got -12.3`."""
    outcome = "passed" if verdict.passed else "missed"
    return f"gate {outcome}: {describe_gate(verdict.gate, cell)}, got {verdict.mean:.4g}"


def dispatch(arguments: Sequence[str]) -> int:
    """Runs cells; errors pass through.

    Raises:
        SystemExit: From the parser, with 0 for --help.
        SuppleError: See `BenchMeta.execute`.
    """
    what = (
        "Reproduce cells of the meta-RL results table: meta-train, then evaluate on held-out tasks.\n\nExamples:\n"
        f"  {PROGRAM} --list\n  {PROGRAM} demo-maml demo-rl2\n  {PROGRAM} maml-2d-navigation --seeds 0 1 2 --threads 1"
    )
    parsed = parse_verb(BenchMeta, "benchmarks.meta", what, arguments, None, program=PROGRAM)
    runner = Runner(parsed.options, PROGRAM)
    try:
        parsed.execute(runner)
    finally:
        runner.view.close()
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code.

    Args:
        arguments: Cells and options; None takes those of the process.
    """
    return run_program(PROGRAM, dispatch, sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
