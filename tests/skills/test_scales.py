"""Scales of observations and actions: by hand, and that the units of the data change nothing."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import SpecError
from supple.robots.spec import ArraySpec, Axis
from supple.skills.config import SkillConfig
from supple.skills.learner import SkillLearner, train
from supple.skills.model import SkillModel
from supple.skills.scales import ActionScale, Normaliser

INF = math.inf
HORIZON = 4
WIDTHS = {f"{part}_hidden": (16,) for part in ("encoder", "decoder", "open_decoder", "prior")}


def limits(*ends: tuple[float, float]) -> ArraySpec:
    return ArraySpec("action", tuple(Axis(f"joint{index}", "N", low, high) for index, (low, high) in enumerate(ends)))


def fitted(action: list[list[float]], spec: ArraySpec | None) -> ActionScale:
    scale = ActionScale(len(action[0]))
    scale.fit(torch.tensor(action), spec)
    return scale


def test_limits_that_the_data_fill_are_the_scale() -> None:
    # standard deviation 3, half of sqrt(3) * 3 = 5.2 and more than the half-range 4 around 1
    scale = fitted([[-2.0], [4.0]], limits((-3.0, 5.0)))
    assert (scale.offset.tolist(), scale.scale.tolist()) == ([1.0], [4.0])
    assert scale(torch.tensor([[-3.0], [5.0]])).tolist() == [[-1.0], [1.0]]
    assert scale.restore(torch.tensor([[-1.0], [0.5]])).tolist() == [[-3.0], [3.0]]


@pytest.mark.parametrize("spec", [None, limits((-INF, INF)), limits((-INF, 9.0)), limits((-100.0, 100.0))])
def test_data_that_do_not_fill_the_limits_are_the_scale(spec: ArraySpec | None) -> None:
    scale = fitted([[-2.0], [4.0]], spec)  # mean 1, standard deviation 3
    assert scale.offset.item() == 1.0
    assert scale.scale.item() == pytest.approx(3.0 * math.sqrt(3.0))


def test_axes_that_only_tremble_are_not_enlarged() -> None:
    axes = ArraySpec("observation", tuple(Axis(f"axis{i}", unit, -INF, INF) for i, unit in enumerate("aaabb")))
    # deviations 2, .001, 0, .001 and .01: the second is below 5 % of the first, the fourth of the fifth's is not
    wide = torch.tensor([2.0, 0.001, 0.0, 0.001, 0.01])
    observation = torch.stack([3.0 + wide, 3.0 - wide])
    known, unknown = Normaliser(5), Normaliser(5)
    known.fit(observation, axes)
    unknown.fit(observation)
    assert known.std.tolist() == pytest.approx([2.0, 0.1, 1.0, 0.001, 0.01], rel=1e-3)
    assert unknown.std.tolist() == pytest.approx([2.0, 0.001, 1.0, 0.001, 0.01], rel=1e-3)
    assert torch.equal(known.mean, unknown.mean)


def test_a_uniform_sweep_of_the_limits_has_the_scale_of_the_limits_either_way() -> None:
    action = torch.linspace(-2.0, 6.0, 10_001)[:, None]
    known, unknown = ActionScale(1), ActionScale(1)
    known.fit(action, limits((-2.0, 6.0)))
    unknown.fit(action, None)
    assert known.scale.item() == pytest.approx(unknown.scale.item(), rel=1e-3) == pytest.approx(4.0, rel=1e-3)
    assert known.offset.item() == pytest.approx(unknown.offset.item(), abs=1e-3)


def test_axes_are_scaled_one_by_one_and_an_axis_that_never_moves_by_its_limits() -> None:
    spec = limits((-1.0, 1.0), (-1.0, 1.0), (-2.0, 4.0), (-INF, INF))
    scale = fitted([[-1.0, 0.0, 3.0, 7.0], [1.0, 0.002, 3.0, 7.0]], spec)
    assert scale.offset.tolist() == [0.0, pytest.approx(0.001), 1.0, 7.0]
    assert scale.scale.tolist() == [1.0, pytest.approx(0.001 * math.sqrt(3.0)), 3.0, 1.0]


def test_full_use_of_limits_of_one_changes_no_bit() -> None:
    action = torch.rand((500, 2), generator=torch.Generator().manual_seed(0)).mul_(2.0).sub_(1.0).sign() * 0.99
    scale = ActionScale(2)
    scale.fit(action, limits((-1.0, 1.0), (-1.0, 1.0)))
    values = torch.randn((50, 2), generator=torch.Generator().manual_seed(1))
    assert torch.equal(scale(values), values)
    assert torch.equal(scale.restore(values), values)


@pytest.mark.parametrize("shape", [(0, 2), (4, 3), (4,)])
def test_action_scale_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError, match=r"ActionScale\.fit: expected shape \(N > 0, 2\), got"):
        ActionScale(2).fit(torch.zeros(shape), None)


@pytest.mark.parametrize("unit", [1e-9, 1.0, 1e9])
def test_whether_an_axis_moves_does_not_depend_on_its_unit(unit: float) -> None:
    observation = unit * torch.tensor([[1.0, 5.0, 1000.0], [3.0, 5.0, 1000.0001]])
    normaliser = Normaliser(3)
    normaliser.fit(observation)
    assert normaliser(observation)[:, 0].tolist() == pytest.approx([-1.0, 1.0], rel=1e-5)
    assert normaliser.std[1:].tolist() == [1.0, 1.0]  # constant, and constant but for rounding


class Pushes:
    """Windows that push one way or the other, whatever the state, in some unit."""

    def __init__(self, unit: float) -> None:
        self.unit = np.float32(unit)

    def sample(self, batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        sign = rng.choice(np.array([-1.0, 1.0], np.float32), size=(batch_size, 1, 1))
        observation = rng.standard_normal((batch_size, HORIZON, 2)).astype(np.float32)
        action = sign * np.array([0.8, -0.3], np.float32) + 0.1 * observation
        return observation, action * self.unit


def learn(unit: float) -> tuple[SkillModel, dict[str, float]]:
    config = SkillConfig(
        skill_horizon=HORIZON, skill_dim=2, batch_size=32, num_updates=200, learning_rate=1e-2, **WIDTHS
    )
    model = SkillModel(2, 2, config)
    model.action_scale.fit(torch.from_numpy(Pushes(unit).sample(2000, np.random.default_rng(1))[1][:, 0]), None)
    *_, last = train(SkillLearner(model, config), Pushes(unit), log_every=40)
    return model, last


def decoded(model: SkillModel) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        return model.decode(torch.randn(40, 2, generator=generator), torch.randn(40, 2, generator=generator))


def test_units_change_nothing() -> None:
    """The same data in another unit: by a power of two to the bit, else but for rounding."""
    plain, metrics = learn(1.0)
    assert metrics["kl"] > 0.5  # nats per skill axis: a skill says which way to push
    model, other = learn(2.0**-7)
    assert other == metrics
    assert torch.equal(decoded(model), decoded(plain) * 2.0**-7)
    for unit in (0.01, 100.0):
        model, other = learn(unit)
        assert other["kl"] == pytest.approx(metrics["kl"], rel=0.01)
        torch.testing.assert_close(decoded(model) / unit, decoded(plain), rtol=0.02, atol=0.02)


def test_the_robots_decoder_is_the_decoder_in_the_robots_units() -> None:
    config = SkillConfig(skill_horizon=HORIZON, skill_dim=2, **WIDTHS)
    model = SkillModel(2, 2, config)
    model.action_scale.offset.copy_(torch.tensor([3.0, -50.0]))
    model.action_scale.scale.copy_(torch.tensor([0.01, 200.0]))
    observation, skill = torch.randn(7, 2), torch.randn(7, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    folded = model.make_robot_decoder()(torch.cat((observation, skill), -1))
    torch.testing.assert_close(folded, model.decode(observation, skill), rtol=1e-5, atol=1e-5)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
