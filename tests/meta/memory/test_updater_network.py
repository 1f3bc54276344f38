"""The network that emits parameters: what it reads, its step by hand, and what is emitted."""

import numpy as np
import torch

from supple.meta.collect import Episodes
from supple.meta.memory.updater_network import Memory, RecurrentUpdater, Support, make_support
from supple.meta.policy import MlpPolicy, Params
from supple.meta.space import ChoiceSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.robots.bandits import BernoulliBanditBatch
from supple.skills.gaussian import Gaussian

POLICY = MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(3,), activation="tanh")
UPDATER = RecurrentUpdater(inputs=8, embedding=5, memory=4, rank=3)


def draw(seed: int = 0, *, dtype: torch.dtype = torch.float64) -> tuple[Params, Params]:
    """theta_0, and phi with a head and a common row that are no longer zero."""
    source = torch.Generator().manual_seed(seed)
    first = POLICY.init(source)
    phi = UPDATER.init(first, source)
    for name in ("head.weight", "head.bias", "basis"):
        phi[name] = phi[name] + 0.3 * torch.randn(phi[name].shape, generator=source)
    return ({name: value.to(dtype) for name, value in params.items()} for params in (first, phi))  # type: ignore[return-value]


def make_read(tasks: int = 2, episodes: int = 3, steps: int = 4, seed: int = 0) -> Support:
    """Random episodes; those of odd index are one transition shorter."""
    source = torch.Generator().manual_seed(seed)
    value = torch.randn(tasks, episodes, steps, 8, generator=source, dtype=torch.float64)
    valid = torch.ones(tasks, episodes, steps, dtype=torch.bool)
    valid[:, 1::2, -1] = False
    return Support(value * valid[..., None], valid)


def read(phi: Params, support: Support) -> Memory:
    return UPDATER.read(phi, support, UPDATER.begin(phi, len(support.valid)))


def make_episodes(rows: int, decisions: int, offset: float) -> Episodes:
    """Everything tells its place: observation and latent 100 row + decision + offset, reward its tenth."""
    place = 100.0 * torch.arange(rows)[:, None] + torch.arange(decisions + 1) + offset
    length = torch.full((rows,), decisions)
    length[0] -= 1
    return Episodes(
        observation=place[..., None].expand(-1, -1, 2).clone(),
        latent=place[:, :-1, None].expand(-1, -1, 2).clone(),
        prior=Gaussian(torch.ones(rows, decisions + 1, 2), torch.full((rows, decisions + 1, 2), 2.0)),
        reward=place[:, :-1] / 10.0,
        length=length,
        terminated=torch.tensor([True] + [False] * (rows - 1)),
        steps=length,
        path=torch.zeros(rows, decisions, 2),
    )


def test_directions_are_as_large_as_first_weights() -> None:
    """Uniform within sqrt(6 / (inputs + outputs)) for weights and 1 / sqrt(width) for the rest, over sqrt(rank)."""
    updater = RecurrentUpdater(inputs=8, embedding=5, memory=4, rank=400)
    first = POLICY.init(torch.Generator().manual_seed(0))
    basis = updater.init(first, torch.Generator().manual_seed(1))["basis"]
    assert torch.equal(basis[-1], torch.zeros_like(basis[-1]))  # the common row
    bounds = {
        "layers.0.weight": (6 / 5) ** 0.5,  # of 2 inputs and 3 outputs
        "layers.0.bias": (1 / 3) ** 0.5,
        "layers.1.weight": (6 / 5) ** 0.5,
        "layers.1.bias": (1 / 2) ** 0.5,
        "log_scale": (1 / 2) ** 0.5,
    }
    parts = basis[:-1].split([value.numel() for value in first.values()], dim=1)
    for name, part in zip(first, parts, strict=True):
        largest = float(part.abs().max()) * 400**0.5
        assert 0.97 * bounds[name] < largest <= bounds[name] * (1 + 1e-6), name


# What is read


def test_a_transition_is_read_whole_and_padding_is_zero() -> None:
    space = UnitSpace(PointBatch(1).spec)
    support = make_support([make_episodes(2, 3, 0.0), make_episodes(2, 3, 7.0)], space, 2)
    assert support.transition.shape == (2, 2, 3, 8)
    # task 0 has row 0 of both rounds, which ended after 2 decisions; u = (latent - 1) / 2
    np.testing.assert_allclose(support.transition[0, 0, 0], [0, 0, -0.5, -0.5, 0, 1, 1, 0])
    np.testing.assert_allclose(support.transition[0, 0, 1], [1, 1, 0, 0, 0.1, 2, 2, 1])
    np.testing.assert_allclose(support.transition[0, 1, 1], [8, 8, 3.5, 3.5, 0.8, 9, 9, 1])
    assert not support.transition[0, :, 2].any()
    assert support.valid[0].tolist() == [[True, True, False]] * 2
    # row 1 ran to the time limit, which is no termination
    np.testing.assert_allclose(support.transition[1, 0, 2], [102, 102, 50.5, 50.5, 10.2, 103, 103, 0])


