"""The skill model: a window encoder, closed-loop and open-loop decoders, and a state-conditioned prior.

Pertsch, Lee, Lim, "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL 2020 (SPiRL), with the
closed-loop decoder that Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022 (SiMPL)
builds on. Departures: no BatchNorm (see `network`), observations and actions are scaled inside the model, see `scales`,
the MLP encoder and the MLP open-loop decoder. Actions come in and go out in the robot's own units.

Where the robot has a camera, a convolutional net sees its pictures for decoder and prior, see `eye`, after the image
variant of SPiRL and appendix C of SiMPL.

Axes: B batch (any number of leading axes unless stated), H skill horizon, O observation, A action, Z skill.
"""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..errors import SpecError
from ..robots.spec import RobotSpec
from .config import SkillConfig
from .eye import Eye
from .gaussian import Gaussian, split
from .network import MLP, make_linear
from .scales import ActionScale, Normaliser


class MLPEncoder(nn.Module):
    """An MLP over the flattened window [observation, action] (B, H, O+A) -> (B, 2Z)."""

    def __init__(self, inputs: int, config: SkillConfig, generator: torch.Generator) -> None:
        """Make the net for `inputs` = O + A per step."""
        super().__init__()
        sizes = (config.skill_horizon * inputs, *config.encoder_hidden, 2 * config.skill_dim)
        self.net = MLP(sizes, generator=generator)

    def forward(self, window: Tensor) -> Tensor:
        """[loc, log scale] (B, 2Z) of windows (B, H, O+A)."""
        output: Tensor = self.net(window.flatten(-2))
        return output


