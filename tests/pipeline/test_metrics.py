import errno
import json
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

from supple.errors import RunError
from supple.pipeline.metrics import MetricsLog, compute_means, compute_metrics_digest, is_wall_clock, load_metrics


def write(folder: Path, count: int, **extra: float) -> Path:
    folder.mkdir()
    with MetricsLog(folder, tensorboard=False) as log:
        for step in range(count):
            log.append({"step": step, "loss": 1.0 / (step + 1), **extra})
    return folder / "metrics.jsonl"


def test_records_are_strict_json(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, tensorboard=False) as log:
        log.append({"step": 1, "loss": np.float32(0.5), "kl": float("nan"), "success": np.bool_(True), "name": "x"})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    record = json.loads(line, parse_constant=lambda name: pytest.fail(name))
    assert record | {"wall_s": 0} == {"step": 1, "loss": 0.5, "kl": None, "success": True, "name": "x", "wall_s": 0}


def test_the_digest_leaves_out_only_the_clock(tmp_path: Path) -> None:
    one = compute_metrics_digest(write(tmp_path / "a", 3, wall_update_s=1.0, steps_per_s=3.0))
    assert one == compute_metrics_digest(write(tmp_path / "b", 3, wall_update_s=2.0, steps_per_s=9.0))
    assert one != compute_metrics_digest(write(tmp_path / "c", 3, wall_update_s=1.0, steps_per_s=3.0, kl=0.0))
    assert [name for name in ("wall_s", "x_per_s", "rewards", "waller") if is_wall_clock(name)] == ["wall_s", "x_per_s"]


def test_means_are_those_of_the_first_records_numbers() -> None:
    records = [
        {"step": 3, "success": True, "task": "a", "kl": None},
        {"step": 3, "success": False},
        {"step": 3, "n": 5},
    ]
    assert compute_means(records) == {"step": 3, "success": 0.5}
    episode, total = {"kind": "episode", "step": 2, "steps": 280}, {"kind": "guarded", "step": 2, "steps": 560}
    assert compute_means([episode, total]) == {"step": 2, "steps": 280}


def test_a_log_is_cut_back_to_its_checkpoint(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, tensorboard=False) as log:
        log.append({"step": 1})
        length = log.sync()
        log.append({"step": 2})
    with MetricsLog(tmp_path, length, 7.0, tensorboard=False) as log:
        assert log.append({"step": 3})["wall_s"] >= 7.0
    assert [record["step"] for record in load_metrics(tmp_path / "metrics.jsonl")] == [1, 3]
    with pytest.raises(RunError, match=r"metrics\.jsonl: expected at least 999 bytes at the checkpoint"):
        MetricsLog(tmp_path, 999, tensorboard=False)


def test_damaged_records_are_refused(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"ste')
    with pytest.raises(RunError, match=r"metrics\.jsonl, line 2: expected strict JSON"):
        load_metrics(tmp_path / "metrics.jsonl")


def test_tensorboard_has_the_first_and_the_last_value(tmp_path: Path) -> None:
    with MetricsLog(tmp_path) as log:
        for step in range(50):
            log.append({"step": step, "loss": float(step)})
    (path,) = (tmp_path / "tensorboard").iterdir()
    events = [event for event in EventFileLoader(str(path)).Load() if event.HasField("summary")]
    assert [event.step for event in events] == [0, 49]


def test_a_record_that_the_disk_refuses_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first bytes fitted: the next record does not stand behind them."""
    log = MetricsLog(tmp_path, tensorboard=False)
    log.append({"step": 1})
    file = log._file

    class Full:
        written = 0

        def write(self, data: memoryview) -> int:
            if self.written:
                raise OSError(errno.ENOSPC, "No space left on device")
            self.written = file.write(data[:5])
            return self.written

        def __getattr__(self, name: str) -> object:
            return getattr(file, name)

    with monkeypatch.context() as patched:
        patched.setattr(log, "_file", Full())
        with pytest.raises(OSError, match="No space left"):
            log.append({"step": 2})
    log.append({"step": 3})
    log.close()
    assert [record["step"] for record in load_metrics(tmp_path / "metrics.jsonl")] == [1, 3]
