"""The verb `run`: the whole chain of a preset, stage by stage, each in its own folder below one run folder."""

import re
import shlex
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, get_args

import tyro

from ...bounds import Seed
from ...errors import ConfigError
from ...robots.families import FAMILIES
from ...robots.family import Hardware, OneRow, Plays, PlaysElsewhere
from ...robots.maze_family import Maze
from ...robots.task import TaskSet, save_tasks_csv
from ..cli_common import (
    FLAT,
    RUNS,
    Common,
    Options,
    Runner,
    bind_choice,
    make_machine,
    parse_verb,
    take_group,
    take_option,
)
from ..executors import Executor, RobotExecutorConfig, make_executor
from ..folder import is_published, lock_folder, refuse_place, write_record
from ..interrupt import catch_signals
from ..keys import RECORD_NAME, compute_plain
from ..learner_option import AboutLearner
from ..learners import LEARNERS, SimplSettings, choose_learner, find_learner
from ..presets import PRESETS, RunConfig
from ..progress import format_duration
from ..robots import RobotChoice, choose_builtin, find_refusal, find_robot, find_tasks, load_presets, load_user_module
from ..run_files import REPORT_NAME, RUN_NAME, TASKS_NAME
from ..settings.ingest import IngestConfig
from ..stage import Stage, StageResult
from .adapt import show_result
from .data import tell_recovered

PARTS_NAME = "ingest.parts"
"""In a run folder, while a log of several files is ingested."""

