"""The verb `run`: the whole chain of a preset, stage by stage, each in its own folder below one run folder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ...adapt.policy import require_reward_head
from ...errors import ConfigError
from ..cli_common import RUNS, Common, Options, Runner, make_machine, parse_verb
from ..folder import write_record
from ..keys import compute_plain
from ..presets import PRESETS, RunConfig, find_preset
from ..progress import format_duration
from ..report.page import make_report
from ..results.summary import RunFacts, load_success, make_summary, save_summary
from ..robot_choice import make_tasks
from ..run_files import RUN_NAME
from ..stage import Stage, StageResult
from ..stages.adapt import make_adapt
from ..stages.export import make_export
from ..stages.extract import make_extract
from ..stages.generate import make_generate
from ..stages.ingest import make_ingest
from ..stages.meta_train import make_meta_train
from .adapt import show_result

Last = Literal["generate", "ingest", "extract", "meta-train", "export", "adapt"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Arguments of `supple run PRESET`."""

    preset: tyro.conf.Suppress[str]
    out: Path | None = None
    """Run folder; without it, runs/<preset>, with layout and seed in its name where they are not the usual ones."""
    seed: int = 0
    """Seed of all stages."""
    reuse: tuple[Path, ...] = ()
    """Other run folders; a stage there with the same key is taken over by hard links instead of being made again."""
    until: Last = "adapt"
    """Last stage to run."""
    report: bool = True
    """Make report.html at the end."""
    config: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)
    options: Common = field(default_factory=Options)

    @property
    def folder(self) -> Path:
        """Where the stages go."""
        if self.out is not None:
            return self.out
        maze, usual = self.config.maze, PRESETS[self.preset].maze
        name = self.preset
        if maze != usual:
            name += f"-layout{maze.layout_seed}-size{maze.layout_size}"
        return RUNS / (name if self.seed == 0 else f"{name}-seed{self.seed}")

    def stages(self) -> dict[str, Callable[[], Stage]]:
        """The stages in order; each is made when those before it are there."""
        config, at = self.config, self.folder
        return {
            "generate": lambda: make_generate(config.maze, config.generate, self.seed),
            "ingest": lambda: make_ingest(at / "generate", config.ingest),
            "extract": lambda: make_extract(at / "ingest", config.extract, config.maze, self.seed),
            "meta-train": lambda: make_meta_train(
                at / "extract", config.meta_train, config.maze, config.tasks, self.seed
            ),
            "export": lambda: make_export(at / "meta-train", config.export),
            "adapt": lambda: make_adapt(
                at / "export", make_tasks(config.maze, config.tasks).test, config.maze, config.adapt, self.seed
            ),
        }

    def execute(self, runner: Runner) -> None:
        """Runs what is not there yet, from the first stage to `until`."""
        if self.until == "adapt":  # now, and not after hours of meta-training
            require_reward_head(self.config.meta_train.simpl, self.config.adapt.loop)
        tasks = make_tasks(self.config.maze, self.config.tasks)
        record = {"preset": self.preset, "seed": self.seed, "config": compute_plain(self.config, "run")}
        results = []
        for name, make in self.stages().items():
            others = [other / name for other in self.reuse]
            uses_torch = name not in ("generate", "ingest", "export")
            results.append(runner.run(make(), self.folder / name, uses_torch=uses_torch, reuse=others))
            if results[-1].status != "skipped" or not (self.folder / RUN_NAME).is_file():
                write_record(self.folder / RUN_NAME, record)
            if name == self.until:
                break
        if self.until == "adapt":
            self.conclude(runner, results, tasks.name)

    def conclude(self, runner: Runner, results: list[StageResult], tasks: str) -> None:
        """Writes the summary and the report, prints the table of success and says how to go on."""
        adapted = results[-1]
        show_result(runner, adapted.folder, replay=adapted.status in ("skipped", "reused"))
        facts = RunFacts(
            benchmark=self.folder.name,
            seed=self.seed,
            tasks=tasks,
            command=make_machine(self.options).command,
            wall_s=sum(result.wall_s for result in results),
        )
        path = save_summary(self.folder, make_summary(load_success(adapted.folder), facts))
        outcome = {"folder": str(self.folder), "summary": str(path), "wall_s": round(facts.wall_s, 1)}
        lines = [f"{path}: the same as records; all stages together took {format_duration(facts.wall_s)}"]
        if self.report:
            outcome["report"] = str(make_report(self.folder, threads=self.options.threads))
            lines.append(f"{outcome['report']}: curves, the maze before and after, skills, task embeddings")
        lines.append(f"Adapt to goals of your own: supple adapt {self.folder} --tasks goals.csv --episodes 100")
        runner.view.record("run", outcome, "\n".join(lines))


def parse_run(arguments: Sequence[str], description: str) -> Run:
    """The arguments of `run`: a preset's name, then options that change its fields.

    Raises:
        ConfigError: the first argument is no known preset.
    """
    known = ", ".join(PRESETS)
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: supple run PRESET [OPTIONS]\n\n{description}\n\nPresets: {known}")
        print("\nsupple run PRESET --help lists every option with that preset's value.")
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(f"run: expected a preset first, one of {known}, got none; see supple run --help")
    name, *rest = arguments
    return parse_verb(Run, f"run {name}", description, rest, Run(preset=name, config=find_preset(name)))
