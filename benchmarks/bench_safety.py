"""Whether the safety limits hold against hostile commands, drivers, clocks and disks; and what a step costs.

Prints a JSON list of records. The counts:

    injected   commands or faults
    detected   of commands: those that had to be clipped; of faults: those that stopped the robot, or made it hold
    silent     limits that a sent command broke, judged by the driver in float64; faults that left the robot armed
    crashed    errors without a type of Supple
    hung       none can be: all of it runs in one process

    OMP_NUM_THREADS=1 python benchmarks/bench_safety.py
"""

import os
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from recording import print_records

from supple.adapt.audit import LATCH, AuditLog
from supple.adapt.safety import SafetyLimits
from supple.errors import RobotFault, SuppleError
from supple.robots.limits import RobotLimits
from supple.robots.robot import Bool, Float, Rows, StepRows
from supple.robots.spec import ArraySpec, Axis, RobotSpec

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_safety.py"
ROWS, STEPS, FAULTS, JUMPS, TIMED = 50, 20_000, 3_000, 3_000, 4_000
AXES, PERIOD = 7, 0.01
SPEED, ACCELERATION, JERK = 2.0, 20.0, 400.0
Record = dict[str, Any]
SEEN = tuple(Axis(f"q{index}", "rad", -2.9, 2.9) for index in range(AXES))
TOLD = tuple(Axis(f"target{index}", "rad", -2.9, 2.9, SPEED, f"q{index}") for index in range(AXES))
SPEC = RobotSpec(
    "arm", ArraySpec("observation", SEEN), ArraySpec("action", TOLD), ArraySpec("goal", SEEN[:1]), PERIOD, 10**9
)


def make_limits(accelerated: range, jerked: range, **loop: Any) -> RobotLimits:
    """Limits of the arm with accelerations and jerks of some axes."""
    tables: dict[str, dict[str, float]] = {axis.name: {} for axis in TOLD}
    for index in accelerated:
        tables[f"target{index}"]["acceleration"] = ACCELERATION
    for index in jerked:
        tables[f"target{index}"]["jerk"] = JERK
    return RobotLimits.of(SPEC).override_by({"action": tables, "loop": loop}, "benchmark")


class HostileArm:
    """Joints that go where they are told; the driver judges each command, and writes into whatever it can."""

    spec = SPEC

    def __init__(self, rows: int, limits: RobotLimits) -> None:
        self.rows, self.violations, self.moved = rows, 0, 0
        self.acceleration = np.array(
            [one["acceleration"].high if "acceleration" in one else np.inf for one in limits.action]
        )
        self.jerk = np.array([one["jerk"].high if "jerk" in one else np.inf for one in limits.action])
        self.history, self.bend = np.zeros((3, rows, AXES)), np.zeros((rows, AXES))
        self.out = np.zeros((rows, AXES), np.float32)
        self.answer: Callable[[StepRows], Any] = lambda step: step

    def reset(self, rows: Rows, goals: Float, rng: np.random.Generator) -> Float:
        self.out = rng.uniform(-2.9, 2.9, (self.rows, AXES)).astype(np.float32)
        self.history[:], self.bend = self.out, np.zeros((self.rows, AXES))
        return self.out

    def step(self, rows: Rows, action: Float) -> StepRows:
        assert action.dtype == np.float32
        self.moved += 1
        self.history = np.concatenate([action[None].astype(np.float64), self.history[:2]])
        last, before, oldest = self.history
        change, bend = last - before, (last - before) - (before - oldest)
        jump = bend - self.bend
        self.bend = bend
        broken = (np.abs(last) > 2.9) | (np.abs(change) > SPEED * PERIOD)
        broken |= (np.abs(bend) > self.acceleration * PERIOD**2) | (np.abs(jump) > self.jerk * PERIOD**3)
        self.violations += int(broken.sum())
        self.out[:] = action
        with suppress(ValueError):
            action.flags.writeable = True
            action[:] = 9.0
        flags = np.zeros(self.rows, np.bool_)
        return self.answer(StepRows(self.out, np.zeros(self.rows, np.float32), flags, flags))

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        shape = (*observation.shape[:-1], len(goals))
        return np.zeros(shape, np.float32), np.zeros(shape, np.bool_)

    def close(self) -> None:
        pass


class QuietArm(HostileArm):
    """One that costs nothing."""

    def step(self, rows: Rows, action: Float) -> StepRows:
        flags = np.zeros(1, np.bool_)
        return StepRows(action, np.zeros(1, np.float32), flags, flags)


EDGES = np.array([0.0, -0.0, 1e-45, 5e-324, 2.9, -2.9, np.nextafter(2.9, 3.0), 3.4e38, -3.4e38, 1e300, -1e300, 0.02])


