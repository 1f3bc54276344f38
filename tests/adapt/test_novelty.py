"""The score of unknown motion: calibrated on a toy, and the same step by step as for whole episodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.novelty import Motion, NoveltyModel, NoveltyScorer, calibrate, fit
from supple.errors import SpecError
from supple.meta.testing import PointBatch

ROWS, STEPS = 20, 40


def play(count: int, seed: int, gain: float = 1.0) -> list[Motion]:
    """Points with sensor noise; the gain changes what they are told on the way."""
    rng, robot, rows, found = np.random.default_rng(seed), PointBatch(ROWS, radius=0.0), np.arange(ROWS), []
    for _ in range(count // ROWS):
        place, told = robot.reset(rows, np.full((ROWS, 2), 99.0, np.float32), rng), []
        seen = [place]
        for _ in range(STEPS):
            told.append(rng.uniform(-0.5, 0.5, (ROWS, 2)).astype(np.float32))
            place = robot.step(rows, (gain * told[-1]).astype(np.float32)).observation
            seen.append((place + 0.02 * rng.standard_normal(place.shape)).astype(np.float32))
        observation, command = np.stack(seen, axis=1), np.stack(told, axis=1)
        found += [Motion(observation[row], command[row]) for row in rows]
    return found


@pytest.fixture(scope="module")
def model() -> NoveltyModel:
    return calibrate(fit(play(60, 0)), play(400, 1), alpha=0.01)


def test_nominal_motion_scores_one_and_seldom_alarms(model: NoveltyModel) -> None:
    scores = [model.score_episode(one) for one in play(400, 2)]
    assert np.mean([score.mean() for score in scores]) == pytest.approx(1.0, abs=0.1)
    alarms = np.mean([score.max() > model.threshold[0] for score in scores])
    assert alarms <= 0.025  # a share of 1 % of 400, and twice its standard error three times over


def test_another_gain_is_found(model: NoveltyModel) -> None:
    alarms = [(model.score_episode(one) > model.threshold[0]).any() for one in play(40, 3, gain=0.7)]
    assert all(alarms)


def test_steps_are_scored_as_whole_episodes(model: NoveltyModel) -> None:
    one, other = play(20, 4)[:2]
    scorer, rows = NoveltyScorer(model, PointBatch(2)), np.arange(2)
    for _ in range(2):  # a second episode begins anew
        scorer.begin(rows, np.stack([one.observation[0], other.observation[0]]))
        found = [
            scorer.score(rows, *(np.stack([getattr(e, n)[s + k] for e in (one, other)]) for n, k in PLACES))
            for s in range(STEPS)
        ]
    np.testing.assert_allclose(np.array(found).T, [model.score_episode(one), model.score_episode(other)], rtol=1e-9)


PLACES = (("command", 0), ("observation", 1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mean", np.float64(0.0)),
        ("scale", np.zeros(6)),
        ("scale", np.ones(5)),
        ("weights", np.ones((3, 2))),
        ("whiten", np.ones((2, 3))),
        ("place", np.ones((2, 2), np.float32)),
        ("threshold", np.array([np.nan, 1.0])),
    ],
)
def test_a_model_that_could_not_score_a_step_is_refused_when_it_is_read(
    model: NoveltyModel, tmp_path: Path, name: str, value: Any
) -> None:
    replace(model, **{name: np.asarray(value)}).save(tmp_path / "model.safetensors")
    with pytest.raises(SpecError, match="expected a model of motion"):
        NoveltyModel.load(tmp_path / "model.safetensors")


def test_it_is_saved_and_damage_is_refused(model: NoveltyModel, tmp_path: Path) -> None:
    model.save(tmp_path / "novelty.safetensors")
    loaded = NoveltyModel.load(tmp_path / "novelty.safetensors")
    one = play(20, 5)[0]
    np.testing.assert_array_equal(loaded.score_episode(one), model.score_episode(one))
    np.testing.assert_array_equal(loaded.threshold, model.threshold)
    (tmp_path / "novelty.safetensors").write_bytes(b"{}")
    with pytest.raises(SpecError, match="expected a model of motion"):
        NoveltyModel.load(tmp_path / "novelty.safetensors")


def test_too_few_episodes_and_another_robot_are_refused(model: NoveltyModel) -> None:
    with pytest.raises(SpecError, match="expected two nominal episodes or more, got 1"):
        fit(play(20, 0)[:1])
    with pytest.raises(SpecError, match=r"expected 99 nominal episodes or more for a share of 0\.01, got 20"):
        calibrate(model, play(20, 0))

    from supple.robots.maze_family import Maze

    with pytest.raises(SpecError, match="expected a model of 4 observation and 2 action axes, got one of 2 and 2"):
        NoveltyScorer(model, Maze(layout_size=8).make(1))
