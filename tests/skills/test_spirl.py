import math

import pytest
import torch
from torch import Tensor

from supple.skills.config import SkillConfig
from supple.skills.gaussian import Gaussian
from supple.skills.model import SkillModel
from supple.skills.spirl import (
    SkillLosses,
    compute_losses,
    draw_steps,
    kl_loss,
    prior_loss,
    reconstruction_loss,
    total_loss,
)

HORIZON = 4


def make_batch(batch: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, HORIZON, 3, generator=generator), torch.randn(batch, HORIZON, 2, generator=generator)


def make_model(encoder: str = "mlp") -> SkillModel:
    return SkillModel(3, 2, SkillConfig(skill_horizon=HORIZON, skill_dim=5, encoder=encoder))


def losses_of(model: SkillModel, decoded_steps: int = HORIZON, seed: int = 0) -> SkillLosses:
    return compute_losses(model, *make_batch(), torch.Generator().manual_seed(seed), decoded_steps)


def touched(model: SkillModel, loss: Tensor) -> set[str]:
    """The nets whose weights the loss moves."""
    model.zero_grad(set_to_none=True)
    loss.backward()
    moved = (name for name, value in model.named_parameters() if value.grad is not None and value.grad.abs().sum() > 0)
    return {name.split(".")[0] for name in moved}


def test_reconstruction_by_hand() -> None:
    # errors 1, 0, 0, 3: (1 + 9) / 4 / 2 = 1.25, plus log(2 pi) / 2; a mean over all axes, not a sum
    predicted = torch.tensor([[[1.0, 0.0], [0.0, 5.0]]])
    action = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
    assert reconstruction_loss(predicted, action).item() == pytest.approx(1.25 + 0.5 * math.log(2.0 * math.pi))


@pytest.mark.parametrize("decoded", [2, HORIZON])
def test_an_observation_is_decoded_into_the_action_of_its_own_step(
    decoded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, (observation, _) = make_model(), make_batch()
    action = observation[..., :2].clone()  # the decoder below knows the action of any observation
    monkeypatch.setattr(model, "decode_scaled", lambda seen, skill: model.action_scale(seen[..., :2]))
    losses = compute_losses(model, observation, action, torch.Generator().manual_seed(0), decoded)
    assert losses.reconstruction.item() == pytest.approx(0.5 * math.log(2.0 * math.pi), abs=1e-6)


def test_kl_by_hand() -> None:
    posterior = Gaussian(torch.tensor([[2.0, 0.0], [0.0, 0.0]]), torch.tensor([[1.0, 1.0], [1.0, math.e]]))
    # 2^2 / 2 = 2; 0; 0; (e^2 - 1) / 2 - 1: the mean over the four
    assert kl_loss(posterior).item() == pytest.approx((2.0 + (math.e**2 - 1.0) / 2.0 - 1.0) / 4.0)


def test_prior_by_hand() -> None:
    prior = Gaussian(torch.tensor([[0.0, 1.0], [0.0, 0.0]]), torch.tensor([[1.0, 2.0], [1.0, 1.0]]))
    skill = torch.tensor([[1.0, 5.0], [0.0, 0.0]])
    # row 0: .5 + 2 + log 2 + log(2 pi); row 1: log(2 pi): summed over the dimensions, mean over the rows
    expected = (2.5 + math.log(2.0)) / 2.0 + math.log(2.0 * math.pi)
    assert prior_loss(prior, skill).item() == pytest.approx(expected)


def test_the_total_weighs_only_the_kl() -> None:
    terms = SkillLosses(*(torch.tensor(value) for value in (1.0, 10.0, 100.0, 1000.0)))
    assert total_loss(terms, 0.5).item() == 1.0 + 10.0 + 50.0 + 1000.0


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_each_term_moves_its_own_nets_and_no_others(encoder: str) -> None:
    model = make_model(encoder)
    assert touched(model, losses_of(model).reconstruction) == {"encoder", "decoder"}
    assert touched(model, losses_of(model).kl) == {"encoder"}
    # the prior follows the encoder and the open-loop decoder reads the skill space: neither bends it
    assert touched(model, losses_of(model).prior) == {"prior"}
    assert touched(model, losses_of(model).open_reconstruction) == {"open_decoder"}


@pytest.mark.parametrize("term", SkillLosses._fields)
def test_a_step_down_each_gradient_lowers_its_term(term: str) -> None:
    model = make_model()
    before = getattr(losses_of(model), term)
    model.zero_grad(set_to_none=True)
    before.backward()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= 1e-2 * parameter.grad
    assert getattr(losses_of(model), term).item() < before.item()


def test_the_open_loop_decoder_sees_the_first_observation_only() -> None:
    model = make_model()
    observation, action = make_batch()
    later = observation.clone()
    later[:, 1:] += 1.0
    with torch.no_grad():
        model.encoder.net.layers[0].weight.zero_()
    losses = [compute_losses(model, o, action, torch.Generator().manual_seed(0), HORIZON) for o in (observation, later)]
    assert losses[0].open_reconstruction.item() == losses[1].open_reconstruction.item()
    assert losses[0].prior.item() == losses[1].prior.item()
    assert losses[0].reconstruction.item() != losses[1].reconstruction.item()


def test_drawn_steps_are_the_named_ones() -> None:
    window = torch.arange(2 * 3 * 2).reshape(2, 3, 2)
    drawn = draw_steps(window, torch.tensor([[2, 0], [1, 1]]))
    assert drawn.tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]


def test_drawn_steps_give_the_same_reconstruction_in_expectation() -> None:
    model = make_model()
    with torch.no_grad():
        # without posterior noise the only difference left is the draw of the steps
        model.encoder.net.layers[-1].weight[5:].zero_()
        model.encoder.net.layers[-1].bias[5:].fill_(-10.0)
        full = losses_of(model).reconstruction.item()
        drawn = [losses_of(model, 1, seed).reconstruction.item() for seed in range(400)]
    error = torch.tensor(drawn).std().item() / math.sqrt(len(drawn))
    assert abs(sum(drawn) / len(drawn) - full) < 4.0 * error
    assert len(set(drawn)) > 300