def draw_actions(rng: np.random.Generator, last: NDArray[np.float64]) -> NDArray[Any]:
    """Commands of every kind for each number: any size, edges, near the last, ten steps away, towards an end."""
    shape = last.shape
    kinds = [
        rng.standard_normal(shape) * 10.0 ** rng.integers(-40, 40, shape),
        rng.choice(EDGES, shape),
        last + rng.choice([-1e-7, 0.0, 1e-9, 0.02, -0.02], shape),
        last + 0.2 * rng.standard_normal(shape),
        np.broadcast_to(rng.choice([-9.0, 9.0], (shape[0], 1)), shape),
    ]
    action = np.choose(rng.integers(0, len(kinds), shape) if rng.random() < 0.5 else rng.integers(0, len(kinds)), kinds)
    return np.clip(action, -3.4e38, 3.4e38).astype(np.float32) if rng.random() < 0.3 else np.array(action)


def attack_with_commands(folder: Path) -> Record:
    """A million commands of seven axes, of which three have acceleration limits and one of these a jerk limit."""
    limits = make_limits(range(4, 7), range(6, 7))
    arm, log = HostileArm(ROWS, limits), AuditLog(folder / "commands.jsonl", simulator=True)
    safe, rng, rows = SafetyLimits(arm, log, limits=limits), np.random.default_rng(0), np.arange(ROWS)
    safe.reset(rows, np.zeros((ROWS, 1), np.float32), rng)
    for _ in range(STEPS):
        action = draw_actions(rng, arm.history[0])
        step = safe.step(rows, action)
        action[:] = np.nan
        step.observation[:] = np.nan
    clipped = max(safe._clamps.clamped.tolist())
    safe.stop("the benchmark ends here")
    log.close()
    counts = {"injected": ROWS * STEPS, "detected": clipped, "silent": arm.violations, "crashed": 0, "hung": 0}
    return {"method": "hostile commands", "metric": "of 7 axes", "seeds": [0], **counts}


class Raising:
    """An object whose conversion to an array fails."""

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("no array")


WRONG_ACTIONS: tuple[Any, ...] = (
    *(np.full((1, AXES), bad, np.float32) for bad in (np.nan, np.inf, -np.inf)),
    None,
    "stop",
    3.0,
    [[0.0] * AXES, [0.0]],
    np.zeros((1, AXES + 1)),
    np.zeros((2, AXES)),
    np.zeros((1, AXES), object),
    np.zeros((1, AXES), np.complex128),
    np.zeros((1, AXES), np.bool_),
    np.array([["0"] * AXES]),
    np.zeros((1, AXES), "datetime64[s]"),
    {},
    Raising(),
)
WRONG_ANSWERS: tuple[Callable[[StepRows], Any], ...] = (
    lambda _: None,
    lambda step: list(step),
    lambda step: step._replace(observation=step.observation * np.nan),
    lambda step: step._replace(observation=step.observation.astype(object)),
    lambda step: step._replace(observation=step.observation[:, 1:]),
    lambda step: step._replace(observation=step.observation + np.float32(1.0)),  # far from its command
    lambda step: step._replace(reward=step.reward + np.float32(np.inf)),
    lambda step: step._replace(terminated=None),
    lambda step: step._replace(success=[True]),
    lambda step: step.missing,  # type: ignore[attr-defined]
)


def attack_with_faults(folder: Path) -> list[Record]:
    """Wrong types, wrong answers and clocks that jump: each has to stop the robot, or to make it hold."""
    limits = make_limits(range(4, 7), range(6, 7), late_after=0.025, late_steps=0)
    limits = limits.override_by({"action": {axis.name: {"tracking_error": 0.5} for axis in TOLD}}, "benchmark")
    arm, log = HostileArm(1, limits), AuditLog(folder / "faults.jsonl", simulator=True)
    told: list[str] = []
    now = 0.0
    safe = SafetyLimits(arm, log, limits=limits, on_stop=told.append, clock=lambda: now)
    rng, row = np.random.default_rng(1), np.arange(1)
    counts = {
        name: Counter(injected=0, detected=0, silent=0, crashed=0, hung=0) for name in ("types", "answers", "clock")
    }
    codes: list[str] = []
    for number in range(2 * FAULTS + JUMPS):
        kind = "clock" if number >= 2 * FAULTS else ("types", "answers")[number % 2]
        codes = codes or log.issue_codes(500)
        safe.reset(row, np.zeros((1, 1), np.float32), rng)
        for _ in range(int(rng.integers(1, 4))):
            now += 0.01
            safe.step(row, draw_actions(rng, arm.history[0]))
        moved, stops, action = arm.moved, len(told), draw_actions(rng, arm.history[0])
        now += float(rng.choice([-1e6, -0.011, 0.03, 3600.0, 1e9])) if kind == "clock" else 0.01
        if kind == "types":
            action = WRONG_ACTIONS[rng.integers(len(WRONG_ACTIONS))]
        if kind == "answers":
            arm.answer = WRONG_ANSWERS[rng.integers(len(WRONG_ANSWERS))]
        counts[kind]["injected"] += 1
        try:
            safe.step(row, action)
        except SuppleError:
            pass
        except Exception:  # noqa: BLE001 - it is what is counted
            counts[kind]["crashed"] += 1
        stopped = safe.stop_reason is not None and len(told) == stops + 1 and arm.moved <= moved + (kind == "answers")
        with suppress(RobotFault):
            safe.step(row, np.zeros((1, AXES)))
            stopped = False
        counts[kind]["detected" if stopped else "silent"] += 1
        arm.answer = lambda step: step
        now = max(now, 0.0) + 1.0
        if safe.stop_reason is not None:
            safe.rearm(codes.pop())
    counts["types"]["silent"] += arm.violations
    safe.close()
    log.close()
    names = {"types": "commands of wrong types", "answers": "wrong answers of a driver", "clock": "a clock that jumps"}
    return [{"method": names[kind], "metric": "stops", "seeds": [1], **found} for kind, found in counts.items()]


