"""The kinds of learners that a bundle may hold."""

from __future__ import annotations

from ..learner_contract import Kind
from .kind_maesn import MAESN
from .kind_mlsh import MLSH
from .kind_pearl import PEARL
from .kind_pearl_ft import PEARL_FT
from .kind_policy import MAML, POLICY
from .kind_ppo import PPO
from .kind_recurrent_updater import RECURRENT_UPDATER
from .kind_rl2 import RL2
from .kind_sac import SAC
from .kind_simpl import SIMPL
from .kind_spirl import SPIRL
from .kind_varibad import VARIBAD

KINDS: dict[str, Kind] = {
    "maesn": MAESN,
    "maml": MAML,
    "mlsh": MLSH,
    "pearl": PEARL,
    "pearl-ft": PEARL_FT,
    "policy": POLICY,
    "ppo": PPO,
    "recurrent-updater": RECURRENT_UPDATER,
    "rl2": RL2,
    "sac": SAC,
    "simpl": SIMPL,
    "spirl": SPIRL,
    "varibad": VARIBAD,
}
"""By the name in `bundle.json`."""
