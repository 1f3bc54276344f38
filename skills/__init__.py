"""Skills: short action sequences as latent vectors, learned from unlabelled motion (SPiRL).

`config` settings, `network` MLP, `gaussian` diagonal Gaussians, `scales` of the data, `model` the
nets, `spirl` the losses, `learner` the
trainer, `checkpoint` files, `device` device names, `evaluate` how good the skills are.
"""

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
