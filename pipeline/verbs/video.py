"""The verb `video`: a film of a policy on one test task."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ...bounds import Range, Seed
from ...errors import RunError
from ...plain_files import require_place
from ..cli_common import AboutRobot, Common, Options, Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Video(AboutRobot):
    """Arguments of `supple video`."""

    run: tyro.conf.Positional[Path]
    """A folder of `supple run` with a finished export."""
    out: Path = Path("video.webm")
    """File to write, .webm, .mp4 or .gif; an older one is replaced."""
    task: str | None = None
    """Name of a test task; without it, the first."""
    policies: tuple[Literal["before", "inferred", "adapted", "known"], ...] = ("before", "inferred", "adapted", "known")
    """Which policies are shown, one episode each; those that the run does not have are left out."""
    seed: Seed = 0
    """Seed of the episodes; other seeds are other attempts."""
    every: Annotated[int, Range(1, 1000)] = 1
    """Control steps from one frame to the next."""
    speed: Annotated[float, Range(0.1, 100.0)] = 1.0
    """Seconds of the robot in one second of the film."""
    accept_robot_change: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take the robot that --robot names although its code or settings are not those of the run."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Plays the episodes, writes the film and prints its path."""
        os.environ.setdefault("MUJOCO_GL", "egl" if "DISPLAY" not in os.environ else "glfw")  # read at MuJoCo's import
        from ..film import choose_task, film_task, require_kind, save_film
        from ..report.run_folder import load_run
        from ..report.run_robot import find_run_robot
        from ..report.trips import load_adapted, load_evaluated
        from ..stages.adapt import ADAPTED_NAME

        require_kind(self.out)
        require_place(self.out, RunError)
        run = load_run(self.run)
        robot = find_run_robot(run, self.choice, accept_change=self.accept_robot_change)
        export, adapt = run.find("export"), run.find("adapt")
        if robot.family is None:
            raise RunError(f"{self.run}: expected a robot that can be had, got none: {robot.reason}")
        if export is None:
            raise RunError(f"{self.run}: expected a finished export, got none; run the chain to export first")
        adapted = None if adapt is None else load_adapted(adapt.folder / ADAPTED_NAME)
        tasks = robot.test if adapted is None else adapted.tasks
        index = choose_task(tasks, self.task)
        frames = film_task(
            load_evaluated(export, run.stages.get("adapt")),
            robot.family,
            tasks[index],
            None if adapted is None else adapted.only(index),
            self.policies,
            seed=self.seed,
            every=self.every,
        )
        self.out.parent.mkdir(parents=True, exist_ok=True)
        save_film(self.out, frames, self.speed / (robot.family.spec().control_period * self.every))
        outcome = {"path": str(self.out), "frames": len(frames), "bytes": self.out.stat().st_size}
        runner.view.record("video", outcome, f"{self.out}: {len(frames)} frames of task {tasks[index].name}")
