"""Guards around what an agent learns between episodes: caps, a canary episode, roll-back, and the prior policy.

`GuardedAgent` wraps any agent and is one, so that the loop cannot tell. After each update it asks, in this order:

0. Did the update come to its end? One that died or took too long in its own process (`updates.py`) changes nothing,
   and counts as a roll-back.
1. Is what changed what may change? The weights of the bundle may not (their digest is compared), nor may a number of
   the agent be other than finite.
2. Has the task told anything? As long as all episodes of a row gave the same return, its policy stays as it is; or all
   steps the same reward, while the robot's own `compute_reward` tells them apart. An episode whose rewards are not
   finite, or contradict that one, is not learned from.
3. How far did the policy move, in nats of one decision, from the policy before the update (`step_kl`) and from the
   prior policy (`prior_kl`)? A row that went too far goes back on its way, by halves. What the host learned stays.
4. Does a copy of the policy, in an extra episode at low speed, do as well as before?

No extra episode begins once the robot has moved for as long as it may. A policy that could not be judged by then is
undone.

After each episode it compares return, success, clamped commands and the score of unknown states with those of the
prior policy, and with those of the last policy that was found good. Where one of them is worse beyond the interval of
the difference, all that the agent knows goes back to that policy. After `max_rollbacks` the agent acts by the prior
policy and learns no more. Where that does worse than it once did, the world has changed, and the robot is held.

The prior policy is the one that the bundle gives without learning in the task: for SiMPL the meta-trained policy at the
embedding that was inferred, for others the first parameters.

Axes: R rows, n and k episodes.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import RobotFault, RunError
from .bundle import Bundle
from .densities import DensityNoise
from .guard_config import GuardConfig
from .networks import Array, Weights
from .policy_change import (
    MakeAgent,
    PolicyChange,
    choose_states,
    find_infinite,
    make_acting,
    mix_learned,
    take_learned,
    with_learned,
)
from .runtime_agent import HOST, PARAMS, Arrays, RowEpisodes, RuntimeAgent, WrappedAgent
from .updates import UpdateFault

GUARD = f"{HOST}guard."
"""What begins so in a state belongs to the guards."""
HALVINGS = 8
"""How often a way is halved before it is not gone at all."""
_NORMAL = 2.5758293
"""Quantile of N(0, 1) of an interval of 99 %; looks are many, so that 95 % would cry wolf."""


class Outcome(NamedTuple):
    """One episode, as a mean over its rows."""

    returned: float
    """Sum of rewards."""
    success: float
    """Share of the rows that solved the task; NaN where nobody tells."""
    clamped: float
    """Share of the commands that were not sent as the policy asked."""
    unknown: float
    """Score of unknown states, see `novelty.py`; NaN without one."""


class Signals(NamedTuple):
    """What the loop cannot see of the last episode."""

    clamped: float = 0.0
    unknown: float = math.nan
    taken_over: int = 0
    """Steps in which the policy as it stands did not command: a person did, or an older policy."""
    agreement: float = math.nan
    """Correlation of the rewards that were told with those that the robot's contract computes; NaN where these do not
    differ from step to step."""


class Play(NamedTuple):
    """An extra episode that nobody learns from."""

    episodes: RowEpisodes
    signals: Signals


PlayEpisode = Callable[[RuntimeAgent, float, np.random.Generator], Play]
"""Plays one episode of all rows with an agent, at a share of its speed."""


def compute_t(freedom: int) -> float:
    """The 99.5 % quantile of Student's t: z and the first three terms of the series in 1 / freedom.

    It is within 2 % from 4 degrees of freedom on, and 15 % too small at 2.
    """
    z, v = _NORMAL, float(freedom)
    first = (z**3 + z) / (4 * v)
    second = (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    return z + first + second + third


def compute_drop(reference: NDArray[np.float64], recent: NDArray[np.float64]) -> float:
    """By how much the mean of k recent values is below that of n others, beyond the 99 % interval of the difference.

    <= 0 where it is not. Both have one variance. Fewer than 3 values in all, or a NaN, say nothing.
    """
    n, k = len(reference), len(recent)
    if min(n, k) < 1 or n + k < 4 or not (np.isfinite(reference).all() and np.isfinite(recent).all()):
        return 0.0
    spread = ((reference - reference.mean()) ** 2).sum() + ((recent - recent.mean()) ** 2).sum()
    half = compute_t(n + k - 2) * math.sqrt(spread / (n + k - 2) * (1 / n + 1 / k))
    tiny = 1e-6 * max(1.0, float(np.abs(reference).max()))
    return float(reference.mean() - recent.mean()) - half - tiny


def compute_agreement(rewards: Sequence[NDArray[np.float32]]) -> float:
    """Correlation of told and computed rewards, pairs of shape (2, r); NaN where the computed ones are all the same."""
    told, computed = np.concatenate(rewards, axis=1).astype(np.float64) if rewards else np.zeros((2, 1))
    if np.ptp(computed) == 0.0 or not np.isfinite(computed).all():
        return math.nan
    if np.ptp(told) == 0.0:
        return 0.0
    return float(np.corrcoef(told, computed)[0, 1])


def find_worse(
    reference: NDArray[np.float64], recent: NDArray[np.float64], config: GuardConfig, *, returns: bool = True
) -> str | None:
    """Which number of the recent episodes is worse than before, in words; None where none is.

    Args:
        reference: Outcomes of a policy that was found good, shape (n, 4), in the order of `Outcome`.
        recent: Those to judge, shape (k, 4).
        config: Margins, and how many episodes a conclusion takes.
        returns: Compare returns and success.
    """
    signs = {"return": (0, 1.0, 0.0), "success": (1, 1.0, 0.0), "clamps": (2, -1.0, config.clamp_margin)}
    for name, (column, sign, margin) in (signs | {"unknown states": (3, -1.0, 0.0)}).items():
        good_or_bad = name in ("return", "success")
        if good_or_bad and (not returns or len(recent) < config.least):
            continue
        if compute_drop(sign * reference[:, column], sign * recent[:, column]) > margin:
            before, now = reference[:, column].mean(), recent[:, column].mean()
            return f"{name} {now:.4g} after {before:.4g}"
    return None


def digest_weights(weights: Weights) -> str:
    """sha256 of all weights, names and shapes included."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = np.ascontiguousarray(weights[name])
        digest.update(f"{name} {value.dtype} {value.shape}\n".encode())
        digest.update(value.data)
    return digest.hexdigest()


