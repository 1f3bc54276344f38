"""Stacks of actor-critics of one shape, each with an Adam of its own: masters of many tasks, or sub-policies.

All of a stack act and learn by batched products, and none knows of the others. What one of them forgets (a master at
the begin of a task) leaves the others bit-identical, moments and bias corrections of Adam included.

Sources: Kingma and Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, Algorithm 1; Schulman et al., "Proximal
Policy Optimization Algorithms", 2017.

Axes: S networks of the stack, L samples of each, O observation, Z latent.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..advantage import standardise
from ..distribution import Categorical, Distribution, entropy, log_prob
from ..policy import MlpPolicy, Params
from ..policy_gradient import ppo_loss, task_mean
from ..recurrent import FIRST_POLICY
from ..state import named_part
from .config import PpoPasses

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-5
"""Of Adam; its authors recommend 1e-8, the authors of MLSH use 1e-5."""


class Samples(NamedTuple):
    """What each network of a stack learns from; the last entries of a network may be padding."""

    observation: Tensor
    """Shape (S, L, O), on the scale that networks see."""
    elapsed: Tensor
    """Share of the episode's time limit that is over, shape (S, L)."""
    choice: Tensor
    """Shape (S, L, Z)."""
    old_log_prob: Tensor
    """Of the choices under the policy that is updated, shape (S, L)."""
    advantage: Tensor
    """Shape (S, L)."""
    target: Tensor
    """Of the value, shape (S, L), in units of the reward."""
    valid: Tensor
    """Shape (S, L) bool: not padding."""


