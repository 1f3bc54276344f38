"""How good a skill model is: on held-out windows, and in the simulator.

The active dimensions are those of Burda, Grosse, Salakhutdinov, "Importance Weighted Autoencoders", ICLR 2016: the
variance of the posterior mean over the data exceeds 0.01.

Axes: B batch, H skill horizon, O observation, A action, Z skill, r rows of the robot batch.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import SpecError
from ..robots.robot import RobotBatch
from .gaussian import Gaussian, kl, log_prob, standard_like
from .model import SkillModel

Floats = NDArray[np.float32]
SetState = Callable[[NDArray[np.int64], Floats], Floats]
"""Puts rows (r,) of a robot batch into the states of observations (r, O); returns what they observe there, (r, O)."""

ACTIVE_VARIANCE = 0.01
"""Variance of the posterior mean above which a skill dimension counts as active."""
LEAST_KL = math.log(2.0)
"""Nats per skill. The KL divergence bounds the information that a skill has of its window from above, and telling two
behaviours apart takes log 2."""
LEAST_GAIN = 0.01
"""Share of the decoder's error that knowing the skill has to remove."""


def count_active(posterior: Gaussian) -> int:
    """Skill dimensions whose posterior mean varies over the batch (B, Z) by more than `ACTIVE_VARIANCE`."""
    return int((posterior.loc.var(0, correction=0) > ACTIVE_VARIANCE).sum())


@torch.no_grad()
def evaluate_windows(
    model: SkillModel, observation: Tensor, action: Tensor, generator: torch.Generator, names: Sequence[str] = ()
) -> dict[str, float]:
    """Errors and divergences on windows that training did not see.

    Args:
        model: On the device of the windows.
        observation: Windows (B, H, O).
        action: Windows (B, H, A).
        generator: Source of one sampled skill per window, on the model's device.
        names: One per action dimension; empty numbers them.

    Returns:
        `reconstruction_rmse/<name>` and `open_reconstruction_rmse/<name>` (under sampled skills, in the action's unit),
        `kl` (q to N(0, I)), `kl_to_prior` and `prior_nll` (nats per skill), `active_dims`, `skill_dims`, and
        `skill_gain`, the share of the closed-loop error under the skill of another window that the own skill removes.

    Raises:
        SpecError: If there are not as many names as action dimensions.
    """
    names = list(names) or [str(index) for index in range(action.shape[-1])]
    if len(names) != action.shape[-1]:
        raise SpecError(
            f"evaluate_windows names: expected {action.shape[-1]}, got {len(names)}; name every action axis"
        )
    first = observation[:, 0]
    posterior, prior = model.encode(observation, action), model.prior_of(first)
    skill = posterior.sample(generator)
    repeated = skill.unsqueeze(1).expand(-1, action.shape[1], -1)
    metrics = {
        "kl": float(kl(posterior, standard_like(posterior)).mean()),
        "kl_to_prior": float(kl(posterior, prior).mean()),
        "prior_nll": float(-log_prob(prior, skill).mean()),
        "active_dims": float(count_active(posterior)),
        "skill_dims": float(skill.shape[-1]),
    }
    scaled = model.action_scale(action)
    own, other = (
        float((model.decode_scaled(observation, held) - scaled).square().mean())
        for held in (repeated, repeated.roll(1, 0))
    )
    metrics["skill_gain"] = 1.0 - own / other if other > 0.0 else 0.0
    for kind, decoded in (
        ("reconstruction_rmse", model.decode(observation, repeated)),
        ("open_reconstruction_rmse", model.decode_open(skill, first)),
    ):
        errors = (decoded - action).square().mean((0, 1)).sqrt()
        metrics |= {f"{kind}/{name}": float(error) for name, error in zip(names, errors, strict=True)}
    return metrics


def describe_collapse(metrics: Mapping[str, float]) -> str | None:
    """Why skills with these metrics of `evaluate_windows` say nothing, for people; None where they say something."""
    active, nats, gain = metrics["active_dims"], metrics["kl"], metrics["skill_gain"]
    signs = [
        (active == 0.0, f"0 of {metrics['skill_dims']:.0f} skill axes are active"),
        (
            nats < LEAST_KL,
            f"KL {nats:.2g} nats per skill, below {LEAST_KL:.2g}: not enough to tell two behaviours apart",
        ),
        (gain < LEAST_GAIN, f"knowing the skill removes {gain:.1%} of the decoder's error"),
    ]
    found = [text for holds, text in signs if holds]
    return "; ".join(found) if found else None


@torch.no_grad()
def evaluate_rollouts(
    model: SkillModel,
    batch: RobotBatch,
    set_state: SetState,
    observation: Floats,
    action: Floats,
    dims: Sequence[int] | None = None,
) -> dict[str, float]:
    """Where the decoded skill of each logged window leads, against where the log went.

    Each window's posterior mean is decoded from the window's first state in the simulator: closed-loop with the fresh
    observation at every step, and open-loop from the first one. The logged actions are replayed too: their error is
    what the simulator itself cannot repeat.

    Args:
        model: On the CPU.
        batch: Robots that do not end their episode within H steps.
        set_state: Puts rows of that batch into logged states.
        observation: Logged windows of H + 1 steps, (B, H + 1, O).
        action: Their first H or more actions, (B, >= H, A).
        dims: Observation dimensions to compare; they should share a unit. None compares all.

    Returns:
        Mean Euclidean distances at step H over `dims`, in their unit: `rollout_closed`, `rollout_open`,
        `rollout_replayed`, and `rollout_travelled`, from the logged first to the logged last state.

    Raises:
        SpecError: If the windows do not have H + 1 steps.
    """
    horizon = model.config.skill_horizon
    if observation.shape[1] != horizon + 1 or action.shape[1] < horizon:
        raise SpecError(
            f"evaluate_rollouts: expected windows of {horizon + 1} steps, got {observation.shape[1]}; "
            "sample windows of one step more than the skill horizon"
        )
    action = action[:, :horizon]
    chosen = list(range(observation.shape[2])) if dims is None else list(dims)
    states, actions = torch.from_numpy(observation[:, :horizon]), torch.from_numpy(action)
    skill = model.encode(states, actions).loc
    planned = model.decode_open(skill, states[:, 0]).numpy()

    def reach(act: Callable[[slice, int, Floats], Floats]) -> Floats:
        reached = np.empty_like(observation[:, 0])
        for begin in range(0, len(observation), batch.rows):
            part = slice(begin, min(begin + batch.rows, len(observation)))
            rows = np.arange(part.stop - part.start)
            seen = set_state(rows, observation[part, 0])
            for step in range(horizon):
                seen = batch.step(rows, act(part, step, seen)).observation
            reached[part] = seen
        return reached

    def decode_closed(part: slice, step: int, seen: Floats) -> Floats:
        decoded: Floats = model.decode(torch.from_numpy(seen), skill[part]).numpy()
        return decoded

    def mean_distance(reached: Floats) -> float:
        return float(np.linalg.norm((reached - observation[:, horizon])[:, chosen], axis=-1).mean())

    return {
        "rollout_closed": mean_distance(reach(decode_closed)),
        "rollout_open": mean_distance(reach(lambda part, step, seen: planned[part, step])),
        "rollout_replayed": mean_distance(reach(lambda part, step, seen: action[part, step])),
        "rollout_travelled": mean_distance(observation[:, 0]),
    }
