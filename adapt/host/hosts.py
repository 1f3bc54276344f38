"""The host of a learner that adapts by gradients: the numpy runtime acts, torch takes the steps between episodes.

A host is the trainer's own agent, made anew of the bundle's weights. It is fed the episodes that the numpy agent played
and gives back the parameters to act by. When it is made, it plays the golden trial to its end.

Axes: R rows.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import BundleError, RunError
from ...meta.collect import Episodes
from ...meta.space import ActionSpace
from ...meta.state import named_part
from ...strict_json import parse_json
from ..bundle import Bundle
from ..contract import BundleContract
from ..golden_trial import GOLDEN_TOLERANCE, play_trial, recorded_noise, require_trial
from ..runtime_agent import HOST, Arrays, Noise, RowEpisodes, RuntimeAgent, WrappedAgent
from .maml import make_maml_agent
from .mlsh import make_mlsh_agent, observe_mlsh, read_mlsh_params
from .ppo import make_ppo_agent, read_ppo_params
from .sac import make_pearl_ft_agent, make_sac_agent, read_sac_params
from .simpl import SimplHost, make_spirl_host, observe_simpl, read_own_params, read_tuned_params
from .spaces import make_space
from .torch_rows import to_episodes

_FACTS, _ROWS = HOST + "facts", HOST + "rows"


class Learns(Protocol):
    """What a host has to do of an `AdaptiveAgent`: it never acts."""

    def begin_task(self, rows: int) -> None:
        """See `Actor.begin_task`."""
        ...

    def observe(self, episodes: Episodes) -> None:
        """See `Actor.observe`."""
        ...

    def adapt(self) -> None:
        """See `AdaptiveAgent.adapt`."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `AdaptiveAgent.state`."""
        ...

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """See `AdaptiveAgent.load_state`."""
        ...


class Host(NamedTuple):
    """How the steps of one kind are taken."""

    make_agent: Callable[[BundleContract, Any, dict[str, Tensor], ActionSpace], Learns]
    """The trainer's agent, or the part of it that learns, of the kind's settings and weights; its rows each learn for
    themselves. BundleError where the settings are none that the trainer can have."""
    read_params: Callable[[Any], dict[str, Tensor]]
    """What the numpy agent is to act by, (R, ...), as its `set_params` takes it; empty while it acts by its own."""
    observe: Callable[[Any, Any, Episodes], None] = lambda agent, acting, seen: agent.observe(seen)
    """Hands episodes to the host that the numpy agent, the second argument, has acted in."""
    while_observing: bool = False
    """It learns while it observes, not in steps of its own, and may do so on any device."""


HOSTS: dict[str, Host] = {
    "maml": Host(make_maml_agent, attrgetter("params")),
    "mlsh": Host(make_mlsh_agent, read_mlsh_params, observe_mlsh),
    "pearl-ft": Host(make_pearl_ft_agent, read_sac_params),
    "ppo": Host(make_ppo_agent, read_ppo_params),
    "sac": Host(make_sac_agent, read_sac_params),
    "simpl": Host(SimplHost, read_tuned_params, observe_simpl, while_observing=True),
    "spirl": Host(make_spirl_host, read_own_params, while_observing=True),
}
"""By kind."""


