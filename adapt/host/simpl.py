"""Fine-tuning of SiMPL, and SPiRL, on a host with torch: policy and critics of each task, of a bundle's weights.

Axes: R rows, E task embedding.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from ...errors import RunError
from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Episodes, Seen
from ...meta.policy import Params
from ...meta.simpl.adaptive_agent import SimplAdaptiveAgent
from ...meta.simpl.agent import SimplAgent
from ...meta.simpl.config import FinetuneConfig, SimplConfig, SpirlConfig
from ...meta.simpl.deployment import DeploymentConfig
from ...meta.simpl.finetune import Finetuner
from ...meta.simpl.learner import SimplLearner
from ...meta.simpl.networks import StackedMLP
from ...meta.simpl.spirl import SpirlAgent, SpirlLearner
from ...meta.simpl.task_tuners import TaskTuners
from ...meta.space import ActionSpace
from ...meta.state import named_part
from ...skills.network import MLP
from ..agents.simpl import SIMPL, SimplRowAgent, SimplSettings, shorten_simpl
from ..agents.spirl import ResidualSettings, shorten_finetune
from ..bundle import Bundle
from ..contract import BundleContract
from ..golden_trial import DECISIONS
from ..settings import read_settings
from .exported import Exported, make_config, write_settings
from .policy_state import read_plain_outputs
from .spaces import make_space
from .torch_rows import to_episodes


def make_simpl_networks(bundle: Bundle) -> SimplAgent:
    """The networks of a bundle of SiMPL as they were meta-trained, frozen, on the CPU."""
    contract = bundle.contract
    config = make_config(SimplConfig, SIMPL.read(contract))
    networks = SimplAgent(make_space(contract, bundle.weights), contract.observation_dim, config, torch.Generator())
    weights = {
        name: torch.tensor(value) for name, value in bundle.weights.items() if not name.startswith(("space.", "eye."))
    }
    networks.load_state_dict(_add_targets(weights))
    return networks.requires_grad_(False)


def _add_targets(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Target critics begin as the critics."""
    return weights | {f"target_{name}": value for name, value in weights.items() if name.startswith("critic.")}


def export_again(bundle: Bundle) -> Exported:
    """A bundle of SiMPL as it would be exported today; for those of version 1, which hold no golden trial."""
    settings = SIMPL.read(bundle.contract)
    networks, config = make_simpl_networks(bundle), make_config(SimplConfig, settings)
    return export_simpl_networks(
        networks, config, settings.multiplier, _make_deployment(settings), greedy=settings.greedy
    )


def _make_deployment(settings: SimplSettings) -> DeploymentConfig:
    return make_config(DeploymentConfig, settings, finetune=make_config(FinetuneConfig, settings.finetune))


