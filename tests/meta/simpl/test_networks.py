"""Stacked networks against separate ones, the residual policy, and encoders that read sets."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from supple.meta.simpl.agent import SimplAgent
from supple.meta.simpl.config import SimplConfig
from supple.meta.simpl.networks import (
    ENCODERS,
    MIN_SCALE,
    MeanMaxEncoder,
    SetTransformer,
    StackedMLP,
    context_tokens,
    embedding_of,
    inverse_softplus,
    residual_policy,
)
from supple.meta.simpl.pool import Transitions
from supple.meta.space import SkillSpace
from supple.skills.config import SkillConfig
from supple.skills.device import multiplies_bfloat16, update_precision
from supple.skills.gaussian import Gaussian
from supple.skills.model import SkillModel


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 9) -> Tensor:
    return torch.randn(shape, generator=generator(seed))


@given(st.floats(1e-4, 50.0))
def test_inverse_softplus_inverts(value: float) -> None:
    back = nn.functional.softplus(inverse_softplus(torch.tensor(value, dtype=torch.float64)))
    assert back.item() == pytest.approx(value, rel=1e-6)


@given(st.floats(1e-3, 40.0), st.floats(1e-3, 40.0))
def test_inverse_softplus_is_increasing(one: float, other: float) -> None:
    low, high = inverse_softplus(torch.tensor(sorted((one, other)), dtype=torch.float64)).tolist()
    assert low <= high


def test_inverse_softplus_of_large_values_is_the_identity() -> None:
    assert inverse_softplus(torch.tensor(500.0)).item() == 500.0


def test_a_stack_is_separate_networks() -> None:
    stack, value = StackedMLP(3, (4, 8, 8, 2), generator()), draw(3, 5, 4)
    output = stack(value)
    assert output.shape == (3, 5, 2)
    for index in range(3):
        hidden = value[index]
        for layer in range(3):
            hidden = hidden @ stack.weights[layer][index] + stack.biases[layer][index]
            hidden = hidden.relu() if layer < 2 else hidden
        torch.testing.assert_close(output[index], hidden)


def test_normalised_layers_say_no_more_of_a_larger_input() -> None:
    stack = StackedMLP(1, (1, 2, 1), generator(), norm=True)
    state = {
        "weights.0": [[[1.0, 3.0]]],
        "biases.0": [[[0.0, 0.0]]],
        "weights.1": [[[2.0], [5.0]]],
        "biases.1": [[[0.5]]],
    }
    stack.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    # hidden (x, 3 x) is (-1, 1) after the norm for every x > 0: 5 * 1 + 0.5; and (1, -1) for x < 0: 2 * 1 + 0.5
    output = stack(torch.tensor([[[2.0], [2e6], [-2.0]]]))
    torch.testing.assert_close(output, torch.tensor([[[5.5], [5.5], [2.5]]]), atol=1e-4, rtol=0.0)


def test_members_of_a_stack_differ_and_stay_within_torchs_bounds() -> None:
    stack = StackedMLP(2, (4, 8, 8), generator())
    assert not torch.equal(stack.weights[0][0], stack.weights[0][1])
    for parameters in (stack.weights, stack.biases):
        for layer, inputs in zip(parameters, (4, 8), strict=True):
            assert 0.5 / math.sqrt(inputs) < layer.abs().max() <= 1.0 / math.sqrt(inputs)


def test_gradients_of_a_stack_do_not_mix() -> None:
    stack = StackedMLP(2, (3, 4, 1), generator())
    stack(draw(2, 5, 3))[0].sum().backward()
    assert all(parameter.grad[1].abs().max() == 0.0 for parameter in stack.parameters())


def test_the_last_layer_is_exact_under_autocast() -> None:
    stack = StackedMLP(1, (2, 1), generator())
    value = draw(1, 7, 2)
    with torch.autocast("cpu", torch.bfloat16):
        output = stack(value)
    assert output.dtype == torch.float32
    assert torch.equal(output, stack(value))


def test_no_residual_is_the_prior() -> None:
    prior = Gaussian(draw(5, 3), draw(5, 3, seed=2).exp())
    policy = residual_policy(torch.zeros(5, 6), prior)
    assert torch.equal(policy.loc, prior.loc)
    torch.testing.assert_close(policy.scale, prior.scale + MIN_SCALE)


def test_residual_shifts_the_mean_and_the_presoftplus_scale() -> None:
    prior = Gaussian(torch.tensor([1.0]), torch.tensor([math.log(2.0)]))  # inverse softplus of log 2 is 0
    policy = residual_policy(torch.tensor([0.5, 1.0]), prior)
    assert policy.loc.item() == 1.5
    assert policy.scale.item() == pytest.approx(MIN_SCALE + math.log1p(math.e))


@given(st.floats(-100.0, 100.0), st.floats(5e-5, 7.0))
@settings(max_examples=50)
def test_policies_have_a_smallest_scale(shift: float, scale: float) -> None:
    policy = residual_policy(torch.tensor([0.0, shift]), Gaussian(torch.zeros(1), torch.tensor([scale])))
    assert policy.scale.item() >= MIN_SCALE
    assert math.isfinite(policy.scale.item())


def test_an_embedding_of_zeros_is_nearly_standard() -> None:
    embedding = embedding_of(torch.zeros(2, 6))
    assert torch.equal(embedding.loc, torch.zeros(2, 3))
    torch.testing.assert_close(embedding.scale, torch.full((2, 3), 1.0 + MIN_SCALE))


def test_tokens_hold_every_field_in_order() -> None:
    blank = torch.zeros(1, 2, 0)
    context = Transitions(
        torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]),
        torch.tensor([[[5.0], [6.0]]]),
        torch.tensor([[7.0, 8.0]]),
        torch.tensor([[0.0, 1.0]]),
        torch.tensor([[[9.0, 10.0], [11.0, 12.0]]]),
        Gaussian(blank, blank),
        Gaussian(blank, blank),
    )
    tokens = context_tokens(context, lambda observation: 10.0 * observation)
    assert tokens.tolist() == [[[10, 20, 5, 7, 0, 90, 100], [30, 40, 6, 8, 1, 110, 120]]]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_order_of_a_context_does_not_matter(name: str) -> None:
    encoder = ENCODERS[name](5, 16, 3, generator())
    tokens = draw(2, 7, 5)
    embedding, shuffled = encoder(tokens), encoder(tokens[:, torch.randperm(7, generator=generator(4))])
    torch.testing.assert_close(embedding.loc, shuffled.loc)
    torch.testing.assert_close(embedding.scale, shuffled.scale)
    assert embedding.loc.shape == embedding.scale.shape == (2, 3)


@pytest.mark.parametrize("name", ENCODERS)
def test_every_token_matters_and_no_other_task_does(name: str) -> None:
    encoder = ENCODERS[name](5, 16, 3, generator())
    tokens = draw(2, 4, 5).requires_grad_()
    encoder(tokens).loc[0].sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad[0].abs().amax(-1) > 0.0).all()
    assert tokens.grad[1].abs().max() == 0.0


@pytest.mark.parametrize("name", ENCODERS)
def test_a_context_of_one_repeated_transition_is_that_transition(name: str) -> None:
    # attention over equal tokens, their mean and their maximum are all that token
    encoder = ENCODERS[name](5, 16, 3, generator())
    one = draw(1, 1, 5)
    torch.testing.assert_close(encoder(one).loc, encoder(one.expand(1, 6, 5)).loc)


def test_the_encoders_have_the_published_shapes() -> None:
    points = SetTransformer(20, 128, 5, generator())
    assert [tuple(value.shape) for value in points.points] == [(1, 32, 128)] * 2
    assert points.pool.heads == 4
    assert isinstance(MeanMaxEncoder(20, 128, 5, generator()), nn.Module)


@pytest.mark.parametrize("name", ENCODERS)
def test_the_networks_of_an_agent_read_sizes_that_all_differ(name: str) -> None:
    observation, skill, embedding, tasks, batch = 4, 3, 5, 2, 6
    width = {"encoder_hidden": (8,), "decoder_hidden": (8,), "open_decoder_hidden": (8,), "prior_hidden": (8,)}
    space = SkillSpace(SkillModel(observation, 2, SkillConfig(skill_horizon=5, skill_dim=skill, **width)))
    config = SimplConfig(embedding_dim=embedding, hidden=(8,), encoder=name, encoder_hidden=8)
    agent = SimplAgent(space, observation, config, generator())
    seen, latent, e = draw(tasks, batch, observation), draw(tasks, batch, skill), draw(tasks, batch, embedding)
    prior = Gaussian(torch.zeros_like(latent), torch.ones_like(latent))
    assert agent.policy_at(seen, e, prior).loc.shape == (tasks, batch, skill)
    assert agent.value(agent.critic, seen, latent, e).shape == (2, tasks, batch)
    assert agent.predict_reward(e, seen).shape == (tasks, batch)
    nothing = torch.zeros(tasks, batch)
    context = Transitions(seen, latent, nothing, nothing, seen, prior, prior)
    assert agent.encode(context).loc.shape == (tasks, embedding)
    # greedy rows take the mean, the others a sample
    one = Gaussian(prior.loc[0], prior.scale[0])
    mean = agent.policy_at(seen[0], e[0], one).loc
    chosen = agent.act(seen[0], one, e[0], generator(), [True, False] * 3)
    assert (chosen == mean).all(1).tolist() == [True, False] * 3


def test_attention_is_scaled_by_the_full_width() -> None:
    # two heads of four equal features: the logits of query 2 at keys 1 and -1 are 4 * (+-2) / sqrt(8), not / sqrt(4)
    block = SetTransformer(1, 8, 1, generator()).pool
    with torch.no_grad():
        for layer in (block.query, block.key, block.value, block.output):
            layer.layers[0].weight.copy_(torch.eye(8))
            layer.layers[0].bias.zero_()
        block.output.layers[0].weight.zero_()
    block.heads = 2
    query, keys = torch.full((1, 1, 8), 2.0), torch.tensor([1.0, -1.0])[None, :, None].expand(1, 2, 8)
    logit = 4 * 2.0 / math.sqrt(8.0)
    expected = 2.0 + math.tanh(logit)  # query + (weight of +1) - (weight of -1)
    torch.testing.assert_close(block(query, keys), torch.full((1, 1, 8), expected))


@pytest.mark.parametrize(
    ("abilities", "wanted", "used"),
    [
        ({"avx512_bf16": True}, True, True),
        ({"amx_bf16": True, "avx512_bf16": False}, True, True),
        ({"bf16": True}, True, True),
        ({"amx_bf16": True}, False, False),
        ({"avx2": True, "avx512_bf16": False, "amx_bf16": False}, True, False),
        ({}, True, False),
    ],
)
def test_updates_run_in_bfloat16_where_the_processor_multiplies_in_it(
    monkeypatch: pytest.MonkeyPatch, abilities: dict[str, bool], wanted: bool, used: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: abilities)
    cpu = torch.device("cpu")
    assert multiplies_bfloat16(cpu) == any(abilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    with update_precision(cpu, wanted):
        product = nn.functional.linear(torch.ones(2, 3), torch.ones(4, 3))
    assert product.dtype == (torch.bfloat16 if used else torch.float32)


def test_a_gpu_that_only_emulates_bfloat16_computes_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert not multiplies_bfloat16(torch.device("cuda"))
