"""Fans of skills: skills of the skill prior, carried out side by side by the closed-loop decoder in the simulator.

Axes: S skills, H skill horizon, T steps, O observation, G goal.
"""

from typing import NamedTuple

import numpy as np
import torch

from ...meta.space import ActionSpace
from ...robots.family import RobotFamily, SetsState, make_simulator
from ...robots.robot import Float
from ...robots.task import goals_of


class Fans(NamedTuple):
    """Observations along each of S skills, (T + 1, O), the start included; T is shorter where an episode ended."""

    single: list[Float]
    """One skill each from where episodes start, T = H: from one state where the simulator can be put into it."""
    moving: list[Float]
    """One skill each from a state that the first chain came through, T = H; empty where no state can be set."""
    chains: list[Float]
    """Skill after skill from where episodes start, each drawn where the last one ended, at most one episode long."""


@torch.no_grad()
def compute_fans(
    family: RobotFamily, space: ActionSpace, *, skills: int, chain: int, seed: int, threads: int = 1
) -> Fans:
    """Draws skills from the prior and carries them out.

    Args:
        family: Of simulated robots.
        space: Of the skills.
        skills: S.
        chain: Most skills one after the other in `chains`.
        seed: Of resets and draws.
        threads: Of the simulator.
    """
    robot = make_simulator(family, skills, threads)
    rows, rng, generator = np.arange(skills), np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    goals = np.repeat(goals_of(family.tasks().test[:1]), skills, axis=0)
    most = max(1, min(chain, robot.spec.episode_steps // space.horizon))

    def roll(start: Float | None, count: int) -> list[Float]:
        now = robot.reset(rows, goals, rng)
        if isinstance(family, SetsState):
            state = now[:1] if start is None else start[None]
            now = family.set_state(robot, rows, np.repeat(state, skills, axis=0))
        paths = [[observation.copy()] for observation in now]
        running = rows
        for _ in range(count):
            latent = space.prior_of(torch.from_numpy(now)).sample(generator)
            control = space.hold(latent)
            for _ in range(space.horizon):
                step = robot.step(running, control(torch.from_numpy(now)).numpy())
                for place, row in enumerate(running):
                    paths[row].append(step.observation[place].copy())
                going = ~(step.terminated | step.truncated)
                now, running = step.observation[going], running[going]
                if not len(running):
                    return [np.stack(path) for path in paths]
                if not going.all():
                    latent = latent[torch.from_numpy(going)]
                    control = space.hold(latent)
        return [np.stack(path) for path in paths]

    try:
        single, chains = roll(None, 1), roll(None, most)
        middle = chains[0][len(chains[0]) // 2]
        return Fans(single, roll(middle, 1) if isinstance(family, SetsState) else [], chains)
    finally:
        robot.close()
