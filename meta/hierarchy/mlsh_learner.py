"""The MLSH learner: owns masters, sub-policies, their optimisers, and every random generator.

Axes: G groups, E rollouts of a group, R = G E rows, K sub-policies, N train tasks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import ConfigError, RunError
from ...robots.robot import RobotBatch
from ..adaptive import require_finite
from ..collect import collect
from ..space import ActionSpace
from ..state import named_part
from .config import MlshConfig
from .mlsh import first_ages
from .mlsh_actor import HierarchyActor, Played, make_stacks, master_samples, sub_policy_samples
from .mlsh_agent import MlshAgent
from .mlsh_networks import ActorCritics

SCALE_RATE = 0.1
"""Weight of an update's samples in the running mean and variance of returns; the first samples set them."""


class MlshLearner:
    """Meta-trains sub-policies on the train tasks of one robot; see `train`."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: MlshConfig,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draws the first sub-policies; `train` does the rest.

        Args:
            space: What sub-policies choose: skills, raw or unit actions, or choices.
            robot: At least `groups` x `rollouts` rows.
            goals: Train goals, shape (N, G).
            config: See `MlshConfig`.
            seed: Seed of weights, exploration, tasks and resets.
            device: Where the networks live.

        Raises:
            ConfigError: The robot has too few rows.
        """
        if robot.rows < config.groups * config.rollouts:
            raise ConfigError(
                f"MLSH: expected {config.groups * config.rollouts} robot rows for groups x rollouts, got {robot.rows}; "
                "make a robot of more rows or lower either"
            )
        self.config, self.space, self.robot, self.goals = config, space, robot, goals
        self.device = torch.device(device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        # weights are drawn on the CPU, so that a seed means the same networks on every device
        self.weights = torch.Generator().manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        observation_dim = robot.spec.observation.shape[0]
        self.masters, self.sub_policies = make_stacks(space, observation_dim, config, config.groups, self.device)
        self.sub_policies.draw(list(range(config.sub_policies)), self.weights)
        self.ages = np.array(first_ages(config))
        self.updates = np.zeros(config.groups, np.int64)
        self.task = np.zeros(config.groups, np.int64)
        self._begin_tasks(list(range(config.groups)))
        self.iteration = 0
        self.environment_steps = 0

    def _begin_tasks(self, groups: list[int]) -> None:
        """New tasks for some groups, each with a new master; drawn without replacement as far as the tasks go."""
        rounds = -(-len(groups) // len(self.goals))
        drawn = np.concatenate([self.rng.permutation(len(self.goals)) for _ in range(rounds)])
        self.task[groups] = drawn[: len(groups)]
        self.updates[groups] = 0
        self.masters.draw(groups, self.weights)

    def train(self) -> Iterator[dict[str, float]]:
        """Runs to `config.iterations`, yielding the metrics of each; a state taken at a yield resumes exactly.

        `return` is the mean undiscounted return of all groups, `return_fresh` and `return_adapted` those of the groups
        whose masters have been updated least and most often.

        Raises:
            TrainingFault: A metric became non-finite.
        """
        config = self.config
        while self.iteration < config.iterations:
            begin = time.perf_counter()
            finished = np.flatnonzero(self.ages == config.period)
            if len(finished):
                self.ages[finished] = 0
                self._begin_tasks(finished.tolist())
            played, metrics = self._collect()
            middle = time.perf_counter()
            metrics |= self.update(played, np.flatnonzero(self.ages >= config.warmup))
            require_finite(metrics, f"MLSH iteration {self.iteration}", "smaller learning rates")
            self.ages += 1
            self.updates += 1
            self.iteration += 1
            yield {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            } | metrics

    def _collect(self) -> tuple[Played, dict[str, float]]:
        """One episode in every row."""
        config = self.config
        actor = HierarchyActor(
            self.masters,
            self.sub_policies,
            self.space,
            config,
            config.rollouts,
            self.generator,
            random_choice=config.random_choice,
        )
        goals = np.repeat(self.goals[self.task], config.rollouts, axis=0)
        episodes = collect(self.robot, self.space, actor.act, goals, self.rng, device=self.device)
        played = actor.finish(episodes)
        self.environment_steps += int(episodes.steps.sum())
        returns = episodes.reward.sum(1).view(config.groups, -1).mean(1).cpu().numpy()
        adapted = self.updates == self.updates.max()
        macro = played.macro.view(config.groups, -1)
        most = torch.stack([(macro == index).float().mean(1) for index in range(config.sub_policies)]).amax(0)
        return played, {
            "return": float(returns.mean()),
            "return_fresh": float(returns[self.updates == self.updates.min()].mean()),
            "return_adapted": float(returns[adapted].mean()),
            "favourite_share": float(most.cpu().numpy()[adapted].mean()),
        }

    def update(self, played: Played, joint: NDArray[np.int64]) -> dict[str, float]:
        """Updates all masters, and the sub-policies from the groups named by `joint`."""
        config = self.config
        samples = master_samples([played], self.masters, self.space, config)
        self._move_scale(self.masters, samples.target[samples.valid])
        found = self.masters.update(samples, config.master, self.generator)
        metrics = {f"master_{name}": value for name, value in found.items()}
        if len(joint):
            rows = (joint[:, None] * config.rollouts + np.arange(config.rollouts)).ravel()
            index = torch.from_numpy(rows).to(self.device)
            samples = sub_policy_samples(played, index, self.sub_policies, self.space, config)
            self._move_scale(self.sub_policies, samples.target[samples.valid])
            found = self.sub_policies.update(samples, config.sub_policy, self.generator)
            metrics |= {f"sub_policy_{name}": value for name, value in found.items()}
        return metrics

    def _move_scale(self, stack: ActorCritics, target: Tensor) -> None:
        unset = (stack.return_mean, stack.return_variance) == (0.0, 1.0)
        stack.move_scale(target, 1.0 if unset else SCALE_RATE)

    def agent(self, *, rollouts: int = 1, random_choice: float = 0.0, greedy: bool = False, seed: int = 0) -> MlshAgent:
        """An agent with the present sub-policies; see `MlshAgent`."""
        agent = MlshAgent(
            self.space,
            self.robot.spec.observation.shape[0],
            self.config,
            rollouts=rollouts,
            random_choice=random_choice,
            greedy=greedy,
            seed=seed,
            device=self.device,
        )
        agent.sub_policies.load(self.sub_policies.tensors())
        agent.return_scale = (self.masters.return_mean, self.masters.return_variance)
        return agent

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        tensors = {f"masters.{name}": value for name, value in self.masters.tensors().items()}
        tensors |= {f"sub_policies.{name}": value for name, value in self.sub_policies.tensors().items()}
        tensors["generator"] = self.generator.get_state()
        tensors["weights"] = self.weights.get_state()
        facts = {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "ages": self.ages.tolist(),
            "updates": self.updates.tolist(),
            "task": self.task.tolist(),
            "rng": self.rng.bit_generator.state,
            "config": asdict(self.config),
        }
        return tensors, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            self.masters.load(named_part(tensors, "masters."))
            self.sub_policies.load(named_part(tensors, "sub_policies."))
            self.generator.set_state(tensors["generator"].cpu())
            self.weights.set_state(tensors["weights"].cpu())
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
            self.ages, self.updates, self.task = (np.array(facts[name]) for name in ("ages", "updates", "task"))
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"MLSH checkpoint: expected a whole state, got {error}; start again") from error