Last = Literal[
    "generate", "ingest", "extract", "explore", "ingest-explored", "meta-train", "map-logs", "export", "adapt"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(AboutLearner):
    """Arguments of `supple run PRESET`."""

    preset: tyro.conf.Suppress[str]
    out: Path | None = None
    """Run folder; without it, runs/<preset>, with robot and seed in its name where they are not the usual ones."""
    seed: Seed = 0
    """Seed of all stages."""
    reuse: tuple[Path, ...] = ()
    """Other run folders; a stage there with the same key is taken over by hard links instead of being made again."""
    until: Last = "adapt"
    """Last stage to run."""
    from_log: Path | None = None
    """Recording of the robot in the place of play data: a file or folder that `supple ingest` reads."""
    mapping: Path | None = None
    """File that says how the topics of that log become steps; without it, the log is read as `supple inspect` says."""
    report: bool = True
    """Make report.html at the end."""
    config: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)
    where: Annotated[RobotExecutorConfig, FLAT] = field(default_factory=RobotExecutorConfig)
    options: Common = field(default_factory=Options)

    def __post_init__(self) -> None:
        """Robot and learner of the preset are replaced by those of the command line."""
        if self.robot is not None and self.learner is not None:
            object.__setattr__(self, "config", replace(self.config, robot=self.robot, learner=self.learner))
        if self.from_log is None and self.mapping is not None:
            raise ConfigError("--mapping: expected --from-log with it, got none; name the log that it is of")
        if self.from_log is not None and self.until == "generate":
            raise ConfigError("--until: expected a stage behind generate with --from-log, got generate; name another")
        if self.mapping is not None:
            config = replace(self.config, ingest=replace(self.config.ingest, mapping=self.mapping))
            object.__setattr__(self, "config", config)

    @property
    def maps(self) -> bool:
        """Whether logs come along: the preset wants it, and policy and learner can take them."""
        config = self.config
        wanted = config.map.enabled and config.meta_train.action_space != "choice"
        return wanted and self.require_learner().settings.takes_logs

    @property
    def folder(self) -> Path:
        """Where the stages go."""
        if self.out is not None:
            return self.out
        name = self.preset.rpartition(":")[2]
        robot, usual = self.config.robot, find_preset(self.preset).config.robot
        if robot.name != usual.name:
            name += "-" + re.sub(r"[^A-Za-z0-9_.-]", "-", robot.name)
        if self.from_log is not None:
            name += "-from-log"
        return RUNS / (name if self.seed == 0 else f"{name}-seed{self.seed}")

    def stages(self, tasks: TaskSet, executor: Executor) -> dict[str, Callable[[], Stage]]:
        """The stages in order; each is made when those before it are there."""
        from ..stages.adapt import make_adapt
        from ..stages.explore import make_explore
        from ..stages.export import make_export
        from ..stages.extract import make_extract
        from ..stages.generate import make_generate
        from ..stages.ingest import Parts, make_ingest
        from ..stages.map_logs import make_map_logs
        from ..stages.meta_train import make_meta_train

        config, at, robot, learner = self.config, self.folder, self.require_choice(), self.require_learner()
        source = self.from_log or at / "generate"
        parts = Parts(at / PARTS_NAME, executor)
        generate = {} if self.from_log else {"generate": lambda: make_generate(robot, config.generate, self.seed)}
        exploring, store = {}, at / "ingest"
        if config.explore.enabled and self.maps:
            blind, store = replace(robot.spec, image=None), at / "ingest-explored"
            plain = IngestConfig(compression=config.ingest.compression)  # how a log is read is that log's own
            exploring = {
                "explore": lambda: make_explore(at / "extract", config.explore, robot, tasks, self.seed),
                "ingest-explored": lambda: make_ingest([at / "explore"], plain, blind),
            }
        logs, mapping = None, {}
        if self.maps:
            logs = at / "map-logs"
            mapping = {"map-logs": lambda: make_map_logs(store, at / "extract", config.map, robot, tasks, self.seed)}
        return {
            **generate,
            "ingest": lambda: make_ingest([source], config.ingest, robot.spec, parts),
            "extract": lambda: make_extract(at / "ingest", config.extract, robot, self.seed),
            **exploring,
            "meta-train": lambda: make_meta_train(
                *(at / "extract", config.meta_train, learner, robot, tasks, self.seed),
                play=at / "ingest",
                executor=executor,
            ),
            **mapping,
            "export": lambda: make_export(at / "meta-train", config.export, learner, settings=True, logs=logs),
            "adapt": lambda: make_adapt(at / "export", tasks.test, robot, config.adapt, self.seed),
        }

    def execute(self, runner: Runner) -> None:
        """Runs what is not there yet, from the first stage to `until`."""
        refuse_place(self.folder)
        for other in self.reuse:
            require_run(other)
        with (
            catch_signals(runner.stop),
            lock_folder(self.folder, runner.view.note, runner.stop),
            closing(make_executor(self.where, runner.stop)) as executor,
        ):
            self.execute_alone(runner, executor)

    def execute_alone(self, runner: Runner, executor: Executor) -> None:
        """Runs the stages while no other process works on the run folder."""
        robot = self.require_choice()
        self.require_trainable()
        tasks = find_tasks(robot, self.config.tasks, self.config.test_tasks)
        settings = {
            **compute_plain(replace(self.config, robot=Maze()), "run"),
            "robot": robot.record,
            "learner": self.require_learner().record,
        }
        record = {"preset": self.preset, "seed": self.seed, "config": settings}
        if self.from_log is not None:
            record["from_log"] = str(self.from_log)
        stages = self.stages(tasks, executor)
        self.require_later(tasks, list(stages))
        if self.until not in stages:
            raise ConfigError(
                f"--until: expected a stage of this run, one of {', '.join(stages)}, got {self.until}; name another "
                "or switch it on"
            )
        if self.config.map.enabled and not self.maps:
            left = ["explore", "ingest-explored"] * self.config.explore.enabled + ["map-logs"]
            runner.view.note(
                f"run: {', '.join(left)} left out: no logs can lead '{self.require_learner().reference}' with "
                f"--meta-train.action-space {self.config.meta_train.action_space}"
            )
        results = []
        for name, make in stages.items():
            others = [other / name for other in self.reuse]
            uses_torch = name not in ("generate", "ingest", "ingest-explored", "export")
            results.append(runner.run(make(), self.folder / name, uses_torch=uses_torch, reuse=others))
            if results[-1].status != "skipped" or not (self.folder / RUN_NAME).is_file():
                write_record(self.folder / RUN_NAME, record)
            if name == "ingest" and self.from_log is not None:
                shutil.rmtree(self.folder / PARTS_NAME, ignore_errors=True)
                tell_recovered(results[-1].folder, runner)
            if name == self.until:
                break
        if self.until == "adapt":
            self.conclude(runner, results, tasks)

    def require_trainable(self) -> None:
        """Refuses, before play data are made, a robot that the chain would only refuse behind them.

        Raises:
            ConfigError: It chooses among named actions; or the learner relabels and nobody said what other tasks pay;
                or what is explored would not come along, or logs would that are of another place.
        """
        from ...robots.env_family import EnvFamily

        choice, settings = self.require_choice(), self.require_learner().settings
        family, spec = choice.family, choice.spec
        if spec.choices:
            raise ConfigError(
                f"--robot: expected a robot with continuous actions, of which skills are made, got '{spec.name}', "
                f"which chooses among {len(spec.choices)}; train it without skills: supple meta-train --robot "
                f"{choice.argument} --learner rl2 --action-space choice --out FOLDER"
            )
        if self.config.explore.enabled and not self.config.map.enabled:
            raise ConfigError(
                "--explore.enabled: expected --map.enabled with it, by which what was explored comes along, got none; "
                "pass both, or --explore.no-enabled"
            )
        elsewhere = isinstance(family, PlaysElsewhere) and self.from_log is None and not self.config.explore.enabled
        if elsewhere and self.maps:
            raise ConfigError(
                f"--map.enabled: expected logs of the place of the tasks, got play data of '{family.name}', which are "
                "of other places; pass --explore.enabled with it, or --map.no-enabled"
            )
        relabels = isinstance(settings, SimplSettings) and settings.config.relabel
        if relabels and isinstance(family, EnvFamily) and family.reward is None:
            raise ConfigError(
                f"--robot: expected a reward that tells what an episode would have paid for other tasks, got none for "
                f"'{spec.name}'; give the family a reward, a function of observations and goals, or pass "
                "--learner.config.no-relabel"
            )

    def require_later(self, tasks: TaskSet, stages: list[str]) -> None:
        """Refuses, before hours of the stages before it, what a later stage would refuse.

        Raises:
            ConfigError: Skills are longer than episodes of play; the learner does not fit the robot or its tasks; or
                there is no simulator of the robot here.
            SpecError: The robot has no such actions.
            BundleError: The learner has no such settings.
        """
        from ..stages.adapt import change_settings
        from ..stages.export import make_paper_bundle
        from ..stages.meta_train import make_paper_learner

        config, choice, learner = self.config, self.require_choice(), self.require_learner()

        def is_ahead(name: str) -> bool:
            reached = self.until in stages and stages.index(self.until) >= stages.index(name)
            return reached and not is_published(self.folder / name)

        if is_ahead("adapt") and isinstance(choice.family, Hardware):
            raise ConfigError(
                f"--until: expected export or a stage before it for the real robot '{choice.reference}', got adapt; "
                f"pass --until export, then: supple adapt {self.folder} --robot {choice.argument}"
            )
        if is_ahead("extract") and "generate" in stages and isinstance(choice.family, Plays):
            horizon, longest = config.extract.skill.skill_horizon, choice.family.play_steps
            if longest < horizon:
                raise ConfigError(
                    f"--extract.skill.skill-horizon: expected at most {longest} steps, one episode of play data of "
                    f"'{choice.spec.name}', got {horizon}; lower it, or make longer episodes"
                )
        if not is_ahead("meta-train"):
            return
        made, spec = make_paper_learner(config.extract.skill, config.meta_train, learner, choice, len(tasks.train))
        reason = "" if isinstance(choice.family, OneRow) else find_refusal(choice.family)
        if reason:  # a stage to reuse would be said to be of other code
            raise ConfigError(reason)
        if is_ahead("export") and learner.reference in LEARNERS:  # nobody knows what a user's own asks of a training
            change_settings(make_paper_bundle(learner.settings, made, spec), config.adapt.settings)

    def conclude(self, runner: Runner, results: list[StageResult], tasks: TaskSet) -> None:
        """Writes the summary, tasks to edit and the report, prints the table of success and says how to go on."""
        from ..summary import RunFacts, load_success, make_summary, save_summary

        adapted = results[-1]
        show_result(runner, adapted.folder, replay=adapted.status in ("skipped", "reused"))
        facts = RunFacts(
            benchmark=self.folder.name,
            seed=self.seed,
            tasks=tasks.name,
            command=make_machine(self.options).command,
            wall_s=sum(result.wall_s for result in results),
        )
        path = save_summary(self.folder, make_summary(load_success(adapted.folder), facts))
        outcome = {"folder": str(self.folder), "summary": str(path), "wall_s": round(facts.wall_s, 1)}
        lines = [f"{path}: the same as records; all stages together took {format_duration(facts.wall_s)}"]
        if self.report:
            outcome["report"] = str(self.keep_report(results) or self.make_report(runner))
            lines.append(f"{outcome['report']}: the task, the data, the skills, learning, adaptation and its cost")
        choice = self.require_choice()
        tasks_path = self.folder / TASKS_NAME
        if not tasks_path.is_file():
            save_tasks_csv(tasks_path, tasks.test, choice.spec.goal.names)
        command = ["supple", "adapt", str(self.folder), "--tasks", str(tasks_path), "--episodes", "100"]
        if choice.module is not None:
            command += ["--robot", choice.argument, *take_group("--robot.", shlex.split(facts.command))]
        lines.append(f"Adapt to tasks of your own: edit {tasks_path}, then run: {shlex.join(command)}")
        runner.view.record("run", outcome, "\n".join(lines))

    def keep_report(self, results: list[StageResult]) -> Path | None:
        """The report that is there, where it is younger than every stage and none was made anew."""
        path = self.folder / REPORT_NAME
        made = [(result.folder / RECORD_NAME).stat().st_mtime_ns for result in results]
        young = path.is_file() and path.stat().st_mtime_ns > max(made)
        return path if young and all(result.status == "skipped" for result in results) else None

    def make_report(self, runner: Runner) -> Path:
        """Makes the report anew."""
        from ..report.page import make_report

        with runner.stop.at_once():  # nothing of a page is kept
            return make_report(self.folder, robot=self.choice, threads=self.options.threads, view=runner.view)


