"""A PEARL agent: its belief about a task is a product of Gaussians, and it acts as if a sample of that were the truth.

Rakelly et al., "Efficient Off-Policy Meta-Reinforcement Learning via Probabilistic Context Variables", ICML 2019,
Algorithm 2: one z per episode (posterior sampling), the belief updated after each.

The belief is (sum of precisions, sum of precision-weighted means) per row, so that a transition is read once.

Axes: R rows, r rows still running, K decisions, E embedding, Z latent.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...skills.gaussian import Gaussian
from ...skills.network import MLP
from ..collect import Episodes, Seen
from ..distribution import mode, sample
from ..recurrent import ActionCode
from ..replay import Steps, steps_of
from ..row_agent import RowAgent
from ..space import ActionSpace
from ..state import join_parts, named_part
from .config import PearlConfig
from .pearl import Belief, context_tokens, factors_of, multiply, posterior_of, product


class PearlNetworks(nn.Module):
    """What acts and infers: pi(u | s, z) and the encoder."""

    def __init__(
        self,
        space: ActionSpace,
        observation_dim: int,
        config: PearlConfig,
        policy: nn.Module,
        generator: torch.Generator,
    ) -> None:
        """Takes the policy of the learner's SAC, which tasks share, and draws the encoder from `generator`."""
        super().__init__()
        self.code = ActionCode(space)
        self.embedding_dim, self.next_observation = config.embedding_dim, config.next_observation
        features = observation_dim * (2 if config.next_observation else 1) + self.code.width + 1
        self.encoder = MLP((features, *config.encoder_hidden, 2 * config.embedding_dim), generator=generator)
        self.policy = policy

    def factors(self, context: Steps) -> Belief:
        """One factor per transition, (..., E)."""
        return factors_of(self.encoder(context_tokens(context, self.next_observation)))

    def infer(self, context: Steps) -> Gaussian:
        """q(z | c), each (M, E), of contexts (M, C, ...)."""
        return posterior_of(product(self.factors(context)))


class PearlAgent(RowAgent):
    """Acts in R rows; each row infers its own task."""

    name = "PEARL agent"

    def __init__(
        self,
        networks: PearlNetworks,
        space: ActionSpace,
        generator: torch.Generator,
        *,
        prior_episodes: int = 1,
        greedy: bool = False,
    ) -> None:
        """Acts with `networks` as they are at each call, on their device.

        Args:
            networks: Of the same space.
            space: What is chosen.
            generator: Source of z and of choices, on the networks' device.
            prior_episodes: Number of first episodes of a task in which z comes from N(0, I).
            greedy: Choose by the mode of the policy (published, at test time); z is drawn all the same.
        """
        super().__init__(space, generator, greedy=greedy)
        self.networks, self.prior_episodes = networks, prior_episodes
        self._begin(0)

    @property
    def belief(self) -> Belief:
        """Of each row's task, each (R, E)."""
        return self._belief

    def _begin(self, tasks: int) -> None:
        """The belief N(0, I)."""
        like = next(self.networks.encoder.parameters())
        self._belief = Belief(*(like.new_zeros(tasks, self.networks.embedding_dim) for _ in range(2)))
        self._embedding = torch.zeros_like(self._belief.precision)
        self._episodes = 0

    @torch.no_grad()
    def begin_episode(self) -> None:
        """Draws the z of the episode."""
        posterior = posterior_of(self._belief)
        if self._episodes < self.prior_episodes:
            posterior = posterior_of(Belief(*(torch.zeros_like(part) for part in self._belief)))
        self._embedding = posterior.sample(self.generator)

    @torch.no_grad()
    def act(self, seen: Seen) -> Tensor:
        """A latent for each running row, shape (r, Z)."""
        embedding = self._embedding
        if len(seen.rows) < len(embedding):
            embedding = embedding[torch.from_numpy(seen.rows).to(embedding.device)]
        value = torch.cat((self._space.normalise(seen.observation), embedding), dim=-1)
        distribution = self.networks.code.distribution(self.networks.policy(value))
        choice = mode(distribution) if self._greedy else sample(distribution, self.generator)
        return self.networks.code.to_latent(choice, seen.prior)

    @torch.no_grad()
    def observe(self, episodes: Episodes) -> None:
        """Multiplies the belief of each row by the factors of the transitions that it just saw."""
        steps, valid = steps_of(episodes, self._space)
        factors = Belief(*(part * valid[..., None] for part in self.networks.factors(steps)))
        self._belief = multiply(self._belief, product(factors))
        self._episodes += 1

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = join_parts(networks=self.networks.state_dict(), belief=self._belief._asdict())
        return tensors | {"embedding": self._embedding}, {"episodes": self._episodes}

    def _load(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        names = ("belief.precision", "belief.weighted", "embedding")
        parts = [tensors[name].clone().view(-1, self.networks.embedding_dim) for name in names]
        episodes = int(facts["episodes"])
        self.networks.load_state_dict(named_part(tensors, "networks."))
        precision, weighted, embedding = (part.to(self._embedding.device) for part in parts)
        self._belief, self._embedding, self._episodes = Belief(precision, weighted), embedding, episodes
