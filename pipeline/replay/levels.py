"""A log as decisions at one level, and what the policy would have decided: what `meta/off_policy` reads.

    raw      a decision is one control step; choices are commands on the scale on which the limits are -1 and 1
    skill    a decision is a skill of H steps; choices are the skills of the logged windows

The skills of windows are those that the log recorded with their density; else they are told by the skill model's
encoder, or searched for, see `skills.py`. The last window of an
episode in which the task ended is filled up with its last step; of another, what is shorter than a skill is left out.

Axes: E episodes, K decisions of the longest one, N decisions of all, M draws, O observation, Z choice, H skill horizon.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...adapt.spaces import RowSpace
from ...adapt.takeover import find_latent
from ...meta.off_policy.behaviour import Limits, censored_log_prob, clone_behaviour
from ...meta.off_policy.decisions import Decisions, make_decisions
from ...meta.off_policy.skill_level import compute_skill_log_ratio, correct_posterior
from ...robots.robot import Float
from ...skills.gaussian import Gaussian, log_prob
from ..settings.off_policy import OffPolicyConfig
from .open_loop import force_episode
from .rewards import Rewarded, RewardReader
from .section import Replay
from .target_policy import Chosen, act_at_once, choose, from_forced, is_plain, join, to_scale

if TYPE_CHECKING:
    from ...skills.model import SkillModel

RECORDED = ("action_log_probs", "action_log_prob", "log_prob", "log_probs")
"""Names of the feature with the log density of each logged command, in the robot's units."""
RECORDED_SKILL, RECORDED_COMMAND = "skill", "chosen"
"""Names of the features with the skill that is held at each step, (Z,), or with the command that was chosen, before all
limits, in the robot's units, (A,). With `_log_prob` behind, the log density with which it was chosen. With `_known`, 0
where nobody knows that density; a log without it knows it everywhere."""
PART = "off_policy"
SALT = 5


