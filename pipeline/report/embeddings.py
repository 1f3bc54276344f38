"""Where SiMPL's task encoder puts tasks: posterior means on the plane of their two principal components.

Axes: N tasks, M test tasks, k episodes per task, R rows, E task embedding.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...meta.collect import Choose, Episodes, Seen, collect
from ...meta.simpl.agent import SimplAgent
from ...meta.simpl.context import context_of
from ...robots.robot import RobotBatch
from ...robots.task import Task, goals_of
from ...skills.gaussian import Gaussian
from .trips import Recorder, Trip

CPU = torch.device("cpu")


class EmbeddingMap(NamedTuple):
    """Posterior means of tasks along the two principal components of the train tasks."""

    train: NDArray[np.float64]
    """Shape (N, 2)."""
    test: NDArray[np.float64]
    """Shape (M, 2)."""
    train_found: NDArray[np.bool_]
    """Shape (N,): an episode of the context solved the task; also where nobody tells success."""
    test_found: NDArray[np.bool_]
    """Shape (M,)."""
    share: tuple[float, float]
    """Share of the train tasks' variance along each component."""


def make_embedded(agent: SimplAgent, embedding: Tensor, seed: int) -> Choose:
    """The meta-trained policy, stochastic, at one embedding per row (R, E)."""
    generator = torch.Generator().manual_seed(seed)

    def choose(seen: Seen) -> Tensor:
        return agent.act(seen.observation, seen.prior, embedding[torch.from_numpy(seen.rows)], generator)

    return choose


@torch.no_grad()
def compute_embeddings(
    agent: SimplAgent, robot: RobotBatch, tasks: Sequence[Task], *, episodes: int, context: int, seed: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Posterior means (N, E) after `episodes` with e ~ N(0, I), and whether one of them solved the task (N,).

    Where the robot's family does not tell success, every task counts as solved.

    Args:
        agent: meta-trained.
        robot: at least N rows.
        tasks: N of them.
        episodes: k.
        context: transitions of the context, at least k.
        seed: of embeddings, resets and draws.
    """
    generator = torch.Generator().manual_seed(seed)
    rng = np.random.default_rng(seed)
    per_round = max(1, robot.rows // len(tasks))
    rounds: list[Episodes] = []
    trips: list[Trip] = []
    recorder = Recorder(robot)
    while len(rounds) < episodes:
        count = min(per_round, episodes - len(rounds))
        noise = torch.randn((count * len(tasks), agent.embedding_dim), generator=generator)
        choose = make_embedded(agent, noise, seed + len(rounds))
        goals = np.tile(goals_of(tasks), (count, 1))
        rounds += split_rounds(collect(recorder, agent.space, choose, goals, rng, device=CPU), count)
        trips += recorder.trips(len(goals))
    solved = np.array([trip.success is not False for trip in trips]).reshape(episodes, len(tasks))
    posterior = agent.encode(context_of(rounds, context, generator))
    return posterior.loc.double().numpy(), np.asarray(solved.any(axis=0))


def split_rounds(episodes: Episodes, rounds: int) -> list[Episodes]:
    """Rows of several rounds, one after the other, as one `Episodes` per round."""

    def cut(value: Any) -> list[Any]:
        if value is None:
            return [None] * rounds
        if isinstance(value, Gaussian):
            return [Gaussian(loc, scale) for loc, scale in zip(cut(value.loc), cut(value.scale), strict=True)]
        return list(value.tensor_split(rounds))

    return [Episodes(*parts) for parts in zip(*(cut(value) for value in episodes), strict=True)]


def compute_map(
    train: NDArray[np.float64],
    test: NDArray[np.float64],
    train_found: NDArray[np.bool_],
    test_found: NDArray[np.bool_],
) -> EmbeddingMap:
    """Embeddings (N, E) and (M, E) along the train tasks' principal components (E >= 1; a missing second one is 0)."""
    centre = train.mean(axis=0)
    _, singular, axes = np.linalg.svd(train - centre, full_matrices=False)
    flat = np.zeros((2, train.shape[1]))
    count = min(2, len(axes))
    flat[:count] = axes[:count] * np.where(axes[:count].sum(axis=1, keepdims=True) < 0, -1.0, 1.0)
    total = float((singular**2).sum()) or 1.0
    share = [float(value**2) / total for value in (*singular, 0.0)][:2]
    return EmbeddingMap(
        (train - centre) @ flat.T, (test - centre) @ flat.T, train_found, test_found, (share[0], share[1])
    )
