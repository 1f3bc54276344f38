"""The networks of soft actor-critic, shared by all tasks or one set per task, with tasks as the leading axis.

Axes: M tasks, B transitions of a task, Q = 2 critics, O observation, E embedding (may be 0), A encoded action, C
choices.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...skills.network import MLP
from ..distribution import Categorical, Distribution
from ..recurrent import ActionCode
from ..simpl.networks import StackedMLP
from ..space import ActionSpace, ChoiceSpace


class SacNetworks(nn.Module):
    """A policy, twin critics and their targets; all read [s, e].

    Gaussian policies choose u in units of the space's prior, and critics read u. For choices, critics give the value of
    each, and what is expected of a policy is computed, not sampled (Christodoulou, "Soft Actor-Critic for Discrete
    Action Settings", 2019).
    """

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        hidden: tuple[int, ...],
        generator: torch.Generator,
        *,
        embedding_dim: int = 0,
        tasks: int | None = None,
    ) -> None:
        """Draws all weights from `generator`, on the CPU; `tasks` sets of them, or one that all tasks share."""
        super().__init__()
        self.code = ActionCode(space)
        self.embedding_dim, self.tasks = embedding_dim, tasks
        self._space, self._observation_dim, self._hidden = space, observation_dim, hidden
        inputs = observation_dim + embedding_dim
        sizes = (inputs, *hidden, self.code.outputs)
        self.policy = MLP(sizes, generator=generator) if tasks is None else StackedMLP(tasks, sizes, generator)
        self._discrete = isinstance(space, ChoiceSpace)
        critic_sizes = (inputs, *hidden, self.code.width) if self._discrete else (inputs + self.code.width, *hidden, 1)
        stack = 2 * (1 if tasks is None else tasks)
        self.critic = StackedMLP(stack, critic_sizes, generator)
        self.target = StackedMLP(stack, critic_sizes, generator)
        self.target.load_state_dict(self.critic.state_dict())
        self.target.requires_grad_(False)

    def policy_at(self, observation: Tensor, embedding: Tensor) -> Distribution:
        """pi(u | s, e); inputs (M, B, .), or (r, .) where all tasks share the networks."""
        output: Tensor = self.policy(torch.cat((observation, embedding), dim=-1))
        return self.code.distribution(output)

    def value(self, critic: StackedMLP, observation: Tensor, embedding: Tensor, action: Tensor) -> Tensor:
        """Q_j(s, a, e), shape (Q, M, B), of encoded actions (M, B, A)."""
        if self._discrete:
            return (self._run(critic, observation, embedding) * action).sum(-1)
        return self._run(critic, observation, embedding, action).squeeze(-1)

    def value_under(
        self,
        critic: StackedMLP,
        observation: Tensor,
        embedding: Tensor,
        policy: Distribution,
        generator: torch.Generator,
    ) -> Tensor:
        """What a policy gets: Q_j at one draw of it, shape (2, M, B), or E[min_j Q_j] over choices, shape (1, M, B)."""
        if isinstance(policy, Categorical):
            least = self._run(critic, observation, embedding).amin(0)
            return (policy.logits.softmax(-1) * least).sum(-1)[None]
        return self.value(critic, observation, embedding, policy.sample(generator))

    def _run(self, critic: StackedMLP, *inputs: Tensor) -> Tensor:
        """Outputs (Q, M, B, .) of inputs (M, B, .)."""
        joint = torch.cat(inputs, dim=-1)
        groups = 1 if self.tasks is None else self.tasks
        rows = joint.reshape(groups, -1, joint.shape[-1]).expand(2, -1, -1, -1).flatten(0, 1)
        output: Tensor = critic(rows)
        return output.view(2, *joint.shape[:-1], -1)

    def for_tasks(self, tasks: int) -> SacNetworks:
        """As many copies of networks that all tasks share, one set per task."""
        assert isinstance(self.policy, MLP)
        copies = SacNetworks(
            self._space,
            self._observation_dim,
            self._hidden,
            torch.Generator().manual_seed(0),  # overwritten below
            embedding_dim=self.embedding_dim,
            tasks=tasks,
        ).to(next(self.parameters()).device)
        assert isinstance(copies.policy, StackedMLP)
        with torch.no_grad():
            linear = [layer for layer in self.policy.layers if isinstance(layer, nn.Linear)]
            for layer, weight, bias in zip(linear, copies.policy.weights, copies.policy.biases, strict=True):
                weight.copy_(layer.weight.T)
                bias.copy_(layer.bias)
            for mine, theirs in ((self.critic, copies.critic), (self.target, copies.target)):
                for source, target in zip(mine.parameters(), theirs.parameters(), strict=True):
                    target.copy_(source.repeat_interleave(tasks, dim=0))
        return copies