class LoggedEpisode(NamedTuple):
    """One episode as decisions: k of them."""

    number: int
    rewarded: Rewarded
    steps: int
    """That the decisions last."""
    observation: Float
    """Before each decision, and where the last one ended, shape (k + 1, O)."""
    choice: Float
    """Shape (k, Z)."""
    spread: Float
    """Standard deviation of each choice, as far as it is known, shape (k, Z); 0 for commands."""
    recorded: NDArray[np.float64] | None
    """Log density as recorded, shape (k,)."""
    asked: Float | None = None
    """Commands that were chosen, before limits, whose densities these are, shape (k, A); None where they are those of
    the commands that were sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelLog:
    """All episodes at one level, padded."""

    name: str
    horizon: int
    """H; 1 at the raw level."""
    numbers: NDArray[np.int64]
    """Of the episodes in the log, shape (E,)."""
    decisions: Decisions
    observation: Float
    """Raw, shape (E, K + 1, O)."""
    choice: Float
    """Shape (E, K, Z)."""
    spread: Float
    """See `LoggedEpisode`, shape (E, K, Z)."""
    recorded: NDArray[np.float64] | None
    """Shape (E, K)."""
    chosen: Chosen
    """The policy in each state, with axes (E, K + 1, ...) flattened to one."""
    choices: int = 0
    """Number of named choices; 0 where choices are numbers."""
    asked: Float | None = None
    """See `LoggedEpisode`, shape (E, K, A)."""

    @property
    def scaled(self) -> Float:
        """Observations over their spread in the log, shape (E, K + 1, O)."""
        seen = self.observation[:, :-1][self.decisions.valid].astype(np.float64)
        std = seen.std(axis=0)
        scaled: Float = ((self.observation - seen.mean(axis=0)) / np.where(std > 1e-6, std, 1.0)).astype(np.float32)
        return scaled

    def encode(self, choice: Float) -> Float:
        """Choices (..., Z) as networks read them: one-hot, or as they are."""
        return np.eye(self.choices, dtype=np.float32)[choice[..., 0].astype(np.int64)] if self.choices else choice


class Ratios(NamedTuple):
    """Importance ratios of each decision, and whose behaviour they are against."""

    log_ratio: NDArray[np.float64] | None
    """Shape (E, K); None where the policy has no density."""
    origin: str
    """A sentence."""


def read_level(
    replay: Replay, config: OffPolicyConfig, reader: RewardReader, level: str, encoder: SkillModel | None
) -> LevelLog | None:
    """All episodes, or as many as `most_steps` allows, drawn; None where fewer than `least_episodes` are left."""
    space = RowSpace(replay.bundle.contract.space, replay.spec, replay.bundle.weights)
    horizon = space.horizon if level == "skill" else 1
    recorded = find_recorded(replay, space, level)
    order = replay.make_rng(SALT).permutation(replay.episodes)
    episodes, total = list[LoggedEpisode](), 0
    for number in order:
        if total >= config.most_steps:
            break
        found = reader.read(int(number), replay.store.episode(int(number)))
        made = None
        if found is not None:
            made = make_episode(replay, config, space, int(number), found, horizon, encoder, recorded=recorded)
        if made is not None:
            episodes.append(made)
            total += made.steps
        replay.require_going_on(f"replay {PART}", len(episodes))
    episodes.sort(key=lambda one: one.number)
    if len(episodes) < config.least_episodes:
        return None
    most = max(len(one.choice) for one in episodes)
    chosen = join(list(_choose_all(replay, config, episodes, level, most + 1)))
    return make_level(replay, config, episodes, level, horizon, chosen)


def make_episode(
    replay: Replay,
    config: OffPolicyConfig,
    space: RowSpace,
    number: int,
    found: Rewarded,
    horizon: int,
    encoder: SkillModel | None,
    skill: Float | None = None,
    *,
    recorded: str | None,
) -> LoggedEpisode | None:
    """One episode at one level; None where nothing of it is left.

    Args:
        replay: The bundle and the log.
        config: See `OffPolicyConfig`.
        space: Of the bundle.
        number: Of the episode in the log.
        found: Its steps that count.
        horizon: H; 1 at the raw level.
        encoder: Tells skills; None: they are searched for.
        skill: Of windows of H steps from the first one on, (K, Z), where they were searched for before.
        recorded: See `find_recorded`.
    """
    steps = found.rows if found.terminated else found.rows // horizon * horizon
    if steps < 1:
        return None
    starts = np.append(np.arange(0, steps, horizon), steps)
    observation, density, asked = found.observation[starts], None, None
    if horizon == 1:
        choice = found.action[:steps] if space.choices else to_scale(replay, found.action[:steps])
        spread = np.zeros_like(choice)
        name = next((name for name in RECORDED if replay.has(name)), None)
        if recorded is not None:
            arrays = replay.store.episode(number).arrays
            asked = np.asarray(arrays[recorded], np.float32).reshape(len(arrays["action"]), -1)[:steps]
            density = np.asarray(arrays[f"{recorded}_log_prob"], np.float64)[:steps] + _log_halves(replay)
            asked = asked if space.choices else to_scale(replay, asked)
            choice = asked if space.choices else np.clip(asked, *find_limits(replay)).astype(np.float32)
        elif name is not None and not replay.store.schema.feature(name).shape:
            density = np.asarray(replay.store.episode(number).arrays[name], np.float64)[:steps]
            density = density + _log_halves(replay)
    else:
        count = len(starts) - 1
        index = np.minimum(np.arange(count * horizon), steps - 1).reshape(count, horizon)
        if recorded is not None:
            arrays = replay.store.episode(number).arrays
            choice = np.asarray(arrays[recorded], np.float32)[starts[:-1]]
            density = np.asarray(arrays[f"{recorded}_log_prob"], np.float64)[starts[:-1]]
            spread = np.zeros_like(choice)
        elif skill is not None and encoder is None:
            choice, spread = skill[:count], np.full_like(skill[:count], config.search_scale)
        else:
            choice, spread = _find_skills(config, space, found.observation[index], found.action[index], encoder)
    return LoggedEpisode(number, found, steps, observation, choice, spread, density, asked)


def find_recorded(replay: Replay, space: RowSpace, level: str) -> str | None:
    """Name of the feature with what was chosen at this level, of this bundle's size and with the density of each.

    One decision whose density nobody knows makes those of the whole log useless: episodes without any would be others
    than those that the robot meets. At the raw level a policy over skills has a density of commands within the limits
    alone, so that those before the limits are of no use.
    """
    over_skills = space.invert(np.zeros((1, *replay.spec.action.shape), np.float32)) is None
    if over_skills and level == "raw":
        return None
    name = RECORDED_SKILL if level == "skill" else RECORDED_COMMAND
    density = f"{name}_log_prob"
    if not (replay.has(name) and replay.has(density)):
        return None
    sizes = [replay.store.schema.feature(each).shape for each in (name, density)]
    if sizes != [(space.latent_dim,), ()]:
        return None
    if not replay.has(f"{name}_known"):
        return name
    known = (replay.store.episode(number).arrays[f"{name}_known"] for number in range(replay.episodes))
    return name if all(bool((np.asarray(part) > 0).all()) for part in known) else None


def _log_halves(replay: Replay) -> float:
    """Log of the factor from a density in the robot's units to one on the scale on which limits are -1 and 1."""
    if replay.spec.choices:
        return 0.0
    half = (replay.spec.action.high.astype(np.float64) - replay.spec.action.low.astype(np.float64)) / 2.0
    return float(np.log(np.where(np.isfinite(half), half, 1.0)).sum())


