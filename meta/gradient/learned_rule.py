"""A learned inner update U_psi(theta, D), which is gradient descent until it has learned to be something else.

For every parameter, a small network shared by all of them reads the gradient, the parameter, an embedding of the tensor
it belongs to, and statistics of the samples; it scales the gradient and adds to it:

    theta' = theta - exp(a) g (1 + tanh(gate)) + exp(b) out,   (gate, out) = net_psi(features)

The last layer starts at zero, so that U_psi starts as gradient descent with alpha = exp(a). psi (a per tensor, b, the
embeddings, the network) and theta are learned together in the outer loop. The gradient features are those of
Andrychowicz et al., "Learning to Learn by Gradient Descent by Gradient Descent", NeurIPS 2016, appendix A.

With one inner step the outer gradient by psi is unbiased: the samples before it do not depend on psi. With more they
do, and only the scores of E-MAML (`exploration`) account for that.

Axes: N tasks, ... of one parameter tensor, F features, U hidden units, K embedding.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..policy import Params
from ..task_batch import TaskBatch
from .config import LearnedRuleConfig

LOG_RANGE = 10.0
"""p of Andrychowicz et al.: magnitudes below exp(-p) count as linear, and logarithms are divided by it."""
INPUTS = 5
"""Features besides the embedding: two of the gradient, one of the parameter, two of the samples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedRule(LearnedRuleConfig):
    """See the module; an `UpdateRule`."""

    def init(self, params: Params, generator: torch.Generator) -> Params:
        """See `UpdateRule.init`."""
        like = next(iter(params.values()))

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype)

        rule = {
            "net.0.weight": normal(self.hidden, INPUTS + self.embedding) / math.sqrt(INPUTS + self.embedding),
            "net.0.bias": like.new_zeros(self.hidden),
            "net.1.weight": like.new_zeros(2, self.hidden),
            "net.1.bias": like.new_zeros(2),
            "log_addition": like.new_full((), math.log(self.addition)),
        }
        for name in params:
            rule[f"embedding.{name}"] = normal(self.embedding)
            rule[f"log_step.{name}"] = like.new_full((), math.log(self.step_size))
        return rule

    def apply(self, rule: Params, params: Params, gradient: Params, batch: TaskBatch, scale: float) -> Params:
        """See `UpdateRule.apply`."""
        samples = self._sample_features(batch)
        updated = {}
        for name, value in params.items():
            gate, out = self._outputs(rule, name, value, gradient[name], samples)
            descent = rule[f"log_step.{name}"].exp() * gradient[name] * (1.0 + gate.tanh())
            updated[name] = value + scale * (rule["log_addition"].exp() * out - descent)
        return updated

    def _outputs(
        self, rule: Params, name: str, value: Tensor, gradient: Tensor, samples: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gate and out of every parameter of one tensor, each (N, ...)."""
        own = compute_features(gradient, value)
        if not self.through_features:
            own = own.detach()
        weight = rule["net.0.weight"]
        # what all parameters of a tensor and a task share is added once, not concatenated to each
        shared = samples @ weight[:, 3:INPUTS].T + weight[:, INPUTS:] @ rule[f"embedding.{name}"] + rule["net.0.bias"]
        shared = shared.reshape(len(samples), *(1,) * (value.dim() - 1), -1)
        output = (own @ weight[:, :3].T + shared).tanh() @ rule["net.1.weight"].T + rule["net.1.bias"]
        return output[..., 0], output[..., 1]

    @staticmethod
    def _sample_features(batch: TaskBatch) -> Tensor:
        """The objective J squashed to (-1, 1), and the mean of |A|; of each task, (N, 2)."""
        size = batch.valid.sum((1, 2)).clamp(min=1)
        magnitude = (batch.advantage.abs() * batch.valid).sum((1, 2)) / size
        return torch.stack((batch.objective / (1.0 + batch.objective.abs()), magnitude), dim=-1)


def compute_features(gradient: Tensor, value: Tensor) -> Tensor:
    """Of every parameter, (..., 3): the two gradient features, and log |theta| / p cut off at -1.

    The gradient is (log |g| / p, sign g) where |g| >= exp(-p), else (-1, exp(p) g).
    """
    floor = math.exp(-LOG_RANGE)
    large = gradient.abs() >= floor
    # both branches are kept finite: a gradient through the one that is not taken would be nan
    log_gradient = gradient.abs().clamp(min=floor).log() / LOG_RANGE
    sign = torch.where(large, gradient.sign(), gradient / floor)
    return torch.stack((log_gradient, sign, value.abs().clamp(min=floor).log() / LOG_RANGE), dim=-1)
