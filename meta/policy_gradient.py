"""Losses of policy-gradient learners that adapt, as pure functions of log probabilities and advantages.

Sources: Williams, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning", Machine
Learning 1992 (REINFORCE); Schulman et al., "Trust Region Policy Optimization", ICML 2015, and "Proximal Policy
Optimization Algorithms", 2017; Rothfuss et al., "ProMP: Proximal Meta-Policy Search", ICLR 2019 (LVC); Farquhar,
Whiteson, Foerster, "Loaded DiCE: Trading off Bias and Variance in Any-Order Score Function Estimators for Reinforcement
Learning", NeurIPS 2019; Stadie et al., "Some Considerations on Learning to Explore via Meta-Reinforcement Learning",
2018 (E-MAML).

Two objectives are called MAML for reinforcement learning, and their gradients differ:

I.  theta' = theta + alpha grad E[R]. Its gradient needs the Hessian of an expectation, so the inner loss is `lvc_loss`
    or `dice_loss`; with `reinforce_loss` the outer product of scores is missing.
II. J(theta) = E_D[J(U(theta, D))] over the samples D of the inner step (E-MAML). Its gradient is the plain one with
    `reinforce_loss` and D fixed, plus `exploration_loss`, the score of *all* samples of D. With LVC or DiCE that term
    would count twice, and with the mean of the scores for their sum it is too small by the number of samples.

The factor gamma^t of the discounted objective's gradient is left out, as everywhere.

Axes: N tasks, E episodes of a task, T decisions of an episode; losses are of each task, (N,).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .distribution import Distribution, kl

LARGEST_LOG_RATIO = 20.0
"""Bound of log (pi / pi_old) in PPO's loss."""


def task_mean(value: Tensor, valid: Tensor) -> Tensor:
    """Mean over the samples of each task, shape (N,); both (N, E, T)."""
    kept = torch.where(valid, value, torch.zeros_like(value))
    return kept.sum((1, 2)) / valid.sum((1, 2)).clamp(min=1)


def task_sum(value: Tensor, valid: Tensor) -> Tensor:
    """Sum over the samples of each task, shape (N,); both (N, E, T)."""
    return torch.where(valid, value, torch.zeros_like(value)).sum((1, 2))


def reinforce_loss(log_prob: Tensor, advantage: Tensor, valid: Tensor) -> Tensor:
    """-mean log pi A (Williams 1992), shape (N,); all (N, E, T)."""
    return -task_mean(log_prob * advantage, valid)


def ratio_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, valid: Tensor) -> Tensor:
    """-mean (pi / pi_old) A, the surrogate of TRPO (Eq. 14 of Schulman et al. 2015), shape (N,); all (N, E, T).

    As inner loss this is LVC (Eq. 6 of Rothfuss et al. 2019): where pi is pi_old its gradient is that of REINFORCE, and
    its Hessian has the outer product of the score as well.
    """
    return -task_mean((log_prob - old_log_prob).exp() * advantage, valid)


lvc_loss = ratio_loss


def dice_loss(log_prob: Tensor, advantage: Tensor, valid: Tensor) -> Tensor:
    """-mean (magic(l_0 + .. + l_t) - magic(l_0 + .. + l_(t-1))) A_t, l = log pi, shape (N,); all (N, E, T).

    Eq. 12 of Farquhar et al. 2019 without its first-order constant. magic(x) = exp(x - stopgrad x) is 1, with the
    derivatives of exp(x); gradients of every order are those of the expectation, through time as well.
    """
    kept = torch.where(valid, log_prob, torch.zeros_like(log_prob))
    through = kept.cumsum(-1)
    return -task_mean((_magic(through) - _magic(through - kept)) * advantage, valid)


def _magic(value: Tensor) -> Tensor:
    return (value - value.detach()).exp()


def ppo_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, valid: Tensor, clip: float) -> Tensor:
    """-mean of `clipped_surrogate` over the samples of each task, shape (N,); all (N, E, T)."""
    return -task_mean(clipped_surrogate(log_prob, old_log_prob, advantage, clip), valid)


def clipped_surrogate(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """min(r A, clip(r, 1 +- clip) A) of each sample, r = pi / pi_old (Eq. 7 of Schulman et al. 2017); any one shape.

    Log r is kept within `LARGEST_LOG_RATIO`: where the ratio of a narrow Gaussian overflows, the zero weight of the
    branch that is not taken, times infinity, would be a gradient of nan for all parameters.
    """
    ratio = (log_prob - old_log_prob).clamp(-LARGEST_LOG_RATIO, LARGEST_LOG_RATIO).exp()
    clipped = ratio.clamp(1.0 - clip, 1.0 + clip)
    return torch.minimum(ratio * advantage, clipped * advantage)


def mean_kl(old: Distribution, new: Distribution, valid: Tensor) -> Tensor:
    """Mean KL(old || new) of each task, nats, shape (N,)."""
    return task_mean(kl(old, new), valid)


def compare_tasks(objective: Tensor) -> Tensor:
    """J_i minus the mean of the other tasks, shape (N,): what `exploration_loss` weighs the samples of a task with.

    Without its own J in it, the baseline of a task leaves the gradient unbiased. One task alone has nothing to be
    compared with and keeps its J.
    """
    tasks = len(objective)
    if tasks == 1:
        return objective
    return (objective - objective.mean()) * (tasks / (tasks - 1))


def exploration_loss(log_prob_sums: Sequence[Tensor], signal: Tensor) -> Tensor:
    """-(sum over all samples of all inner steps of log pi) (J - b), Eq. 4 of Stadie et al. 2018, shape (N,).

    Args:
        log_prob_sums: Of each inner step, `task_sum` of log pi under the parameters that sampled it, each (N,); these
            are functions of the first parameters.
        signal: J - b, the return *after* the update compared with a baseline, shape (N,); no gradient flows into it.
    """
    return -torch.stack(tuple(log_prob_sums)).sum(0) * signal.detach()
