"""Off-policy evaluation: the return that the policy would have had, estimated from the log alone, with intervals.

A policy over skills is looked at twice: with one decision per skill, and with one per control step. The verdict about
the estimate, `meta/off_policy/verdict.py`, is that of the level at which the policy decides.

Axes: E episodes, K decisions of the longest one, M draws, S members of fitted Q evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from ...meta.off_policy.behaviour import draw_folds
from ...meta.off_policy.estimates import (
    FQE,
    WDR,
    clear_folds,
    compute_estimates,
    compute_tail_factors,
    compute_terms,
    diagnose,
    estimate_fitted_q,
    measure_weights,
)
from ...meta.off_policy.fitted_q import FittedQ, QData, draw_members, fit_q
from ...meta.off_policy.importance import compute_log_weights, plain_mean
from ...meta.off_policy.intervals import Estimate, compute_bootstrap_t
from ...meta.off_policy.support import QUANTILES, compute_support
from ...meta.off_policy.verdict import judge
from ..report.curves import WIDE, Plot
from ..report.measure import format_number
from ..report.style import ADAPTED, INK, MUTED, figure_style, make_axes, render_svg
from ..report.tables import NUMBER, Table
from ..settings.off_policy import OffPolicyConfig
from .levels import PART, SALT, LevelLog, Ratios, compute_ratios, read_level
from .rewards import find_rewards
from .section import Ground, Replay, Section, TitledTable

if TYPE_CHECKING:
    from ...skills.model import SkillModel

NAME, TITLE = "off_policy", "Off-policy evaluation"
LOGGED = "log"
"""The return of the log itself, beside the estimators."""
NAMES = {
    LOGGED: "the log itself",
    FQE: "fitted Q evaluation",
    WDR: "weighted doubly robust",
    "DR": "doubly robust",
    "WPDIS": "weighted per-decision importance sampling",
    "PDIS": "per-decision importance sampling",
    "WIS": "weighted importance sampling",
    "IS": "importance sampling",
}
LEVELS = {"skill": "one decision per skill", "raw": "one decision per control step"}
LARGEST = 1e300
WIDEST = 1000.0
"""An interval so many times as wide as that of the log's own return is of no use."""
Record = Mapping[str, Any]


def evaluate_off_policy(replay: Replay, config: OffPolicyConfig, encoder: SkillModel | None) -> Section:
    """The section; it is skipped, with the reason, where there are no rewards or too few episodes.

    Args:
        replay: The bundle and the log.
        config: See `OffPolicyConfig`.
        encoder: The skill model of the bundle, for the skills of logged windows; None: they are searched for.

    Raises:
        Interrupted: Somebody asked to stop; levels that are done are kept.
        StoreError: A chunk is damaged.
    """
    reader, reason = find_rewards(replay, config.rewards)
    if reader is None:
        return skip(reason)
    over_skills = replay.bundle.contract.space.name == "skill"
    found: dict[str, Record] = {}
    for level in ("skill", "raw") if over_skills else ("raw",):

        def evaluate(level: str = level) -> Record:
            log = read_level(replay, config, reader, level, encoder)
            return {} if log is None else evaluate_level(replay, config, log)

        found[level] = replay.keep(PART, level, evaluate)
    if not all(found.values()):
        return skip(
            f"Fewer than {config.least_episodes} episodes of the log have a decision with a reward, which says nothing."
        )
    return make_section(replay, config, found, reader.origin)


def skip(reason: str) -> Section:
    """The section of a log that says nothing of returns."""
    ground = Ground("caution", f"Nothing says what the policy would earn. {reason}")
    return Section(name=NAME, title=TITLE, findings=[], skipped=reason, grounds=[ground])


