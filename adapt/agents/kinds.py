"""The kinds of learners that a bundle may hold; the module of a kind is loaded when it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...lazy import LazyTable
from ..contract import Kind

if TYPE_CHECKING:  # so that all of them are part of the code that a stage depends on
    from . import maesn, mlsh, pearl, pearl_ft, policy, ppo, recurrent_updater, rl2, sac, simpl, spirl, varibad  # noqa: F401

KINDS: LazyTable[Kind[Any]] = LazyTable(
    __package__ or "",
    {
        "maesn": ("maesn", "MAESN"),
        "maml": ("policy", "MAML"),
        "mlsh": ("mlsh", "MLSH"),
        "pearl": ("pearl", "PEARL"),
        "pearl-ft": ("pearl_ft", "PEARL_FT"),
        "policy": ("policy", "POLICY"),
        "ppo": ("ppo", "PPO"),
        "recurrent-updater": ("recurrent_updater", "RECURRENT_UPDATER"),
        "rl2": ("rl2", "RL2"),
        "sac": ("sac", "SAC"),
        "simpl": ("simpl", "SIMPL"),
        "spirl": ("spirl", "SPIRL"),
        "varibad": ("varibad", "VARIBAD"),
    },
)
"""By the name in `bundle.json`."""
