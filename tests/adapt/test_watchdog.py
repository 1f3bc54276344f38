"""Heartbeats that cease stop the robot, from a process that needs nothing of the one that beat."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest

from benchmarks.link_faults import attack_watchdog
from supple.adapt.watchdog import BEAT, REST, STOP, Watchdog, watch
from supple.errors import ConfigError, RobotFault
from supple.pipeline.robots import load_user_module
from supple.robots.emulated_robot import stop_robot

STOPPER = '''
import sys
from pathlib import Path

def stop(place, reason):
    """What a driver's own connection would do; the first attempt fails."""
    tries = Path(place + ".tries")
    tries.write_text(tries.read_text() + "x" if tries.exists() else "x")
    if len(tries.read_text()) < 2:
        raise OSError("no answer")
    Path(place).write_text(reason)

if __name__ == "__main__":
    import time
    from supple.adapt.watchdog import Watchdog
    dog = Watchdog(stop, 0.5, [sys.argv[1]])
    dog.beat()
    if sys.argv[2] == "rests":
        dog.rest()
    print("moving", flush=True)
    while sys.argv[2] == "beats":
        time.sleep(0.01)
        dog.beat()
    time.sleep(60)
'''


def wait_for(path: Path, seconds: float = 5.0) -> str:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() and path.read_text():
            return path.read_text()
        time.sleep(0.005)
    return ""


@pytest.mark.parametrize(
    ("how", "does", "reason"),
    [
        (signal.SIGKILL, "beats", "the controlling process has gone"),
        (signal.SIGSTOP, "beats", "no heartbeat for 0.5 s: the controlling process hangs"),
        (signal.SIGTERM, "beats", "the controlling process has gone"),
        (None, "hangs", "no heartbeat for 0.5 s: the controlling process hangs"),
        (signal.SIGKILL, "rests", ""),
        (signal.SIGSTOP, "rests", ""),
    ],
)
def test_a_process_that_moves_and_falls_silent_is_answered_by_a_stop(
    tmp_path: Path, how: signal.Signals | None, does: str, reason: str
) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    place = tmp_path / "stopped"
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "stopper.py"), str(place), does], stdout=subprocess.PIPE, text=True
    )
    with process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "moving\n"
            if does == "beats":
                time.sleep(0.8)
                assert not place.exists()
            if how is not None:
                process.send_signal(how)
            assert wait_for(place, 10.0 if reason else 0.8) == reason
        finally:
            process.kill()  # one that was held would be waited for forever


def test_a_watchdog_that_has_stopped_the_robot_says_so_at_the_next_beat(tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    names: dict[str, object] = {"__name__": "stopper"}
    exec(compile(STOPPER, str(tmp_path / "stopper.py"), "exec"), names)
    dog = Watchdog(names["stop"], 0.5, [str(tmp_path / "stopped")])  # type: ignore[arg-type]
    for _ in range(20):
        dog.beat()
        time.sleep(0.005)
    dog.rest()
    time.sleep(0.8)
    dog.beat()
    assert wait_for(tmp_path / "stopped")
    time.sleep(0.05)
    with pytest.raises(RobotFault, match=r"expected heartbeats within 0\.5 s, got a stop: fired no heartbeat for"):
        dog.beat()
    with pytest.raises(RobotFault, match="got a stop"):
        dog.rest()
    dog.close()


def test_a_robot_that_rests_is_stopped_at_once_where_the_controlling_process_says_so(tmp_path: Path) -> None:
    (tmp_path / "stopper.py").write_text(STOPPER)
    names: dict[str, object] = {"__name__": "stopper"}
    exec(compile(STOPPER, str(tmp_path / "stopper.py"), "exec"), names)
    with closing(Watchdog(names["stop"], 60.0, [str(tmp_path / "stopped")])) as dog:  # type: ignore[arg-type]
        dog.stop("a fault " + "x" * 5000)
        assert wait_for(tmp_path / "stopped").startswith("a fault xxx")
        time.sleep(0.05)
        assert str(dog.fired).startswith("fired a fault")
        dog.stop("another one")  # it has stopped: that is enough


def test_a_watchdog_that_has_gone_cannot_be_told_to_stop_the_robot() -> None:
    with closing(Watchdog(stop_robot, 10.0, ["nowhere"])) as dog:
        os.kill(dog.pid, signal.SIGKILL)
        time.sleep(0.2)
        with pytest.raises(RobotFault, match="got none: it has gone; cut the power"):
            dog.stop("a fault")


def test_who_told_it_to_stop_the_robot_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("supple.adapt.watchdog.PATIENCE", 0.05)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    told, woken = list[str](), list[bool]()
    thread = threading.Thread(target=watch, args=(theirs, told.append, 60.0, lambda: woken.append(True)))
    thread.start()
    ours.send(STOP + b"a fault")
    time.sleep(0.3)
    ours.close()
    thread.join()
    theirs.close()
    assert (told, woken) == (["a fault"], [])


def test_a_watchdog_that_has_gone_is_a_fault() -> None:
    with closing(Watchdog(stop_robot, 10.0, ["nowhere"])) as dog:
        dog.beat()
        os.kill(dog.pid, signal.SIGKILL)
        time.sleep(0.2)
        with pytest.raises(RobotFault, match="got a stop: it has gone"):
            dog.beat()


def test_what_another_process_cannot_find_is_refused() -> None:
    def inner(reason: str) -> None:
        raise AssertionError(reason)

    for stop in (inner, lambda reason: None, print):
        with pytest.raises(ConfigError, match="watchdog stop: expected a function of a module or a file"):
            Watchdog(stop, 1.0)


def test_a_second_process_that_does_not_start_is_a_fault(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = "def stop(reason):\n    pass\n"
    names: dict[str, object] = {"__name__": "absent"}
    exec(compile(source, str(tmp_path / "absent.py"), "exec"), names)
    with pytest.raises(RobotFault, match="expected a second process that listens, got 'its end'"):
        Watchdog(names["stop"], 1.0)  # type: ignore[arg-type]
    assert "absent.py" in capfd.readouterr().err


def test_a_function_of_a_users_file_is_found_with_what_the_file_imports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `--robot FILE.py:NAME` loads it: its folder is on the path of this process alone."""
    (tmp_path / "beside.py").write_text("PLACE = 'told'\n")
    (tmp_path / "cell.py").write_text(
        "from pathlib import Path\nfrom beside import PLACE\n\n\n"
        "def stop(folder, reason):\n    Path(folder, PLACE).write_text(reason)\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    module, _, _ = load_user_module(str(tmp_path / "cell.py"))
    dog = Watchdog(module.stop, 0.1, [str(tmp_path)])
    dog.beat()
    assert wait_for(tmp_path / "told", 20.0).startswith("no heartbeat")
    dog.close()


def test_old_beats_in_the_queue_do_not_count_as_new_ones() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    told: list[tuple[float, str]] = []
    for message in (REST, BEAT, BEAT, BEAT):
        ours.send(message)
    begin = time.monotonic()
    thread = threading.Thread(target=watch, args=(theirs, lambda why: told.append((time.monotonic(), why)), 0.05))
    thread.start()
    time.sleep(1.5)
    ours.close()
    thread.join(5.0)
    theirs.close()
    assert len(told) == 1
    assert 0.05 <= told[0][0] - begin < 1.5


def test_rubbish_neither_keeps_the_watchdog_quiet_nor_disarms_it_nor_makes_it_stop() -> None:
    """Before, any message that was no heartbeat counted as the word that the robot rests."""
    found = attack_watchdog(2000)
    assert found["injected"] >= 2000
    assert found["detected"] == found["injected"]
    assert found["hung"] == 0


HANGS = """
import sys
import time
import numpy as np
from pathlib import Path
from supple.adapt.audit import AuditLog
from supple.adapt.safety import SafetyLimits
from supple.adapt.watchdog import Watchdog
from supple.errors import SuppleError
from supple.meta.testing import PointBatch
from supple.robots.robot import Holds

def stop(place, reason):
    Path(place).write_text(reason)

class Hangs(PointBatch, Holds):
    def step(self, rows, action):
        if sys.argv[2] == "step":
            time.sleep(60)
        return super().step(rows, action)

    def hold(self):
        time.sleep(60)

if __name__ == "__main__":
    rows, goals = np.arange(1), np.array([[4.0, 3.0]], np.float32)
    log = AuditLog(sys.argv[1] + ".jsonl")
    safe = SafetyLimits(Hangs(1), log, watchdog=Watchdog(stop, 1.0, [sys.argv[1]]))
    safe.reset(rows, goals, np.random.default_rng(0))
    if sys.argv[2] == "hold":
        safe.step(rows, np.zeros((1, 2), np.float32))
    for _ in range(2):
        try:
            safe.step(rows, np.zeros((1, 2), np.float32)) if sys.argv[2] == "step" else safe.hold()
        except SuppleError as error:
            print(error, flush=True)
"""


@pytest.mark.parametrize(("where", "started"), [("step", "SIG_IGN"), ("hold", "SIG_IGN"), ("step", "SIG_DFL")])
def test_a_driver_that_hangs_is_stopped_from_outside_and_the_process_goes_on(
    tmp_path: Path, where: str, started: str
) -> None:
    """Also where a shell started the process in the background, so that it ignores a Ctrl-C."""
    script, place = tmp_path / "hangs.py", tmp_path / "robot"
    script.write_text(HANGS)
    start = (
        f"import os, signal, sys; signal.signal(signal.SIGINT, signal.{started}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", start, sys.executable, str(script), str(place), where],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    first, second = ran.stdout.splitlines()
    assert f"expected a {where} that completes, got a driver that hangs: fired no heartbeat for 1.0 s" in first
    assert f"{where}: expected an armed robot, got one stopped by 'the robot's {where} did not complete" in second
    assert place.read_text() == "no heartbeat for 1.0 s: the controlling process hangs"
    assert ran.returncode == 0


@pytest.mark.parametrize("error", [OSError("no link"), SystemExit(0), ValueError("a\0b")])
def test_a_stop_is_told_again_whatever_it_raises_and_though_the_terminal_is_gone(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, a message to a stderr that was gone ended the second process: the robot was never stopped."""

    class Gone:
        def write(self, text: str) -> None:
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr(sys, "stderr", Gone())
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    tries: list[str] = []

    def stop(reason: str) -> None:
        tries.append(reason)
        if len(tries) < 3:
            raise error

    ours.send(BEAT)
    ours.close()
    watch(theirs, stop, 5.0)
    theirs.close()
    assert tries == ["the controlling process has gone"] * 3
