"""The graphs of an acting path in the controller in C++, as a child process that is fed numbers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...adapt.acting_path import ActingPath
from ...adapt.graph import Graph
from ...adapt.networks import Array
from ...errors import RobotFault, RunError

COMPILERS = ("c++", "g++", "clang++")
FLAGS = ("-std=c++17", "-O3", "-Wall", "-Wextra")


def find_compiler() -> str | None:
    """A compiler of C++ on the path; None where there is none."""
    return next((found for name in COMPILERS if (found := shutil.which(name))), None)


def compile_program(compiler: str, source: Path, program: Path) -> None:
    """Compiles one file.

    Raises:
        RunError: The compiler refuses it.
    """
    command = [compiler, *FLAGS, "-o", str(program), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RunError(
            f"{source}: expected a file that {compiler} compiles, got '{done.stderr[:500]}'; pass another CXX"
        )


class CppPath:
    """See `parity.PathRuntime`."""

    def __init__(self, path: ActingPath, process: subprocess.Popen[bytes]) -> None:
        """Takes a running `run FILE graphs`."""
        self._graphs: dict[str, tuple[int, Graph]] = {g.name: (index, g) for index, g in enumerate(path.graphs)}
        self._process = process

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `parity.PathRuntime.run`.

        Raises:
            RobotFault: The process has ended.
        """
        index, graph = self._graphs[name]
        given = np.concatenate([inputs[key].reshape(-1) for key in graph.inputs]).astype("<f4")
        widths = [graph.widths[value] for value in graph.outputs.values()]
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "opened as a pipe"
        assert stdout is not None, "opened as a pipe"
        try:
            stdin.write(np.int32(index).tobytes() + given.tobytes())
            stdin.flush()
            answer = stdout.read(4 * sum(widths))
        except BrokenPipeError:
            answer = b""
        if len(answer) != 4 * sum(widths):
            raise RobotFault(f"controller in C++: expected {4 * sum(widths)} bytes, got {len(answer)}; see its error")
        parts = np.split(np.frombuffer(answer, "<f4"), np.cumsum(widths)[:-1])
        return dict(zip(graph.outputs, parts, strict=True))


@contextmanager
def open_cpp(path: ActingPath, program: Path, file: Path) -> Iterator[CppPath]:
    """The graphs of a file in a compiled `run`, as long as the context lasts."""
    process = subprocess.Popen([str(program), str(file), "graphs"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with process:
        try:
            yield CppPath(path, process)
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(timeout=10)