def test_choices_are_read_one_hot() -> None:
    space = ChoiceSpace(BernoulliBanditBatch(1, arms=3, episode_steps=2).spec)
    episodes = make_episodes(1, 2, 0.0)
    dim = 1
    episodes = episodes._replace(
        observation=torch.zeros(1, 3, dim),
        latent=torch.tensor([[[2.0], [0.0]]]),
        length=torch.tensor([2]),
        prior=Gaussian(torch.zeros(1, 3, 0), torch.zeros(1, 3, 0)),
    )
    support = make_support([episodes], space, 1)
    assert support.transition[0, 0, :, dim : dim + 3].tolist() == [[0, 0, 1], [1, 0, 0]]


def test_an_episode_is_the_mean_of_its_transitions_whatever_stands_in_the_padding() -> None:
    _, phi = draw()
    support = make_read()
    found = UPDATER.embed(phi, support)
    assert found.shape == (2, 3, 5)
    alone = Support(support.transition[:1, 1:2, :3], support.valid[:1, 1:2, :3])
    torch.testing.assert_close(UPDATER.embed(phi, alone)[0, 0], found[0, 1])
    each = [UPDATER.embed(phi, Support(alone.transition[:, :, t, None], alone.valid[:, :, t, None])) for t in range(3)]
    torch.testing.assert_close(torch.stack(each).mean(0)[0, 0], found[0, 1])
    padded = support.transition.clone()
    padded[:, 1, -1] = 9.0
    torch.testing.assert_close(UPDATER.embed(phi, Support(padded, support.valid)), found)


# What is emitted


def test_the_cell_is_torchs_gru_cell() -> None:
    _, phi = draw()
    cell = torch.nn.GRUCell(5 + 3 + 1, 4, dtype=torch.float64)
    names = {"weight_ih": "gru.input.weight", "bias_ih": "gru.input.bias"}
    names |= {"weight_hh": "gru.hidden.weight", "bias_hh": "gru.hidden.bias"}
    cell.load_state_dict({own: phi[name] for own, name in names.items()})
    source = torch.Generator().manual_seed(1)
    value, hidden, coefficient = (torch.randn(2, size, generator=source, dtype=torch.float64) for size in (5, 4, 4))
    after = UPDATER.step(phi, value, Memory(hidden, coefficient))
    torch.testing.assert_close(after.hidden, cell(torch.cat((value, coefficient), 1), hidden))
    expected = coefficient[:, :3] + after.hidden @ phi["head.weight"].T + phi["head.bias"]
    torch.testing.assert_close(after.coefficient, torch.cat((expected, torch.ones(2, 1)), 1))


def test_with_a_zero_head_nothing_that_is_read_changes_the_parameters() -> None:
    source = torch.Generator().manual_seed(0)
    first = POLICY.init(source)
    phi = UPDATER.init(first, source)
    support = make_read()
    emitted = UPDATER.emit(phi, first, read(phi, Support(support.transition.float(), support.valid)))
    for name, value in first.items():
        assert torch.equal(emitted[name], value.expand(2, *value.shape))


def test_parameters_move_along_the_basis_and_the_common_row_counts_once() -> None:
    first, phi = draw()
    phi["head.weight"] = torch.zeros_like(phi["head.weight"])
    phi["head.bias"] = torch.tensor([1.0, 0.0, -2.0], dtype=torch.float64)
    support = make_read(episodes=3)
    before = UPDATER.emit(phi, first, UPDATER.begin(phi, 2))
    after = UPDATER.emit(phi, first, read(phi, support))
    # three episodes: z = 3 (1, 0, -2), and the common coefficient is 1
    change = 3.0 * phi["basis"][0] - 6.0 * phi["basis"][2] + phi["basis"][3]
    place = 0
    for name, value in first.items():
        assert torch.equal(before[name], value.expand(2, *value.shape))
        expected = value + change[place : place + value.numel()].view_as(value)
        torch.testing.assert_close(after[name], expected.expand(2, *value.shape))
        place += value.numel()
    assert place == phi["basis"].shape[1]


def test_tasks_do_not_touch_each_other_and_reading_can_be_interrupted() -> None:
    first, phi = draw()
    support = make_read()
    whole = read(phi, support)
    alone = read(phi, Support(support.transition[1:], support.valid[1:]))
    torch.testing.assert_close(alone.coefficient[0], whole.coefficient[1])
    begun = read(phi, Support(support.transition[:, :1], support.valid[:, :1]))
    ended = UPDATER.read(phi, Support(support.transition[:, 1:], support.valid[:, 1:]), begun)
    torch.testing.assert_close(ended.coefficient, whole.coefficient)
    torch.testing.assert_close(ended.hidden, whole.hidden)
    assert not torch.equal(whole.coefficient[0], whole.coefficient[1])
    emitted = UPDATER.emit(phi, first, whole)
    assert not torch.equal(emitted["layers.0.weight"][0], emitted["layers.0.weight"][1])
