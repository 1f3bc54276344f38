"""An agent of the trainer run by the calls of the numpy runtime, with every random number that it draws written down.

Axes: R rows, r rows still running, O observation, Z latent, K decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ...errors import BundleError, RunError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Episodes, Seen
from ...meta.space import ActionSpace
from ...robots.spec import RobotSpec
from ..networks import Array
from ..runtime_agent import Arrays, RowEpisodes, SeenRows

ReadState = Callable[[AdaptiveAgent, Seen], Mapping[str, Tensor]]
"""What the numpy agent of the same kind calls its state; `Seen` is what the agent acted on last."""

NORMAL = (torch.randn, torch.randn_like, torch.Tensor.normal_)
UNIFORM = (torch.rand, torch.rand_like)
OTHER = (
    torch.multinomial,
    torch.randint,
    torch.randperm,
    torch.normal,
    torch.bernoulli,
    torch.Tensor.uniform_,
    torch.Tensor.exponential_,
)
"""Draws for which the runtime has no noise."""


class NoiseRecorder(TorchFunctionMode):
    """While entered, keeps every draw in its order."""

    def __init__(self, generator: torch.Generator | None = None) -> None:
        """Listens to all draws, or only to those from `generator`: an agent may have others, for what a host does."""
        super().__init__()
        self._generator = generator
        self.draws: list[tuple[str, Array]] = []
        self._recording = True

    @contextmanager
    def pause(self) -> Iterator[None]:
        """Draws in here are not the runtime's: they are a host's, and nobody plays them again."""
        self._recording = False
        try:
            yield
        finally:
            self._recording = True

    def __torch_function__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Calls the function and looks at what it drew.

        Raises:
            BundleError: It draws what the runtime cannot draw.
        """
        result = func(*args, **(kwargs or {}))
        from_other = self._generator is not None and (kwargs or {}).get("generator") is not self._generator
        if not self._recording or from_other:
            return result
        if func in NORMAL or func in UNIFORM:
            name = "normal" if func in NORMAL else "uniform"
            self.draws.append((name, result.detach().cpu().numpy().astype(np.float32).copy()))
        elif func in OTHER:
            raise BundleError(
                f"export: expected an agent that draws normal or uniform numbers, got one that calls "
                f"{func.__name__}; the numpy runtime has no such noise"
            )
        return result

    def arrays(self) -> dict[str, Array]:
        """The draws by the names of `golden_trial`."""
        return {f"in.noise.{index:04d}.{name}": draw for index, (name, draw) in enumerate(self.draws)}


class TorchRowSpace:
    """The low level of a torch action space, for numpy arrays."""

    def __init__(self, space: ActionSpace, robot: RobotSpec) -> None:
        self._space, self._robot = space, robot
        self.latent_dim, self.horizon = space.latent_dim, space.horizon

    def hold(self, latent: Array) -> Callable[[Array], Array]:
        """See `RowSpace.hold`."""
        control = self._space.hold(torch.from_numpy(latent))

        def act(observation: Array) -> Array:
            action = control(torch.from_numpy(observation)).numpy()
            return action if self._robot.choices else np.clip(action, self._robot.action.low, self._robot.action.high)

        return act


class TorchRowAgent:
    """A `RuntimeAgent` around an agent of the trainer; it cannot be saved."""

    def __init__(
        self,
        agent: AdaptiveAgent,
        space: ActionSpace,
        robot: RobotSpec,
        read_state: ReadState,
        recorder: NoiseRecorder | None = None,
    ) -> None:
        """Runs `agent`, whose rows each learn for themselves, on the CPU; a recorder has what it draws for acting."""
        self._agent, self._torch_space, self._read_state = agent, space, read_state
        self._recorder = recorder or NoiseRecorder()
        self.space: Any = TorchRowSpace(space, robot)
        """What it chooses."""
        self._seen: Seen | None = None

    def begin_task(self, rows: int) -> None:
        """See `RuntimeAgent.begin_task`."""
        with self._recorder.pause():
            self._agent.begin_task(rows)

    def begin_episode(self, *, explore: bool = True) -> None:
        """See `RuntimeAgent.begin_episode`."""
        self._agent.begin_episode()

    @torch.no_grad()
    def act(self, seen: SeenRows) -> Array:
        """See `RuntimeAgent.act`."""
        self._seen = to_seen(seen, self._torch_space)
        latent: Array = self._agent.act(self._seen).numpy()
        return latent

    @torch.no_grad()
    def observe(self, episodes: RowEpisodes) -> None:
        """See `RuntimeAgent.observe`."""
        self._agent.observe(to_episodes(episodes, self._torch_space))

    def adapt(self) -> None:
        """See `RuntimeAgent.adapt`."""
        with self._recorder.pause():
            self._agent.adapt()

    @torch.no_grad()
    def state(self) -> dict[str, NDArray[Any]]:
        """The state by the names of the numpy agent."""
        assert self._seen is not None, "a trial has acted before its state is read"
        found = self._read_state(self._agent, self._seen)
        return {name: value.detach().cpu().numpy().copy() for name, value in found.items()}

    def load_state(self, arrays: Arrays) -> None:
        """Refuses: what the trainer's agent knows has other names than the runtime's.

        Raises:
            RunError: Always.
        """
        raise RunError("agent of the trainer: expected no state to load, got one; load it into a bundle's own agent")


def to_seen(seen: SeenRows, space: ActionSpace) -> Seen:
    """What the rows show, as tensors."""
    observation = torch.from_numpy(seen.observation)
    return Seen(observation, space.prior_of(observation), seen.rows, torch.from_numpy(seen.reward))


def to_episodes(episodes: RowEpisodes, space: ActionSpace, device: torch.device | None = None) -> Episodes:
    """Episodes as tensors, on the CPU without a device; there is no low-level path."""
    fields: dict[str, Any] = {
        name: None if value is None else torch.from_numpy(value).to(device)
        for name, value in episodes._asdict().items()
    }
    observation = fields["observation"]
    return Episodes(prior=space.prior_of(observation), path=observation.new_zeros(len(observation), 0), **fields)