def require_run(path: Path) -> None:
    """Refuses a folder to take stages from that is none of a run.

    Raises:
        ConfigError: Nothing is there, or no finished stage.
    """
    if is_published(path):
        got, remedy = "the folder of one stage", f"pass {path.parent}"
    elif any(is_published(path / name) for name in get_args(Last)):
        return
    else:
        got, remedy = "one without a finished stage" if path.is_dir() else "nothing there", "check the path"
    raise ConfigError(f"--reuse {path}: expected a run folder, got {got}; {remedy}")


class NamedPreset(NamedTuple):
    """A preset, and how its robot is named."""

    config: RunConfig
    robot: RobotChoice


def find_preset(name: str) -> NamedPreset:
    """A preset of ours, or of a user's module as `my_arm.py:quick`, or the only one of `my_arm.py`.

    Raises:
        ConfigError: there is none; the message lists the known ones.
    """
    if name in PRESETS:
        return NamedPreset(PRESETS[name], choose_builtin(PRESETS[name].robot))
    where, colon, own = (name, "", "") if name.endswith(".py") else name.rpartition(":")
    if not where:
        raise ConfigError(
            f"preset: expected one of {', '.join(PRESETS)}, or FILE.py:PRESET of your own, got {name!r}; choose one"
        )
    module, file, label = load_user_module(where)
    presets = load_presets(module, where)
    if not colon and len(presets) == 1:
        (own,) = presets
    if own not in presets:
        raise ConfigError(
            f"preset {name}: expected one of {', '.join(presets) or 'which there is none'} in PRESETS of {where}, got "
            f"{own or 'none'!r}; name one as {where}:PRESET"
        )
    if not isinstance(presets[own], RunConfig):
        raise ConfigError(f"preset {name}: expected a RunConfig, got {type(presets[own]).__name__}; make one")
    robot = presets[own].robot
    if any(type(robot) is type(family) for family in FAMILIES.values()):
        return NamedPreset(presets[own], choose_builtin(robot))  # no code of the module makes it
    return NamedPreset(presets[own], RobotChoice(f"{label}:{own}", robot, file))


