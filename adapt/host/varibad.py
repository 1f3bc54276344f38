"""variBAD from the trainer to a bundle."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor

from ...meta.adaptive import AdaptiveAgent
from ...meta.collect import Seen
from ...meta.inference.varibad_agent import MEMORY
from ...meta.inference.varibad_learner import VaribadLearner
from ..agents.varibad import VaribadSettings
from .exported import Exported, add_prefix, write_settings
from .pearl import hidden_widths


def export_varibad(learner: VaribadLearner, *, greedy: bool) -> Exported:
    """Encoder, policy, and the decoder of rewards where it tells whether a state is rewarded; the rest stays behind."""
    encoder, network = copy.deepcopy(learner.encoder).cpu(), copy.deepcopy(learner.network).cpu()
    scale = {"mean": network.input_scale.mean, "variance": network.input_scale.variance}

    def read_state(agent: AdaptiveAgent, seen: Seen) -> dict[str, Tensor]:
        tensors, _ = agent.state()
        return {name: tensors[name].float() for name in MEMORY}

    kind, decoder = export_decoder(learner)
    return Exported(
        kind="varibad",
        learner=write_settings(
            VaribadSettings,
            hidden=encoder.hidden,
            latent=encoder.latent,
            embedding=encoder.embed_reward.out_features,
            policy_hidden=hidden_widths(network.policy),
            boundaries=network.boundaries,
            greedy=greedy,
            decoder=kind,
            decoder_hidden=learner.config.vae.decoder_hidden if decoder else (),
        ),
        weights={
            **add_prefix("encoder.", encoder.state_dict()),
            **add_prefix("policy.", network.policy.state_dict()),
            **add_prefix("input_scale.", scale),
            **add_prefix("decoder.", decoder),
        },
        agent=learner.agent(greedy=greedy),
        space=learner.space,
        read_state=read_state,
    )


def export_decoder(learner: VaribadLearner) -> tuple[str, Mapping[str, Tensor]]:
    """What tells whether a state is rewarded, `VaribadSettings.decoder`, and its weights; none of other decoders."""
    config, decoder = learner.config.vae, learner.decoder
    if config.reward_model == "bernoulli":
        if decoder.cells is not None:
            return "cells", copy.deepcopy(decoder.cells.net).cpu().state_dict()
        if decoder.reward is not None and config.reward_of == "next":
            return "state", copy.deepcopy(decoder.reward).cpu().state_dict()
    return "none", {}
