import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError
from supple.skills.network import MLP, make_linear


def make_mlp(sizes: tuple[int, ...], seed: int = 0, activation: str = "relu") -> MLP:
    return MLP(sizes, activation, generator=torch.Generator().manual_seed(seed))


def test_two_layers_by_hand() -> None:
    net = make_mlp((2, 2, 1))
    with torch.no_grad():
        net.layers[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 1.0]]))
        net.layers[0].bias.copy_(torch.tensor([0.5, -1.0]))
        net.layers[1].weight.copy_(torch.tensor([[3.0, 5.0]]))
        net.layers[1].bias.copy_(torch.tensor([-10.0]))
    # hidden: 1*1 + 2*1 + .5 = 3.5 and -1 + 1 - 1 = -1 -> 0; output: 3 * 3.5 + 0 - 10 = .5
    assert net(torch.tensor([[1.0, 1.0]])).item() == 0.5
    # 3 * relu(-.5) + 5 * relu(0 + 0 - 1) - 10: the last layer is not rectified
    assert net(torch.tensor([[-1.0, 0.0]])).item() == -10.0


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5), seed=st.integers(0, 2**32), rows=st.integers(1, 5))
def test_a_numpy_loop_over_the_state_dict_agrees(sizes: list[int], seed: int, rows: int) -> None:
    net = make_mlp(tuple(sizes), seed)
    value = torch.randn(rows, sizes[0], generator=torch.Generator().manual_seed(seed + 1))
    state = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    expected = value.numpy()
    for index in range(len(sizes) - 1):
        expected = expected @ state[f"layers.{index}.weight"].T + state[f"layers.{index}.bias"]
        if index < len(sizes) - 2:
            expected = np.maximum(expected, 0.0)
    np.testing.assert_allclose(net(value).detach().numpy(), expected, rtol=1e-5, atol=1e-5)


def test_initialisation_depends_on_the_generator_only() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, again, other = make_mlp((3, 8, 2), 5), make_mlp((3, 8, 2), 5), make_mlp((3, 8, 2), 6)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(first.layers[0].weight, again.layers[0].weight)
    assert not torch.equal(first.layers[0].weight, other.layers[0].weight)


def test_initialisation_is_uniform_within_one_over_root_inputs() -> None:
    layer = make_linear(16, 4096, torch.Generator().manual_seed(0))
    assert layer.weight.abs().max().item() <= 0.25
    assert layer.weight.std().item() == pytest.approx(0.25 / math.sqrt(3.0), rel=0.02)


@pytest.mark.parametrize("sizes", [(3,), (3, 0, 1), ()])
def test_bad_sizes_are_refused(sizes: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=r"MLP sizes: expected at least two widths"):
        make_mlp(sizes)


def test_an_unknown_activation_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"expected one of relu, tanh, got 'swish'"):
        make_mlp((2, 1), activation="swish")
