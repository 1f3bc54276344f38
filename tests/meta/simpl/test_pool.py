"""The episode pool with data that names itself, so that any misaligned index shows."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from supple.meta.collect import Episodes
from supple.meta.simpl.pool import EpisodePool, Transitions, view_of_all_tasks, view_of_own_task
from supple.skills.gaussian import Gaussian

CPU = torch.device("cpu")
K, HORIZON = 4, 3
"""Decisions per episode and low-level steps per decision."""


def make_episodes(lengths: list[int], ended: list[bool] | None = None, first: int = 1) -> Episodes:
    """Episode i, decision k holds the number 1000 i + k everywhere, i from `first` on: reward, latent, observation.

    The prior holds its negative; the low-level path after step t holds 1000 i + (t + 1) / H.
    """
    rows = torch.arange(first, first + len(lengths))[:, None]
    at = (1000.0 * rows + torch.arange(K + 1))[..., None]
    path = (1000.0 * rows + (torch.arange(K * HORIZON) + 1.0) / HORIZON)[..., None]
    length = torch.tensor(lengths)
    terminated = torch.tensor(ended if ended is not None else [False] * len(lengths))
    latent = at[:, :-1].repeat(1, 1, 2)
    scale = at.repeat(1, 1, 2) + 0.5
    return Episodes(
        at, latent, Gaussian(-at.repeat(1, 1, 2), scale), at[:, :-1, 0], length, terminated, length * HORIZON, path
    )


def make_pool(capacity: int, num_tasks: int) -> EpisodePool:
    return EpisodePool(capacity, K, 1, 2, num_tasks, CPU)


def fill(pool: EpisodePool, episodes: Episodes, task: list[int], explored: bool = True) -> None:
    num_tasks = pool.tensors["length"].shape[1]
    pool.add(episodes, view_of_own_task(episodes, torch.tensor(task), num_tasks), explored=explored)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def assert_aligned(batch: Transitions, observed_reward: bool = True) -> Tensor:
    """Every field of a transition tells the same episode and decision; returns 1000 episode + decision."""
    number = batch.observation[..., 0]
    assert torch.equal(batch.latent, number[..., None].expand_as(batch.latent))
    if observed_reward:
        assert torch.equal(batch.reward, number)
    assert torch.equal(batch.next_observation[..., 0], number + 1)
    assert torch.equal(batch.prior.loc, -batch.latent)
    assert torch.equal(batch.prior.scale, batch.latent + 0.5)
    assert torch.equal(batch.next_prior.loc, -batch.latent - 1)
    assert torch.equal(batch.next_prior.scale, batch.latent + 1.5)
    return number


def test_fields_stay_together_and_tasks_apart() -> None:
    pool = make_pool(8, 3)
    fill(pool, make_episodes([4, 1, 3, 2], [False, True, True, False]), [0, 1, 0, 2])
    number = assert_aligned(pool.sample(torch.tensor([0, 1, 2, 0]), 500, 0, generator()))
    assert set(number[0].tolist()) == {1000, 1001, 1002, 1003, 3000, 3001, 3002}
    assert set(number[1].tolist()) == {2000}
    assert set(number[2].tolist()) == {4000, 4001}
    assert not torch.equal(number[0], number[3])


def test_only_the_last_decision_of_a_terminated_episode_is_terminal() -> None:
    pool = make_pool(8, 2)
    fill(pool, make_episodes([4, 2, 3], [False, True, True]), [0, 0, 1])
    batch = pool.sample(torch.tensor([0, 1]), 300, 0, generator())
    number = batch.observation[..., 0]
    assert torch.equal(batch.terminated, ((number == 2001) | (number == 3002)).float())


def test_draws_are_uniform_over_the_transitions_of_a_task() -> None:
    pool = make_pool(8, 2)
    fill(pool, make_episodes([4, 1, 3, 2]), [0, 1, 0, 0])
    number = pool.sample(torch.tensor([0]), 9000, 0, generator()).observation.flatten()
    values, counts = number.unique(return_counts=True)
    assert len(values) == 9
    # chi-square with 8 degrees of freedom: 26.1 is exceeded once in a thousand
    assert ((counts - 1000.0).square() / 1000.0).sum() < 26.1


def test_a_ring_forgets_the_oldest() -> None:
    pool = make_pool(3, 1)
    for first, count in ((1, 2), (3, 2), (5, 1)):
        fill(pool, make_episodes([2] * count, first=first), [0] * count)
    assert pool.added == 5
    assert pool.num_transitions().tolist() == [6]
    number = assert_aligned(pool.sample(torch.tensor([0]), 200, 0, generator()))
    assert set(number.flatten().tolist()) == {3000, 3001, 4000, 4001, 5000, 5001}


def test_a_full_pool_can_be_replaced_at_once() -> None:
    pool = make_pool(3, 1)
    fill(pool, make_episodes([1, 2]), [0, 0])
    fill(pool, make_episodes([3, 3, 3], first=3), [0, 0, 0])
    number = pool.sample(torch.tensor([0]), 300, 0, generator()).observation
    assert set(number.flatten().tolist()) == {1000.0 * i + k for i in (3, 4, 5) for k in range(3)}


@given(st.lists(st.tuples(st.integers(1, K), st.integers(0, 2)), min_size=1, max_size=12), st.integers(3, 6))
@settings(max_examples=30, deadline=None)
def test_totals_are_those_of_the_episodes_kept(added: list[tuple[int, int]], capacity: int) -> None:
    pool = make_pool(capacity, 3)
    for index, (length, task) in enumerate(added):
        fill(pool, make_episodes([length], first=index + 1), [task], explored=index % 2 == 0)
    kept = list(enumerate(added))[-capacity:]
    totals = [sum(length for _, (length, own) in kept if own == task) for task in range(3)]
    context = [sum(length for i, (length, own) in kept if own == task and i % 2 == 0) for task in range(3)]
    assert pool.num_transitions().tolist() == totals
    assert pool.num_context_transitions().tolist() == context
    for task in (task for task in range(3) if totals[task]):
        number = assert_aligned(pool.sample(torch.tensor([task]), 20, 0, generator(len(added)))).flatten().long()
        assert set((number // 1000).tolist()) <= {i + 1 for i, (_, own) in kept if own == task}


def test_a_share_of_the_batch_ends_the_task() -> None:
    pool = make_pool(8, 2)
    fill(pool, make_episodes([4, 2, 3], [False, True, True]), [0, 0, 0])
    fill(pool, make_episodes([4], first=4), [1])
    batch = pool.sample(torch.tensor([0, 1]), 40, 10, generator())
    number = assert_aligned(batch)
    assert set(number[0, :10].tolist()) == {2001, 3002}
    assert torch.equal(batch.terminated[0, :10], torch.ones(10))
    assert len(set(number[0, 10:].tolist())) > 4
    # a task that nobody reached has uniform draws instead
    assert set(number[1].tolist()) == {4000, 4001, 4002, 4003}
    assert batch.terminated[1].sum() == 0


def test_contexts_come_from_exploration_only() -> None:
    pool = make_pool(8, 1)
    fill(pool, make_episodes([2, 3]), [0, 0], explored=True)
    fill(pool, make_episodes([4, 4], first=3), [0, 0], explored=False)
    assert pool.num_context_transitions().tolist() == [5]
    for episodes in (None, torch.tensor([5])):
        number = assert_aligned(pool.sample_context(torch.tensor([0]), 200, episodes, generator()))
        assert set(number.flatten().tolist()) == {1000, 1001, 2000, 2001, 2002}


def test_contexts_without_episodes_are_uniform_over_transitions() -> None:
    pool = make_pool(8, 1)
    fill(pool, make_episodes([1, 4]), [0, 0])
    number = pool.sample_context(torch.tensor([0]), 5000, None, generator()).observation.flatten()
    counts = number.unique(return_counts=True)[1]
    assert ((counts - 1000.0).square() / 1000.0).sum() < 18.5  # chi-square, 4 degrees of freedom, one in a thousand


def test_a_context_holds_the_last_transition_of_its_first_episodes() -> None:
    pool = make_pool(8, 2)
    fill(pool, make_episodes([4, 2, 3, 1]), [0, 0, 0, 0])
    fill(pool, make_episodes([3], first=5), [1])
    last = {1003, 2001, 3002, 4000}
    for seed in range(20):
        number = assert_aligned(pool.sample_context(torch.tensor([0, 1]), 12, torch.tensor([3, 12]), generator(seed)))
        drawn = (number[0] // 1000).tolist()
        assert set(number[0, :3].tolist()) <= last
        assert drawn == drawn[:3] * 4  # no other episodes than the first three
        assert torch.equal(number[1], torch.full((12,), 5002.0))


def test_other_transitions_of_a_context_are_uniform_in_their_episode() -> None:
    pool = make_pool(2, 1)
    fill(pool, make_episodes([4]), [0])
    number = pool.sample_context(torch.tensor([0]), 4001, torch.tensor([1]), generator()).observation.flatten()[1:]
    counts = number.unique(return_counts=True)[1]
    assert ((counts - 1000.0).square() / 1000.0).sum() < 16.3  # chi-square, 3 degrees of freedom, one in a thousand


def test_own_task_view_by_hand() -> None:
    episodes = make_episodes([4, 2], [False, True])
    view = view_of_own_task(episodes, torch.tensor([1, 0]), 2)
    assert view.length.tolist() == [[0, 4], [2, 0]]
    assert view.terminated.tolist() == [[False, False], [True, False]]
    assert view.reward[0, :, 1].tolist() == [1000, 1001, 1002, 1003]
    assert view.reward[0, :, 0].tolist() == [0, 0, 0, 0]
    assert [view.final_observation[0, 1, 0], view.final_observation[1, 0, 0]] == [1004, 2002]


def relabelled(steps: int = 12) -> tuple[Episodes, Tensor, Tensor]:
    """One episode of up to twelve steps: task 0 pays at the fifth (mid-skill), 1 at the third, 2 nowhere.

    Task 3 pays 0.5 at every step and never ends.
    """
    reward, terminated = torch.zeros(1, K * HORIZON, 4), torch.zeros(1, K * HORIZON, 4, dtype=torch.bool)
    for task, reached in ((0, (4, 7)), (1, (2,))):
        for step in reached:
            reward[0, step, task] = 1.0
            terminated[0, step, task] = True
    reward[0, :, 3] = 0.5
    episodes = make_episodes([-(-steps // HORIZON)])
    return episodes._replace(steps=torch.tensor([steps])), reward, terminated


def test_relabelling_by_hand() -> None:
    view = view_of_all_tasks(*relabelled())
    assert view.length.tolist() == [[2, 1, 4, 4]]
    assert view.terminated.tolist() == [[True, True, False, False]]
    assert view.reward[0].T.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1.5, 1.5, 1.5, 1.5]]
    # after steps 5, 3, 12 and 12 the path reads 1000 + step / 3
    torch.testing.assert_close(view.final_observation[0, :, 0], 1000.0 + torch.tensor([5.0, 3.0, 12.0, 12.0]) / 3.0)


def test_relabelling_ignores_what_was_not_run() -> None:
    # four steps were run, so task 0's fifth step never happened; the last decision had one step
    view = view_of_all_tasks(*relabelled(steps=4))
    assert view.length.tolist() == [[2, 1, 2, 2]]
    assert view.terminated.tolist() == [[False, True, False, False]]
    assert view.reward[0].T.tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [1.5, 0.5, 0, 0]]
    torch.testing.assert_close(view.final_observation[0, :, 0], 1000.0 + torch.tensor([4.0, 3.0, 4.0, 4.0]) / 3.0)


def test_a_relabelled_episode_is_read_by_each_task() -> None:
    pool = make_pool(2, 4)
    episodes, reward, terminated = relabelled()
    pool.add(episodes, view_of_all_tasks(episodes, reward, terminated), explored=True)
    batch = pool.sample(torch.arange(4), 100, 0, generator())
    number = batch.observation[..., 0]
    assert [set(row.tolist()) for row in number] == [{1000, 1001}, {1000}, *[{1000, 1001, 1002, 1003}] * 2]
    # task 0 ends within its second decision: terminal, rewarded, and what follows is where it ended
    second = number[0] == 1001
    assert torch.equal(batch.terminated[0], second.float())
    assert torch.equal(batch.reward[0], second.float())
    torch.testing.assert_close(batch.next_observation[0, :, 0], torch.where(second, 1000 + 5 / 3, 1001.0))
    assert batch.terminated[2:].sum() == 0


@pytest.mark.parametrize("capacity", [3, 7])
def test_a_pool_goes_on_from_its_state(capacity: int) -> None:
    pool, again = make_pool(capacity, 2), make_pool(capacity, 2)
    fill(pool, make_episodes([4, 2, 3], [False, True, True]), [0, 1, 1])
    tensors, facts = pool.state()
    again.load_state({name: value.clone() for name, value in tensors.items()}, facts)
    for each in (pool, again):
        fill(each, make_episodes([1, 2], first=4), [1, 0], explored=False)
    task = torch.tensor([0, 1])
    for one, other in zip(pool.sample(task, 50, 5, generator()), again.sample(task, 50, 5, generator()), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert again.added == 5


def add_rewards(pool: EpisodePool, rewards: list[list[float]], ended: list[bool]) -> None:
    """Episodes of these rewards, all of task 0."""
    length = torch.tensor([len(row) for row in rewards])
    reward = torch.zeros(len(rewards), K)
    for row, values in enumerate(rewards):
        reward[row, : len(values)] = torch.tensor(values)
    episodes = make_episodes(length.tolist(), ended)._replace(reward=reward)
    pool.add(episodes, view_of_own_task(episodes, torch.zeros(len(rewards), dtype=torch.int64), 1), explored=True)


def test_rewards_of_any_scale_come_to_shares_of_their_range() -> None:
    pool, reward = make_pool(8, 1), torch.tensor([-3.0, -2.0, -1.0])
    assert pool.reward_share(reward).tolist() == [0.0, 0.0, 0.0]  # nothing was seen
    add_rewards(pool, [[-3.0, -3.0]], [False])
    assert pool.reward_share(reward).tolist() == [0.0, 0.0, 0.0]  # rewards that are all equal tell nothing
    add_rewards(pool, [[-1.0, -2.0, -3.0]], [False])
    assert pool.reward_share(reward).tolist() == [0.0, 0.5, 1.0]  # the padding's zeros are no rewards
    again = make_pool(8, 1)
    again.load_state(*pool.state())
    assert again.reward_share(reward).tolist() == [0.0, 0.5, 1.0]


def test_rewards_of_zero_and_one_are_shares_as_they_are() -> None:
    pool, reward = make_pool(8, 1), torch.tensor([0.0, 1.0])
    add_rewards(pool, [[0.0, 1.0]], [True])
    assert torch.equal(pool.reward_share(reward), reward)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-1.0, 0.0), (-7.0, -3.0), (2.0, 5.0)])
def test_a_success_ended_the_task_with_more_than_the_lowest_reward(low: float, high: float) -> None:
    pool = make_pool(8, 1)
    add_rewards(pool, [[low, low], [low, high], [low, low, high]], [True, True, False])  # a death, a goal, the limit
    batch = pool.sample(torch.zeros(1, dtype=torch.int64), 6, 4, generator())
    assert batch.reward[0, :4].tolist() == [high] * 4
    assert batch.terminated[0, :4].tolist() == [1.0] * 4
    assert (batch.observation[0, :4, 0] == 2001.0).all()