def write_stopped(path: Path) -> None:
    """The log of a session that was stopped."""
    log = AuditLog(path)
    log.append("limits", limits=make_limits(range(1), range(0)).to_json()[:2])
    log.append("clamps", commands=3)
    log.stop("a person in the cell")
    log.close()


def flip_bits(folder: Path) -> list[Record]:
    """Every bit of the log and of the latch of a stopped robot: the robot may not be armed after any flip."""
    path = folder / "flips.jsonl"
    write_stopped(path)
    files = {"log": path, "latch": path.with_name(path.name + LATCH)}
    whole = {name: file.read_bytes() for name, file in files.items()}
    records = []
    for name, file in files.items():
        counts = Counter(injected=0, detected=0, silent=0, crashed=0, hung=0)
        for bit in range(8 * len(whole[name])):
            for other, content in whole.items():
                files[other].write_bytes(content)
            damaged = bytearray(whole[name])
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            counts["injected"] += 1
            try:
                log = AuditLog(path)
                counts["silent" if log.stop_reason is None else "detected"] += 1
                log.close()
            except RobotFault:
                counts["detected"] += 1
            except Exception:  # noqa: BLE001 - it is what is counted
                counts["crashed"] += 1
        records.append({"method": f"one flipped bit of the {name}", "metric": "stays stopped", **counts})
    return records


def fill_disk(folder: Path) -> Record:
    """A session on a disk that is full after any number of bytes; the next one has to be stopped if this one moved."""
    counts = Counter(injected=0, detected=0, silent=0, crashed=0, hung=0)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = make_limits(range(0), range(0))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in range(0, 1200, 2):
        path = folder / f"full{size}.jsonl"
        AuditLog(path).close()
        arm = HostileArm(1, limits)
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + size, hard))
        stopped = True
        try:
            log = AuditLog(path)
            safe = SafetyLimits(arm, log, limits=limits)
            safe.reset(np.arange(1), np.zeros((1, 1), np.float32), np.random.default_rng(0))
            safe.step(np.arange(1), np.full((1, AXES), 9.0))
            safe.stop("a person in the cell")
        except SuppleError:
            pass
        except Exception:  # noqa: BLE001 - it is what is counted
            counts["crashed"] += 1
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        with suppress(OSError, UnboundLocalError, NameError):
            os.close(log._file)  # as a kill would
            del log
        again = AuditLog(path)
        stopped = again.stop_reason is not None or arm.moved == 0
        again.close()
        counts["injected"] += 1
        counts["detected" if stopped else "silent"] += 1
    signal.signal(signal.SIGXFSZ, before)
    return {"method": "a full disk", "metric": "stopped after motion", **counts}


def measure_steps(folder: Path) -> list[Record]:
    """Median and p99 of one step of seven axes by what is limited, microseconds of processor time."""
    kinds = {
        "velocity": make_limits(range(0), range(0)),
        "velocity, acceleration": make_limits(range(AXES), range(0)),
        "velocity, acceleration, jerk": make_limits(range(AXES), range(AXES)),
    }
    records = []
    for name, limits in kinds.items():
        log = AuditLog(folder / f"{len(records)}.jsonl", simulator=True)
        safe, row = SafetyLimits(QuietArm(1, limits), log, limits=limits), np.arange(1)
        rng = np.random.default_rng(0)
        safe.reset(row, np.zeros((1, 1), np.float32), rng)
        actions = rng.uniform(-3.0, 3.0, (TIMED, 1, AXES)).astype(np.float32)
        seconds = []
        for action in actions:
            began = time.thread_time()
            safe.step(row, action)
            seconds.append(time.thread_time() - began)
        for share in (50, 99):
            value = round(1e6 * float(np.percentile(seconds[TIMED // 10 :], share)), 1)
            metric = f"one step, us of the processor, p{share}"
            records.append({"method": f"limits of {name}", "metric": metric, "mean": value, "n": TIMED})
        safe.close()
        log.close()
    return records


def main() -> None:
    """Measures everything and prints the records."""
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        folder = Path(name)
        records = [attack_with_commands(folder), *attack_with_faults(folder), *flip_bits(folder), fill_disk(folder)]
        records += measure_steps(folder)
    print_records("safety", COMMAND, began, records)


if __name__ == "__main__":
    main()
