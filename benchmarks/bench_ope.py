"""Off-policy evaluation against known values: `meta/off_policy/`.

    python benchmarks/bench_ope.py tabular    coverage of the 95 % intervals, in random tabular MDPs of known value
    python benchmarks/bench_ope.py verdict    whether effective size, support and verdict tell usable from hopeless
    python benchmarks/bench_ope.py maze       rank correlation with true returns of ten policies
    python benchmarks/bench_ope.py arm        the same on the example arm
    python benchmarks/bench_ope.py levels     one decision per skill against one per control step, in both
    python benchmarks/bench_ope.py recorded   importance weights where the log records each skill and its density

Each writes its records into docs/results/replay.json. Cases lie in runs/ope/<part>.jsonl as they are done: a run that
was stopped goes on where it was. `--cases N` for a quick look.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ope_robots import NEAR, find_judged, judge_policy, make_log, play_true, weigh_recorded
from recording import make_records, print_records
from results.records import replace_records
from scipy.stats import spearmanr

from supple.meta.off_policy.behaviour import draw_folds
from supple.meta.off_policy.config import BehaviourConfig, FittedQConfig
from supple.meta.off_policy.decisions import make_decisions
from supple.meta.off_policy.estimates import (
    BY_DELTA,
    FQE,
    WDR,
    clear_folds,
    compute_tail_factors,
    compute_terms,
    diagnose,
    estimate_fitted_q,
    measure_weights,
    widen,
)
from supple.meta.off_policy.fitted_q import QData, draw_members, fit_q
from supple.meta.off_policy.intervals import compute_bootstrap_t, compute_delta, compute_percentile
from supple.meta.off_policy.support import compute_support
from supple.meta.off_policy.verdict import Diagnostics, VerdictRule, judge
from supple.pipeline.intervals import compute_interval, compute_wilson
from supple.pipeline.replay.kept import Kept
from supple.pipeline.robots import RobotChoice, find_robot
from supple.pipeline.settings.off_policy import OffPolicyConfig
from supple.robots.tabular import Tables, TabularBatch, draw_tabular_goals, unpack_tables

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results" / "replay.json"
STATES, ACTIONS, STEPS, DISCOUNT = 4, 3, 10, 0.9
FOLDS, BOOTSTRAPS = 5, 20
CELLS = {"near": (0.15, 50), "near, more data": (0.15, 200), "middle": (0.4, 200), "far": (0.8, 200)}
"""Share of decisions that the policy takes greedily instead of by the behaviour, and episodes."""
LEAST_LOGS = 3
USABLE = 0.1
"""An estimate is usable if its error is below this share of the range of values from the worst policy to the best."""


class Mdp(NamedTuple):
    """A random MDP, who logged in it and who is judged."""

    goal: np.ndarray
    tables: Tables
    behaviour: np.ndarray
    policy: np.ndarray


def solve(tables: Tables, policy: np.ndarray) -> np.ndarray:
    """V = (I - gamma P_pi)^-1 r_pi, shape (S,)."""
    moves = np.einsum("sa,san->sn", policy, tables.transition)
    value: np.ndarray = np.linalg.solve(np.eye(STATES) - DISCOUNT * moves, (policy * tables.reward).sum(1))
    return value


def improve(tables: Tables, sign: float = 1.0) -> np.ndarray:
    """The best policy, or with sign -1 the worst, by policy iteration; one-hot (S, A)."""
    policy = np.eye(ACTIONS)[np.zeros(STATES, int)]
    for _ in range(50):
        value = tables.reward + DISCOUNT * tables.transition @ solve(tables, policy)
        policy = np.eye(ACTIONS)[(sign * value).argmax(1)]
    return policy


def draw_mdp(rng: np.random.Generator, distance: float, forbidden: bool = False) -> Mdp:
    """A random MDP; with `forbidden` the behaviour never takes one of the actions."""
    goal = draw_tabular_goals(1, rng, states=STATES, actions=ACTIONS)
    tables = Tables(*(part[0].astype(float) for part in unpack_tables(goal, states=STATES, actions=ACTIONS)))
    behaviour = rng.dirichlet(np.full(ACTIONS, 3.0), STATES)
    if forbidden:
        behaviour[:, rng.integers(ACTIONS)] = 0.0
        behaviour /= behaviour.sum(1, keepdims=True)
    return Mdp(goal, tables, behaviour, (1.0 - distance) * behaviour + distance * improve(tables))


def log_episodes(mdp: Mdp, episodes: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """States (E, T + 1), actions (E, T) and rewards (E, T) of the behaviour."""
    robot = TabularBatch(episodes, states=STATES, actions=ACTIONS, episode_steps=STEPS)
    rows = np.arange(episodes)
    state = [robot.reset(rows, np.repeat(mdp.goal, episodes, axis=0), rng).argmax(1)]
    actions, rewards = [], []
    for _ in range(STEPS):
        action = (rng.random(episodes)[:, None] > mdp.behaviour[state[-1]].cumsum(1)).sum(1).clip(max=ACTIONS - 1)
        step = robot.step(rows, action[:, None].astype(np.float32))
        state.append(step.observation.argmax(1))
        actions.append(action)
        rewards.append(step.reward)
    return np.stack(state, 1), np.stack(actions, 1), np.stack(rewards, 1).astype(float)


def evaluate(mdp: Mdp, episodes: int, rng: np.random.Generator) -> dict[str, Any]:
    """Every estimate with its intervals, and the diagnostics, of one logged set of episodes."""
    state, action, reward = log_episodes(mdp, episodes, rng)
    decisions = make_decisions(reward, np.full(episodes, STEPS), np.zeros(episodes, np.bool_), discount=DISCOUNT)
    pairs = np.eye(STATES * ACTIONS, dtype=np.float32).reshape(STATES, ACTIONS, -1)
    data = QData(pairs[state[:, :-1], action], pairs[state], mdp.policy[state].astype(np.float32), decisions)
    folds = draw_folds(episodes, FOLDS, rng)
    members = draw_members(folds, BOOTSTRAPS, rng)
    *_, last = fit_q(data, members, FittedQConfig(hidden=()), torch.Generator())
    count = int(folds.max()) + 1
    seen = state[:, :-1]
    with np.errstate(divide="ignore"):
        log_ratio = np.log(mdp.policy[seen, action]) - np.log(mdp.behaviour[seen, action])
    cleared = clear_folds(last.fitted, folds, decisions)
    terms = compute_terms(decisions, log_ratio, cleared)
    more = compute_tail_factors(decisions, log_ratio, cleared, last.fitted, members)
    estimates = {name: widen(compute_bootstrap_t(of, rng, 399), more[name]) for name, of in terms.items()}
    estimates[FQE] = estimate_fitted_q(last.fitted, members, count)
    weights = measure_weights(decisions, log_ratio)
    one_hot, eye = np.eye(STATES, dtype=np.float32)[seen].reshape(-1, STATES), np.eye(ACTIONS, dtype=np.float32)
    drawn = (rng.random((*seen.shape, 1)) > mdp.policy[seen].cumsum(2)).sum(2).clip(max=ACTIONS - 1)
    numbers = np.repeat(np.arange(episodes), STEPS)
    support = compute_support(one_hot, eye[action].reshape(-1, ACTIONS), eye[drawn].reshape(-1, ACTIONS), numbers, rng)
    found = diagnose(estimates, last.fitted, count, weights, support.share)
    other = {"delta": compute_delta, "percentile": lambda of: compute_percentile(of, rng, 399)}
    return {
        "true": float(solve(mdp.tables, mdp.policy)[0]),
        "range": float(solve(mdp.tables, improve(mdp.tables))[0] - solve(mdp.tables, improve(mdp.tables, -1.0))[0]),
        "estimates": {name: list(of) for name, of in estimates.items()},
        "others": {
            how: {name: list(widen(make(of), more[name])) for name, of in terms.items()} for how, make in other.items()
        },
        "effective_size": weights.effective_size,
        "whole_size": weights.whole_size,
        "top_share": weights.top_share,
        "support": support.share,
        "drift": found.drift,
        "disagreement": found.disagreement,
        "diverged": found.diverged,
    }


def find_stated(case: Mapping[str, Any], estimator: str) -> list[float]:
    """The interval that `supple replay` states."""
    found: list[float] = (case["others"]["delta"] if estimator in BY_DELTA else case["estimates"])[estimator]
    return found


def run_cases(part: str, cases: Iterable[int], make: Callable[[int], Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The cases of these numbers, those that are kept included."""
    kept = Kept(ROOT / "runs" / "ope" / f"{part}.jsonl")
    found = [kept.read_or_make(str(case), lambda case=case: make(case)) for case in cases]
    kept.close()
    return found


