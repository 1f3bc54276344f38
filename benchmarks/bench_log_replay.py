"""Whether a replay in the simulator finds what is wrong in a log: faults put into bags of the example arm.

The arm of `examples/my_arm.py` moves from pose to pose on the emulated robot's terms, which are those of
`examples/emulated.py`: sensors with noise of 0.001 (rad, rad/s, m), states that arrive 2 to 4 ms after they were
measured, and 1 % of states that never arrive. The emulation is in lock-step, every 5 ms, and not in real time: the
real-time process would need 2 hours for the same bags. A fault stands either between the command and the arm or between
the arm and the log. Each episode is written as an MCAP bag and read back.

    python benchmarks/bench_log_replay.py --keep runs/log-replay > docs/results/log-replay.json

What was found in each bag is kept in a folder, and a run that was killed goes on there. Seeds below 1000 are for the
choice of settings; the records are of the others.
"""

import dataclasses
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tyro
from recording import print_records

from supple.datasets.bags.writer import write_episode
from supple.datasets.episode import Episode, ReadOptions
from supple.datasets.formats import open_source
from supple.pipeline.cell_log import make_schema
from supple.pipeline.intervals import compute_wilson
from supple.robots.log_replay import LoggedEpisode, ReplaySimulator
from supple.robots.wiring import find_sensors, find_wiring, pair_axes
from supple.robots.wiring_findings import Finding, Tolerances, find_faults

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from my_arm import ARM

COMMAND = "python benchmarks/bench_log_replay.py"
TICK, PARTS = 0.005, 10
STEPS = 400
"""Of a bag, 20 s."""
NOISE, LATENCY, JITTER, LOSS = 1e-3, 2e-3, 2e-3, 0.01
DELAYS = (10, 20, 40, 70, 100)
"""Milliseconds."""
JOINTS = ("base", "shoulder", "elbow", "wrist")
Rng = np.random.Generator
Signal = np.ndarray[Any, Any]


class Fault(NamedTuple):
    """What is wrong in a bag."""

    name: str
    expected: tuple[str, str, frozenset[str]] | None
    """Kind, command or sensor, and joints of the finding; None for a good bag."""
    drive: Callable[[Signal], Signal] = lambda told: told
    """What the arm is told, of what the log says, (T, A)."""
    delay: int = 0
    """Ticks that the command comes late."""
    sense: Callable[[Signal], Signal] = lambda seen: seen
    """What the log says of what the sensors measured, (T, O)."""
    log: Callable[[Signal], Signal] = lambda told: told
    """What the log says of what was told, (T, A)."""
    payload: float = 0.0
    """Mass in the hand that the simulator does not know, kg."""


HEAVY = Fault("none, but 0.5 kg in the hand that the simulator does not know", None, payload=0.5)


def _scale(columns: list[int], factor: float) -> Callable[[Signal], Signal]:
    def change(array: Signal) -> Signal:
        changed = array.copy()
        changed[:, columns] *= factor
        return changed

    return change


def _add(columns: list[int], offset: float) -> Callable[[Signal], Signal]:
    def change(array: Signal) -> Signal:
        changed = array.copy()
        changed[:, columns] += offset
        return changed

    return change


def _swap(pairs: list[tuple[int, int]]) -> Callable[[Signal], Signal]:
    def change(array: Signal) -> Signal:
        order = np.arange(array.shape[1])
        for a, b in pairs:
            order[[a, b]] = order[[b, a]]
        return array[:, order]

    return change


