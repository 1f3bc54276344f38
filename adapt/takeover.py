"""A person commands instead of the policy, at any step, and hands back: by the keyboard, or by messages on a socket.

Both are a `watch.Operator`. What they command passes the safety limits like any command. While nobody presses a key, or
no message comes for a while, the command is the resting one: the robot stays as it is until the person hands back.

`relabel` makes such steps fit to learn from, for learners that learn from anybody's steps (off-policy): the latent of a
decision becomes the one that would have commanded what the person did.

Axes: K decisions, T steps, O observation, A action, Z latent, C candidates.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, RobotFault
from ..robots.limits import RobotLimits
from ..robots.robot import Float, StepRows
from ..robots.spec import RobotSpec
from ..strict_json import parse_json
from .runtime_agent import RowEpisodes
from .spaces import RowSpace

KEYS = "qawsedrftgyhujikol"
"""Keys by pairs: q and a move the first axis up and down, w and s the second, and so on."""
TAKE, SUCCESS, FAILURE, ENTER = " ", "+", "-", "\n\r"
HELD = 0.3
"""Seconds for which a key counts as pressed after its last character: terminals repeat a key that is held down."""
MOST_MESSAGES = 256
"""That are read in one control step."""
CANDIDATES, ROUNDS, ELITE = 256, 6, 24
"""Of the search for the skill that comes closest to what a person did."""


class Terminal:
    """Single keys of a terminal, without waiting and without Enter."""

    def __init__(self, source: int | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        """Takes the terminal `source`, a file descriptor; stdin without one.

        Raises:
            ConfigError: It is no terminal.
        """
        self._source = sys.stdin.fileno() if source is None else source
        self._clock = clock
        if not os.isatty(self._source):
            raise ConfigError("operator: expected a terminal to read keys from, got none; run it in a terminal")
        with contextlib.suppress(OSError):  # a terminal that is not this process's own
            if os.tcgetpgrp(self._source) != os.getpgrp():
                raise ConfigError(
                    "operator: expected a command in the foreground, whose keys it reads, got one in the background; "
                    "run it in the foreground"
                )
        import termios
        import tty

        self._before = termios.tcgetattr(self._source)
        tty.setcbreak(self._source)

    def read(self, wait: float = 0.0) -> str:
        """Keys that were pressed since the last call, after at most `wait` seconds.

        Raises:
            RobotFault: The terminal has gone, and with it whoever could take over or stop the robot.
        """
        import termios
        import tty

        try:
            if termios.tcgetattr(self._source)[3] & termios.ICANON:  # a shell has set it back, after a Ctrl-Z
                tty.setcbreak(self._source)
            if not select.select([self._source], [], [], wait)[0]:
                return ""
            if keys := os.read(self._source, 1024):
                return keys.decode("ascii", "ignore")
            got = "its end"
        except (OSError, termios.error) as error:
            got = f"'{error.args[-1]}'"
        raise RobotFault(
            f"operator: expected a terminal with a person at it, got {got}; inspect the robot, then adapt again in a "
            "terminal that lasts"
        )

    def close(self) -> None:
        """Leaves the terminal as it was."""
        import termios

        with contextlib.suppress(termios.error):
            termios.tcsetattr(self._source, termios.TCSADRAIN, self._before)


def require_keys(spec: RobotSpec) -> None:
    """Refuses a robot that a person cannot command by keys.

    Raises:
        ConfigError: It has more axes than there are keys, or is told one of finitely many actions.
    """
    if spec.choices or 2 * len(spec.action.axes) > len(KEYS):
        got = f"choices {list(spec.choices)}" if spec.choices else f"{len(spec.action.axes)}"
        raise ConfigError(
            f"--operator keyboard: expected at most {len(KEYS) // 2} action axes, two keys for each, got {got}; "
            "command it with --operator socket:PATH"
        )


class KeyboardOperator:
    """A person at a keyboard: a `watch.Operator`, and a `watch.Monitor` where they judge the task.

    Space takes over, and hands back. The keys of `KEYS` move the axes. `+` says that the task is solved, `-` that the
    attempt failed; both end the episode. Before an episode it waits for Enter, where the person has to prepare it.
    """

    def __init__(
        self,
        terminal: Terminal,
        tell: Callable[[str], None],
        *,
        judges: bool = False,
        prompts: bool = False,
        idle: Callable[[], None] = lambda: None,
        gain: float = 0.5,
        limits: RobotLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Nobody has taken over yet.

        Args:
            terminal: Where keys come from.
            tell: Shows a line to the person.
            judges: Reward and success are the person's: 1 in the step in which they press `+`, else 0.
            prompts: Wait for Enter before each episode.
            idle: Called again and again while it waits; keeps the robot where it is, and finds out that it is stopped.
            gain: Of a pressed key: share of the axis's limit, or of the change that its velocity limit allows. A place
                without a velocity limit moves by this share of its range in a second.
            limits: That hold for the robot; None for those of its contract alone.
            clock: Monotonic time, seconds.
        """
        self._terminal, self._tell, self._judges, self._prompts = terminal, tell, judges, prompts
        self._gain, self._clock, self._idle, self._limits = gain, clock, idle, limits
        self._pressed: dict[str, float] = {}
        self._verdict: str | None = None
        self.taken = False
        """Whether the person commands now."""
        self._target: Float | None = None

    def begin(self, spec: Any) -> None:
        """See `Operator.begin` with a spec, and `Monitor.begin` with a goal."""
        if isinstance(spec, RobotSpec):
            self._spec = spec
            limits = RobotLimits.of(spec) if self._limits is None else self._limits
            self._axes = tuple(zip(limits.action, limits.chains, spec.find_commanded(), strict=True))
            self.taken, self._target = False, None
            self._pressed.clear()
            self._verdict = None
        elif self._prompts:
            goal = ", ".join(f"{value:g}" for value in spec)
            self._terminal.read()  # an Enter that was pressed before is no answer: the robot would move at once
            self._tell(f"Put the robot and the task in their place for the goal ({goal}), then press Enter.")
            self._idle()
            while not set(self._terminal.read(0.2)) & set(ENTER):
                self._idle()

    def _listen(self) -> None:
        now = self._clock()
        for key in self._terminal.read():
            if key == TAKE:
                self.taken, self._target = not self.taken, None
                self._tell("You command the robot." if self.taken else "The policy commands the robot.")
            elif key in (SUCCESS, FAILURE):
                self._verdict = key
            elif key in KEYS:
                self._pressed[key] = now

    def command(self, requested: Float, observation: Float) -> Float | None:
        """See `Operator.command`."""
        self._listen()
        if not self.taken:
            return None
        if self._target is None:
            self._target = self._spec.compute_resting(observation)
        now, spec = self._clock(), self._spec
        for index, (bounds, chain, commanded) in enumerate(self._axes):
            up, down = KEYS[2 * index : 2 * index + 1], KEYS[2 * index + 1 : 2 * index + 2]
            sign = (now - self._pressed.get(up, -1e9) < HELD) - (now - self._pressed.get(down, -1e9) < HELD)
            low, high, _ = bounds[chain[0]]
            if commanded is None:  # it rests at 0
                reach = high if sign > 0 else -low
                self._target[index] = self._gain * sign * reach
            else:
                rate = bounds["velocity"].high if "velocity" in bounds else high - low
                self._target[index] += self._gain * sign * rate * spec.control_period
        low, high = np.array([bounds[chain[0]][:2] for bounds, chain, _ in self._axes]).T
        low, high = np.maximum(low, spec.action.inner_low), np.minimum(high, spec.action.inner_high)
        self._target = np.clip(self._target, low, high).astype(np.float32)
        return self._target.copy()

    def judge(self, step: StepRows) -> StepRows:
        """See `Monitor.judge`."""
        self._listen()
        if not self._judges:
            return step
        solved, ended = self._verdict == SUCCESS, self._verdict is not None
        return step._replace(
            reward=np.full(step.reward.shape, float(solved), np.float32),
            terminated=step.terminated | ended,
            truncated=step.truncated & (not ended),
            success=np.full(step.reward.shape, solved, np.bool_),
        )


