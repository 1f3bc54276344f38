"""The trainer of the skill model: one optimiser, one update, exact resume.

Axes: B batch, H skill horizon, O observation, A action.
"""

import math
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..errors import RunError, TrainingFault
from .config import SkillConfig
from .device import choose_device, update_precision
from .model import SkillModel
from .spirl import SkillLosses, compute_losses, total_loss


class WindowSource(Protocol):
    """What the trainer needs of a window sampler."""

    def sample(self, batch_size: int, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Random windows: observations (B, H, O), actions (B, H, A), and pictures where the model has an eye.

        See `spirl.compute_losses` for the pictures.
        """


def cosine_decay(step: int, num_steps: int) -> float:
    """Half a cosine from 1 at step 0 to 0 at step `num_steps`."""
    return 0.5 * (1.0 + math.cos(math.pi * min(step / num_steps, 1.0)))


class SkillLearner:
    """Owns the model, its optimiser and the two random generators; `step` counts the updates done."""

    def __init__(self, model: SkillModel, config: SkillConfig, device: str = "cpu") -> None:
        """Move the model to the device and start at step 0.

        Args:
            model: With its normaliser fitted.
            config: Batch size, step size, seed; the model's own sizes are in `model.config`.
            device: `auto`, `cpu` or `cuda`.

        Raises:
            ConfigError: For a device that is unknown or missing.
        """
        self.config = config
        self.device = choose_device(device)
        self.model = model.to(self.device).requires_grad_(True)
        self.step = 0
        self.rng = np.random.default_rng(config.seed)
        self._generator = torch.Generator(self.device).manual_seed(config.seed)
        self._parameters = dict(model.named_parameters())
        self._optimiser = torch.optim.Adam(self._parameters.values(), lr=config.learning_rate, fused=True)

    def update(self, observation: Tensor, action: Tensor, pictures: Tensor | None = None) -> dict[str, Tensor]:
        """One gradient step on windows (B, H, O) and (B, H, A); the metrics are scalars on the device, not synced.

        See `spirl.compute_losses` for the pictures.
        """
        for group in self._optimiser.param_groups:
            group["lr"] = self.config.learning_rate * cosine_decay(self.step, self.config.num_updates)
        with update_precision(self.device, self.config.bfloat16):
            losses = compute_losses(
                self.model, observation, action, self._generator, self.config.decoded_steps, pictures
            )
        self._optimiser.zero_grad(set_to_none=True)
        total_loss(losses, self.config.kl_weight).backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        self.step += 1
        return {name: value.detach() for name, value in losses._asdict().items()}

    def require_finite(self, metrics: dict[str, float]) -> None:
        """Check metrics and weights, before they are shown or saved.

        Raises:
            TrainingFault: Naming the first loss or weight that is not finite.
        """
        for name, value in metrics.items():
            if not math.isfinite(value):
                raise TrainingFault(self._fault(f"loss {name!r}", value))
        for name, parameter in self._parameters.items():
            total = float(parameter.detach().sum())
            if not math.isfinite(total):
                raise TrainingFault(self._fault(f"weight {name!r}", total))

    def _fault(self, site: str, value: float) -> str:
        where = f"skill training, {site} at step {self.step}"
        return f"{where}: expected a finite value, got {value}; check the data or lower learning_rate"

    def state(self) -> tuple[dict[str, Tensor], dict[str, object]]:
        """Everything that the next update depends on, as tensors by name and JSON facts."""
        tensors = {f"model.{name}": value.detach().clone() for name, value in self.model.state_dict().items()}
        for name, parameter in self._parameters.items():
            for key, value in self._optimiser.state.get(parameter, {}).items():
                tensors[f"adam.{key}.{name}"] = value.detach().clone()
        tensors["generator"] = self._generator.get_state()
        facts: dict[str, object] = {
            "step": self.step,
            "rng": self.rng.bit_generator.state,
            "config": self.config.to_json(),
        }
        return tensors, facts

    def load_state(self, tensors: dict[str, Tensor], facts: dict[str, object]) -> None:
        """Go on exactly where `state` was taken.

        Raises:
            RunError: If the state was taken under another config or lacks a part.
        """
        if facts.get("config") != self.config.to_json():
            raise RunError("skill checkpoint: expected this run's config, got another; start a new run folder")
        try:
            step, rng = facts["step"], facts["rng"]
            self.model.load_state_dict(
                {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
            )
            for name, parameter in self._parameters.items():
                if step:
                    keys = ("step", "exp_avg", "exp_avg_sq")
                    moments = {key: tensors[f"adam.{key}.{name}"].to(self.device, copy=True) for key in keys}
                    self._optimiser.state[parameter] = moments
            self._generator.set_state(tensors["generator"].cpu())
        except (KeyError, RuntimeError) as error:
            raise RunError(
                f"skill checkpoint: expected a whole state, got {error}; delete it and start again"
            ) from error
        assert isinstance(step, int)
        assert isinstance(rng, dict)
        self.rng.bit_generator.state = rng
        self.step = step


def train(
    learner: SkillLearner, sampler: WindowSource, num_updates: int | None = None, log_every: int = 200
) -> Iterator[dict[str, float]]:
    """Train until `learner.step` reaches `num_updates`, yielding the mean metrics of every `log_every` updates.

    A state taken at a yield resumes to the same weights and the same later metrics, bit for bit, on one
    machine with one thread.

    Args:
        learner: Fresh or loaded.
        sampler: Source of windows of `skill_horizon` steps.
        num_updates: Where to stop; None means the config's number. The step size still follows the config's.
        log_every: Updates between yields, counted from step 0; > 0.

    Yields:
        `step` and the means of the loss terms.

    Raises:
        TrainingFault: If a loss or weight is not finite, found at the next yield.
    """
    last = learner.config.num_updates if num_updates is None else num_updates
    sums: dict[str, Tensor] = {}
    count = 0
    while learner.step < last:
        windows = sampler.sample(learner.config.batch_size, learner.rng)
        metrics = learner.update(*(torch.from_numpy(array).to(learner.device) for array in windows))
        sums = {name: sums[name] + value for name, value in metrics.items()} if sums else metrics
        count += 1
        if learner.step % log_every == 0 or learner.step == last:
            means = {name: float(value) / count for name, value in sums.items()}
            learner.require_finite(means)
            sums, count = {}, 0
            yield {"step": float(learner.step), **means}


__all__ = ["SkillLearner", "SkillLosses", "WindowSource", "cosine_decay", "train"]
