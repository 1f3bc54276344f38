"""Whether the score of unknown states tells that the example arm has changed: `adapt/novelty.py`.

Nominal episodes and those of each shift are played by the example arm with random smooth joint targets. Prints a JSON
list of records: the share of nominal episodes with a false alarm, and for each shift and method the area under the ROC
curve of whole episodes (mean), the share of episodes with an alarm, and the median delay of the alarm, steps.

    motion       size of the errors, smoothed
    state        the observation alone
    change       what `supple adapt` gives alarms by, in the first episode
    10 episodes  the same in the tenth episode after the shift

    python benchmarks/bench_novelty.py > docs/results/novelty.json
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from recording import print_records

from supple.adapt.novelty import MEMORY, Motion, NoveltyModel, calibrate, fit
from supple.robots.mjcf_family import MjcfFamily

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
COMMAND = "python benchmarks/bench_novelty.py"
STEPS, ROWS = 100, 50
FIT, CALIBRATE, NOMINAL, SHIFTED = 200, 1000, 500, 100
SCALE = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
"""Less than 1 for a quick look."""
ALPHA = 0.003
"""Share of false alarms that thresholds are set for: with some room below 1 %, which 500 episodes are to show."""
Change = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


def make_arm(model: str) -> MjcfFamily:
    return MjcfFamily(
        name="my-arm",
        model=model,
        control_period=0.05,
        goal_site="hand",
        goal_low=(-0.75, -0.75, 0.05),
        goal_high=(0.75, 0.75, 1.0),
        keyframe="home",
        episode_steps=STEPS + 1,
    )


def play(
    family: MjcfFamily,
    episodes: int,
    seed: int,
    command: Callable[[np.ndarray], np.ndarray] = lambda told: told,
    delay: int = 0,
    sense: Callable[[np.ndarray], np.ndarray] = lambda seen: seen,
) -> list[Motion]:
    """Episodes of the arm; what it is told is changed on the way to its drives, and what it feels on the way back."""
    rng, robot, found = np.random.default_rng(seed), family.make(ROWS), []
    goals = np.repeat(np.array([family.tasks().train[0].goal], np.float32), ROWS, axis=0)
    rows, spec = np.arange(ROWS), family.spec()
    low, high = (np.maximum(spec.action.low, -1.2), np.minimum(spec.action.high, 1.2))
    for _ in range(-(-episodes // ROWS)):
        seen = [sense(robot.reset(rows, goals, rng))]
        start = spec.compute_resting(seen[0])
        target, velocity, told = start.copy(), np.zeros_like(start), []
        for _ in range(STEPS):
            velocity = 0.8 * velocity + 0.03 * rng.standard_normal(start.shape).astype(np.float32)
            target = np.clip(target + velocity, low, high).astype(np.float32)
            told.append(target)
            late = told[max(0, len(told) - 1 - delay)]
            seen.append(sense(robot.step(rows, np.clip(command(late), spec.action.low, spec.action.high)).observation))
        observation, commands = np.stack(seen, axis=1), np.stack(told, axis=1)
        found += [Motion(observation[row], commands[row]) for row in range(ROWS)]
    robot.close()
    return found[:episodes]


def make_shifts(text: str) -> dict[str, Callable[[int, int], list[Motion]]]:
    """Episodes of each shift, by its name."""
    tip = '<site name="hand"'

    def carry(mass: float) -> MjcfFamily:
        load = f'<body pos="0.1 0 0"><geom type="sphere" size="0.03" mass="{mass}"/></body>'
        return make_arm(text.replace(tip, load + tip))

    rough = make_arm(text.replace('damping="1"/>', 'damping="1" frictionloss="2"/>'))
    arm = make_arm(text)
    swap = [0, 2, 1, 3]
    return {
        "payload 0.5 kg": lambda n, seed: play(carry(0.5), n, seed),
        "payload 2 kg": lambda n, seed: play(carry(2.0), n, seed),
        "joint friction 2 N m": lambda n, seed: play(rough, n, seed),
        "delay 1 step": lambda n, seed: play(arm, n, seed, delay=1),
        "delay 3 steps": lambda n, seed: play(arm, n, seed, delay=3),
        "gain 0.9": lambda n, seed: play(arm, n, seed, lambda told: 0.9 * told),
        "gain 0.3": lambda n, seed: play(arm, n, seed, lambda told: 0.3 * told),
        "gain 1.5": lambda n, seed: play(arm, n, seed, lambda told: 1.5 * told),
        "sensor bias 0.01": lambda n, seed: play(arm, n, seed, sense=lambda seen: seen + np.float32(0.01)),
        "sensor bias 0.05": lambda n, seed: play(arm, n, seed, sense=lambda seen: seen + np.float32(0.05)),
        "swapped joints": lambda n, seed: play(arm, n, seed, lambda told: told[:, swap]),
    }


def compute_auroc(nominal: np.ndarray, shifted: np.ndarray) -> float:
    """Share of pairs in which the shifted episode has the higher score."""
    above = (shifted[:, None] > nominal).mean() + 0.5 * (shifted[:, None] == nominal).mean()
    return float(above)


def score(model: NoveltyModel, episodes: list[Motion], method: str) -> list[np.ndarray]:
    """Scores of each episode; of ten episodes the last one, each with nine others before it."""
    if method in ("motion", "state"):
        return [model.score_episode(one, method) for one in episodes]
    before = MEMORY - 1 if method == "10 episodes" else 0
    joined = episodes[len(episodes) - before :] + episodes
    return [model.find_change(one, joined[at : at + before]) for at, one in enumerate(episodes)]


def describe(scores: list[np.ndarray], threshold: float) -> tuple[np.ndarray, ...]:
    """Largest score of each episode, and the step of its alarm, inf without one."""
    alarm = [float(np.argmax(one > threshold)) + 1 if (one > threshold).any() else np.inf for one in scores]
    return np.array([one.max() for one in scores]), np.array(alarm)


def interval(alarms: int, n: int) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927)."""
    share, z = alarms / n, 1.96
    middle, half = share + z * z / (2 * n), z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return float((middle - half) / (1 + z * z / n)), float((middle + half) / (1 + z * z / n))


