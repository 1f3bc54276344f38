"""Fitted Q evaluation: the policy's action values by repeated regression, which needs no densities.

Source: Le, Voloshin, Yue, "Batch Policy Learning under Constraints", ICML 2019, Algorithm 3:

    Q_{i+1} = argmin_f sum_n (f(s_n, a_n) - (r_n + gamma sum_a pi(a | s'_n) Q_i(s'_n, a)))^2

Termination does not bootstrap, truncation does. The regression is exact where f is linear in features, and some steps
of Adam on a multilayer perceptron otherwise. S members are fitted side by side, each to the same decisions with weights
of its own: folds that leave episodes out, for doubly robust estimates, and bootstrapped sets of episodes, for intervals
(Hao et al., "Bootstrapping Fitted Q-Evaluation for Off-Policy Inference", ICML 2021).

Departure: the iteration starts at the value of the log's behaviour, a regression on the logged returns, and not at 0:
the values of a long episode then need not travel back through all of its decisions.

Axes: S members, E episodes, K decisions of the longest episode, M draws of the policy, I inputs, N decisions of all
episodes, B batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import SpecError
from ..simpl.networks import StackedMLP
from .config import FittedQConfig
from .decisions import Decisions, Floats

MARGIN = 1.2
"""A fit diverged where it finds so many times the largest value that rewards of this size can sum to."""
RIDGE = 1e-6
"""Of the exact regression, times the mean square of the features."""


class QData(NamedTuple):
    """Logged decisions, and what the policy would do in the same states, as the value function reads them."""

    inputs: NDArray[np.float32]
    """Features of (s_k, a_k), shape (E, K, I)."""
    drawn: NDArray[np.float32]
    """Features of (s_k, a), a the policy's, also where the episode ended, shape (E, K + 1, M, I)."""
    drawn_weight: NDArray[np.float32]
    """Probability of each a, or 1 / M of draws, shape (E, K + 1, M)."""
    decisions: Decisions
    """As logged, without the value of what was cut off."""


class FittedQ(NamedTuple):
    """Values of S members."""

    q: Floats
    """Q(s_k, a_k), shape (S, E, K)."""
    v: Floats
    """V(s_k) = sum_a pi(a | s_k) Q(s_k, a), also where the episode ended, shape (S, E, K + 1)."""
    diverged: NDArray[np.bool_]
    """Shape (S,): values beyond what the rewards allow, or not finite; they are 0 here then."""
    drift: Floats
    """Shape (S,): change of the mean V(s_0) in the last tenth of the iterations, as a share of the spread of the logged
    returns; a fit that settled has almost none."""


class Fit(NamedTuple):
    """Where a fit is."""

    iteration: int
    """Regressions so far."""
    fitted: FittedQ | None
    """The result, at the end."""