class HostedAgent(WrappedAgent):
    """A `RuntimeAgent` that acts in numpy and adapts in torch."""

    def __init__(
        self, acting: RuntimeAgent, host: Learns, space: ActionSpace, kind: Host, device: torch.device
    ) -> None:
        """Before the first task.

        Args:
            acting: The numpy agent, with `set_params`.
            host: The trainer's agent, or the part of it that learns.
            space: What is chosen, in torch.
            kind: Reads the parameters of `host`.
            device: Where the host lives.
        """
        super().__init__(acting)
        self._agent, self._space, self._kind, self._device = host, space, kind, device
        self._rows = 0

    def begin_task(self, rows: int) -> None:
        """See `RuntimeAgent.begin_task`."""
        self._rows = rows
        super().begin_task(rows)
        self._agent.begin_task(rows)

    def observe(self, episodes: RowEpisodes) -> None:
        """Hands the episodes to the host."""
        super().observe(episodes)
        self._kind.observe(self._agent, self._acting, to_episodes(episodes, self._space, self._device))
        if self._kind.while_observing:
            self._take_params()

    def adapt(self) -> None:
        """The host takes a step; from now on the parameters are its."""
        if not self._kind.while_observing:
            self._agent.adapt()
            self._take_params()

    def _take_params(self) -> None:
        params = self._kind.read_params(self._agent)
        self._acting.set_params({name: value.detach().cpu().numpy().copy() for name, value in params.items()})

    def state(self) -> dict[str, NDArray[Any]]:
        """See `RuntimeAgent.state`; the host's part begins with `host.`."""
        tensors, facts = self._agent.state()
        held = {f"{HOST}{name}": value.detach().cpu().numpy().copy() for name, value in tensors.items()}
        held[_ROWS] = np.array(self._rows)
        held[_FACTS] = np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8).copy()
        return super().state() | held

    def load_state(self, arrays: Arrays) -> None:
        """See `RuntimeAgent.load_state`."""
        if missing := [name for name in (_FACTS, _ROWS) if name not in arrays]:
            raise RunError(f"hosted agent: expected a whole state, got none of {missing[0]}; begin the task again")
        facts = parse_json(arrays[_FACTS].tobytes(), dict, "hosted agent", RunError, "begin the task again")
        rows = int(arrays[_ROWS])
        tensors = {
            name: torch.from_numpy(value.copy()) for name, value in arrays.items() if name not in (_FACTS, _ROWS)
        }
        super().load_state({name: value for name, value in arrays.items() if not name.startswith(HOST)})
        self._rows = rows
        self._agent.begin_task(rows)
        self._agent.load_state(named_part(tensors, HOST), facts)


def make_hosted(
    bundle: Bundle,
    noise: Noise,
    *,
    device: str | torch.device = "cpu",
) -> RuntimeAgent:
    """An agent that acts and adapts, whatever the kind; a host plays the golden trial first, on the CPU.

    Args:
        bundle: Verified.
        noise: What the agent draws while it acts.
        device: Where a host learns that can do so on other devices.

    Raises:
        BundleError: The host does not adapt as the trainer did.
    """
    if not bundle.kind.hosted or bundle.task:
        return bundle.make_agent(noise)
    if bundle.golden:  # a bundle of version 1 has none
        require_adaptation(bundle, GOLDEN_TOLERANCE)
    anywhere = HOSTS[bundle.contract.kind].while_observing
    return _make_hosted(bundle, noise, torch.device(device) if anywhere else torch.device("cpu"))


def require_adaptation(bundle: Bundle, tolerance: float) -> None:
    """Plays the golden trial of a hosted bundle with its host, on the CPU.

    Args:
        bundle: Verified, of a kind that needs a host.
        tolerance: See `require_trial`.

    Raises:
        BundleError: The host does not adapt as the trainer did.
    """
    where = f"host of a bundle of kind {bundle.contract.kind}"
    recorded = recorded_noise(bundle.golden, where)
    short = replace(bundle, contract=bundle.trial)
    with np.errstate(all="ignore"):
        outputs = play_trial(_make_hosted(short, recorded, torch.device("cpu")), bundle.golden)
    require_trial(bundle.golden, outputs, where, tolerance=tolerance)
    if left := recorded.left():
        raise BundleError(f"{where}: expected all recorded noise to be drawn, got {left} draws left; export again")


def _make_hosted(bundle: Bundle, noise: Noise, device: torch.device) -> HostedAgent:
    contract = bundle.contract
    weights = {name: torch.tensor(value, device=device) for name, value in bundle.weights.items()}
    space = make_space(contract, bundle.weights, device)
    kind, settings = HOSTS[contract.kind], bundle.kind.read(contract)
    host = kind.make_agent(contract, settings, weights, space)
    return HostedAgent(bundle.make_agent(noise), host, space, kind, device)
