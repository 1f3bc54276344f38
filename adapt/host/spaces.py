"""Action spaces between torch and a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...errors import BundleError
from ...meta.space import ActionSpace, ChoiceSpace, RawSpace, SkillSpace, UnitSpace
from ...skills.config import SkillConfig
from ...skills.model import SkillModel
from ..contract import BundleContract
from ..eye import BundledEye, EyeSettings
from ..golden_trial import PICTURES
from ..networks import Weights
from ..spaces import SpaceSettings


def export_space(space: ActionSpace) -> tuple[SpaceSettings, dict[str, Tensor]]:
    """The settings and weights of an action space.

    Raises:
        BundleError: It is none of those that a bundle can hold.
    """
    if isinstance(space, ChoiceSpace):
        return SpaceSettings(name="choice"), {}
    if isinstance(space, UnitSpace):
        return SpaceSettings(name="unit", latent_dim=space.latent_dim), {}
    if isinstance(space, RawSpace):
        weights = {"space.mean": space.mean, "space.std": space.std}
        return SpaceSettings(name="raw", latent_dim=space.latent_dim), weights
    if isinstance(space, SkillSpace):
        return _export_skills(space)
    raise BundleError(
        f"export: expected choices, unit or raw actions or skills, got {type(space).__name__}; the numpy runtime has "
        "no such space"
    )


def _export_skills(space: SkillSpace) -> tuple[SpaceSettings, dict[str, Tensor]]:
    model = space.model
    weights = {"space.mean": model.normaliser.mean, "space.std": model.normaliser.std}
    sizes = {}
    for name, net in (("prior", model.prior), ("decoder", model.make_robot_decoder())):
        layers = [layer for layer in net.layers if isinstance(layer, nn.Linear)]
        sizes[name] = (layers[0].in_features, *(layer.out_features for layer in layers))
        weights |= {f"space.{name}.{key}": value for key, value in net.state_dict().items()}
    settings = SpaceSettings(
        name="skill", horizon=space.horizon, latent_dim=space.latent_dim, prior=sizes["prior"], decoder=sizes["decoder"]
    )
    return settings, weights


def export_eye(model: SkillModel, seed: int) -> BundledEye | None:
    """How a skill model sees pictures, and what it sees in some random ones; None where it needs none.

    Args:
        model: On the CPU.
        seed: Of the pictures.
    """
    if model.eye is None:
        return None
    assert model.robot is not None, "an eye is that of a robot with a camera"
    assert model.robot.image is not None, "an eye is that of a robot with a camera"
    config, (height, width, channels) = model.config, model.robot.image.shape
    settings = EyeSettings(frames=config.image_frames, channels=config.image_channels, features=config.image_features)
    shape = (PICTURES, height, width, config.image_frames * channels)
    pictures = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    with torch.no_grad():
        features = model.eye(torch.from_numpy(pictures))
    weights = {f"eye.{name}": value for name, value in model.eye.state_dict().items()}
    golden = {"eye.image": pictures.astype(np.float32), **to_arrays({"eye.feature": features})}
    return BundledEye(settings, to_arrays(weights), golden)


def to_arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Tensors as float32 arrays of their own."""
    return {
        name: np.array(value.detach().to("cpu", torch.float32).numpy(), np.float32, order="C")
        for name, value in tensors.items()
    }


def make_space(contract: BundleContract, weights: Weights, device: torch.device | None = None) -> ActionSpace:
    """The action space of a bundle in torch; on the CPU without a device."""
    settings, robot = contract.space, contract.robot
    if settings.name == "choice":
        return ChoiceSpace(robot)
    if settings.name == "unit":
        return UnitSpace(robot)
    tensors = {
        name.removeprefix("space."): torch.tensor(value, device=device)
        for name, value in weights.items()
        if name.startswith("space.")
    }
    if settings.name == "raw":
        return RawSpace(robot, tensors["mean"], tensors["std"])
    config = SkillConfig(
        skill_horizon=settings.horizon,
        skill_dim=settings.latent_dim,
        decoder_hidden=settings.decoder[1:-1],
        prior_hidden=settings.prior[1:-1],
    )
    model = SkillModel(contract.observation_dim, contract.action_dim, config)
    scale = {f"normaliser.{name}": tensors.pop(name) for name in ("mean", "std")}
    model.load_state_dict(model.state_dict() | scale | tensors)
    return SkillSpace(model.to(device or torch.device("cpu")))
