"""What a recurrent actor-critic reads, and that one step of it is one step of the sequence."""

from typing import Any

import numpy as np
import pytest
import torch

from supple.meta.distribution import Categorical
from supple.meta.recurrent import ActionCode, RecurrentActorCritic, inputs_of, step_gru
from supple.meta.space import ActionSpace, ChoiceSpace, RawSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.meta.trial import TrialBatch
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec
from supple.skills.gaussian import Gaussian

THREE = RobotSpec(
    name="three",
    observation=ArraySpec("observation", (Axis("state", "1", -np.inf, np.inf),)),
    action=make_choice_spec(("a", "b", "c")),
    goal=ArraySpec("goal", (Axis("best", "1", 0.0, 2.0),)),
    control_period=1.0,
    episode_steps=2,
    choices=("a", "b", "c"),
)


def make_batch() -> TrialBatch:
    """One trial of two episodes, of two decisions and one: choices 2, 0, 1, rewards 5, 7, 9."""
    observation = torch.tensor([[[10.0], [11.0], [12.0]]])
    flags = torch.zeros(1, 3, dtype=torch.bool)
    return TrialBatch(
        observation=observation,
        latent=torch.tensor([[[2.0], [0.0], [1.0]]]),
        reward=torch.tensor([[5.0, 7.0, 9.0]]),
        next_observation=observation + 1.0,
        first=torch.tensor([[True, False, True]]),
        last=torch.tensor([[False, True, True]]),
        terminated=flags,
        episode=torch.tensor([[0, 0, 1]]),
        valid=~flags,
    )


def make_network(space: ActionSpace, observation_dim: int, **options: Any) -> RecurrentActorCritic:
    generator = torch.Generator().manual_seed(0)
    return RecurrentActorCritic(space, observation_dim, 8, **options, generator=generator)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"separate_value": True},
    {"slots": 3, "slot_content": 2},
    {"slots": 3, "slot_content": 2, "separate_value": True},
]


def test_inputs_are_what_was_seen_and_the_action_and_reward_before() -> None:
    batch = make_batch()
    # columns: o, one-hot of the choice before (a, b, c), reward before, an episode begins
    assert inputs_of(batch, ChoiceSpace(THREE), batch.latent).tolist() == [
        [[10, 0, 0, 0, 0, 1], [11, 0, 0, 1, 5, 0], [12, 1, 0, 0, 7, 1]]
    ]


def test_inputs_show_gaussian_choices_in_units_of_the_prior_and_normalised_observations() -> None:
    robot = PointBatch(1)
    space = RawSpace(robot.spec, torch.full((2,), 10.0), torch.full((2,), 2.0))
    batch = make_batch()._replace(observation=torch.tensor([[[12.0, 10.0], [6.0, 10.0]]]), reward=torch.ones(1, 2))
    batch = batch._replace(first=torch.tensor([[True, False]]))
    # (12 - 10) / 2 = 1, (6 - 10) / 2 = -2; u before the second decision is (0.5, -1)
    choice = torch.tensor([[[0.5, -1.0], [3.0, 3.0]]])
    assert inputs_of(batch, space, choice).tolist() == [[[1, 0, 0, 0, 0, 1], [-2, 0, 0.5, -1, 1, 0]]]


def test_choices_of_a_gaussian_space_are_in_units_of_its_prior() -> None:
    code = ActionCode(UnitSpace(PointBatch(1).spec))
    prior = Gaussian(torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 0.5]]))
    # (5 - 1) / 2 and (-2 - -1) / 0.5
    assert code.to_choice(torch.tensor([[5.0, -2.0]]), prior).tolist() == [[2.0, -2.0]]
    assert code.to_latent(torch.tensor([[2.0, -2.0]]), prior).tolist() == [[5.0, -2.0]]


@pytest.mark.parametrize("options", OPTIONS)
def test_steps_give_what_the_sequence_gives(options: dict[str, Any]) -> None:
    network = make_network(ChoiceSpace(THREE), 1, **options)
    value = torch.randn(5, 7, 6, generator=torch.Generator().manual_seed(1))
    whole, critic = network(value)
    memory = torch.zeros(5, network.memory_size)
    for step in range(7):
        one, memory = network.step(value[:, step], memory)
        assert isinstance(one, Categorical)
        torch.testing.assert_close(one.logits, whole.logits[:, step], atol=1e-6, rtol=1e-5)
    assert critic.shape == (5, 7)


@pytest.mark.parametrize("options", OPTIONS)
def test_the_heads_read_the_state_after_the_input(options: dict[str, Any]) -> None:
    network = make_network(ChoiceSpace(THREE), 1, **options)
    value = torch.randn(1, 4, 6, generator=torch.Generator().manual_seed(1))
    other = value.clone()
    other[0, 2] += 1.0
    (policy, critic), (changed, changed_critic) = network(value), network(other)
    # h_(t+1) has consumed x_t: the change shows at its own decision and not before
    for before, after in ((policy.logits[0], changed.logits[0]), (critic[0, :, None], changed_critic[0, :, None])):
        assert (before != after).any(-1).tolist() == [False, False, True, True]


def test_one_step_by_hand() -> None:
    network = make_network(ChoiceSpace(THREE), 1)
    with torch.no_grad():
        for parameter in network.gru.parameters():
            parameter.zero_()
        # only the candidate's input bias is not zero: r = z = 1/2, n = tanh(1), h' = n / 2 + h / 2
        network.gru.bias_ih_l0[16:] = 1.0
    after = step_gru(network.gru, torch.zeros(1, 6), torch.full((1, 8), 3.0))
    torch.testing.assert_close(after, torch.full((1, 8), float(np.tanh(1.0)) / 2 + 1.5))


def test_a_separate_value_function_shares_nothing_with_the_policy() -> None:
    value = torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1))
    for options in OPTIONS:
        network = make_network(ChoiceSpace(THREE), 1, **options)
        network(value)[1].sum().backward()
        moved = {name.split(".")[0] for name, value in network.named_parameters() if value.grad is not None}
        slots = {"slots"} if "slots" in options else set()
        if "separate_value" in options:
            assert moved == {"value_head", "value_gru"} | {f"value_{name}" for name in slots}
        else:
            assert moved == {"value_head", "gru"} | slots


@pytest.mark.parametrize("options", OPTIONS)
def test_the_first_policy_is_nearly_uniform(options: dict[str, Any]) -> None:
    network = make_network(ChoiceSpace(THREE), 1, **options)
    policy, _ = network(torch.randn(2, 3, 6, generator=torch.Generator().manual_seed(1)))
    assert float(policy.logits.detach().abs().max()) < 0.02


@pytest.mark.parametrize("options", OPTIONS)
def test_padding_changes_neither_what_comes_before_it_nor_the_gradients(options: dict[str, Any]) -> None:
    network = make_network(ChoiceSpace(THREE), 1, **options)
    value = torch.randn(4, 6, 6, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([2, 6, 1, 4])
    valid = torch.arange(6) < lengths[:, None]
    results = []
    for padding in (valid, None):
        network.zero_grad()
        policy, critic = network(value, padding)
        assert isinstance(policy, Categorical)
        assert critic.shape == (4, 6)
        (policy.logits[valid].square().sum() + critic[valid].square().sum()).backward()
        gradients = [parameter.grad.clone() for parameter in network.parameters() if parameter.grad is not None]
        results.append([policy.logits[valid], critic[valid], *gradients])
    for packed, whole in zip(*results, strict=True):
        torch.testing.assert_close(packed, whole)