def _find_skills(
    config: OffPolicyConfig, space: RowSpace, observation: Float, action: Float, encoder: SkillModel | None
) -> tuple[Float, Float]:
    """Mean and standard deviation of the skill of windows (k, H, .), each (k, Z)."""
    if encoder is None:
        skill = np.stack([find_latent(space, *window) for window in zip(observation, action, strict=True)])
        return skill, np.full_like(skill, config.search_scale)
    with torch.no_grad():
        posterior = encoder.encode(torch.from_numpy(observation.copy()), torch.from_numpy(action.copy()))
    return posterior.loc.numpy(), posterior.scale.numpy()


def make_level(
    replay: Replay,
    config: OffPolicyConfig,
    episodes: Sequence[LoggedEpisode],
    level: str,
    horizon: int,
    chosen: Chosen,
) -> LevelLog:
    """Episodes side by side, padded.

    Args:
        replay: The bundle and the log.
        config: See `OffPolicyConfig`.
        episodes: E of them.
        level: `skill` or `raw`.
        horizon: H; 1 at the raw level.
        chosen: What the policy would choose in each state, with axes (E, K + 1, ...) flattened to one.
    """
    length = np.array([len(one.choice) for one in episodes], np.int64)
    most = int(length.max())
    steps = np.array([one.steps for one in episodes], np.int64)
    reward = _stack([one.rewarded.reward[: one.steps] for one in episodes], int(steps.max()))
    terminated = np.array([one.rewarded.terminated for one in episodes])
    known = [one.recorded for one in episodes if one.recorded is not None]
    asked = [one.asked for one in episodes if one.asked is not None]
    return LevelLog(
        name=level,
        horizon=horizon,
        numbers=np.array([one.number for one in episodes]),
        decisions=make_decisions(reward, steps, terminated, discount=config.discount, horizon=horizon),
        observation=_stack([one.observation for one in episodes], most + 1),
        choice=_stack([one.choice for one in episodes], most),
        spread=_stack([one.spread for one in episodes], most),
        recorded=_stack(known, most) if len(known) == len(episodes) else None,
        chosen=chosen,
        choices=len(replay.spec.choices) if level == "raw" else 0,
        asked=_stack(asked, most) if len(asked) == len(episodes) else None,
    )