class _UsedUp(Exception):
    """The robot may not move any further, so that an extra episode is not played."""


class GuardedAgent(WrappedAgent):
    """An agent whose updates are guarded; see the module's docstring."""

    def __init__(
        self,
        acting: Any,
        make_agent: MakeAgent,
        weights: Weights,
        config: GuardConfig,
        *,
        moves: bool,
        exploring: int,
        play: PlayEpisode,
        read_signals: Callable[[], Signals],
        hold: Callable[[str], None],
        control_period: float,
        seed: int = 0,
    ) -> None:
        """Before the first task.

        Args:
            acting: The agent, with `set_params` where it `moves`.
            make_agent: Another agent of the bundle, in numpy alone.
            weights: Of the bundle; their digest may not change.
            config: The limits.
            moves: Its policies are parameters, which updates move; else it knows its task otherwise, and is only rolled
                back.
            exploring: First episodes, which serve to find out and are not compared.
            play: Plays an extra episode.
            read_signals: What the last episode was like, beside its rewards.
            hold: Stops the robot, with the reason.
            control_period: Seconds of a step.
            seed: Of extra episodes.
        """
        super().__init__(acting)
        self._make_agent, self._weights, self.config = make_agent, weights, config
        self._moves, self._exploring, self._play, self._read_signals = moves, exploring, play, read_signals
        self._hold, self._control_period, self._seed = hold, control_period, seed
        self._digest = digest_weights(weights)
        self.events: list[dict[str, Any]] = []
        """What the guards did since somebody took the list; as records."""
        self._clear(0, {})

    def begin_task(self, rows: int) -> None:
        """See `RuntimeAgent.begin_task`."""
        super().begin_task(rows)
        self._clear(rows, self._acting.state())

    def _clear(self, rows: int, new: Arrays) -> None:
        self._first = take_learned(new) if self._moves else dict(new)
        self._states: Array = np.zeros((rows, 0, 0), np.float32)
        # lowest and highest return, and lowest and highest reward of a step, of all episodes: (4, R)
        self._ranges = np.repeat([[np.inf], [-np.inf], [np.inf], [-np.inf]], rows, axis=1)
        self._varied = False
        self._baseline, self._good, self._recent = (np.zeros((0, 4)) for _ in range(3))
        self._anchor: dict[str, NDArray[Any]] = {}
        self._canaried: dict[str, NDArray[Any]] = {}
        self._counts = {"episodes": 0, "steps": 0, "updates": 0, "rollbacks": 0, "extra": 0, "fallen": 0, "unjudged": 0}
        self.undone = 0
        """Episodes that somebody went back over; no part of a state."""
        self._last = Outcome(math.nan, math.nan, math.nan, math.nan)
        self._signals: Signals | None = None
        self.kl = {"step": 0.0, "prior": 0.0}
        """Of the last update, worst row, nats of one decision."""

    @property
    def robot_seconds(self) -> float:
        """Motion of a row so far, extra episodes included."""
        return self._counts["steps"] * self._control_period

    @property
    def counts(self) -> dict[str, int]:
        """Episodes, steps, updates, roll-backs and extra episodes so far; `fallen` is 1 once the prior policy acts."""
        return dict(self._counts)

    @property
    def fallen(self) -> bool:
        """Whether the prior policy acts for the rest of the adaptation."""
        return bool(self._counts["fallen"])

    def describe(self) -> dict[str, Any]:
        """The last episode and the last update as a record: no number is NaN."""
        found = {**self._last._asdict(), "step_kl": self.kl["step"], "prior_kl": self.kl["prior"]}
        known = {name: value for name, value in found.items() if math.isfinite(value)}
        return known | {"robot_seconds": round(self.robot_seconds, 6), **self._counts}

    @property
    def exhausted(self) -> bool:
        """The robot has moved for as long as it may, or played as many episodes."""
        episodes, played = self.config.max_episodes, self._counts["episodes"] + self.undone
        return self._used_up or (episodes is not None and played >= episodes)

    @property
    def _used_up(self) -> bool:
        """The robot has moved for as long as it may."""
        seconds = self.config.max_robot_seconds
        return seconds is not None and self.robot_seconds >= seconds

    @property
    def learns(self) -> bool:
        """Whether updates still change the policy: it is not the prior policy's turn, and no budget is used up."""
        most = self.config.max_updates
        return not self.fallen and (most is None or self._counts["updates"] < most) and not self.exhausted

    def keep_spent(self, counts: Mapping[str, int]) -> None:
        """What was spent stays spent, although `load_state` went back to an earlier episode.

        Args:
            counts: From before that.
        """
        self.undone += max(0, counts["episodes"] - self._counts["episodes"])
        for name in ("steps", "updates", "rollbacks", "extra", "fallen"):
            self._counts[name] = max(self._counts[name], counts[name])
        if self.fallen:
            self._load_prior()

    def act(self, seen: Any) -> Any:
        """A latent for each running row, shape (r, Z)."""
        return self._acting.act(seen)

    def observe(self, episodes: RowEpisodes) -> None:
        """Judges the policy by the episodes, then lets the agent learn from them, and guards the update.

        Raises:
            RobotFault: The prior policy does worse than it did; the robot is held.
        """
        self._counts["episodes"] += 1
        self.keep_signals()
        signals, self._signals = self._signals or Signals(), None
        outcome = self._last = self._measure(Play(episodes, signals))
        if reason := self._find_untrue(episodes, signals):
            self._note("refused", f"{reason}; nothing is learned from the episode")
            return
        returns, (lowest, highest) = episodes.reward.sum(axis=1, dtype=np.float64), episodes.read_reward_range().T
        for index, (found, value) in enumerate(
            zip((np.minimum, np.maximum) * 2, (returns, returns, lowest, highest), strict=True)
        ):
            self._ranges[index] = found(self._ranges[index], value)
        self._varied |= math.isfinite(signals.agreement)
        self._states = choose_states(episodes)
        # an episode in which somebody else commanded says nothing of the policy
        if self._counts["episodes"] > self._exploring and not signals.taken_over and self._judge(outcome):
            return
        self._update(lambda: self._acting.observe(episodes))

    def keep_signals(self) -> None:
        """Reads what the last episode was like, so that a state has it; before the episode is learned from."""
        if self._signals is None:
            self._signals = self._read_signals()

    def adapt(self) -> None:
        """A step of adaptation, guarded."""
        self._update(self._acting.adapt)

    def finish(self) -> None:
        """Judges a policy that no episode has judged yet; it is rolled back where it is worse than the prior policy.

        So it is where it cannot be judged, since the robot may not move any further.

        Raises:
            RobotFault: See `observe`.
        """
        if not self._anchor or self._counts["fallen"] or not self._counts["unjudged"]:
            return
        state = self._acting.state()
        try:
            for _ in range(self.config.baseline):
                self._recent = np.vstack([self._recent, self._try(state, 1.0)])[-self.config.window :]
        except _UsedUp:
            self._recent = np.zeros((0, 4))
            self._undo(self._anchor)
            return
        self._counts["unjudged"] = 0
        if worse := self._find_worse():
            self._roll_back(worse)

    def _find_untrue(self, episodes: RowEpisodes, signals: Signals) -> str | None:
        if not np.isfinite(episodes.reward).all():
            return "a reward is not finite"
        if signals.agreement < self.config.least_agreement:
            return f"rewards contradict those of the robot's contract, with a correlation of {signals.agreement:.2f}"
        return None

    # -- judging ---------------------------------------------------------------------------------------------------

    def _measure(self, play: Play) -> Outcome:
        episodes, signals = play
        self._counts["steps"] += int(episodes.steps.max(initial=0))
        success = math.nan if episodes.success is None else float(episodes.success.mean())
        returned = float(episodes.reward.sum(axis=1, dtype=np.float64).mean())
        return Outcome(returned, success, signals.clamped, signals.unknown)

    def _try(self, state: Arrays, speed: float) -> Outcome:
        """An extra episode with a copy of the policies of this state.

        Raises:
            _UsedUp: The robot has moved for as long as it may.
        """
        if self._used_up:
            raise _UsedUp
        self._counts["extra"] += 1
        rng = np.random.default_rng(np.random.SeedSequence([self._seed, self._counts["extra"], 7]))
        return self._measure(self._play(make_acting(self._make_agent, state, DensityNoise(rng)), speed, rng))

    def _find_worse(self) -> str | None:
        for reference in (self._baseline, self._good):
            if len(reference) and (found := find_worse(reference, self._recent, self.config)):
                return found
        return None

    def _judge(self, outcome: Outcome) -> bool:
        """Takes in an episode; True where it led to a roll-back, so that nothing is learned from it."""
        if not self._anchor:
            self._begin_with(outcome)
            return False
        self._recent = np.vstack([self._recent, outcome])[-self.config.window :]
        self._counts["unjudged"] = 0
        worse = self._find_worse()
        if worse is None:
            if len(self._recent) >= self.config.window and not self._counts["fallen"]:
                self._good, self._recent = self._recent, np.zeros((0, 4))
                self._anchor = self._acting.state()
            return False
        if self._counts["fallen"]:
            reason = f"the prior policy does worse than it did: {worse}"
            self._note("hold", reason)
            self._hold(reason)
            raise RobotFault(
                f"adaptation: expected the prior policy to do as it did, got {worse}; the robot is held: look at it"
            )
        self._roll_back(worse)
        return True

    def _roll_back(self, reason: str) -> None:
        self._counts["rollbacks"] += 1
        self._recent = np.zeros((0, 4))
        if self._counts["rollbacks"] > self.config.max_rollbacks:
            self._fall_back(f"{reason}; roll-back {self._counts['rollbacks']}")
            return
        self._note("rollback", reason)
        self._acting.load_state(self._anchor)

    def count_failure(self, reason: str) -> None:
        """An update that did not come to its end counts as a roll-back: the policy stays, up to the last one."""
        self._counts["rollbacks"] += 1
        self._note("failed", reason)
        if self._counts["rollbacks"] > self.config.max_rollbacks:
            self._fall_back(f"{reason}; roll-back {self._counts['rollbacks']}")

    def _fall_back(self, reason: str) -> None:
        self._counts["fallen"] = 1
        self._note("prior", f"{reason}: the prior policy acts, and nothing is learned any more")
        self._load_prior()

    def _load_prior(self) -> None:
        self._acting.load_state(self._make_prior(self._acting.state()))
        self._good = np.zeros((0, 4))

    def _make_prior(self, state: Arrays) -> dict[str, NDArray[Any]]:
        return with_learned(state, self._first) if self._moves else dict(self._first)

    def _begin_with(self, outcome: Outcome) -> None:
        """Takes an episode of the prior policy into the baseline, where it is known to be one."""
        if not self._moves or any(name.startswith(PARAMS) for name in self._first):
            self._baseline = np.vstack([self._baseline, outcome])[-self.config.window :]
        if not self._moves and len(self._baseline) >= self.config.baseline:
            self._anchor = self._acting.state()

    # -- updates ---------------------------------------------------------------------------------------------------

    def _update(self, learn: Callable[[], None]) -> None:
        """One update of the agent, or what it takes in without one."""
        if not self.learns:
            return
        before = self._acting.state()
        try:
            learn()
        except UpdateFault as fault:  # the agent is as it was, and does not know of the episode
            self.count_failure(str(fault))
            return
        after = self._acting.state()
        if problem := self._find_forbidden(after):
            self._acting.load_state(before)
            if self._anchor:
                self._roll_back(problem)
            else:
                self._note("refused", problem)
        elif self._moves and not _equal(take_learned(before), take_learned(after)):
            unjudged = self._counts["unjudged"]
            try:
                self._adopt(before, after)
            except _UsedUp:
                self._undo(before)
                self._counts["unjudged"] = unjudged

    def _adopt(self, before: Arrays, after: Arrays) -> None:
        """Lets the new policy act, as far as it may.

        Raises:
            _UsedUp: The robot may not move any further, so that nothing tells whether the policy is good.
        """
        if not self._anchor:
            self._begin_judging(after)
        self._counts["updates"] += 1
        self._counts["unjudged"] = 1
        self._limit(before, after)
        if self._play_canary(before) and self._used_up:
            raise _UsedUp

    def _undo(self, state: Arrays) -> None:
        """Goes back from a policy that nobody can judge any more."""
        self._acting.load_state(state)
        self._counts["unjudged"] = 0
        self._note(
            "budget", "the robot may not move any further: the newest policy, which no episode judged, is undone"
        )

    def _begin_judging(self, state: Arrays) -> None:
        """The prior policy's interval, before any other policy acts."""
        prior = self._make_prior(state)
        while len(self._baseline) < self.config.baseline:
            self._baseline = np.vstack([self._baseline, self._try(prior, 1.0)])
        self._anchor = prior
        self._note("baseline", f"return {self._baseline[:, 0].mean():.4g} of the prior policy")

    def _find_forbidden(self, after: Arrays) -> str | None:
        if digest_weights(self._weights) != self._digest:
            self._hold("the weights of the bundle have changed")
            raise RunError(
                "guards: expected the weights of the bundle as they were loaded, got others; the learner changed what "
                "it may not: load the bundle again"
            )
        wrong = find_infinite(after)
        return f"'{wrong}' is not finite" if wrong else None

    def _limit(self, before: Arrays, after: Arrays) -> None:
        """Goes back on the way of each row until both caps hold; the host keeps what it learned.

        The way leads from the policy after the update, by halves, to the one before it; and where that one is too far
        from the prior policy in the states of this episode, on to the prior policy.
        """
        change = PolicyChange(self._make_agent, self._states)
        old, prior = with_learned(after, take_learned(before)), self._make_prior(after)
        there, here, home = (self._read_params(state) for state in (after, old, prior))
        told = self._find_told()
        halvings = np.where(told, 0, HALVINGS)
        while True:
            if halvings.any():
                share = _compute_share(halvings)
                ahead = mix_learned(after, here, there, share)
                back = mix_learned(after, home, here, _compute_share(halvings - HALVINGS))
                behind = halvings > HALVINGS
                self._acting.set_params({name: _choose(behind, back[name], ahead[name]) for name in ahead})
            now = {name: value for name, value in self._acting.state().items() if not name.startswith(HOST)}
            step, from_prior = change.compute_kl(now, old), change.compute_kl(now, prior)
            far = (step > self.config.step_kl) & (halvings < HALVINGS) | ~(from_prior <= self.config.prior_kl)
            far &= halvings < 2 * HALVINGS
            if not far.any():
                break
            halvings = halvings + far
        self.kl = {"step": float(step.max(initial=0.0)), "prior": float(from_prior.max(initial=0.0))}
        if limited := int((halvings[told] > 0).sum()):
            self._note("limited", f"{limited} of {len(told)} rows went too far", halvings=halvings.tolist())

    def _find_told(self) -> NDArray[np.bool_]:
        """Rows whose rewards have told anything: a task that has told nothing moves nobody, (R,)."""
        least, most, lowest, highest = self._ranges
        told: NDArray[np.bool_] = (most > least) & ((highest > lowest) | (not self._varied))
        return told

    def _read_params(self, state: Arrays) -> dict[str, Array]:
        agent: Any = make_acting(self._make_agent, state, DensityNoise(np.random.default_rng(0)))
        params: dict[str, Array] = agent.params
        return params

    def _play_canary(self, before: Arrays) -> bool:
        """Whether the new policy still acts, also where it needed no such episode."""
        if not self.config.canary:
            return True
        state = self._acting.state()
        last = with_learned(state, self._canaried) if self._canaried else self._make_prior(state)
        if not (PolicyChange(self._make_agent, self._states).compute_kl(state, last) > self.config.canary_kl).any():
            return True
        speed = self.config.canary_speed
        outcome = np.array([self._try(state, speed)])
        worse = find_worse(self._baseline, outcome, self.config, returns=False)
        self._note("canary", worse or "as before", **Outcome(*outcome[0].tolist())._asdict(), speed=speed)
        if worse:
            self._acting.load_state(before)
            self._roll_back(f"canary episode: {worse}")
            return False
        self._canaried = take_learned(state)
        return True

    def _note(self, event: str, reason: str, **facts: Any) -> None:
        known = {name: value for name, value in facts.items() if not (isinstance(value, float) and math.isnan(value))}
        self.events.append({"event": event, "reason": reason, **known})

    # -- state -----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, NDArray[Any]]:
        """See `RuntimeAgent.state`; the guards' part begins with `host.guard.`."""
        own: dict[str, NDArray[Any]] = {
            "counts": np.array(list(self._counts.values())),
            "ranges": self._ranges.copy(),
            "varied": np.array([self._varied]),
            "kl": np.array(list(self.kl.values())),
            "states": self._states.copy(),
            "signals": np.array([] if self._signals is None else self._signals, np.float64),
            **{name: value.copy() for name, value in self._outcomes().items()},
        }
        for part, arrays in (("anchor.", self._anchor), ("canaried.", self._canaried)):
            own |= {f"{part}{name}": value for name, value in arrays.items()}
        return super().state() | {f"{GUARD}{name}": value for name, value in own.items()}

    def _outcomes(self) -> dict[str, NDArray[np.float64]]:
        return {"baseline": self._baseline, "good": self._good, "recent": self._recent}

    def load_state(self, arrays: Arrays) -> None:
        """See `RuntimeAgent.load_state`."""
        own = {name.removeprefix(GUARD): value for name, value in arrays.items() if name.startswith(GUARD)}
        if missing := {"counts", "ranges", "varied", "kl", "states", "signals", *self._outcomes()} - own.keys():
            raise RunError(
                f"guards: expected a whole state, got none of '{min(missing)}'; it was adapted without guards: begin "
                "the task again"
            )
        super().load_state({name: value for name, value in arrays.items() if not name.startswith(GUARD)})
        self._counts = dict(zip(self._counts, (int(count) for count in own["counts"]), strict=True))
        self._ranges, self._varied = own["ranges"].astype(np.float64), bool(own["varied"].any())
        self._states = own["states"].astype(np.float32)
        self._signals = None
        if len(own["signals"]):
            clamped, unknown, taken, agreement = own["signals"].tolist()
            self._signals = Signals(clamped, unknown, int(taken), agreement)
        self.kl = dict(zip(self.kl, (float(value) for value in own["kl"]), strict=True))
        self._baseline, self._good, self._recent = (own[name].reshape(-1, 4) for name in self._outcomes())
        self._anchor, self._canaried = (
            {name.removeprefix(part): value for name, value in own.items() if name.startswith(part)}
            for part in ("anchor.", "canaried.")
        )


