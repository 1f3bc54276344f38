import json
from pathlib import Path

import pytest

from supple.pipeline.report.guarding import load_guarding


def write(folder: Path, *records: dict[str, object]) -> None:
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))


def episode(number: int, returned: float, **facts: object) -> dict[str, object]:
    return {"kind": "episode", "episode": number, "return": returned, "steps": 50, **facts}


def test_returns_are_told_by_episode_and_motion_in_seconds(tmp_path: Path) -> None:
    write(tmp_path, episode(1, 0.0), episode(1, 1.0), episode(2, 1.0, taken_over=7))
    found = load_guarding(tmp_path, 0.1)
    assert found.returns is not None
    assert found.returns.groups == {"": [("1", "0.5", "0.5 to 0.5"), ("2", "1", "1 to 1")]}
    assert found.facts == [("motion of all robots", "15 s"), ("steps commanded by a person", "7")]
    assert found.events == []


def test_many_episodes_are_told_in_blocks(tmp_path: Path) -> None:
    write(tmp_path, *(episode(number, float(number % 2)) for number in range(1, 101)))
    table = load_guarding(tmp_path, None).returns
    assert table is not None
    (rows,) = table.groups.values()
    assert [row[0] for row in rows] == [f"{first} to {first + 9}" for first in range(1, 100, 10)]
    assert {row[1] for row in rows} == {"0.5"}
    low, high = map(float, rows[0][2].split(" to "))
    assert low < 0.5 < high


def test_what_the_guards_did_is_told(tmp_path: Path) -> None:
    guarded = {"kind": "guarded", "clamped": 0.25, "robot_seconds": 30.0, "extra": 6, "updates": 2, "rollbacks": 1}
    events = [("canary", "as before"), ("limited", "1 of 1 rows"), ("rollback", "return 0 after 1")]
    write(
        tmp_path,
        episode(1, 1.0),
        {**guarded, "prior_kl": 0.5},
        *({"kind": "guard", "event": event, "reason": reason, "episode": 1} for event, reason in events),
    )
    found = load_guarding(tmp_path, 0.1)
    assert dict(found.facts)["roll-backs"] == "1"
    assert dict(found.facts)["clamped commands"] == "25.0 %"
    assert found.events == ["episode 1: rollback: return 0 after 1"]


@pytest.mark.parametrize("content", [None, ""])
def test_nothing_is_told_before_the_first_episode(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "metrics.jsonl").write_text(content)
    assert load_guarding(tmp_path, 0.1).returns is None
