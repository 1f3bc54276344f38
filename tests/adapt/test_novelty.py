"""The score of unknown motion: calibrated on a toy, and the same step by step as for whole episodes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supple.adapt.audit import AuditLog
from supple.adapt.bundle import load_bundle, write_adapted, write_bundle
from supple.adapt.contract import BundleContract
from supple.adapt.novelty import MEMORY, Motion, NoveltyModel, NoveltyScorer, calibrate, fit, learn_nominal
from supple.adapt.safety import SafetyLimits
from supple.adapt.watch import CommandTap, Watch
from supple.errors import BundleError, SpecError
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


def relax(count: int, seed: int, push: float = 0.0) -> list[Motion]:
    """A joint that goes halfway to where it is told in each step, with noise of 0.1, and what pushes it."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(count):
        told = rng.uniform(-1.0, 1.0, (100, 1)).astype(np.float32)
        place = [np.zeros(1)]
        for command in told:
            place.append(0.5 * (place[-1] + command) + push + 0.1 * rng.standard_normal(1))
        found.append(Motion(np.array(place, np.float32), told))
    return found


def test_a_push_is_found_by_its_sign_where_the_size_of_errors_hardly_changes() -> None:
    """A third of the noise: no step is unusual, their sum is, and that over ten episodes is so in each."""
    model = learn_nominal(relax(240, 0), 100, alpha=0.01)
    nominal, pushed = relax(80, 1), relax(80, 2, push=0.033)
    assert np.mean([(model.score_episode(one) > model.threshold[0]).any() for one in pushed]) < 0.2
    for earlier, least in ((0, 0.3), (MEMORY - 1, 0.995)):
        shares = [
            np.mean(
                [
                    (model.find_change(one, episodes[at : at + earlier]) > model.threshold[2]).any()
                    for at, one in enumerate(episodes[earlier:])
                ]
            )
            for episodes in (nominal, pushed)
        ]
        assert shares[0] <= 0.08
        assert shares[1] >= least


def test_a_drift_worked_by_hand(model: NoveltyModel) -> None:
    """Errors of 0.3 and 0.5 in 6 steps: v = 0.8 / 4; the square of each axis over 2 axes."""
    plain = replace(model, drift=np.diag([2.0, 1.0]), usual=np.array([2.0, 0.1, 0.5]))
    found = plain.weigh(np.array([[0.8, 0.4]]), np.array([6]))
    assert found == pytest.approx([(0.4**2 + 0.1**2) / 2])
    assert plain.combine(np.array([1.0]), found) == pytest.approx([0.85])
    assert plain.combine(np.array([3.0]), found) == pytest.approx([1.5])
    assert plain.combine(np.array([1.0]), found, np.array([0.6])) == pytest.approx([1.2])


def test_a_model_from_before_there_was_a_drift_alarms_as_it_did(model: NoveltyModel) -> None:
    arrays = model.to_arrays()
    older = {name: arrays[name] for name in arrays if name not in ("drift", "usual")}
    found = NoveltyModel.of_arrays(older | {"threshold": arrays["threshold"][:2]}, "older")
    one = play(20, 9, gain=0.9)[0]
    np.testing.assert_array_equal(found.find_change(one), model.score_episode(one))
    assert found.threshold.tolist() == [model.threshold[0], model.threshold[1], model.threshold[0]]


def test_steps_are_scored_as_whole_episodes(model: NoveltyModel) -> None:
    one, other = play(20, 4)[:2]
    scorer, rows = NoveltyScorer(model, PointBatch(2).spec, 2), np.arange(2)
    for _ in range(2):  # a second episode begins anew
        scorer.begin(rows, np.stack([one.observation[0], other.observation[0]]))
        found = [
            scorer.score(rows, *(np.stack([getattr(e, n)[s + k] for e in (one, other)]) for n, k in PLACES))
            for s in range(STEPS)
        ]
    np.testing.assert_allclose(np.array(found).T, [model.score_episode(one), model.score_episode(other)], rtol=1e-9)
    changes = []
    for _ in range(MEMORY):  # from then on the last ones are remembered
        scorer.begin(rows, np.stack([one.observation[0], other.observation[0]]))
        changes.append([])
        for s in range(STEPS):
            scorer.score(rows, *(np.stack([getattr(e, n)[s + k] for e in (one, other)]) for n, k in PLACES))
            changes[-1].append(scorer.change(rows)[1])
    np.testing.assert_allclose(changes[0], model.find_change(other), rtol=1e-9)
    np.testing.assert_allclose(changes[-1], model.find_change(other, [other] * (MEMORY - 1)), rtol=1e-9)


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
        ("threshold", np.array([np.nan, 1.0, 1.0])),
        ("threshold", np.array([1.0, 1.0])),
        ("usual", np.array([1.0, 0.0, 1.0])),
        ("drift", np.ones((2, 1))),
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
        NoveltyScorer(model, Maze(layout_size=8).make(1).spec, 1)