def _choose_all(
    replay: Replay, config: OffPolicyConfig, episodes: Sequence[LoggedEpisode], level: str, most: int
) -> Iterator[Chosen]:
    """The policy in the states of each episode, padded with the last one to `most`."""
    space = RowSpace(replay.bundle.contract.space, replay.spec, replay.bundle.weights)
    over_skills = space.invert(np.zeros((1, *replay.spec.action.shape), np.float32)) is None
    for one in episodes:
        rng = replay.make_rng(SALT, one.number)
        index = np.minimum(np.arange(most), len(one.observation) - 1)
        if is_plain(replay):
            chosen = choose(replay, one.observation[index], config.draws, rng)
        else:
            forced = force_episode(replay, config.draws, one.number, replay.store.episode(one.number))
            told = from_forced(forced, config.draws, rng, space)
            decision = index if level == "skill" else index // space.horizon
            chosen = take_chosen(told, np.minimum(decision, len(told.drawn) - 1))
        if level == "raw" and over_skills and chosen.loc is not None:
            chosen = act_at_once(replay, chosen, one.observation[index], config.draws, rng)
        elif level == "raw" and not space.choices:
            chosen = rescale(replay, chosen, space)
        yield chosen
        replay.require_going_on(f"replay {PART}", one.number)


def take_chosen(chosen: Chosen, index: NDArray[np.int64]) -> Chosen:
    """Of some of the states."""
    loc, scale = (None if part is None else part[index] for part in (chosen.loc, chosen.scale))
    return Chosen(chosen.drawn[index], chosen.weight[index], loc, scale, chosen.complete)


def rescale(replay: Replay, chosen: Chosen, space: RowSpace) -> Chosen:
    """Latents of raw actions on the scale on which limits are -1 and 1, where those of unit actions are already.

    Draws are cut to the limits, as commands are; mean and scale are those before.
    """
    if replay.bundle.contract.space.name == "unit":
        low, high = find_limits(replay)
        return chosen._replace(drawn=np.clip(chosen.drawn, low, high).astype(np.float32))
    flat = chosen.drawn.reshape(-1, chosen.drawn.shape[-1])
    drawn = to_scale(replay, space.hold(flat)(flat)).reshape(chosen.drawn.shape)
    if chosen.loc is None or chosen.scale is None:
        return chosen._replace(drawn=drawn)
    zero = to_scale(replay, np.zeros_like(chosen.loc[:1]))
    one = to_scale(replay, np.ones_like(chosen.loc[:1])) - zero
    return Chosen(drawn, chosen.weight, to_scale(replay, chosen.loc), chosen.scale * one)


def _stack(parts: Sequence[NDArray[Any]], most: int) -> NDArray[Any]:
    """Arrays (k, ...) one above the other, padded with zeros to (E, most, ...)."""
    padded = np.zeros((len(parts), most, *parts[0].shape[1:]), parts[0].dtype)
    for row, part in enumerate(parts):
        padded[row, : len(part)] = part
    return padded


def find_limits(replay: Replay) -> Limits:
    """Of commands on the scale on which they are -1 and 1; infinite where there are none."""
    low, high = (np.isfinite(end) for end in (replay.spec.action.low, replay.spec.action.high))
    both = low & high
    return Limits(np.where(both, -1.0, -np.inf), np.where(both, 1.0, np.inf))


