"""The log as if it were the robot, for every kind of learner: what is predicted, and that the log alone decides."""

import math
from typing import Any

import numpy as np
import pytest

from supple.adapt.agents.kinds import KINDS
from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.runtime_agent import PredictsReward, TellsBelief
from supple.adapt.spaces import RowSpace
from supple.pipeline.replay.task_inference import (
    NO_REWARDS,
    Learner,
    LoggedDecisions,
    Policy,
    act_along,
    compute_distance,
    find_decisions,
    predict_episode,
    read_spread,
    rehearse_inference,
    show_in_turn,
)
from tests.pipeline.deploy.conftest import SETTINGS, SPACES, make_robot, make_weights

STEPS = {"maesn", "maml", "mlsh", "pearl-ft", "ppo", "recurrent-updater", "sac"}
"""Kinds that adapt in steps."""
BELIEVING = {"maesn", "pearl", "pearl-ft", "simpl", "varibad"}


def make_learner(kind: str, space: str, **settings: Any) -> Bundle:
    contract = BundleContract(
        kind=kind,
        robot=make_robot(choices=space == "choice"),
        space=SPACES[space],
        learner=KINDS[kind].shorten({**SETTINGS[kind], **settings}),
        budget=Budget(episodes=2, adapt_steps=int(kind in STEPS)),
        provenance={},
    )
    return Bundle(contract, make_weights(contract), {}, "0" * 64)


def make_episodes(bundle: Bundle, count: int, seed: int = 0) -> list[LoggedDecisions]:
    rng = np.random.default_rng(seed)
    space = RowSpace(bundle.contract.space, bundle.contract.robot, bundle.weights)
    action = bundle.contract.robot.action
    found = []
    for number in range(count):
        told = rng.uniform(action.low, action.high, (24, len(action.axes))).astype(np.float32)
        told = np.rint(told) if bundle.contract.robot.choices else told
        seen = rng.normal(0.0, 0.5, (24, 4)).astype(np.float32)
        reward = np.zeros(24, np.float32)
        reward[5 * number % 24] = 1.0
        found.append(find_decisions(space, seen, told, reward, terminated=False))
    return found


def rehearse(bundle: Bundle, episodes: list[LoggedDecisions], counts: list[int]) -> list[dict[str, Any]]:
    learners = show_in_turn(bundle, episodes, counts, np.random.default_rng(0))
    return rehearse_inference(learners, episodes[max(counts) :])


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_rehearsed(kind: str) -> None:
    bundle = make_learner(kind, "skill" if kind in ("simpl", "spirl") else "unit")
    episodes = make_episodes(bundle, 4)
    scores = rehearse(bundle, episodes, [0, 1, 3])
    assert [one["shown"] for one in scores] == [0, 1, 3]
    assert all((one["belief"] is not None) == (kind in BELIEVING) for one in scores)
    told = kind == "simpl"
    assert all((one["reward_nll"] is not None) == told for one in scores)
    assert told or kind == "policy" or NO_REWARDS[kind]
    assert all(one["command_nll"] is not None and math.isfinite(one["command_nll"]) for one in scores)
    assert scores[-1]["distance"] == pytest.approx(0.0, abs=1e-6)
    assert all(one["distance"] >= -1e-6 for one in scores)
    # each learner knows something else after three episodes, whatever it knows it by; but for one that never learns
    assert (scores[0]["distance"] > 1e-6) == (kind != "policy")
    # what comes later is not seen
    assert rehearse(bundle, episodes, [0, 3])[0] == scores[0]


@pytest.mark.parametrize("kind", ["mlsh", "pearl", "policy", "rl2", "varibad"])
def test_named_choices_have_their_probabilities(kind: str) -> None:
    bundle = make_learner(kind, "choice")
    episodes = make_episodes(bundle, 3)
    for learner in show_in_turn(bundle, episodes, [0, 2], np.random.default_rng(0)):
        policy = learner.read_policy(episodes[2])
        assert policy.probability is not None
        np.testing.assert_allclose(policy.probability.sum(axis=1), 1.0, atol=1e-9)
        chosen = policy.probability[np.arange(24), episodes[2].latent[:, 0].astype(int)]
        found = predict_episode(learner, episodes[2], policy)
        assert found.command_nll == pytest.approx(-np.log(chosen).mean())
        # the likeliest one is taken where nothing is random
        np.testing.assert_array_equal(policy.loc[:, 0], policy.probability.argmax(axis=1))


def test_the_distance_of_two_policies_by_hand() -> None:
    one = Policy(np.zeros((3, 1), np.float32), np.ones((3, 1), np.float32))
    other = Policy(np.full((3, 1), 2.0, np.float32), np.full((3, 1), 0.5, np.float32))
    # KL(N(2, 0.25) | N(0, 1)) = log(1 / 0.5) + (0.25 + 4) / 2 - 0.5
    assert compute_distance(one, other) == pytest.approx(math.log(2.0) + 4.25 / 2.0 - 0.5)
    # KL(N(0, 1) | N(2, 0.25)) = log(0.5 / 1) + (1 + 4) / (2 * 0.25) - 0.5
    assert compute_distance(other, one) == pytest.approx(-math.log(2.0) + 10.0 - 0.5)
    zero = np.zeros((2, 1), np.float32)
    half, sure = (Policy(zero, zero, np.tile(share, (2, 1))) for share in ([0.5, 0.5], [0.75, 0.25]))
    assert compute_distance(half, sure) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert compute_distance(Policy(zero, zero), one) is None