def test_half_of_the_nominal_episodes_set_the_threshold_and_are_not_learned_from() -> None:
    episodes = play(200, 5)
    model = learn_nominal(episodes, STEPS, alpha=0.01)
    fitted = fit(episodes[::2])
    np.testing.assert_array_equal(model.weights, fitted.weights)
    highest = [fitted.score_episode(one).max() for one in episodes[1::2]]
    assert model.threshold[0] == max(highest)  # of 100: the 99 % place of 101
    fresh = play(400, 6)
    # the share beyond the largest of 100 is that of Beta(1, 100): 99.9 % of it is below 1 - 0.001^(1 / 100)
    assert np.mean([model.score_episode(one).max() > model.threshold[0] for one in fresh]) <= 0.067


def test_a_threshold_is_of_episodes_as_long_as_those_of_the_robot() -> None:
    episodes = play(200, 5)
    short = [Motion(one.observation[:11], one.command[:10]) for one in episodes]
    found, cut = learn_nominal(short, 10), learn_nominal(episodes, 10)
    np.testing.assert_array_equal(found.threshold, cut.threshold)
    assert learn_nominal(episodes, STEPS).threshold[0] > 0.0


@pytest.mark.parametrize(("alpha", "least"), [(0.01, 198), (0.1, 18), (0.5, 2)])
def test_too_few_nominal_episodes_are_refused(alpha: float, least: int) -> None:
    episodes = play(200, 5)
    wanted = f"expected {least} nominal episodes of 40 steps or more .* {alpha}, got {least - 1}"
    with pytest.raises(SpecError, match=wanted):
        learn_nominal(episodes[: least - 1], STEPS, alpha)
    if alpha < 0.5:  # a model is fitted to two episodes or more
        assert np.isfinite(learn_nominal(episodes[:least], STEPS, alpha).threshold).all()


def test_a_bundle_takes_a_model_along_and_another_one_is_refused(
    folder: Path, tmp_path: Path, skill_contract: BundleContract
) -> None:
    spec = skill_contract.robot
    shapes, rng = ((21, len(spec.observation.axes)), (20, len(spec.action.axes))), np.random.default_rng(0)
    episodes = [Motion(*(rng.standard_normal(shape).astype(np.float32) for shape in shapes)) for _ in range(40)]
    model, plain = learn_nominal(episodes, 20, alpha=0.1), load_bundle(folder)
    parts = {"contract": plain.contract, "weights": plain.weights, "golden": plain.golden}
    bundle = write_bundle(tmp_path / "with", **parts, novelty=model)
    assert plain.novelty is None
    assert bundle.novelty is not None
    for name, value in model.to_arrays().items():
        np.testing.assert_array_equal(getattr(bundle.novelty, name), value)
    assert bundle.digest != plain.digest
    assert "unknown motion gives an alarm" in (tmp_path / "with" / "README.md").read_text()
    assert write_adapted(tmp_path / "task", bundle, {}, 0, {}).novelty is not None
    with pytest.raises(BundleError, match=r"novelty\.safetensors.* expected a model of"):
        write_bundle(tmp_path / "other", **parts, novelty=learn_nominal(play(40, 0), 20, alpha=0.1))


def test_unknown_motion_gives_an_alarm_at_its_first_step_and_a_new_episode_begins_without(
    model: NoveltyModel, tmp_path: Path
) -> None:
    points = PointBatch(2, radius=0.0)
    taps = CommandTap(points)
    log = AuditLog(tmp_path / "audit.jsonl", simulator=True)
    watch = Watch(SafetyLimits(taps, log), taps, scorer=NoveltyScorer(model, taps.spec, taps.rows))
    rows, goals, rng = np.arange(2), np.full((2, 2), 99.0, np.float32), np.random.default_rng(0)
    for _ in range(2):
        watch.reset(rows, goals, rng)
        assert not watch.alarms
        watch.step(rows, np.zeros((2, 2), np.float32))
        points._position[1] += 3.0  # somebody pushes the second one
        for _ in range(3):
            watch.step(rows, np.zeros((2, 2), np.float32))
        assert list(watch.alarms) == [1]
        assert watch.alarms[1].step == 2
        assert watch.alarms[1].score > watch.alarms[1].threshold == model.threshold[2]
    log.close()
