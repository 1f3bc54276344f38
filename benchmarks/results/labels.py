"""What a picture calls benchmarks, methods, task sets, axes and metrics: the records' names as a reader would say them.

A method whose name ends in `-published` is a published number without an interval, one in `-exact` was computed, one in
`-reference` was made for the robot, not learned.
"""

import re
from collections.abc import Mapping
from typing import Final

PUBLISHED: Final = "-published"
"""End of the names of published methods."""
EXACT: Final = "-exact"
"""End of the names of what was computed, not measured."""
REFERENCE: Final = "-reference"
"""End of the names of policies that were made for a robot, not learned."""
DASHED: Final = (PUBLISHED, EXACT, REFERENCE)
"""Ends of the names of methods that are there to compare with."""
RANDOM: Final = "random"
"""Begin of the names of policies that choose at random."""
LABELS: Final[Mapping[str, str]] = {
    "episode": "episodes per task",
    "inference_episodes": "episodes that the task embedding is inferred from",
    "few_episodes": "episodes in the new task",
    "found": "goals found so far (share of tasks)",
    "meta_training_minute": "meta-training (min of wall-clock time)",
    "success_stochastic": "success of the policy (share of episodes)",
    "success_greedy": "success of the greedy policy (share of episodes)",
    "return_stochastic": "return of the policy",
    "return_greedy": "return of the greedy policy",
    "return_train": "return on train tasks",
    "success_train": "success on train tasks (share of episodes)",
    "gradient_step": "steps of adaptation",
    "episode_index": "episode of the trial",
    "return": "return of an episode on test tasks",
    "kinds": "kinds of tiles touched / on the board",
    "kinds_so_far": "kinds of tiles touched so far / on the board",
    "deaths": "deaths per episode",
    "goals": "goals per episode",
    "success": "success (share of episodes)",
    "near": "cells passed, within 30 moves (share)",
    "often": "cells passed by 1 % of episodes (share)",
    "cells": "cells passed (share of all)",
    "detour": "steps / steps of the shortest way",
    "return_training": "return while training (mean of 10 episodes)",
}
"""What axes and metrics are called in a plot."""
WORDS: Final[Mapping[str, str]] = {
    "simpl": "SiMPL",
    "spirl": "SPiRL",
    "sac": "SAC",
    "ppo": "PPO",
    "rl2": "RL²",
    "maml": "MAML",
    "sgd": "SGD",
    "lvc": "LVC",
    "maesn": "MAESN",
    "pearl": "PEARL",
    "ft": "fine-tuned",
    "varibad": "variBAD",
    "mlsh": "MLSH",
    "bayes": "Bayes",
    "gittins": "Gittins",
    "reinforce": "REINFORCE",
    "psrl": "PSRL",
    "opsrl": "OPSRL",
    "ucrl2": "UCRL2",
    "beb": "BEB",
}
"""Parts of names that are written otherwise."""
METHODS: Final[Mapping[str, str]] = {
    "simpl-blind": "SiMPL, blind search",
    "simpl-25-epochs": "SiMPL, 25 epochs",
    "simpl-seed-1": "SiMPL, seed 1",
    "simpl-logs-seed-1": "SiMPL, with the logs, seed 1",
    "spirl-blind-logs": "SPiRL without pictures, with the logs",
    "simpl-logs": "SiMPL, with the logs",
    "simpl-logs-drive": "SiMPL, logs to drive alone",
    "spirl-logs": "SPiRL, with the logs",
    "spirl-logs-prior": "SPiRL, with logs of the skill prior",
    "sac-logs": "SAC, with the logs",
    "sac-raw": "SAC over actions",
    "sac-raw-logs": "SAC over actions, with the logs",
    "pearl-ft-logs": "PEARL, fine-tuned, with the logs",
    "logs-alone": "logs, without meta-training",
    "explorer": "explorer that knows the map",
    "pearl-ft": "PEARL, fine-tuned",
    "bc-pearl": "BC + PEARL",
    "bc-maml": "BC + MAML",
    "e-maml": "E-MAML",
    "e-rl2": "E-RL²",
    "meta-sgd": "Meta-SGD",
    "distral": "Distral",
    "bayes-optimal": "Bayes-optimal",
    "oracle": "oracle, told the task",
    "random": "random actions",
}
"""Methods whose names are more than their parts; without the ends in `DASHED`."""
BENCHMARKS: Final[Mapping[str, str]] = {
    "meta-gridnavi": "GridNavi",
    "meta-krazy-5x5-fixed-colours": "Krazy World, 5 x 5, fixed colours",
    "meta-tabular": "Tabular MDPs",
    "meta-navigation-2d": "2D navigation",
    "meta-movement-bandits": "MovementBandits",
    "meta-point-robot": "Point robot",
    "meta-sparse-semicircle": "Sparse semicircle",
    "meta-point-maze-20-seed0": "Maze of SiMPL",
    "meta-maze-7": "Random mazes, 7 x 7",
    "meta-cheetah-direction-10ms": "HalfCheetah, two directions",
    "meta-cheetah-velocity-10ms": "HalfCheetah, velocities",
    "meta-arm-target": "Reaching arm, hidden targets",
    "meta-arm-dynamics": "Reaching arm, hidden dynamics",
    "meta-ant-direction": "Ant, directions",
    "maze-train-tasks": "Maze of SiMPL, by number of train tasks",
    "maze-alignment": "Maze of SiMPL, by where train and test goals lie",
    "maze-ablations": "Maze of SiMPL, one departure put back",
    "my-arm": "Example arm, reaching",
    "my-arm-from-log": "Example arm, from its own log",
    "ur5e-reach": "UR5e, reaching",
    "jaco-reach": "Jaco, reaching",
    "panda-reach": "Panda, reaching",
    "panda-push": "Panda, pushing a cube",
    "loaded-arm": "Loaded arm, reaching",
}
TASKS: Final[Mapping[str, str]] = {
    "narrow-top": "top to top",
    "narrow-bottom": "top to bottom",
}
"""Task sets by where train and test goals lie."""


