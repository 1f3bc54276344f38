"""How many train tasks there are, and where they lie: figure 6 of the paper, at a quarter of the budget.

    FILE=benchmarks/task_distributions.py
    supple sweep $FILE:tasks-40 $FILE:tasks-20 $FILE:tasks-10 $FILE:top-to-top $FILE:top-to-bottom \
        $FILE:spirl $FILE:spirl-top $FILE:spirl-bottom --seeds 0:3 --out runs/task-distributions
    python -m benchmarks.results.collect_sweep runs/task-distributions

Every preset is the preset `maze` without logs, with a quarter of its meta-training and 60 episodes for each test goal.
`tasks-N` meta-trains on N goals from all over the maze. `top-to-top` and `top-to-bottom` meta-train on ten goals at the
top, and meet test goals at the top or at the bottom. `spirl` and its variants have these skills and no meta-training.
`--reuse RUN` behind `--` takes the skills of another run of the same seed over.
"""

from dataclasses import replace

from supple.pipeline.learners import LearnerSettings, SimplSettings, SpirlSettings
from supple.pipeline.presets import PRESETS as PUBLISHED
from supple.pipeline.presets import RunConfig
from supple.pipeline.settings.map_logs import MapConfig
from supple.robots.maze_family import Maze, TaskSetName

MAZE = PUBLISHED["maze"]
LEARNER = MAZE.learner
assert isinstance(LEARNER, SimplSettings)

QUARTER = replace(LEARNER, config=replace(LEARNER.config, epochs=LEARNER.config.epochs // 4))


def distribute(tasks: TaskSetName, learner: LearnerSettings = QUARTER) -> RunConfig:
    """A learner on a published task set."""
    return replace(
        MAZE,
        robot=Maze(task_set=tasks),
        learner=learner,
        map=MapConfig(enabled=False),
        adapt=replace(MAZE.adapt, episodes=60, evaluations=10, evaluate_at=(21, 30, 40)),
    )


PRESETS: dict[str, RunConfig] = {
    "tasks-40": distribute("flat-40"),
    "tasks-20": distribute("flat-20"),
    "tasks-10": distribute("flat-10"),
    "top-to-top": distribute("narrow-top"),
    "top-to-bottom": distribute("narrow-bottom"),
    "spirl": distribute("flat-40", SpirlSettings()),
    "spirl-top": distribute("narrow-top", SpirlSettings()),
    "spirl-bottom": distribute("narrow-bottom", SpirlSettings()),
}
