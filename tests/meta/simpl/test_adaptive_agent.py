"""SiMPL under the protocol of adaptive agents: it explores, infers, and fine-tunes if it is told to."""

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import RunError
from supple.meta.collect import Episodes, collect
from supple.meta.evaluation import EvaluationConfig, evaluate_agent
from supple.meta.simpl.adaptive_agent import SimplAdaptiveAgent
from supple.meta.simpl.agent import SimplAgent
from supple.meta.simpl.config import SimplConfig
from supple.meta.simpl.context import context_of
from supple.meta.simpl.finetune import FinetuneConfig
from supple.meta.space import RawSpace
from supple.meta.testing import PointBatch
from supple.meta.trial import Trial

CPU = torch.device("cpu")
GOALS = np.array([[1.5, 0.5], [-1.0, 1.0], [0.0, -2.0]], np.float32)
TUNING = FinetuneConfig(batch=8, min_transitions=4, reuse_rate=8.0, bfloat16=False, critic_updates_first=0)


def make_agent(finetune: FinetuneConfig | None = None, seed: int = 0, **changes: Any) -> SimplAdaptiveAgent:
    space = RawSpace(PointBatch(1).spec, torch.zeros(2), torch.full((2,), 4.0))
    config = SimplConfig(hidden=(8, 8), encoder_hidden=8, embedding_dim=3)
    return SimplAdaptiveAgent(SimplAgent(space, 2, config, seed=4), context=8, finetune=finetune, seed=seed, **changes)


def play(agent: SimplAdaptiveAgent, seed: int = 0) -> Episodes:
    agent.begin_episode()
    space = agent._agent.space
    episodes = collect(PointBatch(3), space, agent.act, GOALS, np.random.default_rng(seed), device=CPU)
    agent.observe(episodes)
    return episodes


def snapshot(agent: SimplAdaptiveAgent) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors, facts = agent.state()
    return {name: value.clone() for name, value in tensors.items()}, json.loads(json.dumps(facts))


@pytest.mark.parametrize("finetune", [None, TUNING], ids=["inferring", "fine-tuning"])
def test_it_is_evaluated_like_any_other_agent(finetune: FinetuneConfig | None) -> None:
    agent = make_agent(finetune)
    config = EvaluationConfig(trial=Trial(episodes=2), adapt_steps=2, trials=2)
    rng = np.random.default_rng(0)
    found = evaluate_agent(agent, PointBatch(6), agent._agent.space, GOALS, config, rng, device=CPU)
    assert found.returns.shape == (3, 2, 3, 2, 1)
    assert np.isfinite(found.returns).all()


def test_every_exploring_episode_has_another_embedding_and_the_inferred_one_stays() -> None:
    agent = make_agent()
    agent.begin_task(3)
    play(agent)
    first = agent.embedding
    play(agent)
    assert not torch.equal(agent.embedding, first)
    agent.adapt()
    inferred = agent.embedding
    play(agent)
    assert torch.equal(agent.embedding, inferred)
    agent.begin_task(3)
    assert not agent.embedding.any()


def test_the_inferred_embedding_is_the_mean_of_the_posterior_of_what_was_seen() -> None:
    agent = make_agent(seed=6)
    agent.begin_task(3)
    rounds = [play(agent, seed) for seed in range(2)]
    generator = torch.Generator()
    generator.set_state(agent._generator.get_state())
    agent.adapt()
    expected = agent._agent.encode(context_of(rounds, 8, generator)).loc
    assert torch.equal(agent.embedding, expected)


def test_more_episodes_than_the_context_has_transitions_are_all_read() -> None:
    agent = make_agent()
    agent.begin_task(3)
    for seed in range(9):
        play(agent, seed)
    agent.adapt()
    assert torch.isfinite(agent.embedding).all()


def test_fine_tuning_changes_the_policies_from_the_second_step_on_and_each_by_itself() -> None:
    agent = make_agent(TUNING)
    agent.begin_task(3)
    play(agent)
    agent.adapt()
    before = [tuner.policy.layers[0].weight.clone() for tuner in agent._tuners]
    assert all(torch.equal(weight, agent._agent.policy.layers[0].weight) for weight in before)
    embedding = agent.embedding.clone()
    play(agent, 1)
    agent.adapt()
    after = [tuner.policy.layers[0].weight for tuner in agent._tuners]
    assert not any(torch.equal(old, new) for old, new in zip(before, after, strict=True))
    assert not torch.equal(after[0], after[1])
    assert torch.equal(agent.embedding, embedding)
    assert [tuner.pool.added for tuner in agent._tuners] == [2, 2, 2]


@pytest.mark.parametrize("finetune", [None, TUNING], ids=["inferring", "fine-tuning"])
def test_it_goes_on_exactly_where_it_was_saved(finetune: FinetuneConfig | None) -> None:
    agent = make_agent(finetune)
    agent.begin_task(3)
    play(agent)
    agent.adapt()
    play(agent, 1)
    saved = snapshot(agent)

    def go_on(one: SimplAdaptiveAgent) -> tuple[Tensor, dict[str, Tensor]]:
        one.adapt()
        latent = play(one, 2).latent
        return latent, one.state()[0]

    latent, tensors = go_on(agent)
    again = make_agent(finetune, seed=9)
    again.load_state(*saved)
    latent_again, tensors_again = go_on(again)
    assert torch.equal(latent, latent_again)
    assert tensors.keys() == tensors_again.keys()
    assert [name for name, value in tensors.items() if not torch.equal(value, tensors_again[name])] == []


def test_a_state_without_one_of_its_parts_is_refused() -> None:
    agent = make_agent()
    agent.begin_task(3)
    play(agent)
    tensors, facts = snapshot(agent)
    for name in tensors:
        with pytest.raises(RunError, match="expected a whole state"):
            make_agent().load_state({key: value for key, value in tensors.items() if key != name}, facts)
    for name in facts:
        with pytest.raises(RunError, match="expected a whole state"):
            make_agent().load_state(tensors, {key: value for key, value in facts.items() if key != name})


def test_without_anything_seen_nothing_is_inferred() -> None:
    agent = make_agent()
    agent.begin_task(3)
    agent.adapt()
    agent.begin_episode()
    assert bool(agent.embedding.any())