def find_owner(method: str) -> str:
    """The method of ours that a published curve belongs beside, whatever its figure; another method is its own owner.

    `simpl-published` and `simpl-fig6a-published` belong beside `simpl`.
    """
    if not method.endswith(PUBLISHED):
        return method
    return re.sub(r"-fig\w+$", "", method.removesuffix(PUBLISHED))


def name_method(method: str) -> str:
    """`maml` as "MAML", `pretrained-published` as "pretrained (published)"."""
    name = find_owner(method)
    for end in (EXACT, REFERENCE):
        name = name.removesuffix(end)
    known = METHODS.get(name) or " ".join(WORDS.get(word, word) for word in name.split("-"))
    return f"{known} (published)" if method.endswith(PUBLISHED) else known


def count_train_tasks(tasks: str) -> int | None:
    """40 of `flat-40` and of `random-40-10-0`; None for a task set that is named otherwise."""
    found = re.fullmatch(r"flat-(\d+)|random-(\d+)-\d+-\d+", tasks)
    return int(found[1] or found[2]) if found else None


def name_tasks(tasks: str) -> str:
    """`flat-40` as "40 train tasks"; a task set that is named otherwise keeps its name."""
    count = count_train_tasks(tasks)
    return TASKS.get(tasks, tasks) if count is None else f"{count} train tasks"


def name_benchmark(benchmark: str) -> str:
    """`maze-20-seed0` as "Maze of 20 x 20 cells, layout 0"; a benchmark that is not known keeps its name."""
    found = re.fullmatch(r"maze-(\d+)-seed(\d+)", benchmark)
    if found:
        return f"Maze of {found[1]} x {found[1]} cells, layout {found[2]}"
    return BENCHMARKS.get(benchmark, benchmark)
