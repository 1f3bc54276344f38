"""Returns and advantages by hand, and the baseline against least squares."""

import numpy as np
import pytest
import torch

from supple.meta.advantage import compute_advantage, compute_features, compute_returns, fit_linear_baseline, standardise


def test_returns_by_hand() -> None:
    reward = torch.tensor([[1.0, 2.0, 4.0, 8.0]])
    within = torch.tensor([[True, False, True, False]])  # two episodes of two steps
    # 1 + .5 x 2, 2, 4 + .5 x 8, 8
    assert compute_returns(reward, within, 0.5).tolist() == [[2.0, 2.0, 8.0, 8.0]]
    across = torch.tensor([[True, True, True, False]])
    # from the back: 8, 4 + 4, 2 + 4, 1 + 3
    assert compute_returns(reward, across, 0.5).tolist() == [[4.0, 6.0, 8.0, 8.0]]


def test_advantage_by_hand() -> None:
    reward, value = torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0])
    next_value = torch.tensor([20.0, 0.0])
    # delta = 1 + .5 x 20 - 10 = 1 and 2 - 20 = -18; A_0 = 1 + .5 x .4 x -18
    advantage = compute_advantage(reward, value, next_value, torch.tensor([True, False]), 0.5, 0.4)
    assert advantage.tolist() == pytest.approx([-2.6, -18.0])


def test_a_trace_of_one_gives_the_return_minus_the_value() -> None:
    generator = torch.Generator().manual_seed(0)
    reward, value = torch.randn((2, 3, 7), generator=generator)
    continues = torch.rand((3, 7), generator=generator) < 0.7
    continues[:, -1] = False
    next_value = torch.where(continues, torch.roll(value, -1, dims=1), 0.0)
    advantage = compute_advantage(reward, value, next_value, continues, 0.9, 1.0)
    torch.testing.assert_close(advantage + value, compute_returns(reward, continues, 0.9))


def test_features_by_hand() -> None:
    features = compute_features(torch.tensor([[3.0, -20.0]]), torch.tensor([50]))
    assert features.tolist() == [[3.0, -10.0, 9.0, 100.0, 0.5, 0.25, 0.125, 1.0]]


def test_baseline_is_the_least_squares_fit_of_each_task() -> None:
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(3, 50, 4)))
    target = torch.from_numpy(rng.normal(size=(3, 50)))
    valid = torch.from_numpy(rng.random((3, 50)) < 0.8)
    fitted = fit_linear_baseline(features, target, valid, ridge=1e-12)
    for task in range(3):
        keep = valid[task].numpy()
        expected = np.linalg.lstsq(features[task].numpy()[keep], target[task].numpy()[keep], rcond=None)[0]
        assert fitted[task].tolist() == pytest.approx(expected.tolist(), rel=1e-8)


def test_dependent_features_do_not_break_the_fit() -> None:
    features = torch.ones(1, 20, 5)
    fitted = fit_linear_baseline(features, torch.full((1, 20), 3.0), torch.ones(1, 20, dtype=torch.bool))
    assert (features @ fitted[..., None]).squeeze(-1)[0].tolist() == pytest.approx([3.0] * 20, rel=1e-4)


def test_standardised_by_hand() -> None:
    # of 1, 3 the mean is 2 and the deviation 1; padding neither counts nor moves
    assert standardise(torch.tensor([[1.0, 3.0, 77.0]]), torch.tensor([[True, True, False]])).tolist() == [
        pytest.approx([-1.0, 1.0, 0.0])
    ]
