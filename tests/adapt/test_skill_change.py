"""Which skills changed, worked by hand for an agent whose policy is known, and in the report."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from supple.adapt.networks import Gaussian
from supple.adapt.skill_change import describe_change
from supple.errors import RunError
from supple.pipeline.report.skill_change import load_skill_change
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec

JOINT = Axis("q", "rad", -3.0, 3.0)
SPEC = RobotSpec(
    "arm",
    ArraySpec("observation", (JOINT,)),
    ArraySpec("action", (Axis("target", "rad", -3.0, 3.0), Axis("grip", "N", -10.0, 10.0))),
    ArraySpec("goal", (JOINT,)),
    0.1,
    10,
)
CHOICES = ("left", "right", "stay")
STATES = np.array([[[1.0], [2.0]], [[0.0], [0.0]]], np.float32)
"""Two tasks, two states each."""


class Skills:
    """A prior of mean q and deviation 2; the command is (z0, 10 z1)."""

    choices, latent_dim = 0, 2

    def prior_of(self, observation: Any) -> Gaussian:
        return Gaussian(np.repeat(observation, 2, axis=1), np.full((len(observation), 2), 2.0, np.float32))

    def hold(self, latent: Any) -> Any:
        return lambda observation: latent * np.array([1.0, 10.0], np.float32)


class Chooses(Skills):
    choices, latent_dim = 3, 1

    def hold(self, latent: Any) -> Any:
        return lambda observation: latent


class Agent:
    """Chooses q plus what its state says, with deviation 2; or a choice, with the probability that its state says."""

    def __init__(self, noise: Any, space: Any) -> None:
        self.noise, self.space = noise, space

    def load_state(self, arrays: Any) -> None:
        self.own = arrays["params.own"]

    def begin_episode(self, *, explore: bool) -> None:
        assert not explore

    def act(self, seen: Any) -> Any:
        own = np.repeat(self.own, len(seen.observation) // len(self.own), axis=0)
        if self.space.choices:
            return (self.noise.uniform((len(own), 1)) < own).astype(np.float32)
        return seen.observation + own + 2.0 * self.noise.normal(own.shape)


def describe(space: Any, before: Any, after: Any, spec: RobotSpec = SPEC) -> list[dict[str, Any]]:
    states = [{"params.own": np.array(own, np.float32), "host.extra": np.zeros(1)} for own in (before, after)]
    return describe_change(lambda noise: Agent(noise, space), *states, STATES, spec, ["one", "two"])  # type: ignore[arg-type, return-value]


def test_the_change_of_skills_is_the_one_worked_by_hand() -> None:
    one, two = describe(Skills(), [[0.0, 0.0], [0.0, 0.5]], [[1.0, 0.0], [0.0, 1.0]])
    assert (one["task"], two["task"]) == ("one", "two")
    assert one["kl"] == pytest.approx(1.0 / 8.0)  # (1 / 2)^2 / 2
    assert two["kl"] == pytest.approx(0.5**2 / 8.0)
    first, second = one["axes"]
    # before: z = q, at the prior's mean; after: z = q + 1, half a deviation from it; the draws have one deviation
    assert first == pytest.approx({"before": 0.0, "before_std": 1.0, "after": 0.5, "after_std": 1.0, "shift": 0.5})
    assert second["shift"] == 0.0
    assert [two["axes"][1][name] for name in ("before", "after", "shift")] == pytest.approx([0.25, 0.5, 0.25])
    assert one["commands"] == [
        {"axis": "target", "unit": "rad", "mean": 1.0, "largest": 1.0},
        {"axis": "grip", "unit": "N", "mean": 0.0, "largest": 0.0},
    ]
    assert two["commands"][1] == {"axis": "grip", "unit": "N", "mean": 5.0, "largest": 5.0}


def test_the_change_of_choices_is_a_change_of_shares() -> None:
    spec = RobotSpec("boat", SPEC.observation, make_choice_spec(CHOICES), SPEC.goal, 0.1, 10, choices=CHOICES)
    one, two = describe(Chooses(), [[0.0], [0.0]], [[0.0], [1.0]], spec)
    assert [found["choice"] for found in one["choices"]] == list(CHOICES)
    assert all(found["before"] == found["after"] for found in one["choices"])
    assert one["kl"] == 0.0
    shares = {found["choice"]: (found["before"], found["after"]) for found in two["choices"]}
    assert shares["left"] == pytest.approx((64 / 65 + 1 / 195, 1 / 195))
    assert shares["right"] == pytest.approx((1 / 195, 64 / 65 + 1 / 195))
    assert two["kl"] > 1.0


def test_the_report_says_which_skills_changed(tmp_path: Path) -> None:
    assert load_skill_change(tmp_path) is None
    records = describe(Skills(), [[0.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, 0.0]])
    (tmp_path / "skills.json").write_text(json.dumps(records))
    found = load_skill_change(tmp_path)
    assert found is not None
    assert "In 1 of 2 tasks the policy chooses otherwise" in found.lead
    assert found.commands.groups[""] == [("target", "rad", "0.5", "1"), ("grip", "N", "0", "0")]
    assert "z1" in found.plot.svg
    assert SimpleNamespace(**found._asdict()).plot.caption.startswith("A point is the mean choice along an axis")


@pytest.mark.parametrize(
    "content", ["[]", "[{}]", "{}", "[1]", '[{"task": "a", "kl": "far", "axes": [], "commands": []}]']
)
def test_a_damaged_file_is_an_error_with_a_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "skills.json").write_text(content)
    with pytest.raises(RunError, match=r"skills\.json: expected"):
        load_skill_change(tmp_path)
