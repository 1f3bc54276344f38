"""Each ablation differs from `half` in one departure, which has its published value."""

import json
from pathlib import Path

import pytest

from benchmarks.ablations import HALF, PRESETS
from benchmarks.results.departures import list_departures
from supple.pipeline.presets import PRESETS as OURS

PUBLISHED = OURS["maze-published"]
BESIDE = {"learner.deployment.search": "blind"}
"""What no reward head brings with it."""


def test_half_is_the_preset_with_half_of_the_meta_training_and_without_logs() -> None:
    changed = {name: ours for name, ours, *_ in list_departures(HALF, OURS["maze"])}
    assert changed.pop("learner.config.epochs") * 2 == OURS["maze"].learner.config.epochs
    assert changed.pop("map.enabled") is False
    assert all(name.startswith("adapt.") for name in changed)


@pytest.mark.parametrize("name", sorted(set(PRESETS) - {"half"}))
def test_an_ablation_puts_published_values_back(name: str) -> None:
    departures = {one.name: one.published for one in list_departures(HALF, PUBLISHED)}
    changed = {one.name: one.ours for one in list_departures(PRESETS[name], HALF)}
    assert changed
    for setting, value in changed.items():
        assert value == departures[setting], setting


def test_no_setting_is_put_back_twice() -> None:
    """Otherwise the effect of one departure would be that of another."""
    changed = [one.name for preset in PRESETS.values() for one in list_departures(preset, HALF)]
    assert {name for name in changed if changed.count(name) > 1} == set(BESIDE)


def test_records_without_logs_were_made_by_commands_without_logs() -> None:
    """The presets take logs along: a command that does not say so makes other numbers."""
    records = json.loads((Path(__file__).parents[2] / "docs/results/maze.json").read_text(encoding="utf-8"))
    commands = {
        record["command"]
        for record in records
        if "logs" not in record["method"] and record.get("command", "").startswith("supple ")
    }
    assert len(commands) >= 10
    for command in commands:
        assert any(option in command for option in ("--map.no-enabled", "--adapt.logs off", "--logs off")), command
