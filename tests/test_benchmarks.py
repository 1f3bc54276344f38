"""The benchmarks' records have the schema that the README is made from."""

import importlib.util
import json
import time
from pathlib import Path

import pytest

from benchmarks.results.records import load_records

FOLDER = Path(__file__).resolve().parent.parent / "benchmarks"


def test_printed_records_have_the_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = importlib.util.spec_from_file_location("recording", FOLDER / "recording.py")
    assert spec is not None
    assert spec.loader is not None
    recording = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recording)
    own = [{"method": "ours", "metric": "steps_per_s", "mean": 2.0, "benchmark": "own"}]
    own.append({"method": "ours", "metric": "steps_per_s", "at": {"rows": 3}, "ratio": 4.0, "peer": "theirs"})
    recording.print_records("speed", "python benchmarks/bench_speed.py", time.perf_counter() - 5.0, own)
    printed = capsys.readouterr().out
    (tmp_path / "records.json").write_text(printed)
    records = load_records(tmp_path / "records.json")
    assert [(r.benchmark, r.mean, r.ratio, r.place) for r in records] == [
        ("own", 2.0, None, ""),
        ("speed", None, 4.0, 3),
    ]
    assert {record.command for record in records} == {"python benchmarks/bench_speed.py"}
    assert all(5.0 <= row["wall_s"] < 60.0 for row in json.loads(printed))


@pytest.mark.parametrize("script", sorted(FOLDER.glob("bench_*.py")), ids=lambda path: path.stem)
def test_every_benchmark_prints_by_that_function_and_names_its_own_command(script: Path) -> None:
    text = script.read_text()
    assert "print_records(" in text
    assert "rev-parse" not in text
    assert f'python benchmarks/{script.name}"' in text
