"""SiMPL's losses as pure functions, to be read beside the paper.

Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022, section 4.2 and its published code.
Two kinds of context are trained in every step: a few transitions ("prior"), as before a task is known, and many
("posterior"), each with its own regularisation towards N(0, I) and towards the skill prior.

Axes: M tasks, B transitions per task, Q = 2 critics, Z latent, E task embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ...skills.gaussian import Gaussian, kl, standard_like


def td_target(
    reward: Tensor,
    terminated: Tensor,
    next_value: Tensor,
    next_kl: Tensor,
    alpha: Tensor,
    discount: float,
    kl_clip: float,
) -> Tensor:
    """The target r + gamma (1 - terminated) (min_j Q_j(s', z', e) - alpha min(KL(pi || p), clip)), shape (M, B).

    Truncation bootstraps, termination does not. The reference multiplies by clamp(kl) / kl, which is NaN at 0; this
    clamps.

    Args:
        reward: Shape (M, B).
        terminated: Shape (M, B), 0 or 1.
        next_value: Shape (Q, M, B), of the target critics at z' ~ pi(. | s', e).
        next_kl: KL of the policy to the skill prior at s', shape (M, B).
        alpha: Weight of that KL, shape (M, 1): the two kinds of context have their own.
        discount: gamma, per decision.
        kl_clip: Largest KL that enters the target.
    """
    value = next_value.amin(0) - alpha * next_kl.clamp(max=kl_clip)
    return (reward + discount * (1.0 - terminated) * value).detach()


def critic_loss(value: Tensor, target: Tensor) -> Tensor:
    """Mean over critics and transitions of (Q_j(s, z, e) - y)^2; `value` is (Q, M, B), `target` (M, B)."""
    return (value - target).square().mean()


def policy_loss(value: Tensor, prior_kl: Tensor, alpha: Tensor) -> Tensor:
    """Mean of -min_j Q_j(s, z ~ pi, e) + alpha KL(pi || p); `value` is (Q, M, B), `prior_kl` (M, B), `alpha` (M, 1)."""
    return (alpha * prior_kl - value.amin(0)).mean()


def embedding_kl(embedding: Gaussian) -> Tensor:
    """KL(q(e | c) || N(0, I)) of each task, shape (M,)."""
    return kl(embedding, standard_like(embedding))


def multiplier_loss(multiplier: Tensor, divergence: Tensor, target: float) -> Tensor:
    """The loss lambda (target - KL), whose descent raises lambda where KL exceeds the target; shapes broadcast."""
    return (multiplier * (target - divergence.detach())).mean()


def only_increase(parameter: Tensor) -> None:
    """Clamps a multiplier's gradient at 0, so that the multiplier can only grow (published)."""
    if parameter.grad is not None:
        parameter.grad.clamp_(max=0.0)


def reward_prediction_loss(logit: Tensor, share: Tensor) -> Tensor:
    """Binary cross-entropy of the share of the reward that a transition paid, given e and s'; shape (M, B) -> scalar.

    Ours, not SiMPL's: the encoder is also trained to know where the reward is, as in Zintgraf et al., "VariBAD", ICLR
    2020, Eq. 8, restricted to the reward. For rewards of 0 and 1 it is the probability of being rewarded; the sigmoid
    of the best logit is the mean share in any case.

    Args:
        logit: Shape (M, B).
        share: In [0, 1], shape (M, B); see `EpisodePool.reward_share`.
    """
    return functional.binary_cross_entropy_with_logits(logit, share.to(logit.dtype))


def soft_update(target: Sequence[Tensor], source: Sequence[Tensor], tau: float) -> None:
    """Moves target <- (1 - tau) target + tau source, in place."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target), list(source), tau)