def make_faults(rng: Rng) -> list[Fault]:
    """One fault of each kind; which joints it concerns is drawn."""
    position, velocity = pair_axes(ARM.spec().observation)
    joint = lambda: int(rng.integers(4))  # noqa: E731
    degrees = 180.0 / np.pi
    a, b = rng.choice(4, 2, replace=False).tolist()
    faults = [
        Fault("none", None),
        Fault(
            "commands of two joints swapped", ("order", "command", frozenset({JOINTS[a], JOINTS[b]})), _swap([(a, b)])
        ),
    ]
    a, b = rng.choice(4, 2, replace=False).tolist()
    faults.append(
        Fault(
            "sensors of two joints swapped",
            ("order", "sensor", frozenset({JOINTS[a], JOINTS[b]})),
            sense=_swap([(position[a], position[b]), (velocity[a], velocity[b])]),
        )
    )
    one = joint()
    faults.append(Fault("command sign reversed", ("sign", "command", frozenset({JOINTS[one]})), _scale([one], -1.0)))
    one = joint()
    both = [int(position[one]), int(velocity[one])]
    faults.append(Fault("sensor sign reversed", ("sign", "sensor", frozenset({JOINTS[one]})), sense=_scale(both, -1.0)))
    one = joint()
    both = [int(position[one]), int(velocity[one])]
    faults.append(Fault("sensor in degrees", ("unit", "sensor", frozenset({JOINTS[one]})), sense=_scale(both, degrees)))
    everywhere = [*position.tolist(), *velocity.tolist()]
    faults.append(
        Fault("all sensors in degrees", ("unit", "sensor", frozenset(JOINTS)), sense=_scale(everywhere, degrees))
    )
    faults.append(
        Fault(
            "all commands logged in degrees", ("unit", "command", frozenset(JOINTS)), log=_scale([0, 1, 2, 3], degrees)
        )
    )
    for milliseconds in DELAYS:
        faults.append(
            Fault(
                f"commands {milliseconds} ms late",
                ("delay", "command", frozenset(JOINTS)),
                delay=round(milliseconds / 1e3 / TICK),
            )
        )
    one = joint()
    faults.append(Fault("command gain 0.8", ("gain", "command", frozenset({JOINTS[one]})), _scale([one], 0.8)))
    one = joint()
    both = [int(position[one]), int(velocity[one])]
    faults.append(Fault("sensor gain 0.8", ("gain", "sensor", frozenset({JOINTS[one]})), sense=_scale(both, 0.8)))
    one = joint()
    faults.append(Fault("command bias 0.1 rad", ("bias", "command", frozenset({JOINTS[one]})), _add([one], 0.1)))
    one = joint()
    faults.append(
        Fault(
            "sensor bias 0.1 rad", ("bias", "sensor", frozenset({JOINTS[one]})), sense=_add([int(position[one])], 0.1)
        )
    )
    return faults


def add_payload(mass: float) -> str:
    """The arm's model with a ball in its hand."""
    text, tip = Path(ARM.model).read_text(encoding="utf-8"), '<site name="hand"'
    load = f'<body pos="0.1 0 0" gravcomp="1"><geom type="sphere" size="0.03" mass="{mass}"/></body>'
    return text.replace(tip, load + tip)


def drive(fault: Fault, seed: int, rng: Rng) -> tuple[Signal, Signal]:
    """What the log says of one episode: observations, (T, O), and actions, (T, A)."""
    command = next(ARM.play(1, seed)).action[0, :STEPS].astype(np.float64)
    spec = ARM.spec()
    told = np.clip(fault.drive(command), spec.action.inner_low, spec.action.inner_high)
    arm = replace(ARM, model=add_payload(fault.payload)) if fault.payload else ARM
    fine = replace(arm, control_period=TICK, episode_steps=STEPS * PARTS).make(1)
    row = np.zeros(1, np.int64)
    seen = [fine.reset(row, spec.goal.low[None], rng)[0]]
    start = np.clip(spec.compute_resting(seen[0]), spec.action.inner_low, spec.action.inner_high)
    for tick in range(STEPS * PARTS):
        late = (tick - fault.delay) // PARTS
        action = told[late] if late >= 0 else start
        seen.append(fine.step(row, action[None].astype(np.float32)).observation[0])
    fine.close()
    truth = np.stack(seen)
    # a state that is looked at now was measured some milliseconds ago
    age = (LATENCY + JITTER * rng.random(STEPS)) / TICK
    at = np.maximum(np.arange(STEPS) * PARTS - age, 0.0)
    left = np.floor(at).astype(int)
    share = (at - left)[:, None]
    observed = (1.0 - share) * truth[left] + share * truth[left + 1]
    observed = observed + NOISE * rng.standard_normal(observed.shape)
    for step in np.flatnonzero(rng.random(STEPS) < LOSS):
        observed[step] = observed[max(step - 1, 0)]
    return fault.sense(observed).astype(np.float32), fault.log(command).astype(np.float32)


def record_bag(fault: Fault, seed: int, rng: Rng, folder: Path) -> LoggedEpisode:
    """The episode as it is read back from a bag."""
    observation, action = drive(fault, seed, rng)
    path = folder / "bag.mcap"
    path.unlink(missing_ok=True)
    write_episode(path, Episode({"observation": observation, "action": action}, False, True), make_schema(ARM.spec()))
    (read,) = open_source(path, ReadOptions()).episodes()
    return LoggedEpisode(read.arrays["observation"], read.arrays["action"])