class SimplHost:
    """The fine-tuners of SiMPL's rows; the numpy agent says when a row begins, and with which embedding."""

    def __init__(
        self, contract: BundleContract, settings: SimplSettings, weights: dict[str, Tensor], space: ActionSpace
    ) -> None:
        """See `Host.make_agent`."""
        self.space = space
        """What is chosen."""
        self.learn_from_exploration = settings.learn_from_exploration
        """New fine-tuners also learn from the explored episodes."""
        generator = torch.Generator().manual_seed(0)  # of weights that are overwritten
        observation, latent, width = contract.observation_dim, space.latent_dim, settings.embedding_dim
        policy = MLP((observation + width, *settings.hidden, 2 * latent), generator=generator)
        sizes = (observation + latent + width, *settings.hidden, 1)
        critic = StackedMLP(2, sizes, generator, norm=settings.critic_norm)
        policy.load_state_dict(named_part(weights, "policy."))
        critic.load_state_dict(named_part(weights, "critic."))
        self._device = weights["policy.layers.0.bias"].device

        def start(tuner: Finetuner) -> None:
            tuner.start_from(policy, critic, settings.multiplier)

        config = make_config(FinetuneConfig, settings.finetune)
        self.tuners = TaskTuners(
            space,
            observation,
            settings.hidden,
            config,
            critic_norm=settings.critic_norm,
            start=start,
            seed=settings.seed,
        )
        """By row."""

    def begin_task(self, rows: int) -> None:
        """See `Learns.begin_task`."""
        self.tuners.begin_task(rows)

    def observe(self, episodes: Episodes) -> None:
        """See `Learns.observe`."""
        self.tuners.observe(episodes)

    def begin(self, acting: SimplRowAgent, decisions: int) -> None:
        """Gives a policy of their own to rows whose embedding was inferred for ever."""
        new = [row for row, tuner in enumerate(self.tuners.tuners) if tuner is None and acting.settled[row]]
        if new:
            rounds = acting.explored if self.learn_from_exploration else []
            seen = [to_episodes(episodes, self.space, self._device) for episodes in rounds]
            for row in new:
                self.tuners.begin(row, torch.tensor(acting.embedding[row], device=self._device), decisions, seen)

    def adapt(self) -> None:
        """Nothing: it learns while it observes."""

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """See `Learns.state`."""
        return self.tuners.state()

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """See `Learns.load_state`.

        Raises:
            RunError: The state lacks a part or belongs to other sizes.
        """
        moved = {name: v if name.endswith("generator") else v.to(self._device) for name, v in tensors.items()}
        try:
            self.tuners.load_state(moved, facts)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise RunError(f"SiMPL on a host: expected a whole state, got {error}; begin the task again") from error


def observe_simpl(host: SimplHost, acting: SimplRowAgent, episodes: Episodes) -> None:
    """See `Host.observe`."""
    host.observe(episodes)
    host.begin(acting, episodes.latent.shape[1])


def read_tuned_params(host: SimplHost) -> Params:
    """See `Host.read_params`: policies of the rows that have their own, zeros elsewhere, and which have one."""
    tuners = host.tuners.tuners
    own = {row: fold_task_embedding(tuner) for row, tuner in enumerate(tuners) if tuner is not None}
    if not own:
        return {}
    names = next(iter(own.values()))
    params = {
        name: torch.stack([own[row][name] if row in own else torch.zeros_like(like) for row in range(len(tuners))])
        for name, like in names.items()
    }
    return params | {"tuned": torch.tensor([float(row in own) for row in range(len(tuners))])}


def make_spirl_host(
    contract: BundleContract, settings: ResidualSettings, weights: dict[str, Tensor], space: ActionSpace
) -> SpirlAgent:
    """See `Host.make_agent`."""
    config = make_config(SpirlConfig, settings, finetune=make_config(FinetuneConfig, settings.finetune))
    decisions = max(math.ceil(contract.robot.episode_steps / space.horizon), DECISIONS)
    device = weights["policy.layers.0.bias"].device
    return make_spirl_agent(space, contract.observation_dim, decisions, config, weights, settings.seed, device)


def make_spirl_agent(
    space: ActionSpace,
    observation_dim: int,
    decisions: int,
    config: SpirlConfig,
    weights: dict[str, Tensor],
    seed: int,
    device: torch.device,
    *,
    greedy: bool = False,
) -> SpirlAgent:
    """An agent whose tasks all begin with these weights, `policy.*` and `critic.*`."""
    nothing = torch.zeros(0, device=device)
    drawn = Finetuner(space, observation_dim, 1, nothing, config.hidden, config.finetune, seed).state_dict()
    given = _add_targets(weights)
    first = {name: given.get(name, value).clone() for name, value in drawn.items()}
    return SpirlAgent(space, observation_dim, decisions, config, first=first, greedy=greedy, seed=seed, device=device)


def read_own_params(agent: SpirlAgent) -> Params:
    """See `Host.read_params`."""
    own = [fold_task_embedding(tuner) for tuner in agent.tuners if tuner is not None]
    return {name: torch.stack([params[name] for params in own]) for name in own[0]}


