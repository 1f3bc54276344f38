"""What is said of any source: jumps, next observations that are none, ends without a reset, dead axes and cameras."""

import weakref
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from supple.datasets import Episode, Feature, Schema, SourceSpec
from supple.datasets.checks import SourceChecks
from supple.datasets.schema import make_image_feature


def make_spec(dim: int, *, following: bool = False) -> SourceSpec:
    axes = tuple(f"q{axis}" for axis in range(dim))
    features = [Feature(name="observation", shape=(dim,), units=("m",) * dim, role="observation", axes=axes)]
    features.append(Feature(name="action", shape=(1,), units=("N",), role="action", axes=("push",)))
    if following:
        features.append(Feature(name="next_observation", shape=(dim,), units=("m",) * dim, role="other", axes=axes))
    return SourceSpec(schema=Schema(features=tuple(features)), episodes=1, rows=1, provenance={})


def walk(steps: int, dim: int = 4, seed: int = 0) -> np.ndarray:  # type: ignore[type-arg]
    """A smooth random motion, shape (steps, dim)."""
    rng = np.random.default_rng(seed)
    speed = np.cumsum(rng.normal(size=(steps, dim)), 0)
    return (np.cumsum(speed - speed.mean(0), 0) / 1000).astype(np.float32)


def look(parts: Sequence[np.ndarray], following: Sequence[np.ndarray] = ()) -> SourceChecks:  # type: ignore[type-arg]
    rng = np.random.default_rng(1)
    checks = SourceChecks(make_spec(parts[0].shape[1], following=bool(following)))
    episodes = []
    for number, part in enumerate(parts):
        arrays = {"observation": part, "action": rng.normal(size=(len(part), 1)).astype(np.float32)}
        if following:
            arrays["next_observation"] = following[number]
        episodes.append(Episode(arrays, terminated=False, truncated=True))
    assert list(checks.passing(iter(episodes))) == episodes
    return checks


def test_smooth_motion_gives_no_findings() -> None:
    checks = look([walk(500, seed=seed) for seed in range(4)])
    assert checks.findings() == ()
    assert checks.lengths == [500] * 4
    assert (checks.terminated, checks.truncated) == (0, 4)


