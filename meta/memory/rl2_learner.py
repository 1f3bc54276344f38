"""The RL2 learner: owns the networks, the optimiser, the scale of returns and every random generator.

Axes: R trials of an iteration, B trials of a minibatch, T decisions of a trial, N train tasks, G goal, F input.
"""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..distribution import Distribution, detach, entropy, kl, log_prob
from ..iterative import IterativeLearner, mean_metrics
from ..recurrent import RecurrentActorCritic, inputs_of
from ..state import copy_into, join_parts, named_part
from ..trial import TrialBatch, join, mean_returns
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


class Rl2Learner(IterativeLearner[Rl2Config, TrialBatch]):
    """Meta-trains a recurrent policy on the train tasks of one robot."""

    name = "RL2"

    def _build(self, source: torch.Generator) -> None:
        config = self.config
        self.require_rows(config.trials, "trials")
        self.network = RecurrentActorCritic(
            self.space,
            self.robot.spec.observation.shape[0],
            config.hidden,
            slots=config.slots,
            slot_content=config.slot_content,
            separate_value=config.separate_value,
            generator=source,
        ).to(self.device)
        self._policy: dict[str, Tensor] = {
            name: value
            for name, value in self.network.named_parameters()
            if name.startswith(("gru", "slots", "policy"))
        }
        self._value = [value for name, value in self.network.named_parameters() if name.startswith("value")]
        trained = self._value if config.update == "trpo" else list(self.network.parameters())
        self.optimisers = {"adam": torch.optim.Adam(trained, lr=config.learning_rate, eps=1e-5)}
        self.return_mean, self.return_variance = 0.0, 1.0

    def _collect(self) -> tuple[TrialBatch, dict[str, float]]:
        config = self.config
        task = self.rng.integers(len(self.goals), size=config.trials)
        actor = Rl2Agent(self.network, self.space, self.generator)
        rounds = self.play_trials(actor, self.goals[task], config.trial)
        return join(rounds), mean_returns(rounds, config.trial)

    def _learn(self, batch: TrialBatch) -> dict[str, float]:
        for group in self.optimisers["adam"].param_groups:
            group["lr"] = self.config.learning_rate * (self.left if self.config.anneal else 1.0)
        return self.update(self.prepare(batch))

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
        return metrics | mean_metrics(
            self._update_minibatch(Prepared(*(part[index] for part in data)))
            for _ in range(self.config.epochs)
            for index in torch.split(self.shuffle(len(data.valid)), self.config.minibatch)
        )

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
        return self.config.entropy_weight * (self.left if self.config.anneal_entropy else 1.0)

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
        copy_into(self._policy, found)
        return metrics

    def _policy_at(self, params: dict[str, Tensor], data: Prepared) -> Distribution:
        output: tuple[Distribution, Tensor] = functional_call(self.network, params, (data.value, data.valid))
        return output[0]

    def agent(self, *, greedy: bool = False, seed: int = 0) -> Rl2Agent:
        """An agent with the present weights; see `Rl2Agent`."""
        generator = torch.Generator(self.device).manual_seed(seed)
        return Rl2Agent(copy.deepcopy(self.network), self.space, generator, greedy=greedy)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        facts = {"return_mean": self.return_mean, "return_variance": self.return_variance}
        return join_parts(network=self.network.state_dict()), facts

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        self.network.load_state_dict(named_part(tensors, "network."))
        self.return_mean, self.return_variance = facts["return_mean"], facts["return_variance"]
