"""The kinds of learners that a bundle may hold, besides SiMPL, which has a contract of its own (`contract.py`)."""

from __future__ import annotations

from .kind_policy import MAML, POLICY
from .kind_rl2 import RL2
from .learner_contract import Kind

KINDS: dict[str, Kind] = {
    "maml": MAML,
    "policy": POLICY,
    "rl2": RL2,
}
"""By the name in `bundle.json`."""