@pytest.mark.parametrize("block", [100, 10_000])
def test_an_end_that_is_not_marked_is_found_by_its_jump(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supple.datasets.checks._BLOCK_ROWS", block)
    joined = np.concatenate([walk(500, seed=1), walk(500, seed=2) + 50])
    (finding,) = look([walk(500), joined, walk(500, seed=3)]).findings()
    assert "jumps 1 times within an episode" in finding
    assert "at row 1000 (episode 1)" in finding


def test_one_axis_of_many_that_wraps_is_no_jump() -> None:
    angle = (np.arange(2000) * 0.05) % (2 * np.pi)
    moving = np.concatenate([walk(2000, 6), angle[:, None].astype(np.float32)], 1)
    assert look([moving]).findings() == ()


def test_next_observations_that_are_none_are_found_by_row() -> None:
    parts = [walk(50, seed=seed) for seed in range(3)]
    following = [np.concatenate([part[1:], part[-1:] + 1]) for part in parts]
    assert look(parts, following).findings() == ()
    following[1][7] += 0.5
    following[2][0] += 0.5
    (finding,) = look(parts, following).findings()
    assert "in 2 rows: at row 57 (episode 1), row 100 (episode 2)" in finding


def test_ends_without_a_reset_are_said() -> None:
    whole = walk(1000)
    (finding,) = look(np.split(whole, 10)).findings()
    assert finding.startswith("behind 9 of 9 ends of episodes the motion goes on in the next episode")


def test_nothing_is_said_of_ends_where_no_episode_has_a_second_step() -> None:
    assert look(np.split(walk(50), 50)).findings() == ()


@pytest.mark.parametrize(("scale", "offset", "flat"), [(1e-5, 1.0, True), (1e-2, 1.0, False), (1e-5, 0.0, False)])
def test_axes_that_hardly_move_are_named_in_relation_to_their_values(scale: float, offset: float, flat: bool) -> None:
    rows = walk(1000, 2)
    rows[:, 1] = np.random.default_rng(0).normal(size=1000) * scale + offset
    findings = look([rows]).findings()
    assert (len(findings) == 1 and findings[0].startswith("observation: 1 axes hardly move: q1 (")) == flat


def test_ranges_are_those_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supple.datasets.checks._BLOCK_ROWS", 64)
    parts = [walk(100, 3, seed) + 1000 for seed in range(5)]
    whole = np.concatenate(parts).astype(np.float64)
    ranges = [one for one in look(parts).ranges() if one.feature == "observation"]
    np.testing.assert_array_equal([one.low for one in ranges], whole.min(0))
    np.testing.assert_allclose([one.mean for one in ranges], whole.mean(0), rtol=1e-12)
    np.testing.assert_allclose([one.std for one in ranges], whole.std(0), rtol=1e-6)
    assert [one.unit for one in ranges] == ["m"] * 3


def test_what_is_found_in_a_long_episode_does_not_depend_on_its_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = [walk(700, seed=1), walk(90, seed=2)]
    parts[0][600:] += 50
    following = [np.concatenate([part[1:], part[-1:] + 0.001]) for part in parts]
    following[0][499] += 1.0  # the row before the block that begins at 500
    found = []
    for block in (10_000, 100, 7):
        monkeypatch.setattr("supple.datasets.checks._BLOCK_ROWS", block)
        checks = look(parts, following)
        assert checks.lengths == [700, 90]
        jump, wrong = checks.findings()
        assert "jumps 1 times" in jump
        assert "at row 600 (episode 0)" in jump
        assert "in 1 rows: at row 499 (episode 0)" in wrong
        found.append([(one.low, one.high, round(one.mean, 6), round(one.std, 6)) for one in checks.ranges()])
    assert found[0] == found[1] == found[2]


def film(*shots: np.ndarray, still: bool = False) -> list[str]:  # type: ignore[type-arg]
    """What is said of episodes with these pictures, which are let go before the next ones but one are made."""
    spec = make_spec(1)
    camera = make_image_feature("image", shots[0].shape[1:])
    checks = SourceChecks(replace(spec, schema=replace(spec.schema, features=(*spec.schema.features, camera))))
    kept: list[weakref.ref[object]] = []

    def make() -> Iterator[Episode]:
        for shown in shots:
            assert all(one() is None for one in kept[:-1])
            rows = np.zeros((len(shown), 1), np.float32) if still else walk(len(shown), 1)
            pictures = shown.copy()
            kept.append(weakref.ref(pictures))
            arrays = {"observation": rows, "action": walk(len(shown), 1), "image": pictures}
            yield Episode(arrays, terminated=False, truncated=True)

    for _ in checks.passing(make()):
        pass
    return [one for one in checks.findings() if one.startswith("image")]


SEEN = np.random.default_rng(0).integers(0, 256, (40, 8, 12, 3), np.uint8)


def test_pictures_are_looked_at_and_not_kept() -> None:
    assert not film(SEEN, SEEN, SEEN)


def test_a_camera_that_shows_one_colour_is_named() -> None:
    dark = SEEN % 9
    (found,) = film(SEEN, dark, SEEN, np.full_like(SEEN, (200, 10, 90)))
    assert found == (
        "image: in 2 of 4 episodes, the first one number 1, each picture is of one colour, as of a covered lens or "
        "a camera that sends nothing"
    )
    assert not film(np.concatenate([dark, SEEN[:1], dark]))


def test_a_camera_that_hangs_is_named_where_the_robot_moves() -> None:
    frozen = SEEN[:1].repeat(40, 0)
    (found,) = film(SEEN, frozen)
    assert found.startswith("image: in 1 of 2 episodes, the first one number 1, the picture never changes while")
    assert not film(SEEN, frozen, still=True)
    assert not film(frozen[:9], np.concatenate([frozen, SEEN[1:2]]))
