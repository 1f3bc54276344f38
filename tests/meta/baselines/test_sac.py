"""SAC's losses by hand, where their gradients may go, choices enumerated, and tasks that learn as if alone."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.baselines.config import SacConfig
from supple.meta.baselines.sac import prior_kl, sac_critic_loss, sac_policy_loss
from supple.meta.baselines.sac_networks import SacNetworks
from supple.meta.distribution import Categorical
from supple.meta.replay import Steps
from supple.meta.space import ActionSpace, ChoiceSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.robots.bandits import BernoulliBanditBatch
from supple.skills.gaussian import Gaussian

POINTS: ActionSpace = UnitSpace(PointBatch(1).spec)
ARMS: ActionSpace = ChoiceSpace(BernoulliBanditBatch(1, arms=3, episode_steps=2).spec)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make(space: ActionSpace = POINTS, **options: Any) -> SacNetworks:
    return SacNetworks(space, 2, (8,), generator(), **options)


def flatten(networks: SacNetworks, critic: tuple[float, float], target: tuple[float, float]) -> SacNetworks:
    """Constant critics, so that targets can be worked out by hand; the policy's outputs are its last biases."""
    with torch.no_grad():
        for parameter in networks.parameters():
            parameter.zero_()
        networks.critic.biases[-1].copy_(torch.tensor(critic).view(2, 1, 1))
        networks.target.biases[-1].copy_(torch.tensor(target).view(2, 1, 1))
    return networks


def make_batch(networks: SacNetworks, tasks: int = 1, size: int = 2) -> Steps:
    source = generator(1)
    action = torch.randn((tasks, size, networks.code.width), generator=source)
    if networks.code.width == 3:
        action = torch.nn.functional.one_hot(action.argmax(-1), 3).float()
    return Steps(
        torch.randn((tasks, size, 2), generator=source),
        action,
        torch.randn((tasks, size), generator=source),
        torch.zeros(tasks, size),
        torch.randn((tasks, size, 2), generator=source),
    )


def test_the_divergence_from_the_prior_by_hand() -> None:
    # KL(N(1, .5^2) || N(0, 1)) = log 2 + (.25 + 1) / 2 - .5, on one axis; 0 on the other
    found = prior_kl(Gaussian(torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.5, 1.0]]])))
    assert float(found) == pytest.approx(math.log(2.0) + 0.125)
    # probabilities 1/2, 1/4, 1/4: log 3 - 1.5 log 2
    logits = torch.tensor([[[math.log(2.0), 0.0, 0.0]]])
    assert float(prior_kl(Categorical(logits))) == pytest.approx(math.log(3.0) - 1.5 * math.log(2.0))


def test_the_critics_loss_by_hand() -> None:
    networks = flatten(make(), critic=(1.0, 2.0), target=(3.0, 5.0))
    with torch.no_grad():
        networks.policy.layers[-1].bias[0] = 1.0  # type: ignore[union-attr,operator,index]
    batch = make_batch(networks)._replace(reward=torch.tensor([[1.0, 1.0]]), terminated=torch.tensor([[0.0, 1.0]]))
    config = SacConfig(discount=0.5, temperature=0.2)
    loss = sac_critic_loss(networks, batch, torch.zeros(1, 2, 0), generator(), config)
    # KL(N((1, 0), I) || N(0, I)) = .5; y = 1 + .5 (3 - .2 x .5) = 2.45, and 1 where terminated
    # critic 1: (1.45^2 + 0) / 2; critic 2: (.45^2 + 1) / 2; summed
    assert float(loss.detach()) == pytest.approx((1.45**2 + 0.45**2 + 1.0) / 2.0)


def test_the_policys_loss_by_hand() -> None:
    networks = flatten(make(), critic=(1.0, 2.0), target=(3.0, 5.0))
    with torch.no_grad():
        networks.policy.layers[-1].bias[1] = 2.0  # type: ignore[union-attr,operator,index]
    loss, divergence = sac_policy_loss(
        networks, torch.zeros(1, 2, 2), torch.zeros(1, 2, 0), generator(), SacConfig(temperature=0.2)
    )
    # KL = 2^2 / 2; .2 x 2 - min(1, 2)
    assert float(divergence) == pytest.approx(2.0)
    assert float(loss.detach()) == pytest.approx(-0.6)


@pytest.mark.parametrize("space", [POINTS, ARMS], ids=["points", "arms"])
def test_where_gradients_go(space: ActionSpace) -> None:
    networks = make(space, embedding_dim=3)
    batch, config = make_batch(networks), SacConfig()
    embedding = torch.randn((1, 2, 3), generator=generator()).requires_grad_()

    def reached(loss: Tensor, values: list[Tensor]) -> list[bool]:
        found = torch.autograd.grad(loss, values, allow_unused=True, retain_graph=True)
        return [gradient is not None and bool(gradient.any()) for gradient in found]

    critic, policy = list(networks.critic.parameters()), list(networks.policy.parameters())
    loss = sac_critic_loss(networks, batch, embedding, generator(), config)
    assert reached(loss, [embedding]) == [True]
    assert all(reached(loss, critic))
    assert not any(reached(loss, policy))
    assert not any(parameter.requires_grad for parameter in networks.target.parameters())

    loss, _ = sac_policy_loss(networks, batch.observation, embedding, generator(), config)
    assert torch.autograd.grad(loss, [embedding], allow_unused=True, retain_graph=True) == (None,)
    assert any(reached(loss, policy))


