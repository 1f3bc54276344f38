"""The hierarchy in action, and what its levels learn from: who acted where, sums, advantages, and whose they are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.meta.collect import Episodes, collect
from supple.meta.distribution import Categorical, log_prob
from supple.meta.hierarchy.config import MlshConfig
from supple.meta.hierarchy.mlsh_actor import HierarchyActor, Played, make_stacks, master_samples, sub_policy_samples
from supple.meta.hierarchy.mlsh_networks import ActorCritics
from supple.meta.space import ChoiceSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.robots.movement_bandits import MovementBanditBatch
from supple.skills.gaussian import Gaussian
from tests.meta.double_sum import sum_advantages

CPU = torch.device("cpu")
CONFIG = MlshConfig(hold=2, hidden=(4,), discount=0.5, trace=0.5, sub_policies=2)


def make_levels(
    robot: Any, config: MlshConfig = CONFIG, tasks: int = 2
) -> tuple[ActorCritics, ActorCritics, ChoiceSpace]:
    space = ChoiceSpace(robot.spec)
    masters, sub_policies = make_stacks(space, robot.spec.observation.shape[0], config, tasks, CPU)
    generator = torch.Generator().manual_seed(0)
    masters.draw(list(range(tasks)), generator)
    sub_policies.draw(list(range(config.sub_policies)), generator)
    return masters, sub_policies, space


def prefer(networks: ActorCritics, index: int, choice: int) -> None:
    """One network of a stack always makes one choice."""
    names = sorted(name for name in networks.params if name.startswith("policy."))
    networks.params[names[-2]][index, choice] = 100.0  # the last layer's bias


def flatten_values(networks: ActorCritics, value: float) -> None:
    """V is the same number everywhere."""
    for name, part in networks.params.items():
        if name.startswith("value."):
            part.zero_()
    networks.return_mean = value


def act(actor: HierarchyActor, robot: Any, space: Any, goals: Any) -> Played:
    actor.begin_episode()
    episodes = collect(robot, space, actor.act, goals, np.random.default_rng(0), device=CPU)
    return actor.finish(episodes)


def play(config: MlshConfig = CONFIG, rollouts: int = 3, **options: Any) -> tuple[Played, Any]:
    """Episodes of 5 decisions: the first sub-policy goes right, the second left; masters choose as they are drawn."""
    robot = MovementBanditBatch(2 * rollouts, episode_steps=5)
    masters, sub_policies, space = make_levels(robot, config)
    for index in range(2):
        prefer(sub_policies, index, 1 + index)
    generator = torch.Generator().manual_seed(3)
    actor = HierarchyActor(masters, sub_policies, space, config, rollouts, generator, **options)
    return act(actor, robot, space, np.zeros((2 * rollouts, 1), np.float32)), masters


def test_a_sub_policy_acts_until_the_master_chooses_again() -> None:
    played, _ = play()
    assert played.macro.shape == (6, 3)
    # choice 1 (right) of sub-policy 0, 2 (left) of sub-policy 1; held for two decisions, the last for one
    expected = 1.0 + played.macro.repeat_interleave(2, dim=1)[:, :5]
    assert torch.equal(played.episodes.latent[..., 0], expected.to(torch.float32))
    assert len(played.macro.unique(dim=0)) > 2


def test_the_master_of_its_own_task_chooses() -> None:
    robot = MovementBanditBatch(6, episode_steps=5)
    masters, sub_policies, space = make_levels(robot)
    prefer(masters, 0, 1)
    prefer(masters, 1, 0)
    actor = HierarchyActor(masters, sub_policies, space, CONFIG, 3, torch.Generator().manual_seed(0))
    macro = act(actor, robot, space, np.zeros((6, 1), np.float32)).macro
    assert macro.tolist() == [[1] * 3] * 3 + [[0] * 3] * 3


def test_uniform_choices_are_recorded_as_the_masters_own() -> None:
    config = MlshConfig(hold=1, hidden=(4,), random_choice=0.1)
    robot = MovementBanditBatch(2000, episode_steps=5)
    masters, sub_policies, space = make_levels(robot, config)
    for index in range(2):
        prefer(masters, index, 0)
        prefer(sub_policies, index, 1 + index)
    actor = HierarchyActor(
        masters, sub_policies, space, config, 1000, torch.Generator().manual_seed(0), random_choice=0.1
    )
    played = act(actor, robot, space, np.zeros((2000, 1), np.float32))
    # a tenth of 10000 is uniform, half of that falls on the other: 500, deviation 22
    assert 400 < int(played.macro.sum()) < 600
    assert torch.equal(played.episodes.latent[..., 0], 1.0 + played.macro)
    samples = master_samples([played], masters, space, config)
    other = samples.choice[..., 0] == 1.0
    assert int(other.sum()) == int(played.macro.sum())
    # learned from with the master's own probability, e^-100, not the mixture's .05
    torch.testing.assert_close(samples.old_log_prob[other], torch.full((int(other.sum()),), -100.0), atol=1.0, rtol=0)


def test_greedy_levels_act_by_their_modes_and_draw_nothing() -> None:
    robot = MovementBanditBatch(6, episode_steps=5)
    masters, sub_policies, space = make_levels(robot)
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    actor = HierarchyActor(masters, sub_policies, space, CONFIG, 3, generator, greedy=True)
    played = act(actor, robot, space, np.zeros((6, 1), np.float32))
    assert torch.equal(generator.get_state(), before)
    first = space.normalise(played.episodes.observation[:, 0]).view(2, 3, -1)
    found = masters.distribution(first)
    assert isinstance(found, Categorical)
    assert torch.equal(played.macro[:, 0], found.logits.argmax(-1).view(-1))


def make_episodes(reward: list[list[float]], length: list[int], dim: int) -> Episodes:
    """Observations say row and decision, so that a misplaced one shows."""
    rows, steps = len(reward), len(reward[0])
    place = torch.arange(rows)[:, None] * 100.0 + torch.arange(steps + 1)
    observation = place[..., None].expand(-1, -1, dim).clone()
    nothing = torch.zeros(rows, steps + 1, 0)
    lengths = torch.tensor(length)
    latent = (place[:, :-1] % 5.0)[..., None]
    return Episodes(
        observation,
        latent,
        Gaussian(nothing, nothing),
        torch.tensor(reward),
        lengths,
        torch.zeros(rows, dtype=torch.bool),
        lengths,
        torch.zeros(rows, steps, dim),
    )


def make_played() -> tuple[Played, ActorCritics, ActorCritics, ChoiceSpace]:
    """Two tasks of one row; the second ends after three decisions of five. V is 8 for masters, 4 for sub-policies."""
    masters, sub_policies, space = make_levels(MovementBanditBatch(1))
    flatten_values(masters, 8.0)
    flatten_values(sub_policies, 4.0)
    episodes = make_episodes([[1.0, 2.0, 3.0, 4.0, 5.0], [6.0, 0.0, 2.0, 0.0, 0.0]], [5, 3], 6)
    return Played(episodes, torch.tensor([[0, 1, 0], [1, 0, 0]])), masters, sub_policies, space


def test_advantages_of_masters_by_hand() -> None:
    played, masters, _, space = make_played()
    samples = master_samples([played], masters, space, CONFIG)
    # first: macro rewards 3, 7, 5; deltas 3 + 8/2 - 8 = -1, 7 + 4 - 8 = 3, 5 - 8 = -3 (nothing after the end)
    # backwards with factor 1/4: -3, 3 - 3/4 = 2.25, -1 + 2.25/4 = -0.4375
    # second: 6, 2; deltas 6 + 4 - 8 = 2, 2 - 8 = -6; 2 - 6/4 = 0.5
    assert samples.advantage[0].tolist() == [-0.4375, 2.25, -3.0]
    assert samples.advantage[1, :2].tolist() == [0.5, -6.0]
    assert samples.target[0].tolist() == [7.5625, 10.25, 5.0]
    assert samples.valid.tolist() == [[True] * 3, [True, True, False]]
    assert samples.observation[..., 0].tolist() == [[0.0, 2.0, 4.0], [100.0, 102.0, 104.0]]
    assert samples.elapsed[0].tolist() == pytest.approx([0.0, 0.4, 0.8])
    assert samples.choice[..., 0].tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    expected = log_prob(masters.distribution(samples.observation), samples.choice)
    torch.testing.assert_close(samples.old_log_prob, expected)


def test_rounds_of_episodes_are_joined_task_by_task() -> None:
    played, masters, _, space = make_played()
    later = played._replace(macro=1 - played.macro)
    samples = master_samples([played, later], masters, space, CONFIG)
    assert samples.choice[..., 0].tolist() == [[0, 1, 0, 1, 0, 1], [1, 0, 0, 0, 1, 1]]
    assert samples.observation[1, :, 0].tolist() == [100.0, 102.0, 104.0] * 2


def test_samples_of_sub_policies_by_hand() -> None:
    played, _, sub_policies, space = make_played()
    samples = sub_policy_samples(played, torch.tensor([0, 1]), sub_policies, space, CONFIG)
    # the first row: 0 acts at decisions 0, 1, 4, and 1 at 2, 3; the second: 1 at 0, 1, and 0 at 2
    assert samples.valid.tolist() == [[True] * 4, [True] * 4]
    assert samples.observation[..., 0].tolist() == [[0.0, 1.0, 4.0, 102.0], [2.0, 3.0, 100.0, 101.0]]
    assert samples.choice[..., 0].tolist() == [[0.0, 1.0, 4.0, 2.0], [2.0, 3.0, 0.0, 1.0]]
    # deltas of the first: 1, 2, 3, 4 each + 2 - 4, and 5 - 4: -1, 0, 1, 2, 1; backwards with factor 1/4:
    # 1, 2.25, 1.5625, 0.390625, -0.90234375: they run on where the other takes over
    # of the second: 6 + 2 - 4 = 4, 0 + 2 - 4 = -2, 2 - 4 = -2: -2, -2.5, 3.375
    assert samples.advantage.tolist() == [[-0.90234375, 0.390625, 1.0, -2.0], [1.5625, 2.25, 3.375, -2.5]]
    assert samples.target[0].tolist() == [3.09765625, 4.390625, 5.0, 2.0]
    torch.testing.assert_close(samples.elapsed[0], torch.tensor([0.0, 0.2, 0.8, 0.4]))
    assert torch.equal(samples.old_log_prob, log_prob(sub_policies.distribution(samples.observation), samples.choice))


def test_values_of_sub_policies_are_those_of_the_one_that_acts() -> None:
    played, _, sub_policies, space = make_played()
    sub_policies.params["value.layers.1.bias"][1] = 2.0  # V is 4 of sub-policy 0, and 4 + 2 of sub-policy 1
    samples = sub_policy_samples(played, torch.tensor([0]), sub_policies, space, CONFIG)
    # values 4, 4, 6, 6, 4: deltas 1 + 2 - 4, 2 + 3 - 4, 3 + 3 - 6, 4 + 2 - 6, 5 - 4 = -1, 1, 0, 0, 1
    # backwards with factor 1/4: 1, 0.25, 0.0625, 1.015625, -0.74609375
    assert samples.advantage[0].tolist() == [-0.74609375, 1.015625, 1.0]
    assert samples.advantage[1, :2].tolist() == [0.0625, 0.25]
    assert samples.valid.tolist() == [[True] * 3, [True, True, False]]


def test_discount_and_trace_are_not_the_same() -> None:
    config = replace(CONFIG, discount=0.9, trace=0.3)
    played, masters, sub_policies, space = make_played()
    samples = master_samples([played], masters, space, config)
    macro, valid = torch.tensor([[3.0, 7.0, 5.0], [6.0, 2.0, 0.0]]), torch.tensor([[True] * 3, [True, True, False]])
    expected = sum_advantages(macro, torch.full((2, 3), 8.0), valid, 0.9, 0.3)
    torch.testing.assert_close(samples.advantage[samples.valid], expected[valid])
    torch.testing.assert_close(samples.target[samples.valid], expected[valid] + 8.0)
    own = sub_policy_samples(played, torch.tensor([0]), sub_policies, space, config)
    steps = sum_advantages(torch.arange(1.0, 6.0)[None], torch.full((1, 5), 4.0), torch.ones(1, 5).bool(), 0.9, 0.3)[0]
    torch.testing.assert_close(own.advantage[own.valid], steps[[0, 1, 4, 2, 3]])  # 0 acts at 0, 1, 4, and 1 at 2, 3


def test_only_the_rows_that_are_named_are_learned_from() -> None:
    played, _, sub_policies, space = make_played()
    samples = sub_policy_samples(played, torch.tensor([1]), sub_policies, space, CONFIG)
    assert sorted(samples.observation[samples.valid][:, 0].tolist()) == [100.0, 101.0, 102.0]


def test_log_probabilities_are_those_of_acting_in_rows_that_end_early(monkeypatch: pytest.MonkeyPatch) -> None:
    config = MlshConfig(hold=2, hidden=(8,), sub_policies=3)
    robot = PointBatch(12, episode_steps=7)
    space = UnitSpace(robot.spec)
    masters, sub_policies = make_stacks(space, 2, config, 3, CPU)
    masters.draw([0, 1, 2], torch.Generator().manual_seed(0))
    sub_policies.draw([0, 1, 2], torch.Generator().manual_seed(1))
    for name, value in sub_policies.params.items():
        if name == "policy.layers.1.bias":
            value.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]]))
    actor = HierarchyActor(masters, sub_policies, space, config, 4, torch.Generator().manual_seed(2))
    goals = np.repeat(np.array([[2.0, 0.0], [-2.0, 0.0], [0.0, 2.0]], np.float32), 4, axis=0)
    played = act(actor, robot, space, goals)
    length = played.episodes.length
    assert len(set(length.tolist())) > 1
    samples = sub_policy_samples(played, torch.arange(12), sub_policies, space, config)
    assert int(samples.valid.sum()) == int(length.sum())
    # what a sub-policy did is about what it does: 1 m one way, so that a sample of another would be far off
    middle: Tensor = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    for index in range(3):
        found = samples.choice[index][samples.valid[index]].mean(0)
        torch.testing.assert_close(found, middle[index], atol=0.6, rtol=0.0)
    # the padding of an episode that ended early is no one's choice
    padding = torch.arange(4) >= (length[:, None] + 1).div(2, rounding_mode="floor")
    assert int(played.macro[padding].abs().sum()) == 0
    assert int(master_samples([played], masters, space, config).valid.sum()) == int((~padding).sum())
