from typing import Any

import pytest

from supple.errors import ConfigError
from supple.robots.mjcf_model import Drive


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"gain": 3.0}, "drive of joint 'turn': expected no gain for a motor, got 3.0; correct gain"),
        ({"kind": "position"}, "drive of joint 'turn': expected a gain for a position drive, got None; correct gain"),
        ({"kind": "velocity"}, "drive of joint 'turn': expected a gain for a velocity drive, got None"),
        ({"kind": "velocity", "gain": 0.0}, "Drive.gain: expected a number above 0 .* got 0.0"),
        ({"limit": -1.0}, "Drive.limit: expected a number above 0 .* got -1.0"),
        ({"kind": "position", "gain": 1.0, "limit": 2.0}, "drive of joint 'turn': expected no limit, .* got 2.0"),
        ({"kind": "torque"}, "Drive.kind: expected one of motor, position, velocity, got 'torque'"),
    ],
)
def test_drives_that_nothing_can_have_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Drive(joint="turn", **fields)
