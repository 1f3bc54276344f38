"""Functional policies: with and without a task axis, choices in units of the prior, rows of tasks."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from supple.errors import ConfigError
from supple.meta.collect import Seen
from supple.meta.distribution import Categorical, log_prob
from supple.meta.policy import LOG_SCALE_LOW, MlpPolicy, RowActor, for_tasks, make_policy
from supple.meta.space import ChoiceSpace, RawSpace, UnitSpace
from supple.meta.testing import PointBatch
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.skills.gaussian import Gaussian
from supple.skills.network import MLP

GAUSSIAN = MlpPolicy(inputs=2, outputs=3, discrete=False, hidden=(5, 4), activation="tanh")
CHOICE = MlpPolicy(inputs=2, outputs=3, discrete=True, hidden=(5,))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def different_tasks(policy: MlpPolicy, tasks: int) -> dict[str, Tensor]:
    each = [policy.init(generator(seed), torch.float64) for seed in range(tasks)]
    return {name: torch.stack([params[name] for params in each]) for name in each[0]}


@pytest.mark.parametrize("policy", [GAUSSIAN, CHOICE], ids=["gaussian", "choice"])
@pytest.mark.parametrize("samples", [(7,), (3, 4)], ids=str)
def test_a_task_axis_is_a_policy_per_task(policy: MlpPolicy, samples: tuple[int, ...]) -> None:
    params = different_tasks(policy, 3)
    if not policy.discrete:
        params["log_scale"] = torch.arange(9, dtype=torch.float64).reshape(3, 3) / 10
    observation = torch.randn((3, *samples, 2), generator=generator(), dtype=torch.float64)
    together = policy(params, observation)
    for task in range(3):
        alone = policy({name: value[task] for name, value in params.items()}, observation[task])
        for one, all_of_them in zip(alone, together, strict=True):
            torch.testing.assert_close(all_of_them[task], one)
            assert one.shape == (*samples, 3)


def test_parameters_are_those_of_the_plain_network() -> None:
    policy = MlpPolicy(inputs=2, outputs=3, discrete=True, hidden=(5,), activation="relu")
    params = policy.init(generator())
    net = MLP((2, 5, 3), generator=generator(1))
    net.load_state_dict(params)
    observation = torch.randn((4, 2), generator=generator())
    found = policy(params, observation)
    assert isinstance(found, Categorical)
    torch.testing.assert_close(found.logits, net(observation))


def test_first_parameters() -> None:
    """Glorot: the first layer 2 -> 5 lies in +-sqrt(6 / 7), and fills it; biases 0, scale 1."""
    params = GAUSSIAN.init(generator())
    wide = MlpPolicy(inputs=100, outputs=1, discrete=True, hidden=(200,)).init(generator())["layers.0.weight"]
    assert 0.97 < float(wide.abs().max()) / math.sqrt(6 / 300) <= 1.0
    assert abs(float(wide.mean())) < 0.005
    assert not any(params[f"layers.{index}.bias"].any() for index in range(3))
    assert params["log_scale"].tolist() == [0.0, 0.0, 0.0]
    assert params["log_scale"].data_ptr() != params["layers.2.bias"].data_ptr()
    assert "log_scale" not in CHOICE.init(generator())


def test_scales_have_a_floor() -> None:
    params = GAUSSIAN.init(generator(), torch.float64)
    params["log_scale"] -= 100.0
    found = GAUSSIAN(params, torch.zeros(1, 2, dtype=torch.float64))
    assert isinstance(found, Gaussian)
    torch.testing.assert_close(found.scale, torch.full((1, 3), 1e-6, dtype=torch.float64))
    assert math.exp(LOG_SCALE_LOW) == pytest.approx(1e-6)


def test_choices_in_units_of_the_prior_have_the_density_up_to_the_volume() -> None:
    """p(z) = p(u) / prod std, so that ratios of densities are the same in both."""
    prior = Gaussian(torch.tensor([1.0, -2.0, 0.0]), torch.tensor([0.5, 2.0, 1.0]))
    latent = torch.tensor([1.5, 2.0, 3.0])
    choice = GAUSSIAN.to_choice(latent, prior)
    assert choice.tolist() == [1.0, 2.0, 3.0]
    torch.testing.assert_close(GAUSSIAN.to_latent(choice, prior), latent)
    policy = Gaussian(torch.tensor([0.2, 0.0, -1.0]), torch.tensor([0.5, 1.5, 1.0]))
    in_latent = Gaussian(GAUSSIAN.to_latent(policy.loc, prior), policy.scale * prior.scale)
    volume = prior.scale.log().sum()
    torch.testing.assert_close(log_prob(in_latent, latent), log_prob(policy, choice) - volume)
    nothing = Gaussian(torch.zeros(0), torch.zeros(0))
    assert CHOICE.to_choice(torch.tensor([2.0]), nothing).tolist() == [2.0]
    assert CHOICE.to_latent(torch.tensor([1.0]), nothing).tolist() == [1.0]


def test_the_space_decides_the_kind() -> None:
    plane = (Axis("x", "m", -1.0, 1.0),)
    spec = RobotSpec(
        name="arms",
        observation=ArraySpec("observation", plane),
        action=ArraySpec("action", (Axis("action", "1", 0.0, 3.0),)),
        goal=ArraySpec("goal", plane),
        control_period=1.0,
        episode_steps=1,
        choices=("a", "b", "c", "d"),
    )
    choice = make_policy(ChoiceSpace(spec), 1, (4,), "relu")
    assert (choice.discrete, choice.outputs, choice.inputs) == (True, 4, 1)
    point = PointBatch(1).spec
    for space in (UnitSpace(point), RawSpace(point, torch.zeros(2), torch.ones(2))):
        policy = make_policy(space, 2, (4,), "tanh")
        assert (policy.discrete, policy.outputs, policy.activation) == (False, 2, "tanh")


def seen(rows: list[int], observation: Tensor) -> Seen:
    prior = Gaussian(torch.zeros(len(rows), 2), torch.ones(len(rows), 2))
    return Seen(observation[rows], prior, np.array(rows, np.int64), torch.zeros(len(rows)))


def test_rows_act_by_the_parameters_of_their_task_also_when_others_ended() -> None:
    policy = MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(4,))
    params = {name: value.float() for name, value in different_tasks(policy, 3).items()}
    space = UnitSpace(PointBatch(1).spec)
    observation = torch.randn((6, 2), generator=generator())
    actor = RowActor(policy, params, space, 2, generator(), greedy=True)
    everyone = actor(seen(list(range(6)), observation))
    for row in range(6):
        own = policy({name: value[row // 2] for name, value in params.items()}, observation[row : row + 1])
        assert isinstance(own, Gaussian)
        torch.testing.assert_close(everyone[row], own.loc[0])
    some = actor(seen([0, 3, 4], observation))
    torch.testing.assert_close(some, everyone[[0, 3, 4]])


def test_samples_spread_as_the_scale_says() -> None:
    policy = MlpPolicy(inputs=2, outputs=2, discrete=False, hidden=(4,))
    params = for_tasks(policy.init(generator()) | {"log_scale": torch.tensor([0.5, 2.0]).log()}, 2)
    actor = RowActor(policy, params, UnitSpace(PointBatch(1).spec), 2000, generator())
    drawn = actor(seen(list(range(4000)), torch.zeros(4000, 2)))
    torch.testing.assert_close(drawn.std(0), torch.tensor([0.5, 2.0]), rtol=0.05, atol=0.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"hidden": (4, 0)}, r"widths.*got \(2, 4, 0, 1\)"), ({"activation": "gelu"}, "relu or tanh, got 'gelu'")],
)
def test_policies_that_are_none_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MlpPolicy(**{"inputs": 2, "outputs": 1, "discrete": False, **change})