def _require_left(path: Path) -> None:
    """Refuses a socket that another process listens to: a person would command another robot than before.

    Raises:
        ConfigError: Somebody does.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(str(path))
        except OSError:
            return  # its process has gone
    raise ConfigError(
        f"operator socket {path}: expected one that nobody listens to, got one of another process; end that one, or "
        "name another place"
    )


class SocketOperator:
    """A gamepad, a leader arm or a topic, as messages to a Unix datagram socket; a `watch.Operator`.

    A message is JSON of at most `LONGEST` bytes: `{"take": true, "command": [...]}` with a number for each action axis,
    or `{"take": false}`. The newest message counts. Any other message is ignored and counted. The socket belongs to
    this user alone.
    """

    LONGEST = 4096

    def __init__(self, path: str | Path, *, timeout: float = 0.2, clock: Callable[[], float] = time.monotonic) -> None:
        """Opens the socket.

        Args:
            path: Of the socket, which is made.
            timeout: Seconds after which a command counts no more, and the robot stays as it is.
            clock: Monotonic time, seconds.

        Raises:
            ConfigError: The socket cannot be made, or somebody listens to it.
        """
        if not str(path):  # a socket without a name is bound to one that nobody knows
            raise ConfigError("operator socket: expected a path, got none; write socket:PATH")
        self._path, self._timeout, self._clock = Path(path), timeout, clock
        _require_left(self._path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if self._path.exists() and stat.S_ISSOCK(self._path.lstat().st_mode):
                self._path.unlink()
            self._socket.bind(str(path))
            self._path.chmod(0o600)
        except OSError as error:
            self._socket.close()
            got = error.strerror or error
            raise ConfigError(
                f"operator socket {path}: expected a place for a socket, got {got}; name another place"
            ) from error
        self._socket.setblocking(False)
        self.taken = False
        """Whether the source commands now."""
        self.ignored = 0
        """Messages that were none."""
        self._command: Float | None = None
        self._rest: Float | None = None  # the command of a silence that lasts
        self._heard = -1e9

    def begin(self, spec: RobotSpec) -> None:
        """See `Operator.begin`."""
        self._spec = spec
        self._listen()
        self.taken, self._command, self._rest = False, None, None

    def _listen(self) -> None:
        for _ in range(MOST_MESSAGES):  # who sends without end must not keep the robot from its next command
            try:
                data = self._socket.recv(self.LONGEST + 1)
            except OSError:
                return
            try:
                if len(data) > self.LONGEST:
                    raise RobotFault("too long")
                message = parse_json(data, dict, "operator", RobotFault, "")
                taken, numbers = message.get("take"), message.get("command")
                if not isinstance(taken, bool):
                    raise RobotFault("no take")
                if taken and not (isinstance(numbers, list) and all(type(one) in (int, float) for one in numbers)):
                    raise RobotFault("no numbers")  # numpy would make some of texts and of truths
                command = np.array(numbers, np.float32) if taken else None
                if command is not None and (command.shape != self._spec.action.shape or not np.isfinite(command).all()):
                    raise RobotFault("no command")
            except (RobotFault, ValueError, TypeError, OverflowError):
                self.ignored += 1
                continue
            self.taken, self._command, self._heard = taken, command, self._clock()

    def command(self, requested: Float, observation: Float) -> Float | None:
        """See `Operator.command`."""
        self._listen()
        taken = self.taken and self._command is not None
        if not taken or self._clock() - self._heard <= self._timeout:
            self._rest = None
            return self._command if taken else None
        if self._rest is None:  # an arm that sags would creep with each measurement
            self._rest = self._spec.compute_resting(observation)
        return self._rest.copy()

    def close(self) -> None:
        """Removes the socket."""
        self._socket.close()
        self._path.unlink(missing_ok=True)


class TakenOver(NamedTuple):
    """What row 0 did in an episode in which a person commanded."""

    taken: NDArray[np.bool_]
    """Shape (T,): steps in which they did."""
    observation: Float
    """Shape (T, O): before each step."""
    command: Float
    """Shape (T, A): as sent."""


def relabel(space: RowSpace, episodes: RowEpisodes, over: TakenOver) -> RowEpisodes:
    """The episodes, with the latents of row 0 that come closest to what the robot was told where a person commanded."""
    latent = episodes.latent.copy()
    for decision in range(int(episodes.length[0])):
        steps = slice(decision * space.horizon, (decision + 1) * space.horizon)
        if over.taken[steps].any():
            latent[0, decision] = find_latent(space, over.observation[steps], over.command[steps])
    return episodes._replace(latent=latent)


def find_latent(space: RowSpace, observation: Float, command: Float) -> Float:
    """The latent whose commands come closest to these, shape (Z,).

    Exact where a latent is a command. For skills it is searched for by the cross-entropy method (Rubinstein, The
    cross-entropy method for combinatorial and continuous optimization, 1999), which starts at the skill prior.

    Args:
        space: What is chosen.
        observation: Shape (t, O): before each of the steps that the latent lasts.
        command: Shape (t, A).
    """
    if (exact := space.invert(command[0])) is not None:
        return exact
    prior = space.prior_of(observation[:1])
    rng = np.random.default_rng(0)
    loc, scale = prior.loc[0], prior.scale[0]
    for _ in range(ROUNDS):
        latent = (loc + scale * rng.standard_normal((CANDIDATES, len(loc)))).astype(np.float32)
        latent[0] = loc
        control = space.hold(latent)
        errors = sum(
            np.square(control(np.repeat(seen[None], CANDIDATES, axis=0)) - told).sum(axis=1)
            for seen, told in zip(observation, command, strict=True)
        )
        best = latent[np.argsort(errors)[:ELITE]]
        loc, scale = best.mean(axis=0), best.std(axis=0) + np.float32(1e-4)
    chosen: Float = best[0]
    return chosen
