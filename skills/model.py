"""The skill model: a window encoder, closed-loop and open-loop decoders, and a state-conditioned prior.

Pertsch, Lee, Lim, "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL 2020 (SPiRL), with the
closed-loop decoder that Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022 (SiMPL)
builds on. Departures: no BatchNorm (see `network`), observations are normalised inside the model, the MLP encoder and
the MLP open-loop decoder. Actions are used in the robot's own units: the reconstruction error is in those.

Axes: B batch (any number of leading axes unless stated), H skill horizon, O observation, A action, Z skill.
"""

import torch
from torch import Tensor, nn

from ..errors import SpecError
from .config import SkillConfig
from .gaussian import Gaussian, split
from .network import MLP, make_linear

SMALLEST_STD = 1e-6
"""Below this standard deviation an observation dimension counts as constant and is only centred."""


class Normaliser(nn.Module):
    """(observation - mean) / std, with statistics of the data in buffers, so that checkpoints carry them."""

    mean: Tensor
    std: Tensor

    def __init__(self, dim: int) -> None:
        """Start as the identity."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("std", torch.ones(dim))

    def fit(self, observation: Tensor) -> None:
        """Set mean and std to those of the observations (N, O), computed in float64; constant dimensions get std 1.

        Raises:
            SpecError: If there is no observation, the width differs or a value is not finite.
        """
        expected = self.mean.shape[0]
        if observation.ndim != 2 or observation.shape[0] == 0 or observation.shape[1] != expected:
            shape = tuple(observation.shape)
            raise SpecError(f"Normaliser.fit: expected shape (N > 0, {expected}), got {shape}; pass all observations")
        std, mean = torch.std_mean(observation.double(), dim=0, correction=0)
        if not bool(torch.isfinite(std + mean).all()):
            bad = int(torch.nonzero(~torch.isfinite(std + mean))[0])
            raise SpecError(f"Normaliser.fit: expected finite values, got others in dimension {bad}; clean the data")
        std = torch.where(std > SMALLEST_STD, std, torch.ones_like(std))
        self.mean.copy_(mean)
        self.std.copy_(std)

    def forward(self, observation: Tensor) -> Tensor:
        """Normalised observations (..., O)."""
        normalised: Tensor = (observation - self.mean) / self.std
        return normalised


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

    def __init__(self, observation_dim: int, action_dim: int, config: SkillConfig) -> None:
        """Make the nets with weights drawn from `config.seed`; the normaliser starts as the identity.

        Args:
            observation_dim: O, > 0.
            action_dim: A, > 0.
            config: Widths, horizon and seed.
        """
        super().__init__()
        self.observation_dim = observation_dim
        self.action_dim = action_dim
        self.config = config
        generator = torch.Generator().manual_seed(config.seed)
        encoder_type = {"mlp": MLPEncoder, "lstm": LSTMEncoder}[config.encoder]
        inputs = observation_dim + config.skill_dim
        self.normaliser = Normaliser(observation_dim)
        self.encoder = encoder_type(observation_dim + action_dim, config, generator)
        self.decoder = MLP((inputs, *config.decoder_hidden, action_dim), generator=generator)
        self.open_decoder = MLP(
            (inputs, *config.open_decoder_hidden, config.skill_horizon * action_dim), generator=generator
        )
        self.prior = MLP((observation_dim, *config.prior_hidden, 2 * config.skill_dim), generator=generator)

    def encode(self, observation: Tensor, action: Tensor) -> Gaussian:
        """q(z | s_0:H, a_0:H), each (B, Z), of observations (B, H, O) and actions (B, H, A); B is one axis here."""
        window = torch.cat((self.normaliser(observation), action), dim=-1)
        return split(self.encoder(window))

    def prior_of(self, observation: Tensor) -> Gaussian:
        """p(z | s), each (..., Z), of observations (..., O)."""
        return split(self.prior(self.normaliser(observation)))

    def decode(self, observation: Tensor, skill: Tensor) -> Tensor:
        """The closed-loop action (..., A) of observations (..., O) under skills (..., Z); not clipped."""
        action: Tensor = self.decoder(torch.cat((self.normaliser(observation), skill), dim=-1))
        return action

    def decode_open(self, skill: Tensor, observation: Tensor) -> Tensor:
        """The open-loop actions (..., H, A) of skills (..., Z) begun in observations (..., O); not clipped."""
        flat = self.open_decoder(torch.cat((self.normaliser(observation), skill), dim=-1))
        action: Tensor = flat.unflatten(-1, (self.config.skill_horizon, self.action_dim))
        return action
