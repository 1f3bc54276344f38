"""Generalised advantages as the double sum of Eq. 16 of Schulman et al. 2016, which is slow and cannot be misread."""

import torch
from torch import Tensor


def sum_advantages(reward: Tensor, value: Tensor, valid: Tensor, discount: float, trace: float) -> Tensor:
    """Of rows that begin with their valid steps and end for good behind them, all of shape (R, T); 0 in the padding."""
    advantage = torch.zeros_like(reward)
    for row, length in enumerate(valid.sum(1).tolist()):
        after = torch.cat((value[row, 1:length], torch.zeros(1)))
        delta = reward[row, :length] + discount * after - value[row, :length]
        for t in range(length):
            advantage[row, t] = sum((discount * trace) ** (later - t) * delta[later] for later in range(t, length))
    return advantage
