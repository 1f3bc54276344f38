"""The return that a learner would get with what it knows after n logged episodes, estimated from the later ones.

The learner is shown n episodes, see `task_inference`. The policy that it then has is evaluated off-policy (`levels.py`,
`off_policy.py`) on the episodes behind all that is ever shown: they are the same for every n, and decided nothing in
it. A policy over skills is looked at with one decision per skill, another one with one per step, as each decides.

Axes: K decisions of an episode, Z latent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...adapt.spaces import RowSpace
from ..settings.off_policy import OffPolicyConfig
from .levels import LoggedEpisode, find_recorded, make_episode, make_level, rescale, take_chosen
from .off_policy import LOGGED, evaluate_level
from .rewards import Rewarded
from .section import Replay
from .target_policy import Chosen, every_choice, gaussian_draws, join
from .task_inference import Learner, LoggedDecisions, Policy

if TYPE_CHECKING:
    from ...skills.model import SkillModel

SALT = 6


class Later(NamedTuple):
    """A later episode: as the learner would decide in it, and as it is evaluated on."""

    shown: LoggedDecisions
    logged: LoggedEpisode


def read_later(
    replay: Replay,
    config: OffPolicyConfig,
    encoder: SkillModel | None,
    episodes: Mapping[int, tuple[LoggedDecisions, Rewarded | None]],
) -> list[Later]:
    """The later episodes of which something counts; fewer than `least_episodes` say nothing, and are none.

    Args:
        replay: The learner and the log.
        config: See `OffPolicyConfig`.
        encoder: Tells skills of logged windows; None: those that were searched for count.
        episodes: By number: as it is shown, and its steps that count.
    """
    space = RowSpace(replay.bundle.contract.space, replay.spec, replay.bundle.weights)
    recorded, found = find_recorded(replay, space, "skill" if space.horizon > 1 else "raw"), []
    for number, (shown, rewarded) in episodes.items():
        if rewarded is not None:
            skill = shown.latent if space.horizon > 1 else None
            logged = make_episode(
                *(replay, config, space, number, rewarded, space.horizon, encoder, skill), recorded=recorded
            )
            if logged is not None:
                found.append(Later(shown, logged))
    return found if len(found) >= config.least_episodes else []


def estimate_return(
    replay: Replay, config: OffPolicyConfig, learner: Learner, later: Sequence[Later]
) -> dict[str, Any]:
    """The record of the learner's present policy: see `off_policy.evaluate_level`, of which the headline is kept."""
    space = RowSpace(replay.bundle.contract.space, replay.spec, replay.bundle.weights)
    level = "skill" if replay.bundle.contract.space.name == "skill" else "raw"
    most = max(len(one.logged.choice) for one in later) + 1
    parts = []
    for one in later:
        rng = replay.make_rng(SALT, one.logged.number)  # the same draws for every n: what differs is the policy
        chosen = draw_choices(learner.read_policy(one.shown), config.draws, rng)
        chosen = take_chosen(chosen, np.minimum(np.arange(most), len(chosen.drawn) - 1))
        parts.append(chosen if level == "skill" or space.choices else rescale(replay, chosen, space))
        replay.require_going_on("replay rehearsal", learner.episodes)
    log = make_level(replay, config, [one.logged for one in later], level, space.horizon, join(parts))
    record = evaluate_level(replay, config, log, f"rehearsal after {learner.episodes} episodes")
    best = record["estimates"][record["headline"]]
    return {
        **{name: best[name] for name in ("value", "low", "high", "error")},
        "log": {name: record["estimates"][LOGGED][name] for name in ("value", "low", "high")},
        "estimator": record["headline"],
        "verdict": record["verdict"],
        "reasons": record["reasons"],
        "episodes": record["episodes"],
        "support": record["support"]["share"],
        "effective_size": None if record["weights"] is None else record["weights"]["effective_size"],
    }


def draw_choices(policy: Policy, draws: int, rng: np.random.Generator) -> Chosen:
    """What a policy would choose at each decision of an episode, (K, ...); without a density, what it takes."""
    if policy.probability is not None:
        return every_choice(policy.probability)
    if policy.is_gaussian:
        return gaussian_draws(policy.loc, policy.scale, draws, rng)
    drawn = np.repeat(policy.loc[:, None], draws, axis=1)
    return Chosen(drawn, np.full(drawn.shape[:2], 1.0 / draws, np.float32))