def evaluate_level(replay: Replay, config: OffPolicyConfig, log: LevelLog, title: str = "off policy") -> dict[str, Any]:
    """All estimates at one level and the verdict about them, as JSON; the title is that of the progress."""
    salt = {"skill": 1, "raw": 2}[log.name]
    rng = replay.make_rng(SALT, replay.episodes, salt)
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    decisions, episodes = log.decisions, len(log.numbers)
    folds = draw_folds(episodes, config.folds, rng)
    count = int(folds.max()) + 1
    ratios = compute_ratios(replay, config, log, folds, generator)
    members = draw_members(folds, config.bootstraps, rng)
    fitted = fit_values(replay, config, log, members, generator, title)
    cleared = clear_folds(fitted, folds, decisions)
    estimates = {FQE: estimate_fitted_q(fitted, members, count)}
    largest, weights = float(config.clip) or np.inf, None
    if ratios.log_ratio is not None:
        terms = compute_terms(decisions, ratios.log_ratio, cleared, largest)
        factors = compute_tail_factors(decisions, ratios.log_ratio, cleared, fitted, members, largest)
        estimates |= compute_estimates(terms, factors, rng)
        weights = measure_weights(decisions, ratios.log_ratio)
    support = measure_support(log, rng)
    diagnostics = diagnose(estimates, fitted, count, weights, support.share)
    verdict = judge(diagnostics, config.rule)
    logged = compute_bootstrap_t(plain_mean(decisions.compute_returns()), rng)
    headline = WDR if diagnostics.diverged and WDR in estimates else FQE
    return {
        "level": log.name,
        "horizon": log.horizon,
        "episodes": episodes,
        "decisions": int(decisions.length.sum()),
        "terminated": int(decisions.terminated.sum()),
        "behaviour": ratios.origin,
        "estimates": {name: show_estimate(of) for name, of in {LOGGED: logged, **estimates}.items()},
        "headline": headline,
        "weights": None if weights is None else weights._asdict(),
        "ratio_quantiles": quantiles_of(ratios, log, largest),
        "support": {"share": support.share, "logged": support.logged.tolist(), "policy": support.policy.tolist()},
        "diverged": diagnostics.diverged,
        "drift": None if diagnostics.diverged else diagnostics.drift,
        "disagreement": diagnostics.disagreement,
        "verdict": verdict.level,
        "reasons": [list(reason) for reason in verdict.reasons],
    }


def fit_values(
    replay: Replay,
    config: OffPolicyConfig,
    log: LevelLog,
    members: NDArray[np.float32],
    generator: torch.Generator,
    title: str,
) -> FittedQ:
    """Fitted Q evaluation of the policy on these decisions, with progress."""
    scaled, shape = log.scaled, log.observation.shape[:2]
    drawn = log.encode(log.chosen.drawn.reshape(*shape, *log.chosen.drawn.shape[1:]))
    states = np.broadcast_to(scaled[:, :, None], (*drawn.shape[:3], scaled.shape[-1]))
    data = QData(
        inputs=np.concatenate([scaled[:, :-1], log.encode(log.choice)], axis=-1),
        drawn=np.concatenate([states, drawn], axis=-1),
        drawn_weight=log.chosen.weight.reshape(*shape, -1),
        decisions=log.decisions,
    )
    name = f"replay {title}, {log.name}"
    replay.view.start(name, config.fitted_q.iterations, 0, "regression")
    for fit in fit_q(data, members, config.fitted_q, generator):
        replay.view.update(fit.iteration, {})
        replay.require_going_on(name, fit.iteration)
        if fit.fitted is not None:
            return fit.fitted
    raise AssertionError("a fit ends with its values")


def measure_support(log: LevelLog, rng: np.random.Generator) -> Any:
    """Distances of the policy's decisions to those of the log, see `Support`."""
    valid, shape = log.decisions.valid, log.observation.shape[:2]
    drawn = log.chosen.drawn.reshape(*shape, *log.chosen.drawn.shape[1:])[:, :-1][valid]
    weight = log.chosen.weight.reshape(*shape, -1)[:, :-1][valid]
    one = (weight.cumsum(axis=1) < rng.random((len(weight), 1))).sum(axis=1).clip(max=weight.shape[1] - 1)
    picked = drawn[np.arange(len(drawn)), one]
    logged = log.choice[valid]
    spread = log.spread[valid]
    if spread.any():  # a logged skill is known up to its posterior, as a drawn one is exactly
        logged = logged + spread * rng.standard_normal(logged.shape).astype(np.float32)
    return compute_support(log.scaled[:, :-1][valid], log.encode(logged), log.encode(picked), np.nonzero(valid)[0], rng)


