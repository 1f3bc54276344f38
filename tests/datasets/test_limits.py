import math

import numpy as np
import pytest

from supple.datasets import Episode, LimitCheck
from supple.errors import SourceError
from supple.robots.spec import ArraySpec, Axis, RobotSpec, make_choice_spec

OBSERVATION = ArraySpec("observation", (Axis("q", "rad", -1.0, 3.0), Axis("force", "N", 0.0, math.inf)))
ARM = RobotSpec(
    "arm",
    OBSERVATION,
    ArraySpec("action", (Axis("left", "N", -0.1, 0.1), Axis("right", "N", -math.inf, 20.0))),
    ArraySpec("goal", (Axis("q", "rad", -1.0, 1.0),)),
    0.02,
    500,
)
BUTTONS = RobotSpec("buttons", OBSERVATION, make_choice_spec(("stay", "up", "down")), ARM.goal, 0.02, 500, ("stay", "up", "down"))  # fmt: skip  # noqa: E501


def make_episode(steps: int, *changes: tuple[str, int, int, float], actions: int = 2) -> Episode:
    """Zeros everywhere but in the given (array, step, axis) entries."""
    arrays = {"observation": np.zeros((steps, 2), np.float32), "action": np.zeros((steps, actions), np.float32)}
    for name, step, axis, value in changes:
        arrays[name][step, axis] = value
    return Episode(arrays, terminated=False, truncated=True)


def test_a_value_outside_is_named_by_axis_unit_row_and_episode() -> None:
    check = LimitCheck(ARM, "log.hdf5")
    check.check(make_episode(4))
    check.check(make_episode(3))
    with pytest.raises(
        SourceError,
        match=r"^log\.hdf5: expected action axis 'left' within -0\.1 \.\. 0\.1 \(unit: N\), got 10 in row 9 "
        r"\(episode 2\); choose the robot .*, or pass --clip-actions$",
    ):
        check.check(make_episode(3, ("action", 2, 0, 10.0)))


@pytest.mark.parametrize(
    ("name", "axis", "inside", "outside"),
    [
        # 10 % of 4 rad on either side; of one limit alone 10 % of it, and of a limit of 0 .1 in its unit
        ("observation", 0, (-1.39, 3.39), (-1.41, 3.41)),
        ("observation", 1, (-0.09, 1e30), (-0.11,)),
        # one part in a million of .2 N, and of 20 N
        ("action", 0, (-0.1, 0.1, 0.10000019), (-0.1001, 0.100001)),
        ("action", 1, (-1e30, 20.00001), (20.0001,)),
    ],
)
def test_limits_with_their_margins(name: str, axis: int, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    for value in inside:
        episode = make_episode(1, (name, 0, axis, value))
        assert LimitCheck(ARM, "log").check(episode) is episode
    for value in outside:
        with pytest.raises(SourceError, match=rf"^log: expected {name} axis '{getattr(ARM, name).names[axis]}' within"):
            LimitCheck(ARM, "log").check(make_episode(1, (name, 0, axis, value)))


def test_actions_are_clipped_and_counted_where_asked() -> None:
    check = LimitCheck(ARM, "log", clip_actions=True)
    episode = make_episode(4, ("action", 1, 0, -7.0), ("action", 1, 1, 30.0), ("action", 3, 0, 0.05))
    clipped = check.check(episode).arrays["action"]
    np.testing.assert_array_equal(clipped, np.array([[0, 0], [-0.1, 20], [0, 0], [0.05, 0]], np.float32))
    assert clipped.dtype == np.float32
    assert episode.arrays["action"][1, 0] == -7.0  # what was read is not changed
    assert check.check(make_episode(2, ("action", 0, 0, 1.0))).truncated
    assert check.clipped == 2
    with pytest.raises(SourceError, match=r"'q' within -1 \.\. 3 \(unit: rad\), got 90 in row 6"):
        check.check(make_episode(1, ("observation", 0, 0, 90.0)))


@pytest.mark.parametrize("value", [-1.0, 0.5, 3.0])
def test_choices_are_whole_numbers_that_nobody_clips(value: float) -> None:
    check = LimitCheck(BUTTONS, "log", clip_actions=True)
    check.check(make_episode(1, ("action", 0, 0, 2.0), actions=1))
    with pytest.raises(SourceError, match=rf"whole and within 0 \.\. 2 \(unit: 1\), got {value:g} in row 1") as caught:
        check.check(make_episode(1, ("action", 0, 0, value), actions=1))
    assert "--clip-actions" not in str(caught.value)
