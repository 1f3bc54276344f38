"""PEARL acting: one z per episode, a belief that streams, and fine-tuning that begins where inference ends."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.baselines.config import SacConfig, TaskSacConfig
from supple.meta.collect import Episodes, collect
from supple.meta.distribution import mode
from supple.meta.inference.config import PearlConfig
from supple.meta.inference.pearl import Belief, posterior_of
from supple.meta.inference.pearl_agent import PearlAgent
from supple.meta.inference.pearl_finetune import FineTunedPearlAgent
from supple.meta.inference.pearl_learner import PearlLearner
from supple.meta.replay import steps_of
from supple.meta.space import UnitSpace
from supple.meta.testing import PointBatch

CPU = torch.device("cpu")
GOALS = np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0], [0.0, -2.0]], np.float32)
FAST = SacConfig(hidden=(8,), batch=6, learning_rate=0.01)


def make_learner(seed: int = 0) -> PearlLearner:
    robot = PointBatch(12, episode_steps=5)
    config = PearlConfig(sac=FAST, embedding_dim=3, encoder_hidden=(8,), tasks=2, rollouts=2, prior_episodes=2)
    return PearlLearner(UnitSpace(robot.spec), robot, GOALS, config, seed=seed)


def play(learner: PearlLearner, agent: PearlAgent | FineTunedPearlAgent, seed: int = 0) -> Episodes:
    agent.begin_episode()
    rng = np.random.default_rng(seed)
    episodes = collect(learner.robot, learner.space, agent.act, GOALS, rng, device=CPU)
    agent.observe(episodes)
    return episodes


def test_the_streamed_belief_is_the_product_over_all_transitions() -> None:
    learner = make_learner()
    agent = learner.agent()
    agent.begin_task(4)
    rounds = [play(learner, agent, seed) for seed in range(3)]
    for row in range(4):
        precision, weighted = torch.zeros(3), torch.zeros(3)
        for episodes in rounds:
            steps, valid = steps_of(episodes, learner.space)
            factors = agent.networks.factors(steps)
            for decision in range(int(episodes.length[row])):
                assert valid[row, decision]
                precision = precision + factors.precision[row, decision]
                weighted = weighted + factors.weighted[row, decision]
        torch.testing.assert_close(agent.belief.precision[row], precision.detach())
        torch.testing.assert_close(agent.belief.weighted[row], weighted.detach())
    assert len({int(length) for episodes in rounds for length in episodes.length}) > 1  # or padding was not tested


def test_the_belief_of_a_row_is_what_the_learner_infers_from_its_context() -> None:
    learner = make_learner()
    agent = learner.agent()
    agent.begin_task(4)
    steps, valid = steps_of(play(learner, agent), learner.space)
    for row in range(4):
        own = type(steps)(*(part[row : row + 1, : int(valid[row].sum())] for part in steps))
        with torch.no_grad():
            expected = learner.networks.infer(own)
        found = posterior_of(Belief(*(part[row : row + 1] for part in agent.belief)))
        torch.testing.assert_close(found, expected)


def test_z_is_of_the_prior_in_the_first_episodes_and_of_the_belief_then_and_drawn_for_each() -> None:
    learner = make_learner()
    agent = learner.agent(prior_episodes=2, seed=3)
    agent.begin_task(4)
    source = torch.Generator().manual_seed(3)
    seen: list[Tensor] = []
    for episode in range(4):
        agent.begin_episode()
        drawn = agent.state()[0]["embedding"]
        noise = torch.randn((4, 3), generator=source)
        posterior = posterior_of(agent.belief)
        expected = noise if episode < 2 else posterior.loc + posterior.scale * noise
        torch.testing.assert_close(drawn, expected)
        seen.append(drawn)
        rng = np.random.default_rng(episode)
        agent.observe(collect(learner.robot, learner.space, agent.act, GOALS, rng, device=CPU))
        torch.testing.assert_close(agent.state()[0]["embedding"], drawn)  # one z for the whole episode
        source.set_state(agent.state()[0]["generator"])
    assert not torch.equal(seen[2], seen[3])


def test_an_agent_without_episodes_of_the_prior_begins_with_the_prior() -> None:
    learner = make_learner()
    agent = learner.agent(prior_episodes=0, seed=3)
    agent.begin_task(4)
    agent.begin_episode()
    torch.testing.assert_close(
        agent.state()[0]["embedding"], torch.randn((4, 3), generator=torch.Generator().manual_seed(3))
    )


def test_the_policy_sees_the_z_of_its_own_row() -> None:
    learner = make_learner()
    agent = learner.agent(greedy=True)
    agent.begin_task(4)
    episodes = play(learner, agent)
    embedding = agent.state()[0]["embedding"]
    for row in range(4):
        for decision in range(int(episodes.length[row])):
            with torch.no_grad():
                policy = learner.sac.policy_at(episodes.observation[row, decision][None], embedding[row][None])
            torch.testing.assert_close(episodes.latent[row, decision], mode(policy)[0])


def test_a_greedy_agent_draws_z_and_nothing_else() -> None:
    learner = make_learner()
    agent = learner.agent(greedy=True, seed=3)
    agent.begin_task(4)
    play(learner, agent)
    source = torch.Generator().manual_seed(3)
    torch.randn((4, 3), generator=source)
    assert torch.equal(agent.state()[0]["generator"], source.get_state())


def make_tuned(learner: PearlLearner, **options: Any) -> FineTunedPearlAgent:
    config = TaskSacConfig(sac=FAST, updates=3, replay=100)
    return learner.fine_tuned_agent(config, **{"inference_episodes": 2, "seed": 5, **options})


def test_fine_tuning_is_pearl_until_the_episodes_of_inference_are_over() -> None:
    learner = make_learner()
    tuned, plain = make_tuned(learner), learner.agent(seed=5)
    for agent in (tuned, plain):
        agent.begin_task(4)
    for seed in range(2):
        assert torch.equal(play(learner, tuned, seed).latent, play(learner, plain, seed).latent)
        if seed == 0:
            tuned.adapt()
            assert not tuned.tuning
    tuned.adapt()
    assert tuned.tuning


def test_fine_tuning_begins_with_the_meta_trained_weights_and_the_mean_of_the_belief() -> None:
    learner = make_learner()
    tuned, plain = make_tuned(learner, greedy_tuning=True), learner.agent(seed=5)
    for agent in (tuned, plain):
        agent.begin_task(4)
        for seed in range(2):
            play(learner, agent, seed)
    tuned._config = TaskSacConfig(sac=SacConfig(hidden=(8,), batch=6, learning_rate=1e-12), updates=1, replay=100)
    for optimiser in tuned._begun.optimisers.values():
        optimiser.param_groups[0]["lr"] = 0.0
    tuned.adapt()
    torch.testing.assert_close(tuned._begun.embedding, posterior_of(plain.belief).loc)
    episodes = play(learner, tuned, 2)
    for row in range(4):
        for decision in range(int(episodes.length[row])):
            with torch.no_grad():
                policy = learner.sac.policy_at(
                    episodes.observation[row, decision][None], posterior_of(plain.belief).loc[row][None]
                )
            torch.testing.assert_close(episodes.latent[row, decision], mode(policy)[0], atol=1e-5, rtol=1e-5)


def test_fine_tuning_keeps_the_belief_and_leaves_the_learner_alone() -> None:
    learner = make_learner()
    before = {name: value.clone() for name, value in learner.state()[0].items()}
    tuned = make_tuned(learner)
    tuned.begin_task(4)
    for seed in range(2):
        play(learner, tuned, seed)
        tuned.adapt()
    frozen = tuned._begun.embedding.clone()
    tensors = tuned.state()[0]
    play(learner, tuned, 7)
    tuned.adapt()
    after = tuned.state()[0]
    assert torch.equal(tuned._begun.embedding, frozen)
    assert torch.equal(after["pearl.belief.precision"], tensors["pearl.belief.precision"])
    assert not torch.equal(after["sac.networks.policy.weights.0"], tensors["sac.networks.policy.weights.0"])
    assert all(torch.equal(value, before[name]) for name, value in learner.state()[0].items())
    # all three episodes are learned from
    length = int(tuned._begun.replay.count().min())
    assert length > 2


@pytest.mark.parametrize(("episodes", "rollouts"), [(0, 1), (2, 2)])
def test_fine_tuning_without_inference_or_with_shared_rows_is_refused(episodes: int, rollouts: int) -> None:
    learner = make_learner()
    with pytest.raises(ConfigError, match="expected at least 1 inference episode and 1 rollout per task, got"):
        learner.fine_tuned_agent(TaskSacConfig(rollouts=rollouts), inference_episodes=episodes)
