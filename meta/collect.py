"""The rollout loop: every row of a robot batch runs one episode, all rows side by side, one forward pass for all.

A decision is one latent choice, held for H low-level steps. Its transition ends where the episode does, with the flag
of the step that ended it. (The reference code of SiMPL stores the flag of the following step, which also marks the
decision before a success as terminal.)

Axes: R rows, r rows still running, K decisions, H low-level steps per decision, O observation, Z latent, N tasks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..robots.robot import RobotBatch
from ..skills.gaussian import Gaussian
from .space import ActionSpace


class Seen(NamedTuple):
    """What the high-level policy sees of the rows that are still running."""

    observation: Tensor
    """Shape (r, O), raw."""
    prior: Gaussian
    """At `observation`, each (r, Z)."""
    rows: NDArray[np.int64]
    """Which rows these are, shape (r,)."""
    reward: Tensor
    """Of the row's previous decision in this episode, shape (r,); 0 at the first."""


Choose = Callable[[Seen], Tensor]
"""The high-level policy: a latent for each running row, shape (r, Z)."""


class Episodes(NamedTuple):
    """One finished episode per row, padded with zeros to the longest possible K."""

    observation: Tensor
    """Shape (R, K + 1, O): where each decision was taken, and where the last one ended."""
    latent: Tensor
    """Shape (R, K, Z)."""
    prior: Gaussian
    """Each (R, K + 1, Z): the prior at `observation`."""
    reward: Tensor
    """Shape (R, K): sum over the low-level steps of the decision."""
    length: Tensor
    """Shape (R,): decisions taken."""
    terminated: Tensor
    """Shape (R,) bool: the last decision ended the task; else the time limit did."""
    steps: Tensor
    """Shape (R,): low-level steps taken."""
    path: Tensor
    """Shape (R, K * H, O): observation after each low-level step."""
    reward_range: Tensor | None = None
    """Shape (R, 2): lowest and highest reward of one low-level step; None where only decisions are known."""
    success: Tensor | None = None
    """Shape (R,) bool: the task was solved at some step; None where the robot does not tell (`StepRows.success`)."""


def collect(
    robot: RobotBatch,
    space: ActionSpace,
    choose: Choose,
    goals: NDArray[np.float32],
    rng: np.random.Generator,
    *,
    device: torch.device,
    stop_at_goal: bool = True,
) -> Episodes:
    """Runs one episode in the first `len(goals)` rows.

    Args:
        robot: At least as many rows as goals.
        space: What `choose` chooses.
        choose: The high-level policy.
        goals: Shape (R, G).
        rng: Source of the reset noise.
        device: Where `choose` and the result live; the low level runs on the CPU beside the simulator.
        stop_at_goal: False runs every row to the time limit (simulators only): the reward of any task can be worked out
            from the path later.
    """
    rows, horizon = len(goals), space.horizon
    decisions = -(-robot.spec.episode_steps // horizon)
    dim = robot.spec.observation.shape[0]
    observation = np.zeros((rows, decisions + 1, dim), np.float32)
    latent = np.zeros((rows, decisions, space.latent_dim), np.float32)
    reward = np.zeros((rows, decisions), np.float32)
    length = np.zeros(rows, np.int64)
    steps = np.full(rows, robot.spec.episode_steps)
    terminated = np.zeros(rows, np.bool_)
    path = np.zeros((decisions * horizon, rows, dim), np.float32)  # a step's rows side by side: one write, not R
    lowest, highest = np.full(rows, np.inf, np.float32), np.full(rows, -np.inf, np.float32)
    success: NDArray[np.bool_] | None = None

    active = np.arange(rows)
    now = robot.reset(active, goals, rng)
    observation[:, 0] = now
    with torch.no_grad():
        for decision in range(decisions):
            seen = torch.from_numpy(now).to(device)
            last = reward[active, decision - 1] if decision else np.zeros(len(active), np.float32)
            chosen = choose(Seen(seen, space.prior_of(seen), active, torch.from_numpy(last).to(device)))
            chosen_cpu = chosen.cpu()
            latent[active, decision] = chosen_cpu.numpy()
            length[active] += 1
            control = space.hold(chosen_cpu)
            held, running = np.arange(len(active)), active
            ended = np.zeros(len(active), np.bool_)
            for step in range(min(horizon, robot.spec.episode_steps - decision * horizon)):
                result = robot.step(running, control(torch.from_numpy(now)).numpy())
                now = result.observation
                # all rows running is the usual case, and a slice costs a third of an index
                index = slice(None) if len(running) == rows else running
                reward[index, decision] += result.reward
                path[decision * horizon + step, index] = now
                lowest[index] = np.minimum(lowest[index], result.reward)
                highest[index] = np.maximum(highest[index], result.reward)
                if result.success is not None:
                    success = np.zeros(rows, np.bool_) if success is None else success
                    success[index] |= result.success
                stop = result.truncated | result.terminated if stop_at_goal else result.truncated
                if stop.any():
                    terminated[running] |= result.terminated & stop_at_goal
                    steps[running[stop]] = decision * horizon + step + 1
                    observation[running[stop], decision + 1] = now[stop]
                    ended[held[stop]] = True
                    held, now = held[~stop], now[~stop]
                    running = active[held]
                    if len(held) == 0:
                        break
                    control = space.hold(chosen_cpu[torch.from_numpy(held)])
            active = active[~ended]
            observation[active, decision + 1] = now
            if len(active) == 0:
                break
        visited = torch.from_numpy(observation).to(device)
        prior = space.prior_of(visited)
    return Episodes(
        visited,
        torch.from_numpy(latent).to(device),
        prior,
        torch.from_numpy(reward).to(device),
        torch.from_numpy(length).to(device),
        torch.from_numpy(terminated).to(device),
        torch.from_numpy(steps).to(device),
        torch.from_numpy(path.swapaxes(0, 1).copy()).to(device),
        torch.from_numpy(np.stack((lowest, highest), axis=1)).to(device),
        None if success is None else torch.from_numpy(success).to(device),
    )


def reward_range_of(episodes: Episodes) -> Tensor:
    """Lowest and highest reward that each episode paid, (R, 2): of steps where they are known, else of decisions."""
    if episodes.reward_range is not None:
        return episodes.reward_range
    taken = torch.arange(episodes.reward.shape[1], device=episodes.length.device) < episodes.length[:, None]
    lowest = torch.where(taken, episodes.reward, torch.inf).amin(1)
    return torch.stack((lowest, torch.where(taken, episodes.reward, -torch.inf).amax(1)), dim=1)


def row_of(episodes: Episodes, row: int) -> Episodes:
    """The episode of one row, as a batch of one."""
    fields: dict[str, Any] = episodes._asdict()
    prior = Gaussian(*(part[row : row + 1] for part in fields.pop("prior")))
    one: dict[str, Any] = {name: value if value is None else value[row : row + 1] for name, value in fields.items()}
    return Episodes(prior=prior, **one)
