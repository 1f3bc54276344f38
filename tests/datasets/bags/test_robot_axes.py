import pytest

from supple.datasets.bags.mapping import Signal
from supple.datasets.bags.robot_axes import name_axes
from supple.robots.spec import ArraySpec, Axis


def make_array(*axes: tuple[str, str]) -> ArraySpec:
    return ArraySpec("observation", tuple(Axis(name, unit, -1.0, 1.0) for name, unit in axes))


def joints(field: str, *names: str, suffix: str = "", topic: str = "/joint_states") -> Signal:
    """As the draft has them: elements are the names in the message where they differ from the axes."""
    axes = tuple(f"{name}{suffix}" for name in names)
    elements = names if suffix else ()
    units = ("",) * len(names)
    return Signal(feature="observation", topic=topic, field=field, axes=axes, elements=elements, units=units)


POSE = Signal(feature="observation", topic="/hand", field="pose.position", axes=("x", "y", "z"), units=("m", "m", "m"))


def test_axes_are_found_by_name_and_unit_in_the_order_of_the_robot() -> None:
    array = make_array(
        ("elbow", "rad"), ("base", "rad"), ("base_v", "rad/s"), ("hand_z", "m"), ("elbow_speed", "rad/s")
    )
    drafted = [joints("position", "base", "elbow"), joints("velocity", "base", "elbow", suffix="_velocity"), POSE]
    questions: list[str] = []
    found = name_axes(drafted, array, questions)
    assert questions == []
    assert [(one.topic, one.field, one.axes, one.elements, one.units) for one in found] == [
        ("/joint_states", "position", ("elbow", "base"), (), ("rad", "rad")),
        ("/joint_states", "velocity", ("base_v",), ("base",), ("rad/s",)),
        ("/hand", "pose.position", ("hand_z",), ("z",), ("m",)),
        ("/joint_states", "velocity", ("elbow_speed",), ("elbow",), ("rad/s",)),
    ]


def test_the_longest_joint_name_counts() -> None:
    drafted = [joints("velocity", "arm", "arm_elbow", suffix="_velocity")]
    (found,) = name_axes(drafted, make_array(("arm_elbow_v", "rad/s"), ("arm_v", "rad/s")), [])
    assert found.elements == ("arm_elbow", "arm")


@pytest.mark.parametrize(
    ("axis", "drafted", "message"),
    [
        (("wrist", "rad"), [joints("position", "base")], "no single one for wrist in rad among /joint_states position"),
        (("base", "deg"), [joints("position", "base")], "no single one for base in deg"),
        (("base", "N m"), [joints("position", "base")], "no single one for base in N m"),
        (
            ("base", "rad"),
            [joints("position", "base"), joints("position", "base", topic="/other")],
            "base in rad (one of base, base)",
        ),
    ],
)
def test_an_axis_without_one_source_is_a_question(axis: tuple[str, str], drafted: list[Signal], message: str) -> None:
    questions: list[str] = []
    name_axes(drafted, make_array(axis), questions)
    assert len(questions) == 1
    assert message in questions[0]


def test_a_bag_of_another_robot_keeps_its_own_names() -> None:
    drafted, questions = [joints("position", "a", "b")], list[str]()
    assert name_axes(drafted, make_array(("base", "rad")), questions) == drafted
    assert len(questions) == 1
