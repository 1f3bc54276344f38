"""The variBAD learner: owns the networks, both optimisers, the buffer of trials and every random generator.

An iteration collects whole trials, each begun from the belief before anything was seen, and updates the policy by PPO
on the beliefs that it acted on; then encoder and decoder are updated on trials drawn from the buffer. So no belief is
ever of an older encoder than the policy that reads it (the authors' code re-encodes running trials for that), and
neither update sends gradients into what the other one trains.

Axes: R trials of an iteration, T decisions of a trial, S = T + 1 beliefs, B decisions of an iteration, N train tasks,
G goal, F inputs of the policy, Z latent of an action.
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

from ...errors import ConfigError, RunError
from ...robots.robot import RobotBatch
from ...skills.gaussian import Gaussian
from ..adaptive import require_finite
from ..distribution import entropy, log_prob
from ..memory.rl2 import objective_reward, ppo_loss, trial_advantage, value_loss
from ..space import ActionSpace
from ..state import load_optimisers, named_part, optimiser_tensors
from ..trial import TrialBatch, join, run_trial
from .config import VaribadConfig
from .trial_buffer import TrialBuffer
from .varibad import belief_valid, elbo, posterior_kl, sum_reconstruction
from .varibad_agent import VaribadAgent
from .varibad_decoder import TrialDecoder
from .varibad_networks import BeliefActorCritic, TaskEncoder, Transitions, transitions_of


class Prepared(NamedTuple):
    """Decisions of an iteration, ready for updates of the policy; padding is left out."""

    value: Tensor
    """Inputs of policy and value function, shape (B, F)."""
    choice: Tensor
    """u, shape (B, Z)."""
    old_log_prob: Tensor
    """Of the choices, shape (B,)."""
    advantage: Tensor
    """Standardised, shape (B,)."""
    target: Tensor
    """Of V, standardised, shape (B,)."""


class VaribadLearner:
    """Meta-trains a belief and a policy that reads it on the train tasks of one robot; see `train`."""

    def __init__(
        self,
        space: ActionSpace,
        robot: RobotBatch,
        goals: NDArray[np.float32],
        config: VaribadConfig,
        *,
        seed: int = 0,
        device: str | torch.device = "cpu",
    ) -> None:
        """Draws the first weights; `train` does the rest.

        Args:
            space: Skills, raw or unit actions, or choices.
            robot: At least `config.trials` rows.
            goals: Train goals, shape (N, G).
            config: See `VaribadConfig`.
            seed: Seed of weights, exploration, tasks, beliefs, minibatches and resets.
            device: Where the networks and the buffer live.

        Raises:
            ConfigError: The robot has too few rows, or its observation has no cells to decode.
        """
        if robot.rows < config.trials:
            raise ConfigError(
                f"variBAD: expected {config.trials} robot rows, one per trial, got {robot.rows}; make a robot of more "
                "rows or lower VaribadConfig.trials"
            )
        self.config, self.space, self.robot, self.goals = config, space, robot, goals
        self.device = torch.device(device)
        spec, generator = robot.spec.observation, torch.Generator().manual_seed(seed)
        (dim,) = spec.shape
        self.encoder = TaskEncoder(space, dim, config.vae, generator=generator).to(self.device)
        self.decoder = TrialDecoder(space, spec, config.vae, generator=generator).to(self.device)
        boundaries = config.trial.episodes > 1
        self.network = BeliefActorCritic(
            space, dim, config.vae.latent, config.policy_hidden, boundaries=boundaries, generator=generator
        ).to(self.device)
        self.optimisers = {
            "policy": torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, eps=1e-5),
            "vae": torch.optim.Adam(
                [*self.encoder.parameters(), *self.decoder.parameters()], lr=config.vae.learning_rate
            ),
        }
        decisions = config.trial.episodes * -(-robot.spec.episode_steps // space.horizon)
        self.buffer = TrialBuffer(config.vae.buffer_trials, decisions, dim, space.latent_dim, self.device)
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
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
            transitions = transitions_of(batch, self.space)
            collected = time.perf_counter()
            self._set_rates()
            metrics |= self.update_policy(self.prepare(batch, transitions))
            self.buffer.add(transitions)
            updated = time.perf_counter()
            metrics |= self.update_vae()
            require_finite(metrics, f"variBAD iteration {self.iteration}", "a smaller learning_rate")
            self.iteration += 1
            yield metrics | {
                "step": float(self.iteration),
                "environment_steps": float(self.environment_steps),
                "wall_collect_s": collected - begin,
                "wall_policy_s": updated - collected,
                "wall_vae_s": time.perf_counter() - updated,
            }

    @property
    def _left(self) -> float:
        """Share of the training that is still to come."""
        return 1.0 - self.iteration / self.config.iterations

    @property
    def entropy_weight(self) -> float:
        """Of the mean entropy, now."""
        return self.config.entropy_weight * (self._left if self.config.anneal_entropy else 1.0)

    def _set_rates(self) -> None:
        rates = {"policy": self.config.learning_rate, "vae": self.config.vae.learning_rate}
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = rates[name] * (self._left if self.config.anneal else 1.0)

    def _collect(self) -> tuple[TrialBatch, dict[str, float]]:
        config = self.config
        task = self.rng.integers(len(self.goals), size=config.trials)
        actor = VaribadAgent(self.encoder, self.network, self.space, self.generator)
        rounds = run_trial(self.robot, self.space, actor, self.goals[task], config.trial, self.rng, device=self.device)
        self.environment_steps += sum(int(episodes.steps.sum()) for episodes in rounds)
        returns = [float(episodes.reward.sum(1).mean()) for episodes in rounds]
        counting = returns[config.trial.exploration_episodes :]
        return join(rounds), {"return_trial": sum(counting), "return_first": returns[0], "return_last": returns[-1]}

    @torch.no_grad()
    def prepare(self, batch: TrialBatch, transitions: Transitions) -> Prepared:
        """Log probabilities, advantages and targets under the networks as they are; then moves the running scales."""
        config, network, valid = self.config, self.network, batch.valid
        belief = self.encoder(transitions)
        before = type(belief)(*(part[:, :-1] for part in belief))  # decision t is taken under q_t
        composed = network.compose(batch.observation, before)
        value = network.inputs(composed, batch.first)
        distribution, standardised = network(value)
        scale = network.return_scale
        mean, spread = scale.mean, scale.spread
        reward = objective_reward(batch, config.trial.exploration_episodes)
        critic = mean + spread * standardised
        advantage, target = trial_advantage(reward, critic, valid, config.discount, config.trace)
        advantage, target = advantage[valid], target[valid]
        scale.update(target[:, None])
        network.input_scale.update(composed[valid])
        return Prepared(
            value[valid],
            transitions.choice[valid],
            log_prob(distribution, transitions.choice)[valid],
            (advantage - advantage.mean()) / (advantage.std(correction=0) + 1e-8),
            (target - scale.mean) / scale.spread,
        )

    def update_policy(self, data: Prepared) -> dict[str, float]:
        """All updates of policy and value function of one iteration; metrics are means over them."""
        total: dict[str, list[Tensor]] = {}
        count = len(data.target)
        for _ in range(self.config.epochs):
            order = torch.randperm(count, generator=self.generator, device=self.device)
            for index in torch.split(order, -(-count // self.config.minibatches)):
                for name, value in self._update_minibatch(Prepared(*(part[index] for part in data))).items():
                    total.setdefault(name, []).append(value)
        return {name: float(torch.stack(values).mean()) for name, values in total.items()}

    def _update_minibatch(self, data: Prepared) -> dict[str, Tensor]:
        """One step of Adam on PPO's loss and the value loss."""
        config, everywhere = self.config, torch.ones_like(data.target, dtype=torch.bool)
        distribution, critic = self.network(data.value)
        now, spread = log_prob(distribution, data.choice), entropy(distribution).mean()
        loss_policy = ppo_loss(now, data.old_log_prob, data.advantage, everywhere, config.clip)
        loss_value = value_loss(critic, data.target, everywhere)
        loss = loss_policy + config.value_weight * loss_value - self.entropy_weight * spread
        optimiser = self.optimisers["policy"]
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), config.max_gradient_norm)
        optimiser.step()
        return {
            "loss_policy": loss_policy.detach(),
            "loss_value": loss_value.detach(),
            "entropy": spread.detach(),
            "kl": (data.old_log_prob - now.detach()).mean(),
        }

    def update_vae(self) -> dict[str, float]:
        """All updates of encoder and decoder of one iteration; metrics are means over them."""
        total: dict[str, list[Tensor]] = {}
        optimiser = self.optimisers["vae"]
        for _ in range(self.config.vae.updates):
            loss, metrics = self.vae_loss(self.buffer.sample(self.config.vae.batch, self.generator))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            for name, value in metrics.items():
                total.setdefault(name, []).append(value)
        return {name: float(torch.stack(values).mean()) for name, values in total.items()}

    def vae_loss(self, transitions: Transitions) -> tuple[Tensor, dict[str, Tensor]]:
        """Minus the mean over trials of sum_t ELBO_t, a scalar, and its parts per trial."""
        config = self.config.vae
        posterior = self.encoder(transitions).gaussian()
        believed = belief_valid(transitions.valid)
        beliefs, belief_share = self._draw(believed.shape[1], config.elbo_terms)
        decided, decision_share = self._draw(transitions.valid.shape[1], config.decode_terms)
        latent = Gaussian(posterior.loc[:, beliefs], posterior.scale[:, beliefs]).sample(self.generator)
        predicted = Transitions(*(part[:, decided] for part in transitions))
        reward, state = self.decoder(latent, predicted)
        terms = reward + config.transition_weight * state
        reconstruction = sum_reconstruction(terms, believed[:, beliefs], predicted.valid)
        reconstruction = reconstruction / (belief_share * decision_share)
        bound = elbo(reconstruction, posterior, believed, config.kl_weight)
        with torch.no_grad():
            divergence = torch.where(believed, posterior_kl(posterior), 0.0).sum(1).mean()
        metrics = {"elbo": bound.mean().detach(), "reconstruction": reconstruction.mean().detach()}
        return -bound.mean(), metrics | {"kl_posterior": divergence}

    def _draw(self, count: int, terms: int | None) -> tuple[Any, float]:
        """This many different places of `count`, drawn anew, and their share of all places."""
        if terms is None or terms >= count:
            return slice(None), 1.0
        order = torch.randperm(count, generator=self.generator, device=self.device)
        return order[:terms], terms / count

    def agent(self, *, greedy: bool = False, seed: int = 0) -> VaribadAgent:
        """An agent with the present weights; see `VaribadAgent`."""
        generator = torch.Generator(self.device).manual_seed(seed)
        encoder, network = copy.deepcopy(self.encoder), copy.deepcopy(self.network)
        return VaribadAgent(encoder, network, self.space, generator, greedy=greedy)

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder, "network": self.network}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next iteration depends on: tensors by name, and JSON facts."""
        tensors = {
            f"{part}.{name}": value
            for part, module in self._modules.items()
            for name, value in module.state_dict().items()
        }
        kept, place = self.buffer.state()
        tensors |= {f"buffer.{name}": value for name, value in kept.items()}
        tensors["generator"] = self.generator.get_state()
        tensors |= optimiser_tensors(self.optimisers)
        facts = {
            "iteration": self.iteration,
            "environment_steps": self.environment_steps,
            "buffer": place,
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
            for part, module in self._modules.items():
                module.load_state_dict(named_part(tensors, f"{part}."))
            self.buffer.load_state(named_part(tensors, "buffer."), facts["buffer"])
            self.generator.set_state(tensors["generator"].cpu())
            load_optimisers(self.optimisers, tensors)
            self.rng.bit_generator.state = facts["rng"]
            self.iteration, self.environment_steps = facts["iteration"], facts["environment_steps"]
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"variBAD checkpoint: expected a whole state, got {error}; start again") from error
