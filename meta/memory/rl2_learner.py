"""The RL2 learner: owns the networks, the optimiser, the scale of returns and every random generator.

Axes: R trials of an iteration, B trials of a minibatch, T decisions of a trial, N train tasks, G goal, F input.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from ...errors import ConfigError, RunError
from ...robots.robot import RobotBatch
from ..adaptive import require_finite
from ..distribution import Distribution, detach, entropy, kl, log_prob
from ..recurrent import RecurrentActorCritic, inputs_of
from ..space import ActionSpace
from ..state import load_optimisers, named_part, optimiser_tensors
from ..trial import TrialBatch, join, run_trial
from ..trpo import trpo_step
from .config import Rl2Config
from .rl2 import discount_at, objective_reward, ppo_loss, trial_advantage, uncounted_episodes, valid_mean, value_loss
from .rl2_agent import Rl2Agent

RETURN_RATE = 0.1
"""Weight of an iteration in the running mean and variance of returns."""


class Prepared(NamedTuple):
    """Trials of an iteration, ready for updates."""

    value: Tensor
    """Inputs of the networks, shape (R, T, F)."""
    choice: Tensor
    """u, shape (R, T, Z)."""
    old_log_prob: Tensor
    """Of the choices, shape (R, T)."""
    advantage: Tensor
    """Standardised, shape (R, T)."""
    target: Tensor
    """Of V, standardised, shape (R, T)."""
    valid: Tensor
    """Shape (R, T) bool."""


class Rl2Learner:
    """Meta-trains a recurrent policy on the train tasks of one robot; see `train`."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: Rl2Config,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draws the first weights; `train` does the rest.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: At least `config.trials` rows.
            goals: Train goals, shape (N, G).
            config: See `Rl2Config`.
            seed: Seed of weights, exploration, tasks, minibatches and resets.
            device: Where the networks live.

        Raises:
            ConfigError: The robot has too few rows.
        """
        if robot.rows < config.trials:
            raise ConfigError(
                f"RL2: expected {config.trials} robot rows, one per trial, got {robot.rows}; make a robot of more rows "
                "or lower Rl2Config.trials"
            )
        self.config, self.space, self.robot, self.goals = config, space, robot, goals
        self.device = torch.device(device)
        self.network = RecurrentActorCritic(
            space,
            robot.spec.observation.shape[0],
            config.hidden,
            slots=config.slots,
            slot_content=config.slot_content,
            separate_value=config.separate_value,
            generator=torch.Generator().manual_seed(seed),
        ).to(self.device)
        self._policy: dict[str, Tensor] = {
            name: value
            for name, value in self.network.named_parameters()
            if name.startswith(("gru", "slots", "policy"))
        }
        self._value = [value for name, value in self.network.named_parameters() if name.startswith("value")]
        trained = self._value if config.update == "trpo" else list(self.network.parameters())
        self.optimisers = {"adam": torch.optim.Adam(trained, lr=config.learning_rate, eps=1e-5)}
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.return_mean, self.return_variance = 0.0, 1.0
        self.iteration = 0
        self.environment_steps = 0

    def train(self) -> Iterator[dict[str, float]]:
        """Runs to `config.iterations`, yielding the metrics of each; a state taken at a yield resumes exactly.

        Raises:
            TrainingFault: A metric became non-finite.
        """
        config = self.config
        while self.iteration < config.iterations:
            begin = time.perf_counter()
            batch, metrics = self._collect()
            middle = time.perf_counter()
            for group in self.optimisers["adam"].param_groups:
                group["lr"] = config.learning_rate * (1.0 - self._progress if config.anneal else 1.0)
            metrics |= self.update(self.prepare(batch))
            require_finite(metrics, f"RL2 iteration {self.iteration}", "a smaller learning_rate")
            self.iteration += 1
            yield metrics | {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": middle - begin,
                "wall_update_s": time.perf_counter() - middle,
            }

    def _collect(self) -> tuple[TrialBatch, dict[str, float]]:
        config = self.config
        task = self.rng.integers(len(self.goals), size=config.trials)
        actor = Rl2Agent(self.network, self.space, self.generator)
        rounds = run_trial(self.robot, self.space, actor, self.goals[task], config.trial, self.rng, device=self.device)
        self.environment_steps += sum(int(episodes.steps.sum()) for episodes in rounds)
        returns = [float(episodes.reward.sum(1).mean()) for episodes in rounds]
        counting = returns[config.trial.exploration_episodes :]
        return join(rounds), {
            "return_trial": sum(counting),
            "return_first": returns[0],
            "return_last": returns[-1],
        }

    @torch.no_grad()
    def prepare(self, batch: TrialBatch) -> Prepared:
        """Log probabilities, advantages and targets under the networks as they are; moves the scale of returns."""
        config = self.config
        choice = self.network.code.to_choice(batch.latent, self.space.prior_of(batch.observation))
        value = inputs_of(batch, self.space, choice)
        log_probs, values = [], []
        for part in torch.split(torch.arange(len(value), device=self.device), config.minibatch):
            distribution, standardised = self.network(value[part], batch.valid[part])
            log_probs.append(log_prob(distribution, choice[part]))
            values.append(standardised)
        critic = self.return_mean + self.return_variance**0.5 * torch.cat(values)
        reward = objective_reward(batch, uncounted_episodes(config, self._progress))
        discount = discount_at(config, self._progress)
        advantage, target = trial_advantage(reward, critic, batch.valid, discount, config.trace)
        self._move_scale(target[batch.valid])
        centred = advantage - valid_mean(advantage, batch.valid)
        spread = valid_mean(centred.square(), batch.valid).sqrt()
        return Prepared(
            value,
            choice,
            torch.cat(log_probs),
            centred / (spread + 1e-8),
            (target - self.return_mean) / self.return_variance**0.5,
            batch.valid,
        )

    def _move_scale(self, target: Tensor) -> None:
        """Running mean and variance of the targets; the first iteration sets them."""
        rate = RETURN_RATE if self.iteration else 1.0
        shift = float(target.mean()) - self.return_mean
        spread = float((target - target.mean()).square().mean())
        self.return_mean += rate * shift
        self.return_variance = max((1.0 - rate) * (self.return_variance + rate * shift**2) + rate * spread, 1e-6)

    def update(self, data: Prepared) -> dict[str, float]:
        """All updates of one iteration; metrics are means over them."""
        metrics = self._update_policy_by_trpo(data) if self.config.update == "trpo" else {}
        total: dict[str, list[Tensor]] = {}
        for _ in range(self.config.epochs):
            order = torch.randperm(len(data.valid), generator=self.generator, device=self.device)
            for index in torch.split(order, self.config.minibatch):
                for name, value in self._update_minibatch(Prepared(*(part[index] for part in data))).items():
                    total.setdefault(name, []).append(value)
        return metrics | {name: float(torch.stack(values).mean()) for name, values in total.items()}

    def _update_minibatch(self, data: Prepared) -> dict[str, Tensor]:
        """One step of Adam on PPO's loss and the value loss, or on the value loss alone under TRPO."""
        config = self.config
        distribution, critic = self.network(data.value, data.valid)
        loss_value = value_loss(critic, data.target, data.valid)
        loss, metrics = config.value_weight * loss_value, {"loss_value": loss_value.detach()}
        if config.update == "ppo":
            now = log_prob(distribution, data.choice)
            loss_policy = ppo_loss(now, data.old_log_prob, data.advantage, data.valid, config.clip)
            spread = valid_mean(entropy(distribution), data.valid)
            loss = loss + loss_policy - self._entropy_weight() * spread
            metrics |= {
                "loss_policy": loss_policy.detach(),
                "entropy": spread.detach(),
                "kl": valid_mean(data.old_log_prob - now.detach(), data.valid),
            }
        optimiser = self.optimisers["adam"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], config.max_gradient_norm)
        optimiser.step()
        return metrics

    @property
    def _progress(self) -> float:
        """Part of the iterations that is done."""
        return self.iteration / self.config.iterations

    def _entropy_weight(self) -> float:
        return self.config.entropy_weight * (1.0 - self._progress if self.config.anneal_entropy else 1.0)

    def _update_policy_by_trpo(self, data: Prepared) -> dict[str, float]:
        """One trust region step of the policy on all trials."""
        with torch.no_grad():
            old = detach(self._policy_at(self._policy, data))

        def evaluate(params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
            new = self._policy_at(params, data)
            ratio = (log_prob(new, data.choice) - data.old_log_prob).exp()
            spread = valid_mean(entropy(new), data.valid)
            loss = -valid_mean(ratio * data.advantage, data.valid) - self._entropy_weight() * spread
            return loss, valid_mean(kl(old, new), data.valid)

        found, metrics = trpo_step(self._policy, evaluate, self.config.trust_region)
        with torch.no_grad():
            for name, value in found.items():
                self._policy[name].copy_(value)
        return metrics

    def _policy_at(self, params: dict[str, Tensor], data: Prepared) -> Distribution:
        output: tuple[Distribution, Tensor] = functional_call(self.network, params, (data.value, data.valid))
        return output[0]

    def agent(self, *, greedy: bool = False, seed: int = 0) -> Rl2Agent:
        """An agent with the present weights; see `Rl2Agent`."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return Rl2Agent(copy.deepcopy(self.network), self.space, generator, greedy=greedy)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors["generator"] = self.generator.get_state()
        tensors |= optimiser_tensors(self.optimisers)
        facts = {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "return_mean": self.return_mean,
            "return_variance": self.return_variance,
            "rng": self.rng.bit_generator.state,
            "config": asdict(self.config),
        }
        return {name: value.detach() for name, value in tensors.items()}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            self.network.load_state_dict(named_part(tensors, "network."))
            self.generator.set_state(tensors["generator"].cpu())
            load_optimisers(self.optimisers, tensors)
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
            self.return_mean, self.return_variance = facts["return_mean"], facts["return_variance"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"RL2 checkpoint: expected a whole state, got {error}; start again") from error