def guard_agent(
    agent: RuntimeAgent,
    bundle: Bundle,
    config: GuardConfig,
    *,
    play: PlayEpisode,
    read_signals: Callable[[], Signals],
    hold: Callable[[str], None],
    make_agent: MakeAgent | None = None,
    seed: int = 0,
) -> GuardedAgent:
    """An agent of a bundle, with its updates guarded; `make_agent` is the bundle's unless it is given.

    See `GuardedAgent` for the other arguments.
    """
    budget = bundle.contract.budget
    return GuardedAgent(
        agent,
        make_agent or bundle.make_agent,
        bundle.weights,
        config,
        moves=bundle.kind.hosted or bundle.kind.policy is not None,
        exploring=0 if budget.adapt_steps else budget.exploration_episodes,
        play=play,
        read_signals=read_signals,
        hold=hold,
        control_period=bundle.contract.robot.control_period,
        seed=seed,
    )


def _compute_share(halvings: NDArray[np.int64]) -> NDArray[np.float64]:
    """How much of a way is left after so many halvings: all of it where there were none, nothing after `HALVINGS`."""
    return np.where(halvings >= HALVINGS, 0.0, 0.5 ** np.maximum(halvings, 0))


def _choose(rows: NDArray[np.bool_], one: Array, other: Array) -> Array:
    """Each row of one array or of another."""
    return np.where(rows.reshape(-1, *[1] * (one.ndim - 1)), one, other)


def _equal(one: Mapping[str, NDArray[Any]], other: Mapping[str, NDArray[Any]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)