class ActorCritics:
    """S policies and value functions; parameters `policy.*` and `value.*` have a leading axis S."""

    def __init__(self, policy: MlpPolicy, stack: int, device: torch.device) -> None:
        """All parameters are zero until `draw`.

        Args:
            policy: The shape of each policy; value functions have its hidden layers and read the elapsed share too.
            stack: S.
            device: Where they live.
        """
        self.policy, self.stack, self.device = policy, stack, device
        self.critic = MlpPolicy(
            inputs=policy.inputs + 1, outputs=1, discrete=True, hidden=policy.hidden, activation=policy.activation
        )
        shapes = self._draw_one(torch.Generator())
        self.params = {name: value.new_zeros(stack, *value.shape, device=device) for name, value in shapes.items()}
        self.first = {name: torch.zeros_like(value) for name, value in self.params.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.params.items()}
        self.steps = torch.zeros(stack, device=device)
        self.return_mean, self.return_variance = 0.0, 1.0

    def _draw_one(self, generator: torch.Generator) -> Params:
        policy, value = self.policy.init(generator), self.critic.init(generator)
        policy[f"layers.{len(self.policy.hidden)}.weight"] *= FIRST_POLICY
        return {f"policy.{name}": part for name, part in policy.items()} | {
            f"value.{name}": part for name, part in value.items()
        }

    def draw(self, which: list[int], generator: torch.Generator) -> None:
        """Begins some networks anew: first weights from `generator` (on the CPU), and Adam as if it never stepped."""
        for index in which:
            for name, value in self._draw_one(generator).items():
                self.params[name][index] = value.to(self.device)
                self.first[name][index] = 0.0
                self.second[name][index] = 0.0
            self.steps[index] = 0.0

    def distribution(self, observation: Tensor) -> Distribution:
        """Policies at observations (S, L, O)."""
        return self.policy(named_part(self.params, "policy."), observation)

    def value(self, observation: Tensor, elapsed: Tensor) -> Tensor:
        """Values at observations (S, L, O) and shares of the time limit (S, L), in units of the reward, (S, L)."""
        standardised = self._standardised_value(self.params, observation, elapsed)
        scale: float = self.return_variance**0.5
        return self.return_mean + scale * standardised

    def _standardised_value(self, params: Params, observation: Tensor, elapsed: Tensor) -> Tensor:
        output = self.critic(named_part(params, "value."), torch.cat((observation, elapsed[..., None]), dim=-1))
        assert isinstance(output, Categorical)  # a network of one output: its only logit
        return output.logits.squeeze(-1)

    def move_scale(self, target: Tensor, rate: float) -> None:
        """Moves the running mean and variance of targets, any shape, towards these by `rate`."""
        shift = float(target.mean()) - self.return_mean
        spread = float((target - target.mean()).square().mean())
        self.return_mean += rate * shift
        self.return_variance = max((1.0 - rate) * (self.return_variance + rate * shift**2) + rate * spread, 1e-6)

    def update(self, samples: Samples, passes: PpoPasses, generator: torch.Generator) -> dict[str, float]:
        """PPO of each network on its own samples, advantages standardised over them; metrics are means over all."""
        data = samples._replace(
            advantage=standardise(samples.advantage, samples.valid),
            target=(samples.target - self.return_mean) / self.return_variance**0.5,
        )
        total: list[Tensor] = []
        for _ in range(passes.epochs):
            clock = torch.rand(data.valid.shape, generator=generator, device=self.device)
            # padding goes last, dealt out like the rest: every part has its share of what counts
            order = torch.where(data.valid, clock, clock + 1.0).argsort(1)
            for part in range(passes.minibatches):
                index = order[:, part :: passes.minibatches]
                if index.shape[1]:
                    total.append(self._update_minibatch(Samples(*(_pick(value, index) for value in data)), passes))
        loss_policy, loss_value, spread, kl = torch.stack(total).mean(0).tolist()
        return {"loss_policy": loss_policy, "loss_value": loss_value, "entropy": spread, "kl": kl}

    def _update_minibatch(self, data: Samples, passes: PpoPasses) -> Tensor:
        leaves = {name: value.detach().requires_grad_() for name, value in self.params.items()}
        losses = compute_losses(self.policy(named_part(leaves, "policy."), data.observation), data, passes)
        error = self._standardised_value(leaves, data.observation, data.elapsed) - data.target
        loss_value = _mean(error.square(), data.valid)
        # networks of a stack share nothing, so the gradient of the sum is the gradient of each
        total = (losses[0] + loss_value - passes.entropy_weight * losses[1]).sum()
        gradients = torch.autograd.grad(total, list(leaves.values()))
        self._step(dict(zip(leaves, gradients, strict=True)), data.valid.any(1), passes.learning_rate)
        metrics = torch.stack((losses[0], loss_value, losses[1], losses[2])).detach()
        return metrics[:, data.valid.any(1)].mean(1)

    def _step(self, gradients: Params, moves: Tensor, rate: float) -> None:
        """One step of Adam in the networks that have samples, `moves` (S,); the others stay as they are."""
        self.steps += moves
        taken = self.steps.clamp(min=1.0)
        scale = rate / (1.0 - BETA_1**taken) * moves
        correction = (1.0 - BETA_2**taken).sqrt()
        for name, gradient in gradients.items():
            shape = (-1,) + (1,) * (gradient.dim() - 1)
            keeps = moves.view(shape).to(gradient.dtype)
            first, second = self.first[name], self.second[name]
            first.lerp_(gradient, (1.0 - BETA_1) * keeps)
            second.lerp_(gradient.square(), (1.0 - BETA_2) * keeps)
            divisor = (second.sqrt() / correction.view(shape)).add_(EPSILON)
            self.params[name].sub_(scale.view(shape) * first / divisor)

    def tensors(self) -> dict[str, Tensor]:
        """Parameters and Adam's moments and step counts by name; the scale of returns is `scale`."""
        found = {f"params.{name}": value for name, value in self.params.items()}
        found |= {f"first.{name}": value for name, value in self.first.items()}
        found |= {f"second.{name}": value for name, value in self.second.items()}
        scale = torch.tensor([self.return_mean, self.return_variance], dtype=torch.float64)
        return {name: value.detach().clone() for name, value in found.items()} | {
            "steps": self.steps.clone(),
            "scale": scale,
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restores what `tensors` gave, for any number of networks of this shape.

        Raises:
            KeyError: A part is missing.
            RuntimeError: A part has another shape.
        """
        stack = len(tensors["steps"])
        parts = []
        for part in ("params", "first", "second"):
            found = named_part(tensors, f"{part}.")
            parts.append(
                {
                    name: found[name].to(self.device, value.dtype).reshape(stack, *value.shape[1:]).clone()
                    for name, value in self.params.items()
                }
            )
        mean, variance = tensors["scale"].tolist()
        self.params, self.first, self.second = parts
        self.stack, self.steps = stack, tensors["steps"].to(self.device).clone()
        self.return_mean, self.return_variance = mean, variance


def compute_losses(new: Distribution, data: Samples, passes: PpoPasses) -> tuple[Tensor, Tensor, Tensor]:
    """PPO's loss, the mean entropy and the mean of log pi_old - log pi of each network, each (S,)."""
    now = log_prob(new, data.choice)
    loss = ppo_loss(now[:, None], data.old_log_prob[:, None], data.advantage[:, None], data.valid[:, None], passes.clip)
    return loss, _mean(entropy(new), data.valid), _mean(data.old_log_prob - now, data.valid)


def _mean(value: Tensor, valid: Tensor) -> Tensor:
    """Mean over the samples of each network, (S,), of (S, L)."""
    return task_mean(value[:, None], valid[:, None])


def _pick(value: Tensor, index: Tensor) -> Tensor:
    """value[s, index[s, l]]."""
    shape = (*index.shape, *(1,) * (value.dim() - 2))
    return value.gather(1, index.reshape(shape).expand(-1, -1, *value.shape[2:]))