def draw_members(folds: NDArray[np.int64], bootstraps: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Weights of each episode in each member, shape (F + 1 + bootstraps, E).

    F members leave one fold out each, the next sees all episodes, and the others E episodes drawn with replacement.

    Args:
        folds: Fold of each episode, shape (E,), 0 to F - 1.
        bootstraps: Members that see drawn episodes.
        rng: Draws them.
    """
    episodes = len(folds)
    left_out = folds != np.arange(folds.max() + 1)[:, None]
    drawn = rng.multinomial(episodes, np.full(episodes, 1.0 / episodes), bootstraps)
    return np.concatenate([left_out, np.ones((1, episodes)), drawn]).astype(np.float32)


def fit_q(
    data: QData, members: NDArray[np.float32], config: FittedQConfig, generator: torch.Generator
) -> Iterator[Fit]:
    """Fits S members; yields after every regression, and the values at the end.

    Args:
        data: Of all episodes.
        members: Weight of each episode in each member, shape (S, E), >= 0; see `draw_members`.
        config: See `FittedQConfig`.
        generator: Draws weights and batches, on the CPU.

    Raises:
        SpecError: A discount of 1: values of episodes that are cut off have no bound then.
    """
    discount = data.decisions.discount[data.decisions.valid]
    if discount.max() >= 1.0:
        raise SpecError("fitted Q: expected a discount below 1, got 1; give one, 0.99 for instance")
    if config.hidden:
        yield from _fit_networks(data, members, config, generator)
    else:
        yield from _fit_linear(data, members, config)


class _Rows(NamedTuple):
    """The N decisions of all episodes, one after the other."""

    inputs: Tensor
    """(N, I)."""
    drawn: Tensor
    """Of the next state, (N, M, I)."""
    drawn_weight: Tensor
    """pi(a | s'), (N, M)."""
    discount: Tensor
    """gamma, 0 where the episode terminated, (N,)."""
    reward: Tensor
    """(N,)."""
    weight: Tensor
    """(S, N)."""


def _make_rows(data: QData, members: NDArray[np.float32], dtype: torch.dtype) -> _Rows:
    decisions = data.decisions
    episode, k = np.nonzero(decisions.valid)
    ended = decisions.terminated[episode] & (k == decisions.length[episode] - 1)
    discount = np.where(ended, 0.0, decisions.discount[episode, k])
    after = data.drawn[episode, k + 1], data.drawn_weight[episode, k + 1]
    arrays = (data.inputs[episode, k], *after, discount, decisions.reward[episode, k], members[:, episode])
    return _Rows(*(torch.from_numpy(array).to(dtype) for array in arrays))


def _fit_linear(data: QData, members: NDArray[np.float32], config: FittedQConfig) -> Iterator[Fit]:
    """theta_{i+1} = (X' W X)^-1 X' W (r + gamma X'_pi theta_i), exactly, of each member."""
    rows = _make_rows(data, members, torch.float64)
    after = (rows.drawn * rows.drawn_weight[..., None]).sum(1) * rows.discount[:, None]
    weighted = rows.inputs.T * rows.weight[:, None]
    gram = weighted @ rows.inputs
    gram.diagonal(dim1=-2, dim2=-1).add_(RIDGE * gram.diagonal(dim1=-2, dim2=-1).mean(-1, keepdim=True) + 1e-12)
    step = torch.linalg.solve(gram, torch.cat([weighted @ after, weighted @ rows.reward[:, None]], dim=-1))
    matrix, offset = step[..., :-1], step[..., -1:]
    theta, history = torch.zeros_like(offset), []
    start = torch.from_numpy(data.drawn[:, 0] * data.drawn_weight[:, 0, :, None]).double().sum(1).mean(0)
    for iteration in range(config.iterations):
        theta = offset + matrix @ theta
        history.append(start @ theta[..., 0].T)
        yield Fit(iteration + 1, None)
    inputs, drawn = torch.from_numpy(data.inputs).double(), torch.from_numpy(data.drawn).double()
    values = [inputs @ theta[..., 0].T, drawn @ theta[..., 0].T]
    yield Fit(config.iterations, _read(data, values[0].movedim(-1, 0), values[1].movedim(-1, 0), history))


def _fit_networks(
    data: QData, members: NDArray[np.float32], config: FittedQConfig, generator: torch.Generator
) -> Iterator[Fit]:
    """Adam on S networks, which see the same batches and weigh them by their own episodes."""
    rows, count = _make_rows(data, members, torch.float32), len(members)
    spread, to_go = _reward_to_go(data.decisions)
    inputs = data.inputs.shape[-1]
    networks = StackedMLP(count, (inputs, *config.hidden, 1), generator)
    target = StackedMLP(count, (inputs, *config.hidden, 1), generator).requires_grad_(False)
    steps = config.iterations * config.updates
    optimiser = torch.optim.Adam(networks.parameters(), lr=config.learning_rate, eps=1e-5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: 1.0 - 0.9 * min(1.0, step / steps))
    logged = torch.from_numpy(to_go[data.decisions.valid] / spread).float()
    reward = rows.reward / spread
    start = torch.from_numpy(data.drawn[:, 0]).flatten(0, 1)
    start_weight = torch.from_numpy(data.drawn_weight[:, 0]).flatten() / len(data.drawn)
    history = []
    for iteration in range(config.iterations):
        for _ in range(config.updates):
            drawn = torch.randint(len(reward), (min(config.batch, len(reward)),), generator=generator)
            if iteration == 0:
                wanted = logged[drawn].expand(count, -1)
            else:
                # one draw of the policy: the regression averages over draws, as it does over next states
                action = torch.multinomial(rows.drawn_weight[drawn], 1, generator=generator)[:, 0]
                with torch.no_grad():
                    after = target(rows.drawn[drawn, action].expand(count, -1, -1))[..., 0]
                wanted = reward[drawn] + rows.discount[drawn] * after
            found = networks(rows.inputs[drawn].expand(count, -1, -1))[..., 0]
            loss = (rows.weight[:, drawn] * (found - wanted) ** 2).mean(1).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
        target.load_state_dict(networks.state_dict())
        with torch.no_grad():
            history.append((networks(start.expand(count, -1, -1))[..., 0] * start_weight).sum(1).double() * spread)
        yield Fit(iteration + 1, None)
    with torch.no_grad():
        q = _evaluate(networks, torch.from_numpy(data.inputs)) * spread
        drawn_values = _evaluate(networks, torch.from_numpy(data.drawn)) * spread
    yield Fit(config.iterations, _read(data, q, drawn_values, history))


def _evaluate(networks: StackedMLP, inputs: Tensor) -> Tensor:
    """Q of inputs (..., I), shape (S, ...), in pieces that bound the memory."""
    count, flat = len(networks.weights[0]), inputs.flatten(0, -2)
    parts = [networks(piece.expand(count, -1, -1))[..., 0] for piece in torch.split(flat, 2**14)]
    return torch.cat(parts, dim=1).double().reshape(count, *inputs.shape[:-1])


def _reward_to_go(decisions: Decisions) -> tuple[float, Floats]:
    """Logged discounted return from each decision on, (E, K), and the spread that is taken as one unit."""
    value, parts = np.zeros(len(decisions.reward)), []
    for k in reversed(range(decisions.reward.shape[1])):
        value = decisions.reward[:, k] + decisions.discount[:, k] * value
        parts.append(value)
    to_go = np.stack(parts[::-1], axis=1)
    found = to_go[decisions.valid]
    return float(max(found.std(), 1e-3 * np.abs(found).max(), 1e-12)), to_go


def _read(data: QData, q: Tensor, drawn: Tensor, history: list[Tensor]) -> FittedQ:
    """Values of logged decisions (S, E, K) and of drawn ones (S, E, K + 1, M), and whether they can be."""
    decisions = data.decisions
    weight = torch.from_numpy(data.drawn_weight).double()
    v = (drawn * weight).sum(-1).numpy()
    values = q.numpy()
    bound = MARGIN * np.abs(decisions.reward).max() / (1.0 - decisions.discount[decisions.valid].max())
    seen = np.where(decisions.valid, values, 0.0)
    largest = np.maximum(np.abs(seen).max(axis=(1, 2)), np.abs(v[:, :, 0]).max(axis=1))
    diverged = ~(largest <= bound)  # also where it is not a number
    path = torch.stack(history).numpy()
    earlier = path[max(0, len(path) - 1 - max(1, len(path) // 10))]
    with np.errstate(invalid="ignore", over="ignore"):
        drift = np.abs(path[-1] - earlier) / _reward_to_go(decisions)[0]
    good = ~diverged[:, None, None]
    drift = np.where(diverged, np.inf, drift)
    return FittedQ(np.where(good, values, 0.0), np.where(good, v, 0.0), diverged, drift)
