"""Advantages of a batch of samples, worked out again from its rewards."""

import torch
from torch import Tensor

from supple.meta.advantage import compute_features, compute_returns, fit_linear_baseline
from supple.meta.task_batch import TaskBatch
from tests.meta.double_sum import sum_advantages


def check_advantages(batch: TaskBatch, discount: float, trace: float, *, normalise: bool = True) -> None:
    """Those of `batch` are GAE over the linear baseline of each task, standardised within the task if asked."""
    steps = torch.arange(batch.reward.shape[-1]).expand_as(batch.reward)
    later = torch.cat((batch.valid[..., 1:], torch.zeros_like(batch.valid[..., :1])), dim=-1)
    target = compute_returns(batch.reward, later, discount)
    torch.testing.assert_close(batch.objective, target[..., 0].mean(1) / batch.reward.shape[-1])
    features = compute_features(batch.observation, steps).flatten(1, 2)
    fitted = fit_linear_baseline(features, target.flatten(1), batch.valid.flatten(1))
    value = (features @ fitted[..., None]).squeeze(-1).view_as(target) * batch.valid
    for task in range(len(batch.reward)):
        valid = batch.valid[task]
        expected = sum_advantages(batch.reward[task], value[task], valid, discount, trace)[valid]
        if normalise:
            expected = _standardise(expected)
        torch.testing.assert_close(batch.advantage[task][valid], expected, atol=1e-3, rtol=1e-3)


def _standardise(value: Tensor) -> Tensor:
    return (value - value.mean()) / (value.std(correction=0) + 1e-8)
