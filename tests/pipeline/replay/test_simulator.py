"""The section of the replay in the simulator, on the line of `tests/robots/line.py`."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from supple.datasets import Episode, Feature, Schema, write_store
from supple.errors import ConfigError
from supple.pipeline.replay.section import Replay
from supple.pipeline.replay.simulator import cut_valid, from_json, replay_in_simulator, to_json
from supple.pipeline.settings.replay import SimulatorConfig
from supple.robots.log_replay import ReplaySimulator
from supple.robots.wiring import find_sensors, find_wiring
from tests.robots.line import Line, make_spec, record

from .conftest import Silent, make_bundle

Make = Callable[..., Replay]


class Unmade(Line):
    def make(self, rows: int, threads: int = 1):
        raise ConfigError("line: expected a package, got none; install it")


@pytest.fixture
def replay_line(tmp_path: Path) -> Make:
    """Makes a replay of logged episodes of the line."""

    def make(*episodes, valid: list[int] | None = None) -> Replay:
        spec = make_spec()
        features = [
            Feature(
                name=array.name,
                shape=array.shape,
                units=tuple(axis.unit for axis in array.axes),
                role=array.name,
                axes=array.names,
            )
            for array in (spec.observation, spec.action)
        ]
        arrays = [{"observation": one.observation, "action": one.action} for one in episodes]
        if valid is not None:
            features.append(Feature(name="valid", dtype="uint8", shape=(), units=("",), role="other", axes=("valid",)))
            arrays = [one | {"valid": np.array(valid, np.uint8)} for one in arrays]
        schema = Schema(features=tuple(features), control_period=spec.control_period, robot=spec)
        number = len(list(tmp_path.iterdir()))
        store = write_store(tmp_path / f"store-{number}", [Episode(one, False, True) for one in arrays], schema, {})
        folder = tmp_path / f"kept-{number}"
        folder.mkdir()
        return Replay(
            label="line", bundle=make_bundle(), store=store, spec=spec, family=Line(), folder=folder, view=Silent()
        )

    return make


def test_a_good_log_is_trusted(replay_line: Make) -> None:
    section = replay_in_simulator(replay_line(record(0), record(1)), SimulatorConfig())
    assert not section.skipped
    assert [ground.level for ground in section.grounds] == ["trust"]
    assert section.findings[0].startswith("Nothing is wrong beyond the tolerances")
    assert "ms late" in section.findings[1]
    assert len(section.tables) == 3
    assert len(section.figures) == 2
    json.dumps(section.data, allow_nan=False)


def test_a_fault_is_said_and_mended(replay_line: Make) -> None:
    section = replay_in_simulator(replay_line(record(0, gain=(1.0, -1.0), delay=0.04)), SimulatorConfig())
    assert section.findings[0] == "Joint 'two': sign reversed, it moves against its commands."
    assert section.findings[1].startswith("Commands arrive 40 ms late")
    assert [ground.level for ground in section.grounds] == ["do not use", "caution"]
    logged, mended = (np.array(section.data["divergence"][name]["anew"]) for name in ("logged", "mended"))
    assert mended[-1, 1] < 0.1 * logged[-1, 1]
    assert [one["kind"] for one in section.data["findings"]] == ["sign", "delay"]


def test_a_tolerance_is_the_users(replay_line: Make) -> None:
    section = replay_in_simulator(replay_line(record(0, delay=0.04)), SimulatorConfig(delay_tolerance=0.06))
    assert [ground.level for ground in section.grounds] == ["trust"]
    assert "within the tolerance of 60.0 ms" in section.findings[1]


def test_a_log_of_single_steps_tells_nothing_of_the_wiring(replay_line: Make) -> None:
    one = record(0)
    short = one._replace(observation=one.observation[:1], action=one.action[:1])
    section = replay_in_simulator(replay_line(short, short), SimulatorConfig())
    assert "no episode of the log has two steps" in section.skipped


def test_what_was_kept_is_not_computed_again(replay_line: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from supple.pipeline.replay import simulator

    replay = replay_line(record(0))
    first = replay_in_simulator(replay, SimulatorConfig())
    monkeypatch.setattr(simulator, "find_wiring", None)
    monkeypatch.setattr(simulator, "measure_divergence", None)
    again = replay_in_simulator(replay, SimulatorConfig())
    assert again.findings == first.findings
    assert again.data == first.data


def test_without_a_simulator_it_is_not_done(replay_line: Make) -> None:
    section = replay_in_simulator(replace(replay_line(record(0)), family=None), SimulatorConfig())
    assert "no robot was named" in section.skipped
    short = replay_in_simulator(replay_line(record(0, steps=4)), SimulatorConfig())
    unmade = replay_in_simulator(replace(replay_line(record(0)), family=Unmade()), SimulatorConfig())
    assert "none can be made: line: expected a package, got none; install it" in unmade.skipped
    assert "give longer logs" in short.skipped


def test_an_episode_is_cut_where_a_step_is_not_valid(replay_line: Make) -> None:
    episode = record(0, steps=8)
    replay = replay_line(episode, valid=[1, 1, 1, 0, 1, 1, 0, 1])
    found = cut_valid(replay, 0, replay.store.episode(0))
    assert [one.action.tolist() for one in found] == [episode.action[:3].tolist(), episode.action[4:6].tolist()]


def test_what_was_found_survives_json() -> None:
    simulator, episode = ReplaySimulator(Line()), record(0)
    sensors, (wiring, _) = find_sensors(simulator, [episode]), find_wiring(simulator, [episode])
    sensors = sensors._replace(rate=np.array([1.0, np.nan]), bias_error=np.array([np.inf, 0.1]))
    again_sensors, again = from_json(json.loads(json.dumps(to_json(sensors, wiring), allow_nan=False)))
    for one, other in ((sensors, again_sensors), (wiring, again)):
        for name, value in one._asdict().items():
            np.testing.assert_array_equal(getattr(other, name), value)
