"""variBAD from the trainer to a bundle."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.inference.varibad_agent import MEMORY
from ...meta.inference.varibad_learner import VaribadLearner
from .exported import Exported


def export_varibad(learner: VaribadLearner, *, greedy: bool) -> Exported:
    """Encoder and policy; decoder and value function stay behind."""
    encoder, network = copy.deepcopy(learner.encoder).cpu(), copy.deepcopy(learner.network).cpu()
    layers = [layer for layer in network.policy.layers if isinstance(layer, nn.Linear)]
    scale = network.input_scale
    weights = {f"encoder.{name}": value for name, value in encoder.state_dict().items()}
    weights |= {f"policy.{name}": value for name, value in network.policy.state_dict().items()}

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, _ = agent.state()
        return {name: tensors[name].float() for name in MEMORY}

    return Exported(
        kind="varibad",
        learner={
            "hidden": encoder.hidden,
            "latent": encoder.latent,
            "embedding": encoder.embed_reward.out_features,
            "policy_hidden": [layer.out_features for layer in layers[:-1]],
            "boundaries": network.boundaries,
            "greedy": greedy,
        },
        weights={**weights, "input_scale.mean": scale.mean, "input_scale.variance": scale.variance},
        agent=learner.agent(greedy=greedy),
        space=learner.space,
        read_state=read_state,
    )
