"""Both action spaces: what is held is what the model decodes."""

import pytest
import torch

from supple.meta.space import ActionSpace, ChoiceSpace, RawSpace, SkillSpace, UnitSpace, linear_layers
from supple.meta.testing import PointBatch
from supple.robots.bandits import BernoulliBanditBatch
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel


def make_model(decoder_hidden: tuple[int, ...] = (16, 16)) -> SkillModel:
    config = SkillConfig(skill_horizon=4, skill_dim=3, decoder_hidden=decoder_hidden, prior_hidden=(8,))
    model = SkillModel(5, 2, config)
    model.normaliser.fit(torch.randn((50, 5), generator=torch.Generator().manual_seed(1)) * 7.0 + 3.0)
    model.action_scale.offset.copy_(torch.tensor([5.0, -0.25]))
    model.action_scale.scale.copy_(torch.tensor([0.01, 30.0]))
    return model


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("hidden", [(16,), (16, 16), (16, 8, 4)])
def test_holding_a_skill_is_decoding_it_at_every_step(hidden: tuple[int, ...]) -> None:
    model = make_model(hidden)
    control = SkillSpace(model).hold(skill := draw(6, 3))
    for observation in (draw(6, 5), 20.0 * draw(6, 5) - 4.0):
        torch.testing.assert_close(control(observation), model.decode(observation, skill), rtol=1e-4, atol=1e-5)


def test_holding_does_not_change_the_model() -> None:
    space = SkillSpace(model := make_model())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    space.hold(draw(6, 3))(draw(6, 5))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_skill_space_is_its_model_frozen() -> None:
    space = SkillSpace(model := make_model())
    observation = draw(2, 6, 5)
    assert (space.latent_dim, space.horizon) == (3, 4)
    assert torch.equal(space.normalise(observation), (observation - model.normaliser.mean) / model.normaliser.std)
    assert torch.equal(space.prior_of(observation).loc, model.prior_of(observation).loc)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not model.training


@pytest.mark.parametrize(
    ("space", "width"),
    [
        (RawSpace(PointBatch(1).spec, torch.zeros(2), torch.ones(2)), 2),
        (UnitSpace(PointBatch(1).spec), 2),
        (ChoiceSpace(BernoulliBanditBatch(1, arms=3, episode_steps=2).spec), 0),
        (SkillSpace(make_model()), 3),
    ],
    ids=["raw", "unit", "choice", "skill"],
)
def test_a_prior_has_the_leading_axes_of_the_observations(space: ActionSpace, width: int) -> None:
    observed = 5 if isinstance(space, SkillSpace) else 2
    for leading in ((), (6,), (4, 6), (3, 4, 6)):
        prior = space.prior_of(draw(*leading, observed))
        assert prior.loc.shape == prior.scale.shape == (*leading, width)


def test_layers_multiply_from_the_right() -> None:
    net = make_model().decoder
    hidden = value = draw(4, 8)
    *inner, last = linear_layers(net)
    for weight, bias in inner:
        hidden = (hidden @ weight + bias).relu()
    torch.testing.assert_close(hidden @ last[0] + last[1], net(value))


def test_raw_actions_are_held_for_one_step_near_a_standard_gaussian() -> None:
    space = RawSpace(PointBatch(1).spec, torch.tensor([1.0, 2.0]), torch.tensor([2.0, 4.0]))
    prior = space.prior_of(torch.zeros(3, 7, 2))
    assert (space.latent_dim, space.horizon) == (2, 1)
    assert space.normalise(torch.tensor([3.0, -2.0])).tolist() == [1.0, -1.0]
    assert torch.equal(prior.loc, torch.zeros(3, 7, 2))
    assert torch.equal(prior.scale, torch.ones(3, 7, 2))
    action = draw(3, 2)
    assert torch.equal(space.hold(action)(torch.zeros(3, 2)), action)