class LSTMEncoder(nn.Module):
    """SPiRL's encoder: per-step embedding, one LSTM layer with forget bias 1, head on the last output."""

    def __init__(self, inputs: int, config: SkillConfig, generator: torch.Generator) -> None:
        """Make the nets for `inputs` = O + A per step."""
        super().__init__()
        width = config.encoder_hidden[0]
        self.embedding = make_linear(inputs, width, generator)
        self.lstm = nn.LSTM(width, width, batch_first=True, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            for name, parameter in self.lstm.named_parameters():
                parameter.uniform_(-(width**-0.5), width**-0.5, generator=generator)
                if name.startswith("bias"):
                    # torch adds both bias vectors and orders the gates input, forget, cell, output.
                    parameter[width : 2 * width] = 0.5
        self.head = MLP((width, width, 2 * config.skill_dim), generator=generator)

    def forward(self, window: Tensor) -> Tensor:
        """[loc, log scale] (B, 2Z) of windows (B, H, O+A); B is one axis here."""
        steps, _ = self.lstm(self.embedding(window))
        output: Tensor = self.head(steps[:, -1])
        return output


class SkillModel(nn.Module):
    """Encoder q(z|s,a), closed-loop decoder pi(a|s,z), open-loop decoder a_0:H(z,s_0) and prior p(z|s)."""

    def __init__(
        self, observation_dim: int, action_dim: int, config: SkillConfig, robot: RobotSpec | None = None
    ) -> None:
        """Make the nets with weights drawn from `config.seed`; the scales start as the identity.

        For a robot with a camera the observation of prior and decoder is [observation, features of the pictures], and O
        counts both; the encoder reads the first part alone.

        Args:
            observation_dim: Axes of the robot's observation, > 0.
            action_dim: A, > 0.
            config: Widths, horizon, hidden axes and seed.
            robot: That the skills are for; None where the robot of the data is unknown.

        Raises:
            SpecError: If the robot has other sizes, or no such hidden axis, or pictures that are too small.
        """
        if robot is not None and (observation_dim, action_dim) != (*robot.observation.shape, *robot.action.shape):
            raise SpecError(
                f"SkillModel: expected {observation_dim} observation and {action_dim} action axes, got robot "
                f"'{robot.name}' with {robot.observation.shape[0]} and {robot.action.shape[0]}; pass the data's robot"
            )
        super().__init__()
        self.state_dim = observation_dim
        image = None if robot is None else robot.image
        observation_dim += 0 if image is None else config.image_features
        self.observation_dim = observation_dim
        self.action_dim = action_dim
        self.config = config
        self.robot = robot
        generator = torch.Generator().manual_seed(config.seed)
        encoder_type = {"mlp": MLPEncoder, "lstm": LSTMEncoder}[config.encoder]
        inputs = observation_dim + config.skill_dim
        self.normaliser = Normaliser(observation_dim)
        self.action_scale = ActionScale(action_dim)
        self.encoder = encoder_type(self.state_dim + action_dim, config, generator)
        self.decoder = MLP((inputs, *config.decoder_hidden, action_dim), generator=generator)
        self.open_decoder = MLP(
            (inputs, *config.open_decoder_hidden, config.skill_horizon * action_dim), generator=generator
        )
        self.prior = MLP((observation_dim, *config.prior_hidden, 2 * config.skill_dim), generator=generator)
        self.eye = None if image is None else Eye(image, config, generator)
        self._hide(config.hidden_axes)

    @torch.no_grad()
    def _hide(self, names: Sequence[str]) -> None:
        """Cuts off axes: their inputs are 0 here, and their weights 0 for whoever computes the nets without us."""
        self._shown: Tensor | None
        if not names:
            self._shown = None
            return
        known = () if self.robot is None else self.robot.observation.names
        for name in names:
            if name not in known:
                listed = ", ".join(known) or "which nobody named"
                raise SpecError(
                    f"skill.hidden-axes: expected axes of the robot's observation, {listed}, got '{name}'; correct it"
                )
        columns = [known.index(name) for name in names]
        shown = torch.ones(self.observation_dim)
        shown[columns] = 0.0
        self.register_buffer("_shown", shown, persistent=False)
        for net in (self.decoder, self.open_decoder, self.prior):
            first = net.layers[0]
            assert isinstance(first, nn.Linear)
            first.weight[:, columns] = 0.0

    def _scale(self, observation: Tensor) -> Tensor:
        """What the nets see of observations (..., O)."""
        scaled: Tensor = self.normaliser(observation)
        return scaled if self._shown is None else scaled * self._shown

    def fit_scales(self, observation: Tensor, action: Tensor) -> None:
        """Fits the scales to all steps of the data; features of pictures are within -1 and 1 and stay as they are.

        Args:
            observation: The robot's, (N, O), without features.
            action: (N, A).

        Raises:
            SpecError: See `Normaliser.fit` and `ActionScale.fit`.
        """
        part = Normaliser(self.state_dim)
        part.fit(observation, self.robot.observation if self.robot else None)
        self.normaliser.mean[: self.state_dim] = part.mean
        self.normaliser.std[: self.state_dim] = part.std
        self.action_scale.fit(action, self.robot.action if self.robot else None)

    def see(self, observation: Tensor, pictures: Tensor) -> Tensor:
        """Observations with features (..., O) of the robot's and of stacks of pictures (..., height, width, channels).

        See `Eye` for the stacks.
        """
        assert self.eye is not None, "a model of data without pictures sees none"
        return torch.cat((observation, self.eye(pictures)), dim=-1)

    def normalise_state(self, observation: Tensor) -> Tensor:
        """The robot's own observations on the networks' scale; features of pictures behind them are left out."""
        own, scale = slice(self.state_dim), self.normaliser
        normalised: Tensor = (observation[..., own] - scale.mean[own]) / scale.std[own]
        return normalised

    def encode(self, observation: Tensor, action: Tensor) -> Gaussian:
        """q(z | s_0:H, a_0:H), each (B, Z), of observations (B, H, O) and actions (B, H, A); B is one axis here.

        Features of pictures may be left out of the observations: they are not read.
        """
        seen = self.normalise_state(observation)
        if self._shown is not None:
            seen = seen * self._shown[: self.state_dim]
        return split(self.encoder(torch.cat((seen, self.action_scale(action)), dim=-1)).float())

    def prior_of(self, observation: Tensor) -> Gaussian:
        """p(z | s), each (..., Z), of observations (..., O)."""
        return split(self.prior(self._scale(observation)).float())

    def decode(self, observation: Tensor, skill: Tensor) -> Tensor:
        """The closed-loop action (..., A) of observations (..., O) under skills (..., Z); not clipped."""
        return self.action_scale.restore(self.decode_scaled(observation, skill))

    def decode_open(self, skill: Tensor, observation: Tensor) -> Tensor:
        """The open-loop actions (..., H, A) of skills (..., Z) begun in observations (..., O); not clipped."""
        return self.action_scale.restore(self.decode_open_scaled(skill, observation))

    def decode_scaled(self, observation: Tensor, skill: Tensor) -> Tensor:
        """As `decode`, on the scale of `action_scale`."""
        action: Tensor = self.decoder(torch.cat((self._scale(observation), skill), dim=-1))
        return action.float()

    def decode_open_scaled(self, skill: Tensor, observation: Tensor) -> Tensor:
        """As `decode_open`, on the scale of `action_scale`."""
        flat = self.open_decoder(torch.cat((self._scale(observation), skill), dim=-1))
        action: Tensor = flat.unflatten(-1, (self.config.skill_horizon, self.action_dim))
        return action.float()

    @torch.no_grad()
    def scale_prior(self, factor: float) -> None:
        """Multiplies the prior's standard deviations by a factor > 0, within the limits of `gaussian.split`."""
        last = self.prior.layers[-1]
        assert isinstance(last, nn.Linear)
        last.bias[self.config.skill_dim :] += math.log(factor)

    @torch.no_grad()
    def make_robot_decoder(self) -> MLP:
        """The closed-loop decoder as a net of its own whose outputs are in the robot's units.

        The action scale is folded into the last layer, so that a runtime has nothing to restore.
        """
        decoder = copy.deepcopy(self.decoder)
        last = decoder.layers[-1]
        assert isinstance(last, nn.Linear)
        last.weight.mul_(self.action_scale.scale[:, None])
        last.bias.copy_(self.action_scale.restore(last.bias))
        return decoder