def quantiles_of(ratios: Ratios, log: LevelLog, largest: float) -> dict[str, list[float]] | None:
    """Of the ratio of each decision, and of the weight of whole episodes, as decadic logarithms."""
    if ratios.log_ratio is None:
        return None
    valid = log.decisions.valid
    whole = compute_log_weights(ratios.log_ratio, valid, largest)[:, -1]
    at = (0.01, 0.1, 0.5, 0.9, 0.99)
    decades = [np.quantile(part, at) / np.log(10.0) for part in (np.maximum(ratios.log_ratio[valid], -1e6), whole)]
    return {"at": list(at), "decision": decades[0].tolist(), "episode": decades[1].tolist()}


def show_estimate(estimate: Estimate) -> dict[str, float]:
    """As JSON; what is beyond all numbers is a large one."""
    return {name: float(np.nan_to_num(value, nan=LARGEST)) for name, value in estimate._asdict().items()}


def show_interval(record: Record) -> str:
    """`0.42 (0.31 to 0.55)`."""
    return " ".join(
        [format_number(record["value"]), f"({format_number(record['low'])} to {format_number(record['high'])})"]
    )


def make_section(replay: Replay, config: OffPolicyConfig, found: Mapping[str, Record], origin: str) -> Section:
    """Sentences, tables, figures and grounds, from the records of the levels."""
    main = next(iter(found.values()))
    logged, best = main["estimates"][LOGGED], main["estimates"][main["headline"]]
    findings = [
        f"The policy would earn {show_interval(best)} per episode, by {NAMES[main['headline']]}; the log earned "
        f"{show_interval(logged)}. Returns are discounted by {config.discount:g} per control step.",
        f"This estimate: {main['verdict']}. " + " ".join(text for level, text in main["reasons"] if level != "trust"),
        origin + " " + main["behaviour"],
    ]
    if len(found) > 1:
        findings.append(compare_levels(found))
    rows = {LEVELS[level]: list(make_rows(record)) for level, record in found.items()}
    head = ("estimator", f"{NUMBER}return", f"{NUMBER}95 % interval")
    checks = {LEVELS[level]: [(name, text) for name, text in record["reasons"]] for level, record in found.items()}
    facts = {LEVELS[level]: list(make_facts(record)) for level, record in found.items()}
    return Section(
        name=NAME,
        title=TITLE,
        findings=findings,
        tables=[
            TitledTable("Estimated discounted return", Table(head, rows)),
            TitledTable("May these estimates be believed?", Table(("level", "check"), checks)),
            TitledTable("How much of the policy the log holds", Table(("measure", f"{NUMBER}value"), facts)),
        ],
        figures=[draw_estimates(level, record) for level, record in found.items()],
        data={"discount": config.discount, "rewards": origin, "levels": dict(found), "main": main["level"]},
        grounds=[make_ground(main)],
        warnings=[
            "An estimate is of the policy without the safety limits, on the robot as it was when the log was made.",
            "Episodes that were cut off are continued with the value of their last state, so that the estimate is of "
            "the task without a time limit.",
        ],
    )


def make_ground(record: Record) -> Ground:
    """What the estimate says of the policy: nothing, if it may not be believed; else whether it beats the log."""
    logged, best = record["estimates"][LOGGED], record["estimates"][record["headline"]]
    if record["verdict"] != "trust":
        worst = [text for level, text in record["reasons"] if level == record["verdict"]]
        return Ground("caution", f"The estimated return is not to be relied on ({record['verdict']}): {worst[0]}")
    text = f"The policy would earn {show_interval(best)}, the log earned {show_interval(logged)}"
    if best["high"] < logged["low"]:
        return Ground("do not use", f"{text}: it is worse than what made the log.")
    return Ground("trust", f"{text}: it is not worse than what made the log.")