def test_the_embeddings_gradient_is_that_of_the_values_alone() -> None:
    networks = make(embedding_dim=3)
    batch, config = make_batch(networks), SacConfig(discount=0.9)
    embedding = torch.randn((1, 2, 3), generator=generator()).requires_grad_()
    (found,) = torch.autograd.grad(sac_critic_loss(networks, batch, embedding, generator(), config), [embedding])
    # the same loss with its target worked out beforehand: 2 (Q - y) dQ/de
    with torch.no_grad():
        policy = networks.policy_at(batch.next_observation, embedding)
        following = networks.value_under(networks.target, batch.next_observation, embedding, policy, generator())
        target = batch.reward + 0.9 * (following.amin(0) - config.temperature * prior_kl(policy))
    value = networks.value(networks.critic, batch.observation, embedding, batch.action)
    (expected,) = torch.autograd.grad((value - target).square().mean((1, 2)).sum(), [embedding])
    torch.testing.assert_close(found, expected)


def test_a_policy_of_choices_is_worth_what_it_expects() -> None:
    networks = make(ARMS)
    observation, nothing = torch.randn((1, 4, 2), generator=generator()), torch.zeros(1, 4, 0)
    policy = networks.policy_at(observation, nothing)
    assert isinstance(policy, Categorical)
    found = networks.value_under(networks.critic, observation, nothing, policy, generator())
    expected = torch.zeros(1, 4)
    for choice in range(3):
        action = torch.eye(3)[choice].expand(1, 4, 3)
        expected += policy.logits.softmax(-1)[..., choice] * networks.value(
            networks.critic, observation, nothing, action
        ).amin(0)
    torch.testing.assert_close(found, expected[None])


def test_a_draw_of_a_gaussian_policy_carries_its_gradient() -> None:
    networks = make()
    observation, nothing = torch.randn((1, 4, 2), generator=generator()), torch.zeros(1, 4, 0)
    policy = networks.policy_at(observation, nothing)
    value = networks.value_under(networks.critic, observation, nothing, policy, generator())
    assert value.shape == (2, 1, 4)
    assert isinstance(policy, Gaussian)
    (gradient,) = torch.autograd.grad(value.sum(), [policy.loc])
    assert bool(gradient.abs().sum() > 0)


@pytest.mark.parametrize("space", [POINTS, ARMS], ids=["points", "arms"])
def test_copies_for_tasks_compute_what_the_shared_networks_do(space: ActionSpace) -> None:
    shared = make(space, embedding_dim=3)
    copies = shared.for_tasks(4)
    batch = make_batch(shared, tasks=4, size=5)
    embedding = torch.randn((4, 5, 3), generator=generator(2))
    for one, other in zip(
        shared.policy_at(batch.observation, embedding), copies.policy_at(batch.observation, embedding), strict=True
    ):
        torch.testing.assert_close(one, other)
    for one_critic, other_critic in ((shared.critic, copies.critic), (shared.target, copies.target)):
        torch.testing.assert_close(
            shared.value(one_critic, batch.observation, embedding, batch.action),
            copies.value(other_critic, batch.observation, embedding, batch.action),
        )
    assert not any(parameter.requires_grad for parameter in copies.target.parameters())


def test_every_task_has_its_own_networks() -> None:
    networks = make(tasks=3)
    batch = make_batch(networks, tasks=3)
    embedding = torch.zeros(3, 2, 0)
    before = networks.value(networks.critic, batch.observation, embedding, batch.action)
    with torch.no_grad():
        networks.critic.biases[-1][3 + 1] += 1.0  # the second critic of the second task
    after = networks.value(networks.critic, batch.observation, embedding, batch.action)
    changed = (after - before).detach()
    expected = torch.zeros(2, 3, 2)
    expected[1, 1] = 1.0
    torch.testing.assert_close(changed, expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": 0.0}, r"SacConfig.temperature: expected a number above 0 to .*, got 0.0"),
        ({"hidden": (8, 0)}, r"SacConfig.hidden\[1\]: expected a whole number from 1 to 16384, got 0"),
        ({"discount": 1.0}, r"SacConfig.discount: expected a number from 0 to below 1, got 1.0"),
        ({"target_rate": 1.5}, r"SacConfig.target_rate: expected a number above 0 to 1, got 1.5"),
    ],
)
def test_values_that_cannot_train_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SacConfig(**changes)