def parse_run(arguments: Sequence[str], description: str) -> Run:
    """The arguments of `run`: a preset's name, then options that change its fields.

    Raises:
        ConfigError: the first argument is no known preset.
    """
    known = ", ".join(PRESETS)
    if arguments and arguments[0] in ("-h", "--help"):
        print(f"usage: supple run PRESET [OPTIONS]\n\n{description}\n\nPresets: {known}, or FILE.py:PRESET of your own")
        print("\nsupple run PRESET --help lists every option with that preset's value.")
        raise SystemExit(0)
    if not arguments or arguments[0].startswith("-"):
        raise ConfigError(f"run: expected a preset first, one of {known}, got none; see supple run --help")
    name, *rest = arguments
    preset = find_preset(name)
    reference, rest = take_option("--robot", rest)
    robot = preset.robot if reference is None else find_robot(reference)
    reference, rest = take_option("--learner", rest)
    learner = choose_learner(preset.config.learner) if reference is None else find_learner(reference)
    kind = bind_choice(Run, "robot", robot.family, named=robot)
    kind = bind_choice(kind, "learner", learner.settings, named_learner=learner)
    default: Run = kind(preset=name, config=preset.config, robot=robot.family, learner=learner.settings)
    parsed: Run = parse_verb(kind, f"run {name}", description, rest, default)
    return parsed