def share(hits: np.ndarray) -> dict[str, float]:
    """A share with its 95 % interval (Wilson)."""
    mean = float(np.mean(hits))
    low, high = compute_wilson(mean, float(len(hits)), 1.96)
    return {"mean": mean, "low": max(0.0, min(low, mean)), "high": min(1.0, max(high, mean)), "n": len(hits)}


def run_tabular(cases: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for salt, (name, (distance, episodes)) in enumerate(CELLS.items()):

        def make(case: int, salt: int = salt, distance: float = distance, episodes: int = episodes) -> dict[str, Any]:
            rng = np.random.default_rng([1, salt, case])
            return evaluate(draw_mdp(rng, distance), episodes, rng)

        found = run_cases(f"tabular-{salt}", range(cases), make)
        common = {"at": {"log": f"{name}: {episodes} episodes"}, "seeds": [1], "tasks": "tabular MDPs"}
        size = np.array([case["effective_size"] for case in found])
        records.append(
            {"method": "log", "metric": "effective episodes", "mean": float(size.mean()), "n": len(found)} | common
        )
        true = np.array([case["true"] for case in found])
        for how in ("stated", "bootstrap-t", "delta", "percentile"):
            for estimator in found[0]["estimates"]:
                if how in ("delta", "percentile"):
                    ends = [case["others"][how].get(estimator) for case in found]
                else:
                    ends = [
                        find_stated(case, estimator) if how == "stated" else case["estimates"][estimator]
                        for case in found
                    ]
                if ends[0] is None or (estimator == FQE and how != "stated"):
                    continue
                inside = np.array([low <= value <= high for (_, low, high, _), value in zip(ends, true, strict=True)])
                label = "coverage of the stated interval" if how == "stated" else f"coverage, {how}"
                records.append({"method": estimator, "metric": label, **share(inside), **common})
        scale = np.array([case["range"] for case in found])
        for estimator in found[0]["estimates"]:
            error = (np.array([case["estimates"][estimator][0] for case in found]) - true) / scale
            rms = float(np.sqrt((error**2).mean()))
            records.append(
                {"method": estimator, "metric": "error, share of range", "mean": rms, "n": len(found), **common}
            )
    return records


def compute_auroc(bad: np.ndarray, good: np.ndarray) -> dict[str, float]:
    """Share of pairs in which the usable case has the higher score; interval of Hanley and McNeil, Radiology 1982."""
    area = float((good[:, None] > bad).mean() + 0.5 * (good[:, None] == bad).mean())
    first, second = area / (2.0 - area), 2.0 * area**2 / (1.0 + area)
    spread = area * (1 - area) + (len(good) - 1) * (first - area**2) + (len(bad) - 1) * (second - area**2)
    half = 1.96 * float(np.sqrt(spread / (len(good) * len(bad))))
    return {"mean": area, "low": max(0.0, area - half), "high": min(1.0, area + half), "n": len(good) + len(bad)}


def run_verdict(cases: int) -> list[dict[str, Any]]:
    def make(case: int) -> dict[str, Any]:
        rng = np.random.default_rng([2, case])
        distance, episodes = rng.random(), int(np.exp(rng.uniform(np.log(8), np.log(400))))
        mdp = draw_mdp(rng, distance, forbidden=bool(rng.random() < 0.3))
        return evaluate(mdp, episodes, rng) | {"distance": distance, "episodes": episodes}

    # the thresholds of the rule were chosen on the even cases
    found = run_cases("verdict", range(cases), make)[1::2]
    verdicts = [
        judge(Diagnostics(*(case[name] for name in Diagnostics._fields)), VerdictRule()).level for case in found
    ]
    records = []
    levels = ("do not use", "caution", "trust")
    for estimator in (FQE, WDR):
        error = np.array([abs(case["estimates"][estimator][0] - case["true"]) / case["range"] for case in found])
        usable = error < USABLE
        scores = {
            "effective episodes": [case["effective_size"] for case in found],
            "effective size of whole episodes": [case["whole_size"] for case in found],
            "share of the other episodes": [1.0 - case["top_share"] for case in found],
            "support": [case["support"] for case in found],
            "agreement": [-case["disagreement"] if case["disagreement"] is not None else -1e9 for case in found],
            "verdict": [levels.index(level) for level in verdicts],
        }
        common = {"tasks": f"{estimator} usable", "seeds": [2]}
        for name, score in scores.items():
            values = np.array(score, float)
            area = compute_auroc(values[~usable], values[usable])
            records.append({"method": name, "metric": "AUROC of usable", "at": {"score": "all cases"}} | area | common)
        for level in levels:
            chosen = np.array([verdict == level for verdict in verdicts])
            if chosen.any():
                told = {"method": level, "at": {"score": "all cases"}, **common}
                records.append({**told, "metric": "usable", **share(usable[chosen])})
                inside = [
                    find_stated(case, estimator)[1] <= case["true"] <= find_stated(case, estimator)[2]
                    for case, one in zip(found, chosen, strict=True)
                    if one
                ]
                records.append({**told, "metric": "coverage", **share(np.array(inside))})
    return records


def spearman(estimate: np.ndarray, true: np.ndarray) -> float:
    """Rank correlation, with mean ranks for ties."""
    return float(spearmanr(estimate, true).statistic)


def correlate(pairs: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Mean rank correlation over tasks.

    Interval of Bonett and Wright, "Sample size requirements for estimating Pearson, Kendall and Spearman correlations",
    Psychometrika 2000, of the mean of Fisher's z.
    """
    found = np.array([spearman(*pair) for pair in pairs])
    bounded = np.clip(found, -0.999, 0.999)
    error = np.sqrt(np.sum([(1 + r**2 / 2) / (len(true) - 3) for r, (_, true) in zip(found, pairs, strict=True)]))
    middle, half = np.arctanh(bounded).mean(), 1.96 * error / len(pairs)
    n = sum(len(true) for _, true in pairs)
    return {
        "mean": float(found.mean()),
        "low": float(np.tanh(middle - half)),
        "high": float(np.tanh(middle + half)),
        "n": n,
    }


def compare(logs: np.ndarray) -> dict[str, float]:
    """Geometric mean of ratios with the 95 % interval over policies."""
    found = compute_interval(logs)
    return {
        "mean": float(np.exp(found.mean)),
        "low": float(np.exp(found.low)),
        "high": float(np.exp(found.high)),
        "n": len(logs),
    }


class Setting(NamedTuple):
    """A trained run whose policies are judged."""

    part: str
    run: Path
    choice: RobotChoice | None
    episodes: int
    """Of the log."""


def find_settings() -> tuple[Setting, Setting]:
    """The maze and the example arm; `--run` names another folder."""
    runs, arm = ROOT / "runs", find_robot(f"{ROOT / 'examples' / 'my_arm.py'}:ARM")
    maze = Setting("maze", ARGUMENTS.run or runs / "demo", None, 100)
    return maze, Setting("arm", ARGUMENTS.run or runs / "arm", arm, 150)


def judge_cases(setting: Setting, level: str, which: Sequence[int], seed: int = 0) -> list[dict[str, Any]]:
    """Records of these policies at one level on one log, or their true returns, in the first test task."""
    config = OffPolicyConfig(
        bootstraps=3,
        draws=2,
        fitted_q=FittedQConfig(hidden=(32, 32), iterations=60),
        behaviour=BehaviourConfig(hidden=(32, 32), updates=500),
    )
    folder, judged = ROOT / "runs" / "ope", find_judged(setting.run, 0, setting.choice)
    name = f"{setting.part}-{level}-{seed}"
    if level == "true":
        return run_cases(name, which, lambda index: play_true(judged, index, config.discount))
    store = make_log(folder / f"{setting.part}-log-{seed}", judged, setting.episodes, seed)
    return run_cases(name, which, lambda index: judge_policy(judged, store, index, level, config, folder))


def run_robot(setting: Setting, policies: int) -> list[dict[str, Any]]:
    """Whether fitted Q evaluation of skills finds the better of some policies, from one log."""
    true = np.array([case["true"] for case in judge_cases(setting, "true", range(policies))])
    found = judge_cases(setting, "skill", range(policies))
    common = {"at": {"log": f"{setting.part}, {setting.episodes} episodes"}, "seeds": [0], "tasks": "1 task"}
    guess = np.array([case["estimates"][FQE]["value"] for case in found])
    told = {"method": FQE, **common}
    rms = float(np.sqrt(((guess - true) ** 2).mean()))
    regret = float(true.max() - true[guess.argmax()])
    return [
        told | {"metric": "rank correlation with the true return"} | correlate([(guess, true)]),
        told | {"metric": "RMS error", "mean": rms, "n": policies},
        told | {"metric": "true return of the best policy", "mean": float(true.max()), "n": policies},
        told
        | {"metric": "true return lost by taking the policy with the best estimate", "mean": regret, "n": policies},
    ]


def run_levels(policies: int) -> list[dict[str, Any]]:
    """The skill level over the raw level, of policies near the log: variances, and what each log is worth.

    Two variances: the one that is stated for an estimate, and that of estimates over logs of the same behaviour, which
    does not rely on any interval. Logarithms of ratios are averaged over policies, and intervals are over logs; with
    fewer than 3 logs there is no variance over them, and intervals are over policies and logs.
    """
    records, seeds = [], list(range(ARGUMENTS.logs))
    for setting in find_settings():
        if ARGUMENTS.only not in (None, setting.part):
            continue
        cases = [[judge_cases(setting, level, NEAR[:policies], seed) for level in ("skill", "raw")] for seed in seeds]
        common = {
            "at": {"log": f"{setting.part}, {setting.episodes} episodes"},
            "seeds": seeds,
            "tasks": f"{policies} near policies",
        }

        def read(name: str, field: str, cases: Any = cases) -> np.ndarray:
            """Of logs, levels and policies."""
            return np.array([[[case["estimates"][name][field] for case in level] for level in log] for log in cases])

        for estimator in (FQE, WDR):  # the others have no sane error at either level
            error = np.maximum(read(estimator, "error"), 1e-12)
            stated = pool(2.0 * np.log(error[:, 0] / error[:, 1]))
            records.append({"method": estimator, "metric": "stated variance, skill / raw"} | compare(stated) | common)
            if len(seeds) < LEAST_LOGS:
                continue
            over_logs = compare_spreads(read(estimator, "value"))
            records.append({"method": estimator, "metric": "variance over logs, skill / raw"} | over_logs | common)
        sizes = np.array([[[case["weights"]["effective_size"] for case in level] for level in log] for log in cases])
        worth = pool(np.log(sizes[:, 0] / sizes[:, 1]))
        records.append({"method": "weights", "metric": "effective episodes, skill / raw"} | compare(worth) | common)
        for place, level in enumerate(("skill", "raw")):
            pooled = pool(sizes[:, place])
            value = compute_interval(pooled.tolist())._asdict()
            told = {"method": f"weights, {level} level", "metric": "effective episodes", "n": len(pooled)}
            records.append(told | value | common)
    return records


def run_recorded(policies: int) -> list[dict[str, Any]]:
    """What a log is worth where it records each skill and its density, and how far importance sampling is then off."""
    records, discount, which = [], OffPolicyConfig().discount, list(NEAR[:policies])
    for setting in find_settings():
        if ARGUMENTS.only not in (None, setting.part):
            continue
        judged = find_judged(setting.run, 0, setting.choice)
        true = np.array([case["true"] for case in judge_cases(setting, "true", which)])
        (case,) = run_cases(
            f"{setting.part}-recorded-{policies}",
            [0],
            lambda seed, judged=judged, setting=setting: weigh_recorded(
                judged, which, setting.episodes, seed, discount
            ),
        )
        found = [case[str(index)] for index in which]
        common = {
            "at": {"log": f"{setting.part}, {setting.episodes} episodes"},
            "seeds": [0],
            "tasks": f"{policies} near policies",
        }
        sizes = [one["effective_size"] for one in found]
        told = {"method": "weights, recorded skills", "metric": "effective episodes", "n": len(which)}
        records.append(told | compute_interval(sizes)._asdict() | common)
        for name in ("WPDIS", "PDIS"):
            value = np.array([one["estimates"][name] for one in found])
            rms = float(np.sqrt(((value[:, 0] - true) ** 2).mean()))
            records.append({"method": name, "metric": "RMS error", "mean": rms, "n": len(which)} | common)
            inside = (value[:, 1] <= true) & (true <= value[:, 2])
            told = {"method": name, "metric": "coverage of the stated interval", **share(inside)}
            records.append(told | common)
    return records


def pool(values: np.ndarray) -> np.ndarray:
    """What an interval is over, of values of L logs and P policies: means of logs, or all where there are few logs."""
    return values.mean(axis=1) if len(values) >= LEAST_LOGS else values.ravel()


def compare_spreads(values: np.ndarray) -> dict[str, float]:
    """Ratio of the variances of estimates over logs, with a 95 % interval by the jackknife over logs.

    Source of the interval: Miller, "Jackknifing variances", Annals of Mathematical Statistics 1968.

    Args:
        values: Of L logs, the two levels and P policies, (L, 2, P).
    """

    def log_ratio(part: np.ndarray) -> float:
        spread = np.maximum(part.var(axis=0, ddof=1), 1e-24)
        return float(np.log(spread[0] / spread[1]).mean())

    count = len(values)
    whole = log_ratio(values)
    pseudo = [count * whole - (count - 1) * log_ratio(np.delete(values, log, axis=0)) for log in range(count)]
    return compare(np.array(pseudo))


PARTS: dict[str, tuple[Callable[[int], list[dict[str, Any]]], int]] = {
    "tabular": (run_tabular, 600),
    "verdict": (run_verdict, 400),
    "maze": (lambda policies: run_robot(find_settings()[0], policies), 10),
    "arm": (lambda policies: run_robot(find_settings()[1], policies), 10),
    "levels": (run_levels, 4),
    "recorded": (run_recorded, 4),
}
"""Each with its usual number of cases, or of policies."""
ARGUMENTS = argparse.Namespace(run=None, logs=6, only=None)
COMMAND = "python benchmarks/bench_ope.py"


def main() -> None:
    """Runs one part and writes its records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=list(PARTS))
    parser.add_argument("--cases", type=int, help="data sets of tabular and verdict, policies of the others")
    parser.add_argument(
        "--run", type=Path, help="folder of `supple run demo`, or of `supple run examples/my_arm.py:arm`"
    )
    parser.add_argument("--logs", type=int, default=6, help="logs of the same behaviour, of levels")
    parser.add_argument("--only", choices=["maze", "arm"], help="of levels and recorded: one robot")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args(namespace=ARGUMENTS)
    torch.set_num_threads(1)
    began, (run, usual) = time.perf_counter(), PARTS[arguments.part]
    given = {"cases": arguments.cases, "logs": arguments.logs if arguments.part == "levels" else None}
    options = "".join(f" --{name} {value}" for name, value in (given | {"only": arguments.only}).items() if value)
    benchmark, command = f"ope-{arguments.part}", f"{COMMAND} {arguments.part}{options}"
    found = run(arguments.cases or usual)
    replace_records(arguments.results, make_records(benchmark, command, began, found), ("benchmark",))
    print_records(benchmark, command, began, found)


if __name__ == "__main__":
    main()
