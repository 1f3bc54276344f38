"""Importance ratios of skills: one decision per skill, instead of one per control step.

A log holds actions, not skills. With behaviour b(z | s) over skills and a decoder p(a | s, z), the ratio of the
likelihoods of the logged actions a of a window is the mean of the ratio of skills under the posterior:

    int pi(z | s) p(a | s, z) dz / int b(z | s) p(a | s, z) dz = E_{z ~ b(z | s, a)} [pi(z | s) / b(z | s)]

The skill model's encoder q(z | s, a) is that posterior, of the behaviour that its prior describes. The mean has a
closed form for diagonal Gaussians, so that no skill is drawn: a draw would add variance and nothing else.

Source of the skill model: Pertsch, Lee, Lim, "Accelerating Reinforcement Learning with Learned Skill Priors", CoRL
2020.

Axes: ... any leading axes, Z skill.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...skills.gaussian import Gaussian

LEAST_PRECISION = 1e-2
"""Where the policy is so much wider than the behaviour that the mean of the ratio is infinite (the precision of the
product is not positive), the precision of the posterior times this is used."""


def compute_skill_log_ratio(policy: Gaussian, behaviour: Gaussian, posterior: Gaussian) -> Tensor:
    """Log E_{z ~ q} [N(z; policy) / N(z; behaviour)], nats, shape (...).

    With precisions p of policy, b of behaviour and q of posterior, c = p + q - b and m = p mu_p + q mu_q - b mu_b:

        1/2 sum_z [ log p + log q - log b - log c + m^2 / c - p mu_p^2 - q mu_q^2 + b mu_b^2 ]

    Args:
        policy: pi(z | s), each (..., Z).
        behaviour: b(z | s), each (..., Z).
        posterior: q(z | s, a) of the logged window, each (..., Z).
    """
    parts = [(gaussian.loc.double(), gaussian.scale.double() ** -2) for gaussian in (policy, behaviour, posterior)]
    (mu_p, p), (mu_b, b), (mu_q, q) = parts
    # around the posterior's mean, where sums of large numbers do not cancel
    mu_p, mu_b = mu_p - mu_q, mu_b - mu_q
    c = torch.maximum(p + q - b, LEAST_PRECISION * q)
    m = p * mu_p - b * mu_b
    terms = p.log() + q.log() - b.log() - c.log() + m**2 / c - p * mu_p**2 + b * mu_b**2
    return 0.5 * terms.sum(-1)


def correct_posterior(posterior: Gaussian, prior: Gaussian, behaviour: Gaussian) -> Gaussian:
    """The posterior under another behaviour than the prior: q(z | s, a) b(z | s) / p(z | s), normalised.

    Precisions add up: q - p + b. Where that is not positive, the posterior stays as it is.

    Args:
        posterior: Of the encoder, trained with the prior, each (..., Z).
        prior: p(z | s), each (..., Z).
        behaviour: b(z | s), each (..., Z).
    """
    (mu_q, q), (mu_p, p), (mu_b, b) = ((gaussian.loc, gaussian.scale**-2) for gaussian in (posterior, prior, behaviour))
    precision = q - p + b
    good = precision > LEAST_PRECISION * q
    precision = torch.where(good, precision, q)
    loc = torch.where(good, (q * mu_q - p * mu_p + b * mu_b) / precision, mu_q)
    return Gaussian(loc, precision**-0.5)
