"""The kinds of learners that a bundle may hold."""

from __future__ import annotations

from typing import Any

from ..contract import Kind
from .maesn import MAESN
from .mlsh import MLSH
from .pearl import PEARL
from .pearl_ft import PEARL_FT
from .policy import MAML, POLICY
from .ppo import PPO
from .recurrent_updater import RECURRENT_UPDATER
from .rl2 import RL2
from .sac import SAC
from .simpl import SIMPL
from .spirl import SPIRL
from .varibad import VARIBAD

KINDS: dict[str, Kind[Any]] = {
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
