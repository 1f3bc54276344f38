"""BC+PEARL and BC+MAML as cells of the meta-RL benchmark: learners whose first policy is cloned from play data.

Source: Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022, appendix A: baselines that
know the data but have no skills. Departure: the published BC+PEARL also stays close to the cloned policy by a KL
divergence; here the clone is where meta-training begins, and nothing holds the policy there. How long to clone is not
published.

This file, with what it imports, is the code version of these cells.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ...datasets.store import EpisodeStore, open_store
from ...datasets.windows import WindowSampler
from ...errors import ConfigError
from ...meta.cloning import CloneConfig, Cloned, clone, module_policy, play_latents
from ...meta.gradient.maml_learner import MamlLearner
from ...meta.inference.pearl_learner import PearlLearner
from ...meta.policy import Params
from ...meta.space import ActionSpace
from ...meta.state import named_part
from ...robots.spec import RobotSpec
from ..run_files import find_store
from .cell_stages import FromPlay
from .maml import MamlChoice
from .pearl import PearlChoice

DECISIONS = 200_000
"""Windows of play data, drawn with replacement, that are cloned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BcPearlChoice(PearlChoice, FromPlay):
    """PEARL whose first policy does what the data do, whatever its z is."""

    module: ClassVar[str] = "pipeline/bench/cloning.py"
    method: str = "bc-pearl"
    """See `PearlChoice.method`."""
    cloning: CloneConfig = field(default_factory=lambda: CloneConfig(noise_dim=5))
    """How the first policy is cloned; `noise_dim` is PEARL's `embedding_dim`."""

    def __post_init__(self) -> None:
        """Refuses a clone that reads another z.

        Raises:
            ConfigError: `noise_dim` is not PEARL's `embedding_dim`.
        """
        require_noise(self.cloning, self.config.embedding_dim, "BcPearlChoice")

    def require_play(self, play: Path, spec: RobotSpec) -> None:
        """See `FromPlay.require_play`."""
        open_play(play, spec)

    def start(self, learner: PearlLearner, play: Path) -> str:
        """See `FromPlay.start`."""
        network, code = learner.sac.policy, learner.sac.code
        decisions = load_decisions(play, learner.space, learner.robot.spec, learner.rng, learner.device)
        first: Params = dict(network.named_parameters())
        policy = module_policy(network, code.distribution)
        last = _run(clone(policy, first, learner.space, *decisions, self.cloning, learner.generator))
        with torch.no_grad():
            for name, value in first.items():
                value.copy_(last.params[name])
        return describe(last)


@dataclass(frozen=True, slots=True, kw_only=True)
class BcMamlChoice(MamlChoice, FromPlay):
    """MAML whose first policy does what the data do."""

    module: ClassVar[str] = "pipeline/bench/cloning.py"
    method: str = "bc-maml"
    """See `MamlChoice.method`."""
    cloning: CloneConfig = field(default_factory=CloneConfig)
    """How the first policy is cloned."""

    def __post_init__(self) -> None:
        """Refuses a clone that reads a z.

        Raises:
            ConfigError: `noise_dim` is not 0.
        """
        require_noise(self.cloning, 0, "BcMamlChoice")

    def require_play(self, play: Path, spec: RobotSpec) -> None:
        """See `FromPlay.require_play`."""
        open_play(play, spec)

    def start(self, learner: MamlLearner, play: Path) -> str:
        """See `FromPlay.start`."""
        decisions = load_decisions(play, learner.space, learner.robot.spec, learner.rng, learner.device)
        first = named_part(learner.meta, "policy.")
        last = _run(clone(learner.policy, first, learner.space, *decisions, self.cloning, learner.generator))
        learner.start_from(last.params)
        return describe(last)


def require_noise(cloning: CloneConfig, expected: int, where: str) -> None:
    """Checks that the cloned policy reads as many axes of z as the learner's does.

    Raises:
        ConfigError: it reads more or fewer.
    """
    if cloning.noise_dim != expected:
        raise ConfigError(
            f"{where}.cloning: expected noise_dim = {expected}, got {cloning.noise_dim}; the cloned policy reads what "
            "the learner's reads"
        )


def open_play(play: Path, spec: RobotSpec) -> EpisodeStore:
    """The store of play data, which has to be of such a robot.

    Raises:
        StoreError: there is no whole store at `play`.
        SpecError: it is of another robot.
    """
    store = open_store(find_store(play))
    spec.require_source(store.schema.robot, str(play))
    return store


def load_decisions(
    play: Path, space: ActionSpace, spec: RobotSpec, rng: np.random.Generator, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Observations (B, O) and latents (B, Z) of `DECISIONS` decisions drawn from the data; see `play_latents`.

    Raises:
        StoreError: there is no whole store at `play`.
        SpecError: it is of another robot, or no episode is as long as a decision.
    """
    store = open_play(play, spec)
    arrays = store.load("observation"), store.load("action")
    sampler = WindowSampler(*arrays, store.episodes.start, store.episodes.length, space.horizon)
    observation, action = (torch.from_numpy(part) for part in sampler.sample(DECISIONS, rng))
    return play_latents(space, observation.to(device), action.to(device))


def _run(steps: Iterable[Cloned]) -> Cloned:
    """The last of the updates, of which there is at least one."""
    *_, last = steps
    return last


def describe(last: Cloned) -> str:
    """What became of the cloning, for people."""
    return (
        f"cloned the play data: {last.metrics['loss']:.3f} nats per decision after {last.metrics['step']:.0f} updates"
    )
