"""Stacks of actor-critics: each learns as if it were alone, and what one forgets or lacks leaves the others alone."""

from typing import Any

import pytest
import torch
from torch import Tensor

from supple.meta.distribution import Categorical, log_prob
from supple.meta.hierarchy.config import PpoPasses
from supple.meta.hierarchy.mlsh_networks import ActorCritics, Samples
from supple.meta.policy import MlpPolicy

CPU = torch.device("cpu")
POLICY = MlpPolicy(inputs=3, outputs=2, discrete=True, hidden=(6,), activation="tanh")
WHOLE = PpoPasses(epochs=3, minibatches=1)


def make_stack(stack: int, seed: int = 0) -> ActorCritics:
    networks = ActorCritics(POLICY, stack, CPU)
    networks.draw(list(range(stack)), torch.Generator().manual_seed(seed))
    return networks


def make_samples(networks: ActorCritics, count: int = 12, seed: int = 0) -> Samples:
    """The second choice is always the better one."""
    generator = torch.Generator().manual_seed(seed)
    shape = (networks.stack, count)
    observation = torch.randn((*shape, 3), generator=generator)
    choice = torch.randint(2, (*shape, 1), generator=generator).float()
    with torch.no_grad():
        old = log_prob(networks.distribution(observation), choice)
    return Samples(
        observation=observation,
        elapsed=torch.rand(shape, generator=generator),
        choice=choice,
        old_log_prob=old,
        advantage=2.0 * choice.squeeze(-1) - 1.0 + 0.1 * torch.randn(shape, generator=generator),
        target=torch.randn(shape, generator=generator),
        valid=torch.ones(shape, dtype=torch.bool),
    )


def only(samples: Samples, index: int) -> Samples:
    return Samples(*(value[index : index + 1] for value in samples))