def test_the_score_of_a_policy_is_that_of_its_gaussian() -> None:
    # a linear policy of mean o and standard deviation 0.5 in one dimension at a time, by hand
    contract = BundleContract(
        kind="policy",
        robot=make_robot(),
        space=SPACES["unit"],
        learner={"hidden": [], "activation": "relu", "greedy": False, "scale": "parameter"},
        budget=Budget(episodes=1),
        provenance={},
    )
    weights = {
        "policy.layers.0.weight": np.eye(2, 4, dtype=np.float32),
        "policy.layers.0.bias": np.zeros(2, np.float32),
        "policy.log_scale": np.full(2, np.log(0.5), np.float32),
    }
    bundle = Bundle(contract, weights, {}, "0" * 64)
    seen = np.zeros((2, 4), np.float32)
    # u = 0 and u = 1, 0 and 2 standard deviations from the mean; -log p = z^2 / 2 + log 0.5 + log(2 pi) / 2
    action = contract.robot.action
    middle, half = (action.low + action.high) / 2.0, (action.high - action.low) / 2.0
    told = np.stack([middle, middle + half])
    space = RowSpace(contract.space, contract.robot, weights)
    episode = find_decisions(space, seen, told, np.zeros(2, np.float32), terminated=False)
    learner = Learner(bundle, np.random.default_rng(0))
    found = predict_episode(learner, episode, learner.read_policy(episode))
    assert found.command_nll == pytest.approx(1.0 + math.log(0.5) + 0.5 * math.log(2.0 * math.pi), abs=1e-5)
    assert found.reward_nll is None


def test_decisions_of_a_log_by_hand() -> None:
    bundle = make_learner("simpl", "skill")
    space = RowSpace(bundle.contract.space, bundle.contract.robot, bundle.weights)
    seen = np.arange(10, dtype=np.float32)[:, None] * np.ones(4, np.float32) / 10.0
    reward = np.zeros(10, np.float32)
    reward[[3, 9]] = 1.0, 2.0
    found = find_decisions(space, seen, np.zeros((10, 2), np.float32), reward, terminated=True)
    # H = 4: decisions at 0, 4 and 8, the last one of two steps, and the end at the last observation
    np.testing.assert_allclose(found.observation[:, 0], [0.0, 0.4, 0.8, 0.9])
    assert found.reward.tolist() == [1.0, 0.0, 2.0]
    assert found.rewarded.tolist() == [True, False, True]
    # where the last step led is known where rewards are computed of it
    longer = np.concatenate([seen, np.full((1, 4), 7.0, np.float32)])
    known = find_decisions(space, longer, np.zeros((10, 2), np.float32), reward, terminated=True)
    np.testing.assert_allclose(known.observation[:, 0], [0.0, 0.4, 0.8, 7.0])
    np.testing.assert_array_equal(known.latent, found.latent)
    rows = found.to_rows(6)
    assert rows.length.tolist() == [3]
    assert rows.reward.shape == (1, 6)
    assert rows.steps.tolist() == [10]
    assert rows.terminated.tolist() == [True]
    assert rows.read_reward_range().tolist() == [[0.0, 2.0]]


def test_a_latent_of_a_skill_is_found_again() -> None:
    bundle = make_learner("simpl", "skill")
    space = RowSpace(bundle.contract.space, bundle.contract.robot, bundle.weights)
    rng = np.random.default_rng(0)
    seen = rng.normal(0.0, 0.5, (4, 4)).astype(np.float32)
    latent = np.array([[0.5, -0.3, 0.2]], np.float32)
    told = np.concatenate([space.hold(latent)(one[None]) for one in seen])
    found = find_decisions(space, seen, told, np.zeros(4, np.float32), terminated=False).latent
    again = np.concatenate([space.hold(found)(one[None]) for one in seen])
    np.testing.assert_allclose(again, told, atol=0.02)


def test_the_memory_of_a_learner_holds_what_the_log_chose() -> None:
    bundle = make_learner("rl2", "unit")
    one, other = make_episodes(bundle, 2)
    other = one._replace(latent=other.latent)
    learner = Learner(bundle, np.random.default_rng(0))
    first, second = (np.stack(list(act_along(learner.fork(), episode))) for episode in (one, other))
    np.testing.assert_array_equal(first[0], second[0])
    assert np.abs(first[1:] - second[1:]).max() > 1e-4


@pytest.mark.parametrize("kind", sorted(BELIEVING))
def test_a_belief_narrows_or_moves_with_what_was_seen(kind: str) -> None:
    bundle = make_learner(kind, "skill" if kind == "simpl" else "unit")
    learner = Learner(bundle, np.random.default_rng(0))
    before = read_spread(learner)
    for episode in make_episodes(bundle, 2):
        learner.show(episode)
    fork = learner.fork()
    assert isinstance(fork, TellsBelief)
    belief = fork.read_belief()
    assert belief.loc.shape == belief.scale.shape
    assert belief.loc.shape[0] == 1
    assert (belief.scale > 0.0).all()
    assert before is not None
    assert read_spread(learner) != before


def test_rewards_are_probabilities() -> None:
    bundle = make_learner("simpl", "skill")
    fork = Learner(bundle, np.random.default_rng(0)).fork()
    assert isinstance(fork, PredictsReward)
    chance = fork.predict_rewarded(np.zeros((5, 4), np.float32))
    assert chance.shape == (1, 5)
    assert ((chance > 0.0) & (chance < 1.0)).all()