def compare_levels(found: Mapping[str, Record]) -> str:
    """How the interval of the skill level compares with that of the raw level."""
    skill, raw = (found[level] for level in ("skill", "raw"))
    text = ""
    if skill["weights"] is not None and raw["weights"] is not None:
        sizes = [record["weights"]["effective_size"] for record in (skill, raw)]
        text = f"With one decision per skill the log is worth {sizes[0]:.1f} episodes of the policy, with one per step "
        text += f"{sizes[1]:.1f}."
    errors = [record["estimates"][FQE]["error"] for record in (skill, raw)]
    if min(errors) > 0.0:
        text += f" The standard error of fitted Q evaluation is {errors[0] / errors[1]:.2f} times as large."
    return text.strip()


def make_rows(record: Record) -> list[tuple[str, ...]]:
    """One line for each estimator that was computed."""
    rows: list[tuple[str, ...]] = []
    for name, title in NAMES.items():
        if name in record["estimates"]:
            of = record["estimates"][name]
            rows.append(
                (title, format_number(of["value"]), f"{format_number(of['low'])} to {format_number(of['high'])}")
            )
    return rows


def make_facts(record: Record) -> list[tuple[str, str]]:
    """Size of the log and how near the policy is to it."""
    rows = [("episodes", str(record["episodes"])), ("decisions", str(record["decisions"]))]
    if record["weights"] is not None:
        weights = record["weights"]
        rows += [
            ("effective episodes, mean over decisions", f"{weights['effective_size']:.1f}"),
            ("effective episodes, by the weight of whole episodes", f"{weights['whole_size']:.1f}"),
            ("share of the weight in the heaviest episode", f"{weights['top_share']:.0%}"),
        ]
    if record["ratio_quantiles"] is not None:
        low, _, middle, _, high = (f"{10.0 ** min(value, 99.0):.2g}" for value in record["ratio_quantiles"]["decision"])
        rows.append(("density ratio of a decision: 1 %, 50 % and 99 % of them", f"{low}, {middle}, {high}"))
    support = record["support"]
    rows.append(("policy's decisions within the data", f"{support['share']:.0%}"))
    for who in ("logged", "policy"):
        values = ", ".join(f"{value:.2g}" for value in support[who])
        shares = ", ".join(f"{at:.0%}" for at in QUANTILES)
        rows.append((f"distance to the data, {who} decisions, {shares} of them (standard deviations)", values))
    return rows


def draw_estimates(level: str, record: Record) -> Plot:
    """Every estimate with its interval, and the return of the log."""
    names = [name for name in NAMES if name in record["estimates"]]
    with figure_style():
        figure, axes = make_axes(WIDE[0], 0.9 + 0.26 * len(names))
        ends = [record["estimates"][name] for name in names]
        logged = record["estimates"][LOGGED]
        axes.axvspan(logged["low"], logged["high"], color=MUTED, alpha=0.15, linewidth=0)
        # an estimator without any use must not squeeze the others
        headline = record["estimates"][record["headline"]]
        usual = max(1e-9, *(of["high"] - of["low"] for of in (logged, headline)))
        sane = [of for of in ends if of["high"] - of["low"] <= 5.0 * usual]
        low, high = min(of["low"] for of in sane), max(of["high"] for of in sane)
        margin = 0.08 * max(high - low, 1e-9)
        for place, (name, of) in enumerate(zip(names, ends, strict=True)):
            color = INK if name == LOGGED else ADAPTED if name == record["headline"] else MUTED
            axes.plot([of["low"], of["high"]], [place, place], color=color, linewidth=2.0, solid_capstyle="butt")
            axes.plot(of["value"], place, "o", color=color, markersize=5)
        axes.set_xlim(low - margin, high + margin)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.set_xlabel("discounted return")
        alt = f"Estimates of the return with {LEVELS[level]}, with 95 % intervals, beside the return of the log."
        caption = f"{LEVELS[level].capitalize()}. Bars: 95 % intervals; coloured: what counts; grey band: the log."
        return Plot(render_svg(figure, f"off-policy-{level}", alt), caption)
