"""A variBAD agent: its knowledge of a task is a belief, moved by its encoder's forward pass.

Source: Zintgraf et al., "VariBAD: A Very Good Method for Bayes-Adaptive Deep RL via Meta-Learning", ICLR 2020.

Each transition reaches the encoder once, with its true next state: within an episode when the next decision is due, and
the last one of an episode in `observe`, before anything is reset.

Axes: R rows, r rows still running, H hidden, M latent of a task, Z latent of an action.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..collect import Episodes, Seen
from ..distribution import mode, sample
from ..row_agent import RowAgent
from ..space import ActionSpace
from ..state import join_parts, named_part
from .varibad_networks import Belief, BeliefActorCritic, TaskEncoder

MEMORY = ("hidden", "mean", "log_variance", "choice", "first")


class VaribadAgent(RowAgent):
    """Acts in R rows; every row has a belief that lasts from `begin_task` to the next, across episodes."""

    name = "variBAD agent"

    def __init__(
        self,
        encoder: TaskEncoder,
        network: BeliefActorCritic,
        space: ActionSpace,
        generator: torch.Generator,
        *,
        greedy: bool = False,
    ) -> None:
        """Acts with the networks as they are at each call, on their device.

        Args:
            encoder: Of the same space.
            network: Of the same space.
            space: What is chosen.
            generator: Source of the samples, on the networks' device.
            greedy: Act by the mode; nothing is drawn then.
        """
        super().__init__(space, generator, greedy=greedy)
        self._encoder, self._network, self._code = encoder, network, network.code
        self._begin(0)

    @property
    def belief(self) -> Belief:
        """What is believed of each row's task, (R, M)."""
        return Belief(self._mean, self._log_variance)

    @torch.no_grad()
    def _begin(self, tasks: int) -> None:
        """The belief before anything was seen."""
        self._hidden = self._encoder.begin(tasks)
        self._mean, self._log_variance = (part.clone() for part in self._encoder.belief_of(self._hidden))
        self._choice = self._hidden.new_zeros(tasks, self._space.latent_dim)
        self._first = torch.ones(tasks, dtype=torch.bool, device=self._hidden.device)

    def begin_episode(self) -> None:
        """The next decision of each row is the first of an episode; the belief stays."""
        self._first.fill_(True)

    @torch.no_grad()
    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        everywhere = len(seen.rows) == len(self._hidden)
        rows: Any = slice(None) if everywhere else torch.from_numpy(seen.rows).to(self._hidden.device)
        first = self._first[rows]
        # all rows of an episode begin it together, so that the first flag is the same in all of them
        if not bool(first.any()):
            self._consume(rows, seen.reward, seen.observation)
        belief = Belief(self._mean[rows], self._log_variance[rows])
        value = self._network.inputs(self._network.compose(seen.observation, belief), first)
        distribution = self._network.distribution(value)
        choice = mode(distribution) if self._greedy else sample(distribution, self.generator)
        self._choice[rows] = choice
        self._first[rows] = False
        return self._code.to_latent(choice, seen.prior)

    @torch.no_grad()
    def observe(self, episodes: Episodes) -> None:
        """Takes in each row's last transition, with the state in which its episode ended."""
        rows = torch.arange(len(episodes.length), device=episodes.length.device)
        reward = episodes.reward[rows, (episodes.length - 1).clamp(min=0)]
        self._consume(slice(None), reward, episodes.observation[rows, episodes.length])

    def _consume(self, rows: Any, reward: Tensor, next_observation: Tensor) -> None:
        """q_(t+1) of q_t and the transition of the last choice."""
        hidden = self._encoder.step(self._choice[rows], reward, next_observation, self._hidden[rows])
        self._hidden[rows] = hidden
        self._mean[rows], self._log_variance[rows] = self._encoder.belief_of(hidden)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        networks = join_parts(encoder=self._encoder.state_dict(), network=self._network.state_dict())
        return networks | {name: getattr(self, f"_{name}") for name in MEMORY}, {}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        rows, latent = len(tensors["hidden"]), self._encoder.latent
        shapes = {
            "hidden": (rows, self._encoder.hidden),
            "mean": (rows, latent),
            "log_variance": (rows, latent),
            "choice": (rows, self._space.latent_dim),
            "first": (rows,),
        }
        memory = {name: tensors[name].reshape(shape).clone() for name, shape in shapes.items()}
        self._encoder.load_state_dict(named_part(tensors, "encoder."))
        self._network.load_state_dict(named_part(tensors, "network."))
        for name, value in memory.items():
            setattr(self, f"_{name}", value.to(self._hidden.device))
