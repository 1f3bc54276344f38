"""What curvature a learner gives to its trust region step, while the step is taken as ever."""

from types import ModuleType
from typing import Any

import pytest

from supple.meta.config import TrustRegion
from supple.meta.trpo import trpo_step


def watch_curvature(monkeypatch: pytest.MonkeyPatch, module: ModuleType, wanted: TrustRegion) -> list[Any]:
    """A list that gets the curvature of each step of a learner's module; its trust region has to be the wanted one."""
    given: list[Any] = []

    def spy(params: Any, evaluate: Any, region: TrustRegion, curvature: Any = None) -> Any:
        given.append(curvature)
        assert region is wanted
        return trpo_step(params, evaluate, region, curvature)

    monkeypatch.setattr(module, "trpo_step", spy)
    return given
