from dataclasses import fields
from typing import Any

import pytest

from supple.errors import ConfigError
from supple.meta.simpl.config import FinetuneConfig, SimplConfig

NUMBERS = [f.name for f in fields(SimplConfig) if type(f.default) in (int, float)]
MAY_BE_ZERO = {"reward_prediction", "success_batch", "context_episodes", "warmup_epochs", "updates_per_epoch"}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_number_is_checked(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"SimplConfig\.{name}: .* -1"):
        SimplConfig(**{name: -1})
    if name in MAY_BE_ZERO:
        assert getattr(SimplConfig(**{name: 0}), name) == 0
    else:
        with pytest.raises(ConfigError, match=rf"SimplConfig\.{name}: .* 0"):
            SimplConfig(**{name: 0})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "lstm"}, "encoder: expected one of mean-max, set-transformer, got 'lstm'"),
        ({"hidden": ()}, "hidden: expected 1 to 64 values, got 0"),
        ({"hidden": (8, 0)}, r"hidden\[1\]: expected a whole number from 1 to 16384, got 0"),
        ({"discount": 1.0}, "discount: expected a number above 0 to below 1, got 1.0"),
        ({"target_rate": 1.5}, "target_rate: expected a number above 0 to 1, got 1.5"),
        ({"batch": 8, "success_batch": 8}, "success_batch: expected fewer than batch = 8, got 8"),
        ({"posterior_context": 10, "context_episodes": 11}, "context_episodes: expected at most .* 10, got 11"),
        ({"episodes_per_task": (0, 1)}, r"episodes_per_task\[0\]: expected a whole number from 1 to .*, got 0"),
        ({"episodes_per_task": (1, -1)}, r"episodes_per_task\[1\]: expected a whole number from 0 to .*, got -1"),
        ({"policy_kl_prior": (0.0, 1.0)}, r"policy_kl_prior\[0\]: expected a number above 0 to .*, got 0.0"),
        (
            {"embedding_kl_posterior": (1e-3, -1.0)},
            r"posterior\[1\]: expected a number above 0 to .*, got -1.0",
        ),
    ],
)
def test_impossible_values_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SimplConfig(**changes)


@pytest.mark.parametrize("name", ["learning_rate", "batch", "reuse_rate", "multiplier", "pool_episodes"])
def test_finetuning_refuses_what_cannot_train(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"FinetuneConfig\.{name}: expected a .*number .* (1|0) to .*, got 0"):
        FinetuneConfig(**{name: 0})


def test_a_negative_number_of_critic_updates_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"critic_updates_first: expected a whole number from 0 to .*, got -1"):
        FinetuneConfig(critic_updates_first=-1)
