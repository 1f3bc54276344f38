import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.datasets import SCHEMA_VERSION, Feature, Schema
from supple.datasets.schema import IMAGE_VERSION
from supple.errors import SpecError
from supple.robots.spec import ArraySpec, Axis, RobotSpec

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)


@st.composite
def features(draw: st.DrawFn, name: str) -> Feature:
    width = draw(st.integers(0, 4))
    axes = draw(st.lists(st.text(min_size=1, max_size=4), min_size=max(width, 1), max_size=max(width, 1), unique=True))
    return Feature(
        name=name,
        dtype=draw(st.sampled_from(["float32", "float64", "int64", "uint8"])),
        shape=(width,) if width else (),
        units=tuple(draw(st.sampled_from(["m", "rad/s", ""])) for _ in axes),
        role=draw(st.sampled_from(["observation", "action", "reward", "state", "goal", "other"])),
        axes=tuple(axes),
    )


ARM = RobotSpec(
    "arm",
    ArraySpec("observation", (Axis("q", "rad", -1.0, 1.0),)),
    ArraySpec("action", (Axis("x", "m", -0.5, math.inf, rate_limit=3.0), Axis("y", "", -1.0, 1.0))),
    ArraySpec("goal", (Axis("q", "rad", -1.0, 1.0),)),
    0.02,
    500,
)


def make_feature(**changes: Any) -> Feature:
    fields: dict[str, Any] = {"name": "action", "shape": (2,), "units": ("m", ""), "role": "action", "axes": ("x", "y")}
    return Feature(**(fields | changes))


OBSERVATION = make_feature(name="observation", shape=(1,), units=("rad",), role="observation", axes=("q",))


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    if draw(st.booleans()):
        others = tuple(draw(features(name)) for name in draw(st.lists(st.sampled_from("abc"), unique=True)))
        return Schema(features=(OBSERVATION, make_feature(), *others), control_period=0.02, robot=ARM)
    names = draw(st.lists(NAMES, min_size=1, max_size=4, unique=True))
    return Schema(
        features=tuple(draw(features(name)) for name in names), control_period=draw(st.none() | st.floats(1e-6, 1e3))
    )


@given(schemas())
def test_json_round_trip(schema: Schema) -> None:
    assert Schema.from_json(json.loads(json.dumps(schema.to_json()))) == schema


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "../up"}, r"expected a name of a-z, 0-9 and _, got '\.\./up'"),
        ({"name": "steps/x"}, "got 'steps/x'"),
        ({"dtype": "object"}, "expected dtype of .*, got 'object'"),
        ({"shape": (2, 3)}, r"expected shape \(\) or \(dim,\), got \(2, 3\)"),
        ({"shape": (0,), "axes": (), "units": ()}, r"got \(0,\)"),
        ({"role": "pose"}, "expected role of .*, got 'pose'"),
        ({"axes": ("x",)}, "expected 2 axes, got 1"),
        ({"units": ("m",)}, "expected 2 units, got 1"),
        ({"axes": ("x", "x")}, "expected distinct axes"),
    ],
)
def test_features_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        make_feature(**changes)


@pytest.mark.parametrize("period", [0.0, -1.0, float("nan"), float("inf")])
def test_a_control_period_is_a_positive_number(period: float) -> None:
    with pytest.raises(SpecError, match=f"expected control_period > 0, got {period} s"):
        Schema(features=(make_feature(),), control_period=period)


def test_feature_names_are_distinct() -> None:
    with pytest.raises(SpecError, match="distinct names"):
        Schema(features=(make_feature(), make_feature()))
    with pytest.raises(SpecError, match="at least one feature"):
        Schema(features=())


def test_an_unknown_feature_lists_the_known_ones() -> None:
    with pytest.raises(SpecError, match="expected a feature of action, got 'acton'"):
        Schema(features=(make_feature(),)).feature("acton")


def test_another_schema_version_is_refused() -> None:
    value = Schema(features=(make_feature(),)).to_json() | {"schema_version": IMAGE_VERSION + 1}
    with pytest.raises(SpecError, match=f"expected schema_version 1, {SCHEMA_VERSION} or {IMAGE_VERSION}, got 4"):
        Schema.from_json(value)


@pytest.mark.parametrize(
    "path", ["robot", "control_period", "features", "features.0", "features.0.axes", "features.0.name"]
)
@pytest.mark.parametrize("value", [[3], {"a": 1}, True])
def test_a_field_of_another_type_is_refused(path: str, value: object) -> None:
    tree: Any = Schema(features=(make_feature(),)).to_json()
    node = tree
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in parents:
        node = node[part]
    node[last] = value
    with pytest.raises(SpecError):
        Schema.from_json(tree)
    del node[last]
    if not isinstance(node, list):
        with pytest.raises(SpecError, match="expected the fields"):
            Schema.from_json(tree)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"control_period": 0.05}, r"schema of robot 'arm': expected control_period 0\.02 s, got 0\.05 s"),
        ({"features": (OBSERVATION, make_feature(axes=("y", "x")))}, r"expected action axes and units \[\('x', 'm'\)"),
        ({"features": (OBSERVATION, make_feature(units=("cm", "")))}, r"expected action axes .*got \[\('x', 'cm'\)"),
        ({"features": (make_feature(),)}, "expected a feature of action, got 'observation'"),
    ],
)
def test_a_schema_that_its_robot_contradicts_is_refused(changes: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"features": (OBSERVATION, make_feature()), "control_period": 0.02, "robot": ARM}
    with pytest.raises(SpecError, match=message):
        Schema(**(fields | changes))


def test_a_schema_of_the_first_version_opens_without_a_robot() -> None:
    schema = Schema(features=(OBSERVATION, make_feature()), control_period=0.02)
    old = schema.to_json() | {"schema_version": 1, "robot": "arm"}
    assert Schema.from_json(old) == schema


def test_a_control_period_beyond_every_float_is_refused() -> None:
    value = Schema(features=(make_feature(),)).to_json() | {"control_period": 10**400}
    with pytest.raises(SpecError, match="expected a control_period in seconds, got int too large"):
        Schema.from_json(value)
