"""What a high-level policy chooses: skills of a skill model, or raw actions.

Both are a latent Gaussian choice that is held for a number of low-level steps, with a prior to stay close to. For
skills this is the hierarchy of Pertsch et al., "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL
2020, with the closed-loop decoder of Nam et al., "Skill-based Meta-Reinforcement Learning", ICLR 2022.

Axes: B batch, r rows, O observation, Z latent, A action.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from ..errors import SpecError
from ..robots.spec import RobotSpec
from ..skills.gaussian import Gaussian
from ..skills.model import SkillModel
from ..skills.network import MLP

Controller = Callable[[Tensor], Tensor]
"""Observation (r, O) -> action (r, A), while one latent choice per row is held."""


class ActionSpace(Protocol):
    """A latent action, held for `horizon` low-level steps."""

    @property
    def latent_dim(self) -> int:
        """Z."""
        ...

    @property
    def horizon(self) -> int:
        """Low-level steps per decision, H."""
        ...

    def normalise(self, observation: Tensor) -> Tensor:
        """Observations (..., O) on the scale that networks see."""
        ...

    def prior_of(self, observation: Tensor) -> Gaussian:
        """The prior over latents in these observations (..., O); each (..., Z)."""
        ...

    def hold(self, latent: Tensor) -> Controller:
        """The low-level controller that carries out latents (r, Z)."""
        ...


def linear_layers(net: MLP) -> list[tuple[Tensor, Tensor]]:
    """(weight (in, out), bias (out,)) of each layer: views, not copies."""
    return [(layer.weight.T, layer.bias) for layer in net.layers if isinstance(layer, nn.Linear)]


class SkillSpace:
    """Skills of a frozen skill model; the prior is its state-conditioned skill prior."""

    def __init__(self, model: SkillModel) -> None:
        """Freezes `model` where it is; the low level runs on a copy on the CPU, beside the robot."""
        self.model = model.eval().requires_grad_(False)
        mean, std = model.normaliser.mean.cpu(), model.normaliser.std.cpu()
        # raw observations in and the robot's units out, so that a step needs no scaling
        (weight, self._bias), *self._rest = linear_layers(model.make_robot_decoder().cpu())
        self._from_skill = weight[model.observation_dim :]
        self._from_observation = weight[: model.observation_dim] / std[:, None]
        self._from_mean = mean @ self._from_observation

    @property
    def latent_dim(self) -> int:
        """See `ActionSpace.latent_dim`."""
        return self.model.config.skill_dim

    @property
    def horizon(self) -> int:
        """See `ActionSpace.horizon`."""
        return self.model.config.skill_horizon

    def normalise(self, observation: Tensor) -> Tensor:
        """See `ActionSpace.normalise`."""
        normalised: Tensor = self.model.normaliser(observation)
        return normalised

    def prior_of(self, observation: Tensor) -> Gaussian:
        """See `ActionSpace.prior_of`."""
        return self.model.prior_of(observation)

    def hold(self, latent: Tensor) -> Controller:
        """See `ActionSpace.hold`: the skill's share of the decoder's first layer is computed once, not per step."""
        offset = torch.addmm(self._bias, latent, self._from_skill) - self._from_mean

        def control(observation: Tensor) -> Tensor:
            hidden = torch.addmm(offset, observation, self._from_observation)
            for weight, bias in self._rest:
                hidden = torch.addmm(bias, hidden.relu_(), weight)
            return hidden

        return control


class RawSpace:
    """Raw actions in the robot's units, one per low-level step; the prior is N(0, 1) per axis.

    Departure: the published SAC squashes with tanh and maximises entropy. Here both spaces share one learner, which
    stays close to a broad Gaussian instead; the robot clips actions at its limits.
    """

    PRIOR_SCALE = 1.0
    """Standard deviation of the prior, in the units of the action."""

    def __init__(self, spec: RobotSpec, mean: Tensor, std: Tensor) -> None:
        """Takes the action's axes from `spec` and the scale of observations, each (O,), from the data."""
        self.mean, self.std = mean, std
        self._action_dim = spec.action.shape[0]

    @property
    def latent_dim(self) -> int:
        """See `ActionSpace.latent_dim`."""
        return self._action_dim

    @property
    def horizon(self) -> int:
        """See `ActionSpace.horizon`."""
        return 1

    def normalise(self, observation: Tensor) -> Tensor:
        """See `ActionSpace.normalise`."""
        return (observation - self.mean) / self.std

    def prior_of(self, observation: Tensor) -> Gaussian:
        """See `ActionSpace.prior_of`."""
        zeros = observation.new_zeros((*observation.shape[:-1], self._action_dim))
        return Gaussian(zeros, torch.full_like(zeros, self.PRIOR_SCALE))

    def hold(self, latent: Tensor) -> Controller:
        """See `ActionSpace.hold`."""
        return lambda observation: latent


