"""Fine-tuning: exact updates, exact resume, and a one-decision task with a known optimum."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.meta.collect import Episodes
from supple.meta.simpl.agent import SimplAgent
from supple.meta.simpl.config import SCRATCH, FinetuneConfig, SimplConfig
from supple.meta.simpl.finetune import Finetuner, pad_decisions
from supple.meta.space import RawSpace
from supple.meta.testing import PointBatch
from supple.skills.gaussian import Gaussian

SPACE = RawSpace(PointBatch(1).spec, torch.zeros(2), torch.ones(2))


def make_tuner(embedding: int = 0, seed: int = 0, decisions: int = 2, **changes: Any) -> Finetuner:
    config = FinetuneConfig(**{"batch": 16, "min_transitions": 4, "pool_episodes": 64, **changes})
    return Finetuner(SPACE, 2, decisions, torch.full((embedding,), 0.5), (16, 16), config, seed)


def make_episodes(action: Tensor, reward: Tensor, terminated: bool = True) -> Episodes:
    """Episodes of one decision, actions (R, 2), with the standard prior; a second decision stays empty."""
    rows = len(action)
    observation = torch.zeros(rows, 3, 2)
    latent = torch.stack((action, torch.zeros_like(action)), 1)
    return Episodes(
        observation,
        latent,
        Gaussian(torch.zeros(rows, 3, 2), torch.ones(rows, 3, 2)),
        torch.stack((reward, torch.zeros_like(reward)), 1),
        torch.ones(rows, dtype=torch.int64),
        torch.full((rows,), terminated),
        torch.ones(rows, dtype=torch.int64),
        torch.zeros(rows, 2, 2),
    )


def draw_episodes(rows: int = 8, seed: int = 0) -> Episodes:
    action = torch.randn((rows, 2), generator=torch.Generator().manual_seed(seed))
    return make_episodes(action, -action.square().sum(1))


def tensors_of(tuner: Finetuner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in tuner.state()[0].items()}


def differing(one: dict[str, Tensor], other: dict[str, Tensor]) -> list[str]:
    assert one.keys() == other.keys()
    return [name for name in one if not torch.equal(one[name], other[name])]


def test_updates_are_due_from_enough_transitions_on() -> None:
    tuner = make_tuner(min_transitions=10, reuse_rate=32.0)
    assert tuner.add(draw_episodes(8)) == 8
    assert tuner.pool.num_transitions().tolist() == [8]  # of one task
    assert tuner.updates_due(8) == 0
    assert tuner.add(draw_episodes(2)) == 2
    # 32 uses of 5 new transitions in batches of 16
    assert tuner.updates_due(5) == 10


def test_it_goes_on_from_its_state() -> None:
    tuner, again = make_tuner(embedding=3), make_tuner(embedding=3, seed=7)
    tuner.add(draw_episodes())
    tuner.update()
    facts = tuner.state()[1]
    again.load_state(tensors_of(tuner), facts)
    for each in (tuner, again):
        each.add(draw_episodes(3, seed=5))
    assert [{k: v.item() for k, v in tuner.update().items()} for _ in range(2)] == [
        {k: v.item() for k, v in again.update().items()} for _ in range(2)
    ]
    assert differing(tensors_of(tuner), tensors_of(again)) == []


def test_the_same_seed_learns_the_same_and_another_does_not() -> None:
    one, other, third = make_tuner(seed=1), make_tuner(seed=1), make_tuner(seed=2)
    for tuner in (one, other, third):
        tuner.add(draw_episodes())
        tuner.update()
    assert differing(tensors_of(one), tensors_of(other)) == []
    assert "module.policy.layers.0.weight" in differing(tensors_of(one), tensors_of(third))


def test_tuners_of_two_tasks_do_not_influence_each_other() -> None:
    alone, first, second = make_tuner(seed=1), make_tuner(seed=1), make_tuner(seed=2)
    alone.add(draw_episodes())
    for _ in range(3):
        alone.update()
    for tuner, seed in ((first, 0), (second, 9)):
        tuner.add(draw_episodes(seed=seed))
    for _ in range(3):
        first.update(), second.update()
    assert differing(tensors_of(alone), tensors_of(first)) == []


def test_it_starts_from_the_meta_trained_networks() -> None:
    config = SimplConfig(embedding_dim=3, hidden=(16, 16), encoder_hidden=8)
    agent = SimplAgent(SPACE, 2, config, torch.Generator().manual_seed(5))
    tuner = make_tuner(embedding=3)
    tuner.start_from(agent.policy, agent.critic, 0.25)
    observation, latent = torch.randn((2, 7, 2), generator=torch.Generator().manual_seed(0))
    prior, embedding = SPACE.prior_of(observation), tuner.embedding.expand(7, -1)
    mine, theirs = tuner.policy_at(observation, prior), agent.policy_at(observation, embedding, prior)
    assert torch.equal(mine.loc, theirs.loc)
    assert torch.equal(mine.scale, theirs.scale)
    value = agent.value(agent.critic, observation[None], latent[None], embedding[None])[:, 0]
    for critic in (tuner.critic, tuner.target_critic):
        torch.testing.assert_close(tuner.value(critic, observation, latent), value)
    assert torch.nn.functional.softplus(tuner.multiplier).item() == pytest.approx(0.25)
    # copies: learning leaves the agent alone
    before = {name: value.clone() for name, value in agent.state_dict().items()}
    tuner.add(draw_episodes())
    tuner.update()
    assert all(torch.equal(before[name], value) for name, value in agent.state_dict().items())


def test_a_meta_trained_policy_waits_for_its_critics() -> None:
    config = SimplConfig(embedding_dim=3, hidden=(16, 16), encoder_hidden=8)
    agent = SimplAgent(SPACE, 2, config, torch.Generator().manual_seed(5))
    waiting, other = (make_tuner(embedding=3, critic_updates_first=2) for _ in range(2))
    waiting.start_from(agent.policy, agent.critic, 0.25)
    waiting.add(draw_episodes())
    before = tensors_of_module(waiting)
    waiting.update()
    changed = differing(before, tensors_of_module(waiting))
    assert {name.split(".")[0] for name in changed} == {"critic", "target_critic"}
    # one of two is left, also after a resume in between
    other.load_state(*waiting.state())
    for tuner in (waiting, other):
        assert "policy_kl" not in tuner.update()
        assert "policy_kl" in tuner.update()
    assert differing(tensors_of(waiting), tensors_of(other)) == []
    assert "policy.layers.0.weight" in differing(before, tensors_of_module(waiting))


def test_a_policy_from_scratch_does_not_wait() -> None:
    tuner = make_tuner(critic_updates_first=2)
    tuner.add(draw_episodes())
    assert "policy_kl" in tuner.update()


def test_the_policys_loss_does_not_reach_the_critics() -> None:
    tuner = make_tuner(learning_rate=1e-3)
    tuner.add(draw_episodes())
    critic_only = make_tuner(learning_rate=1e-3)
    critic_only.add(draw_episodes())
    policy_step = critic_only._step
    critic_only._step = lambda name, loss, parameters: (  # type: ignore[method-assign]
        policy_step(name, loss, parameters) if name == "critic" else None
    )
    tuner.update(), critic_only.update()
    changed = differing(tensors_of_module(tuner), tensors_of_module(critic_only))
    assert changed
    assert not [name for name in changed if "critic" in name]


def tensors_of_module(tuner: Finetuner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in tuner.state_dict().items()}


@pytest.mark.parametrize(("only_increase", "target"), [(True, 1e3), (True, 1e-9), (False, 1e3), (False, 1e-9)])
def test_the_multiplier_moves_towards_its_target(only_increase: bool, target: float) -> None:
    tuner = make_tuner(only_increase=only_increase, kl_target=target, multiplier_learning_rate=1e-2)
    tuner.add(draw_episodes())
    before = tuner.multiplier.item()
    for _ in range(3):
        tuner.update()
    after = tuner.multiplier.item()
    assert (after > before) == (target < 1.0)
    assert (after < before) == (target > 1.0 and not only_increase)


def test_greedy_acting_is_the_mean_and_sampling_spreads_around_it() -> None:
    tuner = make_tuner()
    observation = torch.zeros(4000, 2)
    prior = SPACE.prior_of(observation)
    policy = tuner.policy_at(observation, prior)
    mean = tuner.act(observation, prior, torch.Generator().manual_seed(0), True)
    assert torch.equal(mean, policy.loc)
    latent = tuner.act(observation, prior, torch.Generator().manual_seed(0), False)
    torch.testing.assert_close(latent.mean(0), policy.loc[0].detach(), rtol=0.0, atol=0.1)
    torch.testing.assert_close(latent.std(0), policy.scale[0].detach(), rtol=0.1, atol=0.0)


@pytest.mark.parametrize(("terminated", "expected"), [(True, 1.0), (False, 2.0)])
def test_values_of_a_one_decision_task(terminated: bool, expected: float) -> None:
    """A reward of 1 each time: worth 1 where that ends the task, 1 / (1 - 0.5) = 2 where the time limit ended it."""
    tuner = make_tuner(discount=0.5, learning_rate=3e-3, target_rate=0.1, multiplier=1.0)
    action = torch.randn((32, 2), generator=torch.Generator().manual_seed(0))
    tuner.add(make_episodes(action, torch.ones(32), terminated=terminated))
    for _ in range(200):
        tuner.update()
    value = tuner.value(tuner.critic, torch.zeros(32, 2), action)
    assert value.mean().item() == pytest.approx(expected, abs=0.15)


def test_it_learns_a_bandit() -> None:
    """The reward is the first action, the KL to N(0, I) may be 0.5: the optimum is N(1, 1) x N(0, 1)."""
    tuner = make_tuner(
        learning_rate=3e-3,
        target_rate=0.05,
        multiplier=0.5,
        multiplier_learning_rate=3e-2,
        kl_target=0.5,
        only_increase=False,
        batch=64,
    )
    action = torch.randn((64, 2), generator=torch.Generator().manual_seed(0)) * 1.5
    tuner.add(make_episodes(action, action[:, 0]))
    for _ in range(250):
        metrics = tuner.update()
    policy = tuner.policy_at(torch.zeros(1, 2), SPACE.prior_of(torch.zeros(1, 2)))
    np.testing.assert_allclose(policy.loc[0].detach(), [1.0, 0.0], atol=0.25)
    assert metrics["policy_kl"].item() == pytest.approx(0.5, abs=0.2)
    # at the optimum the gain in reward per KL, d m / d (m^2 / 2) = 1 / m, is the multiplier
    assert metrics["alpha"].item() == pytest.approx(1.0, abs=0.35)


def test_episodes_are_padded_with_zeros_behind_their_decisions() -> None:
    rows = torch.arange(1.0, 7.0)  # two episodes of three decisions, or of four observations
    latent = rows.reshape(2, 3, 1).repeat(1, 1, 2)
    episodes = Episodes(
        torch.arange(1.0, 9.0).reshape(2, 4, 1),
        latent,
        Gaussian(10.0 * latent, 100.0 * latent),
        rows.reshape(2, 3),
        torch.tensor([3, 2]),
        torch.tensor([True, False]),
        torch.tensor([15, 10]),
        torch.zeros(2, 15, 1),
    )
    assert pad_decisions(episodes, 3) is episodes
    padded = pad_decisions(episodes, 5)
    nothing = torch.zeros(2, 2, 2)
    torch.testing.assert_close(padded.latent, torch.cat([latent, nothing], 1))
    torch.testing.assert_close(padded.prior.loc, torch.cat([10.0 * latent, nothing], 1))
    torch.testing.assert_close(padded.prior.scale, torch.cat([100.0 * latent, nothing], 1))
    assert padded.observation[..., 0].tolist() == [[1, 2, 3, 4, 0, 0], [5, 6, 7, 8, 0, 0]]
    assert padded.reward.tolist() == [[1, 2, 3, 0, 0], [4, 5, 6, 0, 0]]
    assert padded.length.tolist() == [3, 2]


@pytest.mark.parametrize(("config", "held"), [(SCRATCH, True), (FinetuneConfig(), False)])
def test_a_policy_from_scratch_stays_near_the_prior_where_others_chose(config: FinetuneConfig, held: bool) -> None:
    """Episodes that logs led, say: choices that the policy would not make. Critics promise much where nobody was."""
    tuner = Finetuner(SPACE, 2, 2, torch.zeros(0), (64, 64), replace(config, batch=32, bfloat16=False), 0)
    generator = torch.Generator().manual_seed(0)
    action = 3.0 * torch.randn((64, 2), generator=generator)
    tuner.add(make_episodes(action, (torch.rand(64, generator=generator) < 0.3).float(), terminated=False))
    for _ in range(500):
        metrics = tuner.update()
    assert bool(metrics["policy_kl"] < 5.0 * config.kl_target) == held
