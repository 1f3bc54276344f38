"""Skills: short action sequences as latent vectors, learned from unlabelled motion (SPiRL).

`config` settings, `network` MLP, `gaussian` diagonal Gaussians, `scales` of the data, `model` the
nets, `spirl` the losses, `learner` the
trainer, `checkpoint` files, `device` device names, `evaluate` how good the skills are.
"""

from typing import TYPE_CHECKING

from ..lazy import make_getattr

if TYPE_CHECKING:
    from .checkpoint import load_checkpoint, load_skill_model, save_checkpoint, save_skill_model
    from .config import SkillConfig
    from .device import choose_device
    from .evaluate import SetState, describe_collapse, evaluate_rollouts, evaluate_windows
    from .gaussian import Gaussian, kl, kl_per_dim, log_prob, standard_like
    from .learner import SkillLearner, WindowSource, train
    from .model import SkillModel
    from .network import MLP
    from .scales import ActionScale, Normaliser
    from .spirl import SkillLosses

__all__ = [
    "MLP",
    "ActionScale",
    "Gaussian",
    "Normaliser",
    "SetState",
    "SkillConfig",
    "SkillLearner",
    "SkillLosses",
    "SkillModel",
    "WindowSource",
    "choose_device",
    "describe_collapse",
    "evaluate_rollouts",
    "evaluate_windows",
    "kl",
    "kl_per_dim",
    "load_checkpoint",
    "load_skill_model",
    "log_prob",
    "save_checkpoint",
    "save_skill_model",
    "standard_like",
    "train",
]

__getattr__ = make_getattr(
    __name__,
    {
        "load_checkpoint": "checkpoint",
        "load_skill_model": "checkpoint",
        "save_checkpoint": "checkpoint",
        "save_skill_model": "checkpoint",
        "SkillConfig": "config",
        "choose_device": "device",
        "SetState": "evaluate",
        "describe_collapse": "evaluate",
        "evaluate_rollouts": "evaluate",
        "evaluate_windows": "evaluate",
        "Gaussian": "gaussian",
        "kl": "gaussian",
        "kl_per_dim": "gaussian",
        "log_prob": "gaussian",
        "standard_like": "gaussian",
        "SkillLearner": "learner",
        "WindowSource": "learner",
        "train": "learner",
        "SkillModel": "model",
        "MLP": "network",
        "ActionScale": "scales",
        "Normaliser": "scales",
        "SkillLosses": "spirl",
    },
)