class UnitSpace:
    """Actions on a scale on which the robot's limits are -1 and 1, one per low-level step; the prior is N(0, 1).

    A policy whose first standard deviation is 1 then explores the whole range whatever the robot's units.
    """

    def __init__(self, spec: RobotSpec) -> None:
        """Takes the limits from `spec`.

        Raises:
            SpecError: An action axis has no finite limits.
        """
        low, high = torch.from_numpy(spec.action.low.copy()), torch.from_numpy(spec.action.high.copy())
        if not bool(torch.isfinite(low).all() and torch.isfinite(high).all()):
            raise SpecError(
                f"robot '{spec.name}': expected finite limits on every action axis, got {low.tolist()} .. "
                f"{high.tolist()}; give the limits in the robot's spec"
            )
        self._middle, self._half = (low + high) / 2.0, (high - low) / 2.0

    @property
    def latent_dim(self) -> int:
        """See `ActionSpace.latent_dim`."""
        return len(self._half)

    @property
    def horizon(self) -> int:
        """See `ActionSpace.horizon`."""
        return 1

    def normalise(self, observation: Tensor) -> Tensor:
        """See `ActionSpace.normalise`; observations are taken as they are."""
        return observation

    def prior_of(self, observation: Tensor) -> Gaussian:
        """See `ActionSpace.prior_of`."""
        zeros = observation.new_zeros((*observation.shape[:-1], self.latent_dim))
        return Gaussian(zeros, torch.ones_like(zeros))

    def hold(self, latent: Tensor) -> Controller:
        """See `ActionSpace.hold`."""
        action = torch.addcmul(self._middle, latent, self._half)
        return lambda observation: action

    def latent_of(self, action: Tensor) -> Tensor:
        """The latents (..., Z) that `hold` carries out as these actions, in the robot's units."""
        return (action - self._middle.to(action.device)) / self._half.to(action.device)


class ChoiceSpace:
    """The index of one of finitely many actions (`RobotSpec.choices`), one per low-level step, as a float.

    There is no Gaussian prior over choices; `prior_of` has no axes.
    """

    latent_dim = 1
    horizon = 1

    def __init__(self, spec: RobotSpec) -> None:
        """Takes the number of choices from `spec`.

        Raises:
            SpecError: The robot has no choices.
        """
        if not spec.choices:
            raise SpecError(f"robot '{spec.name}': expected named choices, got none; use raw or unit actions")
        self.count = len(spec.choices)

    def normalise(self, observation: Tensor) -> Tensor:
        """See `ActionSpace.normalise`; observations are taken as they are."""
        return observation

    def prior_of(self, observation: Tensor) -> Gaussian:
        """See `ActionSpace.prior_of`: nothing, each (..., 0)."""
        nothing = observation.new_zeros((*observation.shape[:-1], 0))
        return Gaussian(nothing, nothing)

    def hold(self, latent: Tensor) -> Controller:
        """See `ActionSpace.hold`."""
        return lambda observation: latent