def compute_ratios(
    replay: Replay, config: OffPolicyConfig, log: LevelLog, folds: NDArray[np.int64], generator: torch.Generator
) -> Ratios:
    """Ratios of the policy's density to that of the behaviour, which is recorded, or cloned, or the skill prior's.

    Args:
        replay: The bundle.
        config: See `OffPolicyConfig`.
        log: The decisions.
        folds: Of each episode, shape (E,).
        generator: Draws weights and batches of clones.
    """
    if not log.chosen.has_density:
        return Ratios(None, "The policy has no density: there are no importance weights.")
    valid = log.decisions.valid
    episode = np.nonzero(valid)[0]
    seen, choice = log.scaled[:, :-1][valid], log.choice[valid]
    limits = None if log.name == "skill" or log.choices else find_limits(replay)
    own = _policy_at(log)
    table = np.zeros(valid.shape)
    if log.recorded is not None:
        behaviour = log.recorded[valid]
        what = "skill" if log.name == "skill" else "command"
        if log.asked is not None:  # both densities are of what was chosen: limits are a part of the robot
            choice, limits, what = log.asked[valid], None, "command that was chosen, before limits"
        origin = f"The behaviour is that which the log recorded: the density of each {what}."
    else:
        # a skill is known up to its posterior, and the behaviour is over skills, not over means of posteriors
        noise = torch.randn(choice.shape, generator=generator).numpy()
        clone = clone_behaviour(
            seen,
            choice + log.spread[valid] * noise,
            folds[episode],
            config.behaviour,
            generator,
            choices=log.choices,
            limits=limits,
        )
        behaviour = clone.log_prob
        origin = (
            f"The log does not record who made it: its behaviour was estimated by a cloned "
            f"{'choice' if log.choices else 'Gaussian'}, which predicts episodes that it did not see with "
            f"{clone.log_prob.mean():.2f} nats per decision."
        )
    if log.name != "skill" or log.recorded is not None:
        table[valid] = _log_density(own, choice, limits) - behaviour
        return Ratios(table, origin)
    found, origin = _skill_ratios(replay, log, own, Gaussian(*map(torch.from_numpy, (clone.loc, clone.scale))))
    table[valid] = found
    return Ratios(table, origin)


def _policy_at(log: LevelLog) -> Chosen:
    """The policy where decisions were logged."""
    shape = log.observation.shape[:2]
    keep = np.zeros(shape, np.bool_)
    keep[:, :-1] = log.decisions.valid
    return take_chosen(log.chosen, np.flatnonzero(keep))


def _log_density(policy: Chosen, choice: Float, limits: Limits | None) -> NDArray[np.float64]:
    """Of logged choices (N, Z), nats."""
    if policy.complete:
        row = np.arange(len(choice))
        with np.errstate(divide="ignore"):
            found: NDArray[np.float64] = np.log(policy.weight[row, choice[:, 0].astype(np.int64)].astype(np.float64))
        return found
    assert policy.loc is not None, "the caller asks"
    assert policy.scale is not None, "the caller asks"
    low, high = (torch.from_numpy(end) for end in limits or Limits.none(choice.shape[1]))
    loc, scale, told = (torch.from_numpy(array.astype(np.float64)) for array in (policy.loc, policy.scale, choice))
    density: NDArray[np.float64] = censored_log_prob(loc, scale, told, low, high).numpy()
    return density


def _skill_ratios(replay: Replay, log: LevelLog, policy: Chosen, clone: Gaussian) -> tuple[NDArray[np.float64], str]:
    """Of logged windows (N,), against the skill prior or the clone, whichever predicts the skills better."""
    assert policy.loc is not None, "the caller asks"
    assert policy.scale is not None, "the caller asks"
    valid = log.decisions.valid
    space = RowSpace(replay.bundle.contract.space, replay.spec, replay.bundle.weights)
    prior = Gaussian(*(torch.from_numpy(part).double() for part in space.prior_of(log.observation[:, :-1][valid])))
    posterior = Gaussian(*(torch.from_numpy(part[valid]).double() for part in (log.choice, log.spread)))
    own = Gaussian(torch.from_numpy(policy.loc).double(), torch.from_numpy(policy.scale).double())
    by_prior, by_clone = (float(log_prob(of, posterior.loc).mean()) for of in (prior, clone))
    if by_prior >= by_clone:
        behaviour, who = prior, "the skill prior"
    else:
        behaviour, who = clone, "a cloned Gaussian over skills"
        posterior = correct_posterior(posterior, prior, clone)
    origin = (
        f"The behaviour over skills is {who}: it predicts the skills of the log with "
        f"{max(by_prior, by_clone):.2f} nats, the other with {min(by_prior, by_clone):.2f}."
    )
    return compute_skill_log_ratio(own, behaviour, posterior).numpy(), origin