def fold_task_embedding(tuner: Finetuner) -> Params:
    """The plain policy that chooses in o as the fine-tuner's does in [o, e]."""
    params = {name: value.detach() for name, value in tuner.policy.state_dict().items()}
    cut = params["layers.0.weight"].shape[1] - len(tuner.embedding)
    weight = params["layers.0.weight"]
    params["layers.0.bias"] = params["layers.0.bias"] + weight[:, cut:] @ tuner.embedding
    params["layers.0.weight"] = weight[:, :cut]
    return params


def export_simpl(
    learner: SimplLearner, deployment: DeploymentConfig | None = None, *, greedy: bool = False
) -> Exported:
    """Policy, critics and task encoder, and how it explores and fine-tunes.

    Raises:
        ConfigError: The search is directed, and the reward head was not trained.
    """
    return export_simpl_networks(learner.networks, learner.config, learner.multiplier, deployment, greedy=greedy)


def export_simpl_networks(
    networks: SimplAgent,
    config: SimplConfig,
    multiplier: float,
    deployment: DeploymentConfig | None = None,
    *,
    greedy: bool = False,
) -> Exported:
    """As `export_simpl`, of what a meta-training left.

    Args:
        networks: On the CPU.
        config: That they were meta-trained with.
        multiplier: Of the KL to the prior, with which fine-tuning starts.
        deployment: How the agent explores and fine-tunes.
        greedy: Act by the mean of the policy.

    Raises:
        ConfigError: The search is directed, and the reward head was not trained.
    """
    deployment = DeploymentConfig() if deployment is None else deployment
    deployment.require_reward_head(config)
    learner = write_settings(
        SimplSettings,
        config,
        deployment,
        embedding_dim=networks.embedding_dim,
        multiplier=multiplier,
        greedy=greedy,
        seed=0,
    )
    trial = _make_deployment(read_settings(SimplSettings, shorten_simpl(learner), "export"))
    agent = SimplAdaptiveAgent(networks, trial, multiplier=multiplier, greedy=greedy)

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, facts = acting.state()
        rows = len(tensors["embedding"])
        return {
            **{name: tensors[name] for name in ("embedding", "reward_range", "visited")},
            "settled": torch.tensor([str(row) in facts["tuners"] for row in range(rows)]),
            "episodes": torch.full((rows,), float(facts["episodes"])),
        }

    kept = ("policy.", "critic.", "encoder.")
    return Exported(
        kind="simpl",
        learner=learner,
        weights={name: value for name, value in networks.state_dict().items() if name.startswith(kept)},
        agent=agent,
        space=networks.space,
        read_state=read_state,
        generator=agent.generator,
    )


def export_spirl(learner: SpirlLearner, *, greedy: bool = False) -> Exported:
    """First networks, which are drawn here: SPiRL has learned nothing that it could take along."""
    space, config, dim = learner.space, learner.config, learner.observation_dim
    nothing, cpu = torch.zeros(0), torch.device("cpu")
    first = Finetuner(space, dim, 1, nothing, config.hidden, config.finetune, 0).state_dict()
    weights = {name: value for name, value in first.items() if name.startswith(("policy.", "critic."))}
    settings = write_settings(ResidualSettings, config, greedy=greedy, seed=0)
    short = replace(config, finetune=FinetuneConfig(**shorten_finetune(settings)["finetune"]))
    decisions = max(learner.decisions, DECISIONS)
    agent = make_spirl_agent(space, dim, decisions, short, weights, 0, cpu, greedy=greedy)

    def read_state(acting: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        assert isinstance(acting, SpirlAgent)
        return read_plain_outputs(space, config.hidden, read_own_params(acting), seen)

    return Exported(
        kind="spirl",
        learner=settings,
        weights=weights,
        agent=agent,
        space=space,
        read_state=read_state,
        generator=agent.generator,
    )