def of_one(networks: ActorCritics, index: int) -> dict[str, Tensor]:
    """All that a network is, without the scale that the stack shares."""
    tensors = networks.tensors()
    tensors.pop("scale")
    return {name: value[index] for name, value in tensors.items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def update(networks: ActorCritics, samples: Samples, passes: PpoPasses = WHOLE) -> dict[str, float]:
    return networks.update(samples, passes, torch.Generator().manual_seed(0))


def test_a_stack_learns_as_its_networks_alone() -> None:
    both = make_stack(2)
    samples = make_samples(both)
    alone = []
    for index in range(2):
        one = make_stack(2)
        tensors = one.tensors()
        scale = tensors.pop("scale")
        one.load({name: value[index : index + 1] for name, value in tensors.items()} | {"scale": scale})
        update(one, only(samples, index))
        alone.append(of_one(one, 0))
    update(both, samples)
    for index in range(2):
        for name, value in of_one(both, index).items():
            torch.testing.assert_close(value, alone[index][name], atol=1e-6, rtol=1e-5)


def test_steps_are_those_of_adam_also_after_a_network_began_anew() -> None:
    networks = make_stack(2)
    generator = torch.Generator().manual_seed(5)

    def step(rounds: int, optimisers: list[Any], leaves: list[dict[str, Tensor]]) -> None:
        for _ in range(rounds):
            gradients = {name: torch.randn(value.shape, generator=generator) for name, value in networks.params.items()}
            networks._step(gradients, torch.ones(2, dtype=torch.bool), 0.01)
            for index, optimiser in enumerate(optimisers):
                for name, leaf in leaves[index].items():
                    leaf.grad = gradients[name][index].clone()
                optimiser.step()
        for index, leaf in enumerate(leaves):
            for name, value in leaf.items():
                torch.testing.assert_close(networks.params[name][index], value.detach(), atol=1e-6, rtol=1e-5)

    def begin(index: int) -> tuple[Any, dict[str, Tensor]]:
        leaves = {name: value[index].clone().requires_grad_() for name, value in networks.params.items()}
        return torch.optim.Adam(leaves.values(), lr=0.01, eps=1e-5), leaves

    (one, ones), (other, others) = begin(0), begin(1)
    step(3, [one, other], [ones, others])
    networks.draw([1], torch.Generator().manual_seed(9))
    other, others = begin(1)  # Adam afresh: its bias corrections begin again
    step(3, [one, other], [ones, others])
    assert networks.steps.tolist() == [6.0, 3.0]


def test_a_network_that_begins_anew_leaves_the_others_bit_identical() -> None:
    networks = make_stack(3)
    update(networks, make_samples(networks))
    before = [of_one(networks, index) for index in range(3)]
    networks.draw([1], torch.Generator().manual_seed(7))
    for index in (0, 2):
        assert_same(of_one(networks, index), before[index])
    now = of_one(networks, 1)
    fresh = make_stack(1, seed=7)
    assert_same(now, of_one(fresh, 0))
    assert float(now["steps"]) == 0.0
    assert all(float(value.abs().sum()) == 0.0 for name, value in now.items() if name.startswith(("first", "second")))


def test_a_network_without_samples_stays_bit_identical() -> None:
    networks = make_stack(2)
    update(networks, make_samples(networks))  # moments that would go on moving it
    before = [of_one(networks, index) for index in range(2)]
    samples = make_samples(networks, seed=1)
    valid = samples.valid.clone()
    valid[1] = False
    metrics = update(networks, samples._replace(valid=valid), PpoPasses(epochs=2, minibatches=3))
    assert_same(of_one(networks, 1), before[1])
    assert any(not torch.equal(value, before[0][name]) for name, value in of_one(networks, 0).items())
    assert metrics["entropy"] == pytest.approx(0.69, abs=0.1)  # of the network that learned, not half of it


def test_padding_changes_nothing() -> None:
    one, other = make_stack(1), make_stack(1)
    samples = make_samples(one)
    padded = Samples(*(torch.cat((value, torch.full_like(value, 3)[:, :5]), dim=1) for value in samples))
    valid = torch.arange(17)[None] < 12
    padded = padded._replace(choice=torch.cat((samples.choice, torch.zeros(1, 5, 1)), dim=1), valid=valid)
    update(one, samples)
    update(other, padded)
    for name, value in of_one(one, 0).items():
        torch.testing.assert_close(of_one(other, 0)[name], value, atol=1e-6, rtol=1e-4)


def test_the_better_choice_becomes_more_likely_and_the_value_nearer() -> None:
    networks = make_stack(2)
    samples = make_samples(networks, 60)

    def chance() -> Tensor:
        found = networks.distribution(samples.observation)
        assert isinstance(found, Categorical)
        return found.logits.softmax(-1)[..., 1].mean(1)

    before = chance()
    assert torch.allclose(before, torch.full((2,), 0.5), atol=0.02)  # the first policies hardly depend on what they see
    metrics = [update(networks, samples, PpoPasses(epochs=2, minibatches=3)) for _ in range(15)]
    losses = [found["loss_value"] for found in metrics]
    assert bool((chance() > 0.6).all())
    assert losses[-1] < 0.8 * losses[0]
    # choices were even: where 1 is now as likely as .6, half of log .5/.6 and half of log .5/.4, about .02
    assert metrics[-1]["kl"] > 0.005


def test_the_clip_stops_the_policy() -> None:
    near, far = make_stack(1), make_stack(1)
    samples = make_samples(near, 60)
    for networks, clip in ((near, 0.05), (far, 10.0)):
        update(networks, samples, PpoPasses(epochs=20, minibatches=1, clip=clip))
    moved = []
    for networks in (near, far):
        found = log_prob(networks.distribution(samples.observation), samples.choice)
        moved.append(float((found - samples.old_log_prob).abs().mean()))
    assert moved[0] < 0.5 * moved[1]


def test_the_entropy_is_raised_by_its_weight() -> None:
    networks = make_stack(1)
    networks.params["policy.layers.1.bias"][0, 0] = 2.0
    samples = make_samples(networks)
    passes = PpoPasses(epochs=5, minibatches=1, entropy_weight=100.0)
    spreads = [update(networks, samples, passes)["entropy"] for _ in range(5)]
    assert spreads[-1] > spreads[0] + 0.05


def test_values_are_in_units_of_the_reward_and_the_scale_moves_by_its_rate() -> None:
    networks = make_stack(1)
    observation, elapsed = torch.zeros(1, 4, 3), torch.zeros(1, 4)
    plain = networks.value(observation, elapsed)
    networks.move_scale(torch.tensor([1.0, 5.0]), 1.0)
    assert (networks.return_mean, networks.return_variance) == (3.0, 4.0)
    torch.testing.assert_close(networks.value(observation, elapsed), 3.0 + 2.0 * plain)
    networks.move_scale(torch.tensor([13.0, 13.0]), 0.1)
    # a mixture of 0.9 (mean 3, variance 4) and 0.1 (mean 13, variance 0): 4 and 0.9 x 4 + 0.9 x 0.1 x 10^2
    assert (networks.return_mean, networks.return_variance) == pytest.approx((4.0, 12.6))
    networks.move_scale(torch.tensor([2.0, 2.0]), 1.0)  # all the same
    assert (networks.return_mean, networks.return_variance) == (2.0, 1e-6)


def test_values_see_the_elapsed_share_and_policies_do_not() -> None:
    networks = make_stack(1)
    samples = make_samples(networks, 40)
    early, late = (samples._replace(elapsed=torch.full((1, 40), share)) for share in (0.0, 1.0))
    assert not torch.equal(
        networks.value(early.observation, early.elapsed), networks.value(late.observation, late.elapsed)
    )


def test_values_learn_their_targets_in_units_of_the_reward() -> None:
    networks = make_stack(1)
    networks.move_scale(torch.tensor([8.0, 12.0]), 1.0)
    samples = make_samples(networks, 20)._replace(target=torch.full((1, 20), 13.0))
    for _ in range(30):
        update(networks, samples)
    found = networks.value(samples.observation, samples.elapsed)
    assert float((found - 13.0).abs().mean()) < 0.5
