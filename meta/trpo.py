"""Trust region steps on closures: conjugate gradients and a backtracking line search.

Source: Schulman et al., "Trust Region Policy Optimization", ICML 2015, appendix C; the constants are those of the
implementation of Duan et al., "Benchmarking Deep Reinforcement Learning for Continuous Control", ICML 2016.

Axes: P all parameters in one vector.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from .config import TrustRegion

Params = dict[str, Tensor]


def flatten(values: Sequence[Tensor]) -> Tensor:
    """All numbers in one vector, shape (P,)."""
    return torch.cat([value.reshape(-1) for value in values])


def unflatten(vector: Tensor, like: Mapping[str, Tensor]) -> Params:
    """The parameters in a vector (P,), with the names and shapes of `like`."""
    parts = torch.split(vector, [value.numel() for value in like.values()])
    return {name: part.view_as(value) for (name, value), part in zip(like.items(), parts, strict=True)}


def conjugate_gradient(product: Callable[[Tensor], Tensor], target: Tensor, iterations: int) -> Tensor:
    """The x with A x = target for a positive definite A, given by its product with a vector; all (P,).

    Stops early where the squared residual falls below 1e-10 of the target's.
    """
    solution, residual, direction = torch.zeros_like(target), target.clone(), target.clone()
    square = residual @ residual
    enough = 1e-10 * square
    for _ in range(iterations):
        if square <= enough:
            break
        along = product(direction)
        step = square / (direction @ along)
        solution = solution + step * direction
        residual = residual - step * along
        new_square = residual @ residual
        direction = residual + (new_square / square) * direction
        square = new_square
    return solution


def trpo_step(
    params: Params,
    evaluate: Callable[[Params], tuple[Tensor, Tensor]],
    region: TrustRegion,
    curvature: Callable[[Params], Tensor] | None = None,
) -> tuple[Params, dict[str, float]]:
    """The step along H^-1 grad L that lowers the loss within the trust region; none where no step does.

    Args:
        params: Where to step from.
        evaluate: Loss and mean KL(old || new) of parameters, scalars; old is the policy at `params`. It is
            differentiated twice there, and called without gradients in the line search.
        region: See `TrustRegion`.
        curvature: A cheaper KL whose Hessian stands for that of the KL; it shapes the direction only, the line search
            keeps to the KL of `evaluate`. None takes the KL itself.

    Returns:
        New parameters without a graph, and `loss_before`, `loss_after`, `kl`, `backtracks` (-1: nothing was accepted).
    """
    start = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    leaves = list(start.values())
    loss, kl = evaluate(start)
    gradient = _gradient(loss, leaves)
    kl_gradient = _gradient(kl if curvature is None else curvature(start), leaves, create_graph=True)

    def product(vector: Tensor) -> Tensor:
        return _gradient(kl_gradient @ vector, leaves) + region.damping * vector

    direction = conjugate_gradient(product, gradient, region.iterations)
    norm = float(direction @ product(direction))
    before = float(loss.detach())
    metrics = {"loss_before": before, "loss_after": before, "kl": 0.0, "backtracks": -1.0}
    origin = flatten([leaf.detach() for leaf in leaves])
    unchanged = unflatten(origin, start)
    if not (math.isfinite(norm) and norm > 0.0):
        return unchanged, metrics
    full = math.sqrt(2.0 * region.max_kl / norm) * direction
    for backtrack in range(region.backtracks):
        proposal = unflatten(origin - region.shrink**backtrack * full, start)
        with torch.no_grad():
            loss_there, kl_there = (float(value) for value in evaluate(proposal))
        if loss_there < before and kl_there <= region.max_kl:
            return proposal, {
                "loss_before": before,
                "loss_after": loss_there,
                "kl": kl_there,
                "backtracks": float(backtrack),
            }
    return unchanged, metrics


def _gradient(value: Tensor, leaves: Sequence[Tensor], *, create_graph: bool = False) -> Tensor:
    """The gradient as a vector (P,), zero where the value does not depend on a parameter."""
    return flatten(
        torch.autograd.grad(value, leaves, retain_graph=True, create_graph=create_graph, materialize_grads=True)
    )