def main() -> None:
    """Fits, calibrates and prints the records."""
    began, text = time.perf_counter(), (EXAMPLES / "my_arm.xml").read_text()
    size = lambda n: max(ROWS, int(n * SCALE))  # noqa: E731
    arm = make_arm(text)
    model = fit(play(arm, size(FIT), 0))
    model = calibrate(model, play(arm, size(CALIBRATE), 1), alpha=ALPHA if SCALE == 1.0 else 0.02)
    nominal, records = play(arm, size(NOMINAL), 200), []
    shifted = {name: make(size(SHIFTED), 3 + index) for index, (name, make) in enumerate(make_shifts(text).items())}
    for signal, place in {"motion": 0, "state": 1, "change": 2, "10 episodes": 2}.items():
        usual, alarms = describe(score(model, nominal, signal), model.threshold[place])
        false = int(np.isfinite(alarms).sum())
        low, high = interval(false, len(nominal))
        records.append(
            {"method": signal, "metric": "false alarms", "at": {"shift": "none"}, "mean": false / len(nominal)}
            | {"low": low, "high": high, "n": len(nominal), "seeds": [200]}
        )
        for name, episodes in shifted.items():
            scores, alarms = describe(score(model, episodes, signal), model.threshold[place])
            found = np.isfinite(alarms)
            low, high = interval(int(found.sum()), len(found))
            common = {"method": signal, "at": {"shift": name}, "n": len(found), "seeds": [3]}
            records.append(common | {"metric": "AUROC", "mean": compute_auroc(usual, scores)})
            records.append(common | {"metric": "alarms", "mean": float(found.mean()), "low": low, "high": high})
            if found.any():
                records.append(common | {"metric": "delay, steps", "mean": float(np.median(alarms[found]))})
    print_records("novelty", COMMAND, began, records)


if __name__ == "__main__":
    main()
