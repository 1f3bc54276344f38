"""Play data for learners whose first policy is cloned from them: BC+PEARL and BC+MAML.

Source: Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022, appendix A: baselines that
know the data but have no skills. BC+PEARL also stays close to the clone by a KL divergence (`PearlConfig.anchored`),
with a weight that is fixed. BC+MAML begins at the clone. How long to clone is not published.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..datasets.store import EpisodeStore, find_store, open_store
from ..datasets.windows import WindowSampler
from ..meta.cloning import Cloned, clone, module_policy, play_latents
from ..meta.config import CloneConfig
from ..meta.policy import Params
from ..meta.space import ActionSpace
from ..meta.state import named_part
from ..robots.spec import RobotSpec

DECISIONS = 200_000
"""Windows of play data, drawn with replacement, that are cloned."""


def clone_pearl(learner: Any, play: Path, config: CloneConfig) -> Cloned:
    """Makes the policy of PEARL do what the data do, whatever its z is; returns the last update.

    No learner is imported here: its code would then count for the other one's key.

    Raises:
        StoreError: There is no whole store at `play`.
        SpecError: The data are of another robot, or no episode is as long as a decision.
    """
    network, code = learner.sac.policy, learner.sac.code
    decisions = load_decisions(play, learner.space, learner.robot.spec, learner.rng, learner.device)
    first: Params = dict(network.named_parameters())
    policy = module_policy(network, code.distribution)
    last = _run(clone(policy, first, learner.space, *decisions, config, learner.generator))
    learner.start_from(last.params)
    return last


def clone_maml(learner: Any, play: Path, config: CloneConfig) -> Cloned:
    """Makes the first policy of MAML do what the data do; returns the last update.

    Raises:
        StoreError: There is no whole store at `play`.
        SpecError: The data are of another robot, or no episode is as long as a decision.
    """
    decisions = load_decisions(play, learner.space, learner.robot.spec, learner.rng, learner.device)
    first = named_part(learner.meta, "policy.")
    last = _run(clone(learner.policy, first, learner.space, *decisions, config, learner.generator))
    learner.start_from(last.params)
    return last


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
    stretches = store.find_stretches()
    sampler = WindowSampler(*arrays, stretches.start, stretches.length, space.horizon)
    observation, action = (torch.from_numpy(part) for part in sampler.sample(DECISIONS, rng))
    return play_latents(space, observation.to(device), action.to(device))


def _run(steps: Iterable[Cloned]) -> Cloned:
    """The last of the updates, of which there is at least one."""
    *_, last = steps
    return last


def describe(last: Cloned) -> str:
    """A line about the result of cloning, for people."""
    return (
        f"cloned the play data: {last.metrics['loss']:.3f} nats per decision after {last.metrics['step']:.0f} updates"
    )
