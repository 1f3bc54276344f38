import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import SpecError
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel
from supple.skills.scales import Normaliser

SMALL = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}


@settings(max_examples=20, deadline=None)
@given(
    observation_dim=st.integers(1, 5),
    action_dim=st.integers(1, 4),
    horizon=st.integers(1, 6),
    skill_dim=st.integers(1, 4),
    batch=st.integers(1, 3),
    encoder=st.sampled_from(["mlp", "lstm"]),
)
def test_shapes(observation_dim: int, action_dim: int, horizon: int, skill_dim: int, batch: int, encoder: str) -> None:
    config = SkillConfig(skill_horizon=horizon, skill_dim=skill_dim, encoder=encoder, **SMALL)
    model = SkillModel(observation_dim, action_dim, config)
    observation, action = torch.randn(batch, horizon, observation_dim), torch.randn(batch, horizon, action_dim)
    posterior = model.encode(observation, action)
    prior = model.prior_of(observation[:, 0])
    skill = posterior.sample(torch.Generator().manual_seed(0))
    for gaussian in (posterior, prior):
        assert gaussian.loc.shape == gaussian.scale.shape == (batch, skill_dim)
        assert (gaussian.scale > 0).all()
    assert model.decode(observation[:, 0], skill).shape == (batch, action_dim)
    every_step = skill[:, None].expand(-1, horizon, -1)
    assert model.decode(observation, every_step).shape == (batch, horizon, action_dim)
    assert model.decode_open(skill, observation[:, 0]).shape == (batch, horizon, action_dim)


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_every_step_of_the_window_reaches_the_posterior(encoder: str) -> None:
    model = SkillModel(2, 3, SkillConfig(skill_horizon=4, encoder=encoder))
    observation = torch.randn(1, 4, 2, requires_grad=True)
    action = torch.randn(1, 4, 3, requires_grad=True)
    posterior = model.encode(observation, action)
    (posterior.loc.square().sum() + posterior.scale.sum()).backward()
    for leaf in (observation, action):
        assert leaf.grad is not None
        assert (leaf.grad.abs().sum(-1) > 0).all()


def test_seed_and_nothing_else_decides_the_weights() -> None:
    torch.manual_seed(1)
    first = SkillModel(2, 2, SkillConfig(seed=3, encoder="lstm")).state_dict()
    torch.manual_seed(2)
    again = SkillModel(2, 2, SkillConfig(seed=3, encoder="lstm")).state_dict()
    other = SkillModel(2, 2, SkillConfig(seed=4, encoder="lstm")).state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["prior.layers.0.weight"], other["prior.layers.0.weight"])


def test_lstm_forget_bias_is_one() -> None:
    model = SkillModel(2, 2, SkillConfig(encoder="lstm", encoder_hidden=(6,)))
    bias = model.encoder.lstm.bias_ih_l0 + model.encoder.lstm.bias_hh_l0
    assert bias[6:12].tolist() == [1.0] * 6
    assert not (bias[:6] == 1.0).any()


def test_normaliser_by_hand() -> None:
    normaliser = Normaliser(2)
    normaliser.fit(torch.tensor([[1.0, 5.0], [3.0, 5.0]]))
    # mean 2 and std 1 (population); the constant dimension is only centred
    assert normaliser.mean.tolist() == [2.0, 5.0]
    assert normaliser.std.tolist() == [1.0, 1.0]
    assert normaliser(torch.tensor([4.0, 6.0])).tolist() == [2.0, 1.0]


def test_normaliser_keeps_precision_far_from_zero() -> None:
    normaliser = Normaliser(1)
    normaliser.fit(1e4 + torch.tensor([[-1.0], [1.0]]).repeat(1000, 1))
    assert normaliser.std.item() == pytest.approx(1.0, rel=1e-5)


@pytest.mark.parametrize("method", ["encode", "prior_of", "decode", "decode_open"])
def test_every_net_sees_normalised_observations(method: str) -> None:
    """Shifted and stretched observations with a normaliser fitted to them give what the plain ones gave."""
    config = SkillConfig(skill_horizon=3, **SMALL)
    plain, shifted = SkillModel(2, 1, config), SkillModel(2, 1, config)
    observation, action, skill = torch.randn(5, 3, 2), torch.randn(5, 3, 1), torch.randn(5, config.skill_dim)
    moved = observation * 8.0 + 64.0
    shifted.normaliser.mean.fill_(64.0)
    shifted.normaliser.std.fill_(8.0)

    def output(model: SkillModel, window: torch.Tensor) -> torch.Tensor:
        if method == "encode":
            return model.encode(window, action).loc
        if method == "prior_of":
            return model.prior_of(window).loc
        if method == "decode":
            return model.decode(window[:, 0], skill)
        return model.decode_open(skill, window[:, 0])

    torch.testing.assert_close(output(shifted, moved), output(plain, observation), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(output(plain, moved), output(plain, observation), atol=1e-2)


@pytest.mark.parametrize("shape", [(0, 2), (4, 3), (4,)])
def test_normaliser_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match=r"Normaliser\.fit: expected shape \(N > 0, 2\), got"):
        Normaliser(2).fit(torch.zeros(shape))


def test_normaliser_refuses_nan_and_names_the_dimension() -> None:
    observation = torch.zeros(4, 3)
    observation[2, 1] = torch.nan
    with pytest.raises(SpecError, match=r"expected finite values, got others in dimension 1"):
        Normaliser(3).fit(observation)


def test_the_prior_can_be_narrowed() -> None:
    model = SkillModel(4, 2, SkillConfig(skill_dim=3, prior_hidden=(8,)))
    observation = torch.randn((5, 4), generator=torch.Generator().manual_seed(0))
    wide = model.prior_of(observation)
    model.scale_prior(0.5)
    narrow = model.prior_of(observation)
    torch.testing.assert_close(narrow.scale, 0.5 * wide.scale)
    torch.testing.assert_close(narrow.loc, wide.loc)
