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
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...skills.gaussian import Gaussian
from ..distribution import entropy, log_prob
from ..iterative import IterativeLearner, mean_metrics
from ..memory.rl2 import objective_reward, ppo_loss, trial_advantage, value_loss
from ..state import join_parts, named_part
from ..trial import TrialBatch, join, mean_returns
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


class VaribadLearner(IterativeLearner[VaribadConfig, TrialBatch]):
    """Meta-trains a belief and a policy that reads it on the train tasks of one robot."""

    name = "variBAD"

    def _build(self, source: torch.Generator) -> None:
        config, space, spec = self.config, self.space, self.robot.spec.observation
        self.require_rows(config.trials, "trials")
        (dim,) = spec.shape
        self.encoder = TaskEncoder(space, dim, config.vae, generator=source).to(self.device)
        self.decoder = TrialDecoder(space, spec, config.vae, generator=source).to(self.device)
        boundaries = config.trial.episodes > 1
        self.network = BeliefActorCritic(
            space, dim, config.vae.latent, config.policy_hidden, boundaries=boundaries, generator=source
        ).to(self.device)
        self.optimisers = {
            "policy": torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, eps=1e-5),
            "vae": torch.optim.Adam(
                [*self.encoder.parameters(), *self.decoder.parameters()], lr=config.vae.learning_rate
            ),
        }
        decisions = config.trial.episodes * -(-self.robot.spec.episode_steps // space.horizon)
        self.buffer = TrialBuffer(config.vae.buffer_trials, decisions, dim, space.latent_dim, self.device)

    @property
    def entropy_weight(self) -> float:
        """Of the mean entropy, now."""
        return self.config.entropy_weight * (self.left if self.config.anneal_entropy else 1.0)

    def _set_rates(self) -> None:
        rates = {"policy": self.config.learning_rate, "vae": self.config.vae.learning_rate}
        for name, optimiser in self.optimisers.items():
            for group in optimiser.param_groups:
                group["lr"] = rates[name] * (self.left if self.config.anneal else 1.0)

    def _collect(self) -> tuple[TrialBatch, dict[str, float]]:
        config = self.config
        task = self.rng.integers(len(self.goals), size=config.trials)
        actor = VaribadAgent(self.encoder, self.network, self.space, self.generator)
        rounds = self.play_trials(actor, self.goals[task], config.trial)
        return join(rounds), mean_returns(rounds, config.trial)

    def _learn(self, batch: TrialBatch) -> dict[str, float]:
        begin = time.perf_counter()
        transitions = transitions_of(batch, self.space)
        self._set_rates()
        metrics = self.update_policy(self.prepare(batch, transitions))
        self.buffer.add(transitions)
        middle = time.perf_counter()
        metrics |= self.update_vae()
        return metrics | {"wall_policy_s": middle - begin, "wall_vae_s": time.perf_counter() - middle}

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
        count = len(data.target)
        return mean_metrics(
            self._update_minibatch(Prepared(*(part[index] for part in data)))
            for _ in range(self.config.epochs)
            for index in torch.split(self.shuffle(count), -(-count // self.config.minibatches))
        )

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
        return mean_metrics(self._update_vae_once() for _ in range(self.config.vae.updates))

    def _update_vae_once(self) -> dict[str, Tensor]:
        """One step of Adam on the bound of trials drawn from the buffer."""
        optimiser = self.optimisers["vae"]
        loss, metrics = self.vae_loss(self.buffer.sample(self.config.vae.batch, self.generator))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        return metrics

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
        return self.shuffle(count)[:terms], terms / count

    def agent(self, *, greedy: bool = False, seed: int = 0) -> VaribadAgent:
        """An agent with the present weights; see `VaribadAgent`."""
        generator = torch.Generator(self.device).manual_seed(seed)
        encoder, network = copy.deepcopy(self.encoder), copy.deepcopy(self.network)
        return VaribadAgent(encoder, network, self.space, generator, greedy=greedy)

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"encoder": self.encoder, "decoder": self.decoder, "network": self.network}

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        modules = {part: module.state_dict() for part, module in self._modules.items()}
        buffer, place = self.buffer.state()
        return join_parts(**modules, buffer=buffer), {"buffer": place}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        for part, module in self._modules.items():
            module.load_state_dict(named_part(tensors, f"{part}."))
        self.buffer.load_state(named_part(tensors, "buffer."), facts["buffer"])
