"""What all learners check."""

import pytest

from supple.errors import TrainingFault
from supple.meta.adaptive import require_finite


def test_finite_metrics_pass() -> None:
    require_finite({"loss": -1.0, "kl": 0.0}, "RL2 iteration 3", "a smaller learning_rate")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_is_named_with_the_remedy(value: float) -> None:
    told = f"RL2 iteration 3: expected a finite kl, got {value}; resume from the last checkpoint with a smaller step"
    with pytest.raises(TrainingFault) as caught:
        require_finite({"loss": 1.0, "kl": value}, "RL2 iteration 3", "a smaller step")
    assert str(caught.value) == told
