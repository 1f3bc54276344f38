import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supple.bounds import (
    Bounded,
    BoundsError,
    Count,
    CountFromZero,
    Length,
    Positive,
    Range,
    Seed,
    Share,
    Width,
    Widths,
    require_bounds,
)
from supple.pipeline.presets import PRESETS, RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner(Bounded):
    width: Width = 4
    rate: Positive | None = None


@dataclass(frozen=True, kw_only=True)
class Plain:
    """What a user writes, without any bound."""

    seed: int = 0
    gain: float = 1.0
    place: tuple[float, ...] = (0.0, 1.0)
    name: str = "arm"
    model: Path | None = None
    kind: Literal["a", "b"] = "a"
    inner: Inner = field(default_factory=Inner)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outer:
    share: Annotated[float, Range(0, 1, below=True)] = 0.5
    widths: Widths = (1, 2)
    pair: tuple[Count, CountFromZero] = (1, 0)
    optional: Count | None = None
    inner: Inner = field(default_factory=Inner)
    plain: Plain = field(default_factory=Plain)
    table: dict[str, Any] = field(default_factory=dict)
    far: Annotated[float, Range(-1, math.inf)] = math.inf


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"share": 1.0}, "Outer.share: expected a number from 0 to below 1, got 1.0"),
        ({"far": -math.inf}, "Outer.far: expected a number from -1 to inf, got -inf"),
        ({"far": math.nan}, "Outer.far: expected a number from -1 to inf, got nan"),
        ({"share": math.nan}, "Outer.share: expected a number from 0 to below 1, got nan"),
        ({"widths": ()}, "Outer.widths: expected 1 to 64 values, got 0"),
        ({"widths": (1,) * 65}, "Outer.widths: expected 1 to 64 values, got 65"),
        ({"widths": (1, 0)}, "Outer.widths[1]: expected a whole number from 1 to 16384, got 0"),
        ({"widths": (1, 2.5)}, "Outer.widths[1]: expected a whole number from 1 to 16384, got 2.5"),
        ({"pair": (0, 0)}, "Outer.pair[0]: expected a whole number from 1 to 1000000000, got 0"),
        ({"pair": (1, -1)}, "Outer.pair[1]: expected a whole number from 0 to 1000000000, got -1"),
        ({"optional": 0}, "Outer.optional: expected a whole number from 1 to 1000000000, got 0"),
        ({"plain": Plain(seed=2**63)}, "Outer.plain.seed: expected a whole number below 2^63, got 9223372036854775808"),
        ({"plain": Plain(seed=-(10**400))}, "Outer.plain.seed: expected a whole number below 2^63, got one of more"),
        ({"plain": Plain(gain=math.inf)}, "Outer.plain.gain: expected a number that is finite, got inf"),
        ({"plain": Plain(place=(0.0, math.nan))}, "Outer.plain.place[1]: expected a number that is finite, got nan"),
        ({"plain": Plain(name="a\0b")}, "Outer.plain.name: expected text that is UTF-8 without NUL, got 'a\\x00b'"),
        ({"plain": Plain(model=Path("\udcff"))}, "Outer.plain.model: expected text that is UTF-8 without NUL, got"),
        ({"plain": Plain(kind="c")}, "Outer.plain.kind: expected one of a, b, got 'c'"),  # type: ignore[arg-type]
        ({"table": {"x": [1.0, math.nan]}}, "Outer.table.x[1]: expected a number that is finite, got nan"),
    ],
)
def test_a_value_out_of_bounds_is_named(change: dict[str, Any], message: str) -> None:
    require_bounds(Outer())
    with pytest.raises(BoundsError) as caught:
        require_bounds(dataclasses.replace(Outer(), **change))
    assert str(caught.value).startswith(message)
    assert "; " in str(caught.value)


def test_a_bounded_config_checks_itself() -> None:
    assert Inner(rate=1e-3).rate == 1e-3
    with pytest.raises(BoundsError, match=r"^Inner\.rate: expected a number above 0 to 1e\+12, got 0\.0; change it$"):
        Inner(rate=0.0)


@given(st.floats() | st.integers(), st.booleans(), st.booleans())
def test_a_range_holds_what_lies_between_its_ends(value: float, above: bool, below: bool) -> None:
    found = value in Range(-2, 3, above=above, below=below)
    assert found == (-2 < value < 3 or (value == -2 and not above) or (value == 3 and not below))


def iterate_fields(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    """Each field of a config and of those in it, with its type as it is written."""
    for name, hint in get_type_hints(kind, include_extras=True).items():
        if name not in {item.name for item in dataclasses.fields(kind)}:
            continue
        inner = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        if isinstance(inner, type) and is_dataclass(inner):
            yield from iterate_fields(inner)
        else:
            yield f"{kind.__name__}.{name}", hint


def has_bound(hint: Any) -> bool:
    """Whether each number in the type has a range, and each tuple of any length a length or ranges of its own."""
    if hint in (int, float):
        return False
    if get_origin(hint) is Annotated:
        return any(isinstance(one, Range | Length) for one in get_args(hint)) or has_bound(get_args(hint)[0])
    if get_origin(hint) is Literal:
        return True
    return all(has_bound(one) for one in get_args(hint))


def test_every_number_of_a_run_has_bounds() -> None:
    config = RunConfig()
    kinds = [RunConfig, type(config.robot)]
    assert not [name for kind in kinds for name, hint in iterate_fields(kind) if not has_bound(hint)]
    for preset in PRESETS.values():
        require_bounds(preset)


def test_the_widest_of_what_is_declared() -> None:
    seeds, shares = get_args(Seed)[1], get_args(Share)[1]
    assert [value in seeds for value in (-1, 0, 2**32 - 1, 2**32)] == [False, True, True, False]
    assert [value in shares for value in (-1e-9, 0.0, 1.0, math.nextafter(1.0, 2.0), math.nan)] == [
        *(False, True, True, False, False)
    ]