def examine(fault: Fault, seed: int, index: int) -> dict[str, Any]:
    """What is found in one bag."""
    rng = np.random.default_rng([seed, index])
    with tempfile.TemporaryDirectory() as name:
        episode = record_bag(fault, seed * 100 + index, rng, Path(name))
    simulator = ReplaySimulator(ARM)
    sensors = find_sensors(simulator, [episode])
    fixed = [episode._replace(observation=sensors.correct(ARM.spec().observation, episode.observation))]
    wiring, _ = find_wiring(simulator, fixed)
    simulator.close()
    delay, delay_error = wiring.common_delay()
    findings = find_faults(ARM.spec(), sensors, wiring, Tolerances())
    return {
        "fault": fault.name,
        "seed": seed,
        "findings": [(one.kind, one.where, list(one.joints), one.value, one.sentence) for one in findings],
        **judge(fault, findings),
        "delay": delay,
        "delay_error": delay_error,
        "gain": wiring.gain.tolist(),
        "bias": wiring.bias.tolist(),
    }


def judge(fault: Fault, findings: list[Finding]) -> dict[str, Any]:
    """Whether the fault was found, at the right side, and how many findings are of no fault."""
    found, placed, false = set(), set(), 0
    kind, where, joints = fault.expected or ("", "", frozenset[str]())
    for one in findings:
        if one.kind == kind and set(one.joints) <= joints:
            found |= set(one.joints)
            placed |= set(one.joints) if one.where == where else set()
        else:
            false += 1
    return {"found": bool(joints) and found == joints, "placed": bool(joints) and placed == joints, "false": false}


@dataclasses.dataclass(frozen=True)
class Options:
    """Arguments."""

    keep: Path = Path("runs/log-replay")
    """Folder for what was found in each bag."""
    seeds: int = 11
    """Bags of each fault, four times as many without one, and as many of a robot that is not the simulator's."""
    first: int = 1000
    """First seed."""


def main(options: Options) -> None:
    """Examines all bags and prints the records."""
    began, results = time.perf_counter(), []
    options.keep.mkdir(parents=True, exist_ok=True)
    jobs = []
    for seed in range(options.first, options.first + options.seeds):
        faults = make_faults(np.random.default_rng(seed))
        jobs += [(fault, seed, index) for index, fault in enumerate([*faults, *[faults[0]] * 3, HEAVY])]
    for number, (fault, seed, index) in enumerate(jobs):
        path = options.keep / f"{seed}-{index:02}.json"
        if not path.exists():
            text = json.dumps(examine(fault, seed, index))
            part = path.with_suffix(".part")
            part.write_text(text, encoding="utf-8")
            part.replace(path)
        results.append(json.loads(path.read_text(encoding="utf-8")))
        print(f"{number + 1} of {len(jobs)} bags", file=sys.stderr, end="\r", flush=True)
    print_records("log-replay", COMMAND, began, make_records(results, options))


def make_records(results: list[dict[str, Any]], options: Options) -> list[dict[str, Any]]:
    """Shares with their 95 % intervals (Wilson, 1927) for each fault, and errors of the delay with 95 % of the bags."""
    seeds = list(range(options.first, options.first + options.seeds))
    records = []
    for name in dict.fromkeys(one["fault"] for one in results):
        here = [one for one in results if one["fault"] == name]
        counts = {"bags with a false alarm": [one["false"] > 0 for one in here]}
        if not name.startswith("none"):
            counts = {"found": [one["found"] for one in here], "right side": [one["placed"] for one in here]} | counts
        for outcome, flags in counts.items():
            share = float(np.mean(flags))
            low, high = compute_wilson(share, float(len(flags)), 1.96)
            records.append(
                {"method": name, "metric": "share of bags", "at": {"outcome": outcome}, "mean": share}
                | {"low": max(0.0, float(low)), "high": min(1.0, float(high)), "n": len(flags), "seeds": seeds}
            )
    for milliseconds in (0, *DELAYS):
        name = f"commands {milliseconds} ms late" if milliseconds else "none"
        usual = 1e3 * (LATENCY + JITTER / 2.0)
        errors = [1e3 * one["delay"] - milliseconds - usual for one in results if one["fault"] == name]
        low, high = np.quantile(errors, [0.025, 0.975]).tolist()
        records.append(
            {"method": "delay of all joints", "metric": "error, ms", "at": {"delay": f"{milliseconds} ms late"}}
            | {"mean": float(np.mean(errors)), "low": low, "high": high, "n": len(errors), "seeds": seeds}
        )
    return records


if __name__ == "__main__":
    main(tyro.cli(Options))
