"""Soft actor-critic in N tasks side by side, each with networks and a replay buffer of its own.

Axes: N tasks, R = N x rollouts rows (task-major), r rows still running, E embedding (0 where there is none), Z latent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..collect import Episodes, Seen
from ..distribution import mode, sample
from ..replay import TaskReplay, steps_of
from ..simpl.simpl import soft_update
from ..space import ActionSpace
from ..state import load_optimisers, named_part, optimiser_tensors
from .config import SacConfig
from .sac import sac_critic_loss, sac_policy_loss
from .sac_networks import SacNetworks

MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps for each parameter."""


class TaskSac:
    """Networks, optimisers and replay buffers of N tasks. Each task learns as it would alone."""

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        networks: SacNetworks,
        config: SacConfig,
        *,
        rollouts: int,
        capacity: int,
        generator: torch.Generator,
    ) -> None:
        """Takes networks of one set per task and trains them.

        Args:
            space: What is chosen.
            observation_dim: O.
            networks: With `tasks` = N.
            config: See `SacConfig`.
            rollouts: Rows per task.
            capacity: Transitions kept per task.
            generator: Source of choices and batches, on the networks' device.
        """
        assert networks.tasks is not None
        self.networks, self._space, self._config, self._generator = networks, space, config, generator
        self._rollouts = rollouts
        self._policy, self._critic = list(networks.policy.parameters()), list(networks.critic.parameters())
        self._target = list(networks.target.parameters())
        device = self._policy[0].device
        self._task = torch.arange(networks.tasks, device=device)
        self.embedding = torch.zeros((networks.tasks, networks.embedding_dim), device=device)
        """What the networks read beside the observation, shape (N, E)."""
        self.replay = TaskReplay(networks.tasks, capacity, observation_dim, networks.code.width, device)
        self.optimisers = {
            "critic": torch.optim.Adam(self._critic, lr=config.learning_rate, fused=True),
            "policy": torch.optim.Adam(self._policy, lr=config.learning_rate, fused=True),
        }
        self.updates = 0

    @torch.no_grad()
    def act(self, seen: Seen, greedy: bool) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        rows = torch.from_numpy(seen.rows).to(self._task.device)
        observation = self._space.normalise(seen.observation)
        total = len(self._task) * self._rollouts
        if len(rows) < total:
            # rows of ended episodes go along with zeros: a batched product needs as many rows of every task
            observation = observation.new_zeros(total, observation.shape[1]).index_copy(0, rows, observation)
        table = observation.view(len(self._task), self._rollouts, -1)
        policy = self.networks.policy_at(table, self._expand(self._rollouts))
        choice = (mode(policy) if greedy else sample(policy, self._generator)).flatten(0, 1)
        return self.networks.code.to_latent(choice if len(rows) == total else choice[rows], seen.prior)

    def observe(self, episodes: Episodes) -> None:
        """Stores the episodes of all rows."""
        steps, valid = steps_of(episodes, self._space)
        self.replay.add(self._task.repeat_interleave(self._rollouts), steps, valid)

    def update(self) -> dict[str, Tensor]:
        """One step of all critics, then one of all policies; metrics are means over tasks, on the device."""
        batch = self.replay.sample(self._task, self._config.batch, self._generator)
        embedding = self._expand(self._config.batch)
        loss_critic = sac_critic_loss(self.networks, batch, embedding, self._generator, self._config)
        self._step("critic", loss_critic, self._critic)
        soft_update(self._target, self._critic, self._config.target_rate)
        loss_policy, policy_kl = sac_policy_loss(
            self.networks, batch.observation, embedding, self._generator, self._config
        )
        self._step("policy", loss_policy, self._policy)
        self.updates += 1
        return {"loss_critic": loss_critic.detach(), "loss_policy": loss_policy.detach(), "policy_kl": policy_kl}

    def _expand(self, size: int) -> Tensor:
        """The embedding of each task, (N, size, E)."""
        return self.embedding[:, None].expand(-1, size, -1)

    def _step(self, name: str, loss: Tensor, parameters: Sequence[Tensor]) -> None:
        # losses are means over tasks; their sum gives each task the gradient that it would have alone
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(len(self._task) * loss, parameters), strict=True
        ):
            parameter.grad = gradient
        self.optimisers[name].step()

    def _moments(self) -> list[str]:
        """Names of what Adam keeps after its first step."""
        return [
            f"{name}.{index}.{field}"
            for name, optimiser in self.optimisers.items()
            for index in range(len(optimiser.param_groups[0]["params"]))
            for field in MOMENTS
        ]

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next update depends on but the generator; JSON facts beside."""
        tensors = {f"networks.{name}": value.detach().clone() for name, value in self.networks.state_dict().items()}
        tensors |= {f"replay.{name}": value.clone() for name, value in self.replay.state().items()}
        tensors |= {name: value.clone() for name, value in optimiser_tensors(self.optimisers).items()}
        return tensors | {"embedding": self.embedding.clone()}, {"updates": self.updates}

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Restores what `state` gave; a missing part raises KeyError, another size RuntimeError."""
        updates = int(facts["updates"])
        expected = [f"adam.{name}" for name in self._moments()] if updates else []
        for name in expected:
            if name not in tensors:
                raise KeyError(name)
        self.networks.load_state_dict(named_part(tensors, "networks."))
        self.replay.load_state(named_part(tensors, "replay."))
        self.embedding.copy_(tensors["embedding"])
        load_optimisers(self.optimisers, tensors)
        self.updates = updates
