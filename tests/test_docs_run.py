"""The documentation, carried out: every command, snippet and file of README.md and docs/, page by page in one folder.

A reader who follows the pages in the order of the navigation has one folder in the end, and so has this test. In a page

- a block with a title (```` ```csv title="goals.csv" ````) is a file of that name;
- a block of `console`, `bash` or `sh` is commands, one a line;
- a block of `python` is a snippet; the snippets of a page share their names.

Commands run as they stand, with the options of `SHORT` behind them, which make them tiny. A command that nobody here
knows how to run fails. Only what downloads is parsed and not run.
"""

import contextlib
import io
import os
import re
import runpy
import shlex
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest

from supple.pipeline.cli import VERBS, main, parse

ROOT = Path(__file__).resolve().parent.parent
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>[^\s`]*)(?P<rest>[^\n]*)\n(?P<text>.*?)^(?P=fence) *$", re.M | re.S)
COMMANDS, SNIPPETS, SHOWN = {"console", "bash", "sh"}, {"python"}, {"text", "mermaid", "json", "csv", "xml", "toml"}
HIDDEN = re.compile(r"^\s*(\$ )?(supple|make|python3?|pip|tensorboard) \S", re.M)

TINY_STAGES: Mapping[str, Sequence[str]] = {
    "generate": ("steps 3000", "rows 3"),
    "explore": ("episodes 4", "rows 2"),
    "extract": ("skill.num-updates 10", "skill.batch-size 32", "log-every 10"),
    "meta-train": (),
    "adapt": ("episodes 3", "evaluations 1", "evaluate-at 2"),
}
"""Settings of each stage that bring it down to a second or so."""
TINY_LEARNERS: Mapping[str, Sequence[str]] = {
    "simpl": (
        *("config.epochs 2", "config.updates-per-epoch 2", "config.pool-episodes 40", "config.warmup-epochs 1"),
        *("config.prior-tasks 1", "config.posterior-tasks 2", "config.batch 16", "config.hidden 16 16"),
        *("deployment.exploration-episodes 1", "deployment.finetune.batch 8", "deployment.finetune.min-transitions 8"),
    ),
    "spirl": ("config.hidden 16 16", "config.tasks 2", "config.finetune.batch 8"),
    "rl2": ("config.iterations 1", "config.trials 4", "config.minibatch 4", "config.hidden 8"),
    "maml": ("config.iterations 1", "config.tasks 2", "config.episodes 2", "config.hidden 8", "rollouts 2"),
    "my_reptile.py:REPTILE": ("config.iterations 1", "config.tasks 2", "config.episodes 2", "rollouts 2"),
}
"""Settings of each learner of the documentation that make its training short."""
TINY_TASKS = ("episode-steps 60", "num-train-tasks 3", "num-test-tasks 2")
TINY_ROBOTS: Mapping[str, Sequence[str]] = {
    "maze": (*TINY_TASKS, "planner.episode-steps 500"),
    "arms": (),
    "gridnavi": (),
    "benchmarks/ablations.py:half": (*TINY_TASKS, "planner.episode-steps 500"),
    "benchmarks/task_distributions.py:top-to-bottom": ("episode-steps 60", "planner.episode-steps 500"),
    "my_arm.py:ARM": (*TINY_TASKS, "waypoints.episode-steps 200"),
    "examples/hardware.py:ARM": (),
    "examples/my_arm.py:arm": TINY_TASKS,
    "examples/my_arm.py:ARM": TINY_TASKS,
    "my_presets.py:small": (*TINY_TASKS, "waypoints.episode-steps 200"),
    "my_cart.py:CART": ("episode-steps 60",),
    "my_pendulum.py:PENDULUM": ("episode-steps 60",),
}
"""Settings of each robot of the documentation that make its episodes short and its tasks few."""


def make_options(settings: Sequence[str], prefix: str = "") -> list[str]:
    """Settings as options: `steps 6000` becomes `--generate.steps 6000` with the prefix `generate.`."""
    return [word for setting in settings for word in f"--{prefix}{setting}".split()]


TINY_RUN = (
    "--no-report",
    *(word for stage, settings in TINY_STAGES.items() for word in make_options(settings, f"{stage}.")),
    *make_options(("map.places 60",)),
)

SHORT: Mapping[str, Sequence[str]] = {
    "supple run": TINY_RUN,
    **{f"supple {stage}": make_options(settings) for stage, settings in TINY_STAGES.items()},
    "supple generate --robot kitchen": ("--steps", "300", "--rows", "2"),
    "supple run kitchen": (*TINY_RUN, "--generate.steps", "300", "--generate.rows", "2", "--until", "extract"),
    **dict.fromkeys(
        (
            f"supple {verb}"
            for verb in (
                *("ingest", "inspect", "append", "merge", "split", "export", "export-bag", "rearm", "report"),
                *("verify", "info"),
            )
        ),
        (),
    ),
    "supple sweep": (["--seeds", "0:1", "--executor", "local", "--workers", "1", "--"]),
    "supple map-logs": ("--places", "60"),
    "supple adapt runs/planar": ("--episodes", "2"),
    "supple deploy": (),
    "supple replay": ("--samples", "2", "--predictions", "1", "--parts", "open_loop"),
    "supple serve": ("--self-test",),
    "supple video": ("--every", "30", "--policies", "before"),
    "supple doctor": ("--latency-share", "1000"),
    "python -m benchmarks.meta": (),
    "python -m benchmarks.results.collect_meta": (),
    "python -m benchmarks.results.collect_sweep": (),
    "tensorboard": ("--inspect",),
    "python3 -m venv": ("--without-pip",),
    "python examples/hardware.py": (),
    "python my_logs.py": (),
    "python examples/arm_log.py": ("--episodes", "2", "--sessions", "2"),
    "pytest": ("-q", "-p", "no:cacheprovider"),
    "cp": (),
}
"""Options behind each command that make it short; the last of two equal options counts."""

CANNOT_DRAW = "expected a computer that can draw"
"""How a film is refused where there is no renderer, as in the tests of `make test`, which switch it off."""
NEEDS_HOURS: Mapping[str, str] = {"python -m benchmarks.results.collect_meta": "expected finished cells, got none"}
"""Commands that read hours of runs, and the refusal of the folder that has none of them."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    line: int
    language: str
    title: str
    text: str


def find_blocks(page: str) -> list[Block]:
    """The fenced blocks of a page's text, in order."""
    blocks = []
    for match in FENCE.finditer(page):
        title = re.search(r'title="([^"]+)"', match["rest"])
        line = page.count("\n", 0, match.start()) + 2
        blocks.append(Block(line, match["language"], title[1] if title else "", match["text"]))
    return blocks


def find_commands(block: Block) -> list[str]:
    """The commands of a block, a line each; comments and line continuations are the shell's."""
    lines = block.text.replace("\\\n", " ").splitlines()
    return [command for line in lines if (command := re.sub(r"(^|\s)#.*", "", line).strip())]


def find_pages() -> list[str]:
    """README and the pages of the documentation in the order of the navigation, as paths below the repository root."""
    names = re.findall(r": ([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    return ["README.md", *(f"docs/{name}" for name in names)]


def downloads(arguments: Sequence[str]) -> bool:
    """Whether a command fetches something from a network."""
    return any(argument.startswith("d4rl:") for argument in arguments) or "pip install" in " ".join(arguments)


def shorten(command: str) -> list[str]:
    """The arguments of a command, with what makes it tiny behind them.

    Raises:
        AssertionError: nobody here knows the command.
    """
    arguments = shlex.split(command)
    known = sorted((name for name in SHORT if arguments[: name.count(" ") + 1] == name.split()), key=len, reverse=True)
    assert known, f"{command!r}: no such command in SHORT; say there how it is made short"
    own = next((argument for argument in arguments[2:3] if ".py" in argument), "maze")  # a preset has a robot
    named = dict(pairwise(arguments))
    settings: list[str] = []
    for verbs, option, default, table in (
        (
            (
                "run",
                "sweep",
                "generate",
                "explore",
                "meta-train",
                "map-logs",
                *(["adapt"] if "--robot" in named else []),
            ),
            "robot",
            own,
            TINY_ROBOTS,
        ),
        (("run", "sweep", "meta-train"), "learner", "simpl", TINY_LEARNERS),
    ):
        if known[0] in [f"supple {verb}" for verb in verbs]:
            name = named.get(f"--{option}", default)
            assert name in table, f"{command!r}: no such {option} in this file's table; say there how it is made short"
            settings += make_options(table[name], f"{option}.")
    if known[0] == "python -m benchmarks.meta" and not all(re.match("-|demo-", argument) for argument in arguments[3:]):
        settings = ["--list"]  # the settings of a cell are fixed: this shows those that it names
    if known[0] == "supple sweep":  # options of each run stand behind those of the sweep
        return [*arguments, *SHORT[known[0]], *TINY_RUN, *settings]
    return [*arguments, *settings, *SHORT[known[0]]]


def run_command(command: str) -> None:
    """Runs one command in the current folder; it has to end with 0."""
    arguments = shlex.split(command)
    if arguments[0] == "make":
        run_target(arguments[1:])
    elif downloads(arguments):
        if arguments[0] == "supple":
            parse(arguments[1], arguments[2:])
    elif arguments[:2] == ["python", "-m"]:
        run_module(arguments[2], shorten(command)[3:])
    elif arguments[0] == "supple":
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = main(shorten(command)[1:])
        film = arguments[1] == "video" and CANNOT_DRAW in printed.getvalue()
        assert code == 0 or film, f"{command}\nended with {code}:\n{printed.getvalue()[-2000:]}"
    else:
        program, *rest = shorten(command)
        beside = Path(sys.executable).with_name(program)
        arguments = [str(beside) if beside.exists() else program, *rest]
        quick = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # plugins take four times as long as the tests
        done = subprocess.run(
            arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, env=quick
        )
        assert done.returncode == 0, f"{command}\nended with {done.returncode}:\n{done.stdout[-2000:]}"


def run_target(targets: Sequence[str]) -> None:
    """Checks that the Makefile has these targets, and runs those commands in them which are `supple`."""
    makefile = (ROOT / "Makefile").read_text()
    for target in targets:
        if "=" in target:
            continue
        recipe = re.search(rf"^{re.escape(target)}:[^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.M)
        assert recipe, f"make {target}: no such target in the Makefile"
        for line in re.findall(r"^\t\$\(BIN\)/(supple .*)$", recipe[1], re.M):
            run_command(line)


def run_module(module: str, arguments: Sequence[str]) -> None:
    """`python -m module arguments` in this process; it has to end with 0."""
    printed, given, code = io.StringIO(), sys.argv, None
    sys.argv = [module, *arguments]
    try:
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # runpy: the module may be loaded already
            runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        code = end.code
    finally:
        sys.argv = given
    refused = code == 2 and NEEDS_HOURS.get(f"python -m {module}", "\0") in printed.getvalue()
    assert refused or code in (0, None), f"python -m {module} ended with {code}:\n{printed.getvalue()[-2000:]}"


@dataclass
class Reader:
    """Who follows the documentation in one folder, from its first page on."""

    folder: Path
    done: dict[str, AssertionError | None] = field(default_factory=dict)
    commands: set[str] = field(default_factory=set)

    def read(self, page: str) -> None:
        """Reads on up to and with this page; what is wrong on it is raised, what is wrong before it is not."""
        for name in find_pages():
            if name not in self.done:
                try:
                    with contextlib.chdir(self.folder):
                        self._follow(name)
                    self.done[name] = None
                except AssertionError as error:
                    self.done[name] = error
            if name == page:
                break
        error = self.done[page]
        if error is not None:
            raise error

    def _follow(self, name: str) -> None:
        names: dict[str, object] = {"__name__": "__main__"}
        for block in find_blocks((ROOT / name).read_text()):
            where = f"{name}:{block.line}"
            if block.title:
                path = Path(block.title)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.language in COMMANDS:
                for command in find_commands(block):
                    self.run(command, where)
            elif block.language in SNIPPETS:
                source = "\n" * (block.line - 1) + block.text
                try:
                    exec(compile(source, where, "exec"), names)
                except Exception as error:
                    raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error

    def run(self, command: str, where: str) -> None:
        """Runs a command that stands at `where`."""
        self.commands.add(command)
        try:
            run_command(command)
        except (Exception, SystemExit) as error:
            raise AssertionError(f"{where}: {command}: {error}") from error


@pytest.fixture(scope="session")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("examples", "benchmarks", "Makefile"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "docs" / "results").mkdir(parents=True)
    sys.path.insert(0, str(folder))
    yield Reader(folder)
    sys.path.remove(str(folder))


@pytest.mark.parametrize("page", find_pages())
def test_what_a_page_says_can_be_done(page: str, reader: Reader) -> None:
    reader.read(page)


def test_the_examples_of_the_help_can_be_run(reader: Reader) -> None:
    reader.read(find_pages()[-1])
    left = dict.fromkeys(example for entry in VERBS.values() for example in entry.examples)
    with contextlib.chdir(reader.folder):
        for command in left:
            if command not in reader.commands:
                reader.run(command, "supple --help")


@pytest.mark.parametrize("page", find_pages())
def test_every_block_is_something_that_we_can_run_or_show(page: str) -> None:
    for block in find_blocks((ROOT / page).read_text()):
        known = COMMANDS | SNIPPETS | SHOWN
        assert block.title or block.language in known, f"{page}:{block.line}: language {block.language!r}"
        if block.language in SHOWN and not block.title:
            assert not HIDDEN.search(block.text), f"{page}:{block.line}: a command hides in {block.language!r}"


def test_every_verb_is_shown() -> None:
    blocks = [block for page in find_pages() for block in find_blocks((ROOT / page).read_text())]
    commands = [
        shlex.split(command) for block in blocks if block.language in COMMANDS for command in find_commands(block)
    ]
    assert {verb for program, verb, *_ in commands if program == "supple"} == VERBS.keys()


def test_fences_are_all_found() -> None:
    for page in find_pages():
        text = (ROOT / page).read_text()
        assert len(re.findall(r"^\s*`{3,}", text, re.M)) == 2 * len(find_blocks(text)), page


def test_blocks_are_found_with_their_titles_and_lines() -> None:
    page = 'a\n\n```csv title="goals.csv"\nx,y\n```\n\n```console\nmake x  # why\n\nsupple \\\n  info\n```\n'
    first, second = find_blocks(page)
    assert (first.title, first.text, first.line) == ("goals.csv", "x,y\n", 4)
    assert find_commands(second) == ["make x", "supple    info"]


def test_a_command_that_nobody_knows_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AssertionError, match="no such command in SHORT"):
        run_command("curl something")
    with pytest.raises(AssertionError, match="no such target"):
        run_command("make nothing")
    with pytest.raises(AssertionError, match="ended with 2"):
        run_command("supple verify nothing-here")
