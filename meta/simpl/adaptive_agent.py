"""SiMPL as an adaptive agent, so that it is judged by the same evaluation as the other learners.

Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022, section 4.3. Before the first step
of adaptation every episode has an embedding e ~ N(0, I) (the published search). The first step infers e of each task
from all that was seen, as the mean of q(e | c); the policy then acts by it. With a `FinetuneConfig`, the first step
also gives each task a policy and critics of its own, and each further step learns from the episodes since the last one.

The whole deployment, with its directed search and its baselines, is `adapt/loop.py`.

Axes: R rows, each a task of its own, r rows still running, Z latent, E task embedding.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor

from ...errors import RunError
from ...skills.gaussian import Gaussian
from ..collect import Episodes, Seen, row_of
from ..state import episodes_tensors, load_episodes, named_part
from .agent import SimplAgent
from .context import context_of
from .finetune import FinetuneConfig, Finetuner


class SimplAdaptiveAgent:
    """Acts in R rows; `adapt` infers the task of each, and then fine-tunes where it is asked to."""

    def __init__(
        self,
        agent: SimplAgent,
        *,
        context: int = 256,
        finetune: FinetuneConfig | None = None,
        multiplier: float | None = None,
        greedy: bool = False,
        seed: int = 0,
    ) -> None:
        """Copies the weights.

        Args:
            agent: Meta-trained, with its action space.
            context: Transitions of the context; at least one for each episode.
            finetune: How further steps learn; None infers anew from all that was seen.
            multiplier: KL multiplier at the end of meta-training, with which fine-tuning starts; None takes that of
                `finetune`.
            greedy: Act by the mean of the policy; e is drawn all the same.
            seed: Seed of exploration, contexts and fine-tuning.
        """
        self._agent = copy.deepcopy(agent).requires_grad_(False)
        self._device = next(self._agent.parameters()).device
        self._context, self._finetune, self._multiplier = context, finetune, multiplier
        self._greedy, self._seed = greedy, seed
        self._generator = torch.Generator(self._device).manual_seed(seed)
        self.begin_task(0)

    @property
    def rollouts(self) -> int:
        """One: each row learns for itself."""
        return 1

    @property
    def embedding(self) -> Tensor:
        """By which each row acts, (R, E)."""
        return self._embedding

    def begin_task(self, rows: int) -> None:
        """Forgets everything."""
        self._embedding = torch.zeros(rows, self._agent.embedding_dim, device=self._device)
        self._seen: list[Episodes] = []
        self._new = 0
        self._inferred = False
        self._tuners: list[Finetuner] = []

    def begin_episode(self) -> None:
        """Draws the embeddings of an exploring episode; inferred ones stay."""
        if not self._inferred:
            shape = self._embedding.shape
            self._embedding = torch.randn(shape, generator=self._generator, device=self._device)

    @torch.no_grad()
    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        if not self._tuners:
            rows = torch.from_numpy(seen.rows).to(self._device)
            embedding = self._embedding[rows]
            return self._agent.act(seen.observation, seen.prior, embedding, self._generator, self._greedy)
        parts = [
            self._tuners[row].act(
                seen.observation[place : place + 1],
                Gaussian(seen.prior.loc[place : place + 1], seen.prior.scale[place : place + 1]),
                self._generator,
                self._greedy,
            )
            for place, row in enumerate(seen.rows)
        ]
        return torch.cat(parts)

    def observe(self, episodes: Episodes) -> None:
        """Keeps the episodes for inference and fine-tuning."""
        self._seen.append(episodes)
        self._new += 1

    def adapt(self) -> None:
        """Infers the tasks; with fine-tuning, the second step and all later ones learn from the newest episodes."""
        if not self._new:
            return
        if not self._tuners:
            with torch.no_grad():
                size = max(self._context, len(self._seen))
                self._embedding = self._agent.encode(context_of(self._seen, size, self._generator)).loc
            self._inferred = True
        if self._finetune is not None:
            fresh = not self._tuners
            self._tuners = self._tuners or [self._make_tuner(row) for row in range(len(self._embedding))]
            for row, tuner in enumerate(self._tuners):
                added = sum(tuner.add(row_of(episodes, row)) for episodes in self._seen[-self._new :])
                for _ in range(0 if fresh else tuner.updates_due(added)):
                    tuner.update()
        self._new = 0

    def _make_tuner(self, row: int) -> Finetuner:
        """A policy and critics of one task; their sizes are those of the agent."""
        assert self._finetune is not None
        episodes, agent = self._seen[0], self._agent
        tuner = Finetuner(
            agent.space,
            episodes.observation.shape[-1],
            episodes.latent.shape[1],
            self._embedding[row],
            tuple(int(bias.shape[-1]) for bias in list(agent.critic.biases)[:-1]),
            self._finetune,
            self._seed + row,
        )
        multiplier = self._finetune.multiplier if self._multiplier is None else self._multiplier
        tuner.start_from(agent.policy, agent.critic, multiplier)
        return tuner

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Weights, embeddings, the episodes so far, the policies of the tasks, and the random generator."""
        tensors = {f"agent.{name}": value.clone() for name, value in self._agent.state_dict().items()}
        tensors |= {f"seen.{name}": value for name, value in episodes_tensors(self._seen).items()}
        tensors |= {"embedding": self._embedding.clone(), "generator": self._generator.get_state()}
        facts: dict[str, Any] = {
            "seen": len(self._seen),
            "new": self._new,
            "inferred": self._inferred,
            "tuners": [],
        }
        for row, tuner in enumerate(self._tuners):
            inner, of_tuner = tuner.state()
            tensors |= {f"tuner.{row}.{name}": value for name, value in inner.items()}
            facts["tuners"].append(of_tuner)
        return {name: value.detach().contiguous() for name, value in tensors.items()}, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Goes on exactly where `state` was taken, in an agent of the same sizes and options.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        try:
            self._agent.load_state_dict(named_part(tensors, "agent."))
            embedding = tensors["embedding"].clone().view(-1, self._agent.embedding_dim).to(self._device)
            seen = load_episodes(named_part(tensors, "seen."), facts["seen"])
            new, inferred = int(facts["new"]), bool(facts["inferred"])
            self.begin_task(len(embedding))
            self._embedding, self._seen, self._new, self._inferred = embedding, seen, new, inferred
            for row, of_tuner in enumerate(facts["tuners"]):
                tuner = self._make_tuner(row)
                tuner.load_state(named_part(tensors, f"tuner.{row}."), of_tuner)
                self._tuners.append(tuner)
            self._generator.set_state(tensors["generator"].cpu())
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"SiMPL agent: expected a whole state, got {error}; begin the task again") from error
