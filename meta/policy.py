"""Policies as functions of a dict of parameters, for learners that adapt by gradients.

The parameters may have a leading task axis, one set per task. Then every layer is one batched product over tasks, which
is what `torch.func.vmap` over a call per task comes to, without its bookkeeping; gradients of a sum of losses of tasks
are the gradients of each.

What a policy chooses is the latent in units of the space's prior, u = (z - mean) / std, so that the first policy of a
Gaussian space is about the prior: N(0, 1) for unit actions, the skill prior for skills. Ratios of densities, scores and
KL divergences are the same in u as in z.

Axes: N tasks, E episodes of a task, ... any axes of samples, O observation, I inputs, U outputs, Z latent, R rows
(tasks x rollouts).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from ..errors import ConfigError
from ..skills.gaussian import Gaussian
from .collect import Seen
from .distribution import Categorical, Distribution, mode, sample
from .space import ActionSpace, ChoiceSpace

Params = dict[str, Tensor]
"""Named parameters, each with its own shape or (N, ...)."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": torch.relu, "tanh": torch.tanh}
LOG_SCALE_LOW = math.log(1e-6)
"""Smallest log standard deviation, in units of the prior's."""


class Policy(Protocol):
    """A distribution over choices u as a function of parameters and observations; see `MlpPolicy`."""

    def __call__(self, params: Params, observation: Tensor) -> Distribution:
        """See `MlpPolicy.__call__`."""
        ...

    def to_choice(self, latent: Tensor, prior: Gaussian) -> Tensor:
        """The choice u of a latent, both (..., Z)."""
        ...

    def to_latent(self, choice: Tensor, prior: Gaussian) -> Tensor:
        """The latent of u, both (..., Z)."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MlpPolicy:
    """A multilayer perceptron that gives a Gaussian with a learned scale per axis, or a choice.

    Parameters are named as in `skills.network.MLP`: `layers.{i}.weight` (U, I), `layers.{i}.bias` (U,); a Gaussian also
    has `log_scale` (Z,), which does not depend on the observation.
    """

    inputs: int
    """O."""
    outputs: int
    """Z of a Gaussian, or the number of choices."""
    discrete: bool
    """A choice, not a Gaussian."""
    hidden: tuple[int, ...] = (100, 100)
    """Widths of the hidden layers."""
    activation: str = "relu"
    """A name in `ACTIVATIONS`."""

    def __post_init__(self) -> None:
        """Refuses sizes and names that are none.

        Raises:
            ConfigError: A width is not positive or the activation unknown.
        """
        if min(self.inputs, self.outputs, *self.hidden) < 1:
            widths = (self.inputs, *self.hidden, self.outputs)
            raise ConfigError(f"policy widths: expected positive numbers, got {widths}; correct the sizes")
        if self.activation not in ACTIVATIONS:
            known = " or ".join(ACTIVATIONS)
            raise ConfigError(f"policy activation: expected {known}, got '{self.activation}'; choose a known name")

    @property
    def _layers(self) -> int:
        return len(self.hidden) + 1

    def init(self, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Params:
        """First parameters: weights uniform in +-sqrt(6 / (I + U)) (Glorot and Bengio, 2010), zero biases, scale 1."""
        params: Params = {}
        for index, (inputs, outputs) in enumerate(pairwise((self.inputs, *self.hidden, self.outputs))):
            bound = math.sqrt(6.0 / (inputs + outputs))
            uniform = torch.rand((outputs, inputs), generator=generator, device=generator.device, dtype=dtype)
            params[f"layers.{index}.weight"] = bound * (2.0 * uniform - 1.0)
            params[f"layers.{index}.bias"] = uniform.new_zeros(outputs)
        if not self.discrete:
            params["log_scale"] = params[f"layers.{self._layers - 1}.bias"].clone()
        return params

    def __call__(self, params: Params, observation: Tensor) -> Distribution:
        """The distribution over choices u.

        Args:
            params: Without a task axis, or with one of N.
            observation: On the scale that networks see, (..., O), or (N, ..., O) where `params` have a task axis.
        """
        axes = params["layers.0.bias"].dim() - 1
        value = observation.reshape(*observation.shape[:axes], -1, observation.shape[-1])
        for index in range(self._layers):
            weight, bias = params[f"layers.{index}.weight"].mT, params[f"layers.{index}.bias"]
            product = torch.baddbmm(bias[:, None], value, weight) if axes else torch.addmm(bias, value, weight)
            value = product if index == self._layers - 1 else ACTIVATIONS[self.activation](product)
        output = value.reshape(*observation.shape[:-1], -1)
        if self.discrete:
            return Categorical(output)
        log_scale = params["log_scale"].clamp(min=LOG_SCALE_LOW)
        scale = log_scale.exp().reshape(*log_scale.shape[:axes], *(1,) * (output.dim() - axes - 1), -1)
        return Gaussian(output, scale.expand_as(output))

    def to_choice(self, latent: Tensor, prior: Gaussian) -> Tensor:
        """The choice u of a latent, both (..., Z)."""
        return latent if self.discrete else (latent - prior.loc) / prior.scale

    def to_latent(self, choice: Tensor, prior: Gaussian) -> Tensor:
        """The latent of u, both (..., Z)."""
        return choice if self.discrete else prior.loc + prior.scale * choice


@dataclass(frozen=True, slots=True)
class ConditionedPolicy:
    """A policy that sees one z for each episode beside the observation; its inputs are [observation, z]."""

    base: MlpPolicy
    """Of O + L inputs."""
    z: Tensor
    """Shape (N, E, L), L axes of z."""

    def __call__(self, params: Params, observation: Tensor) -> Distribution:
        """The distribution over choices u; `observation` is (N, E, ..., O)."""
        axes = (*self.z.shape[:2], *(1,) * (observation.dim() - 3), -1)
        z = self.z.reshape(axes).expand(*observation.shape[:-1], -1)
        return self.base(params, torch.cat((observation, z), dim=-1))

    def to_choice(self, latent: Tensor, prior: Gaussian) -> Tensor:
        """The choice u of a latent, both (..., Z)."""
        return self.base.to_choice(latent, prior)

    def to_latent(self, choice: Tensor, prior: Gaussian) -> Tensor:
        """The latent of u, both (..., Z)."""
        return self.base.to_latent(choice, prior)


def make_policy(space: ActionSpace, inputs: int, hidden: tuple[int, ...], activation: str) -> MlpPolicy:
    """The policy for a space: a choice where the space offers choices, else a Gaussian over its latent."""
    discrete = isinstance(space, ChoiceSpace)
    outputs = space.count if isinstance(space, ChoiceSpace) else space.latent_dim
    return MlpPolicy(inputs=inputs, outputs=outputs, discrete=discrete, hidden=hidden, activation=activation)


def for_tasks(params: Params, tasks: int) -> Params:
    """The same parameters for each of N tasks: views with a leading task axis."""
    return {name: value.expand(tasks, *value.shape) for name, value in params.items()}


class RowActor:
    """Chooses in R rows with the parameters of each row's task; rows are task-major."""

    def __init__(
        self,
        policy: Policy,
        params: Params,
        space: ActionSpace,
        rollouts: int,
        generator: torch.Generator,
        *,
        greedy: bool = False,
    ) -> None:
        """Takes `params` with a task axis; R is tasks x rollouts. `greedy` takes the mode and draws nothing."""
        self._policy, self._params, self._space = policy, params, space
        self._rollouts, self._generator, self._greedy = rollouts, generator, greedy
        self._tasks = len(params["layers.0.bias"])

    def __call__(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        rows = torch.from_numpy(seen.rows).to(seen.observation.device)
        everywhere = len(seen.rows) == self._tasks * self._rollouts
        observation = self._space.normalise(seen.observation)
        if not everywhere:
            # rows of ended episodes go along with zeros: a batched product needs as many rows of every task
            table = observation.new_zeros(self._tasks * self._rollouts, observation.shape[-1])
            observation = table.index_copy(0, rows, observation)
        with torch.no_grad():
            distribution = self._policy(self._params, observation.view(self._tasks, self._rollouts, -1))
            choice = mode(distribution) if self._greedy else sample(distribution, self._generator)
        choice = choice.flatten(0, 1)
        return self._policy.to_latent(choice if everywhere else choice[rows], seen.prior)
