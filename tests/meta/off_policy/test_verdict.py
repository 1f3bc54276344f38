"""Support of a policy in a log, and the rule of the verdict."""

from __future__ import annotations

import numpy as np
import pytest

from supple.meta.off_policy.support import compute_support
from supple.meta.off_policy.verdict import Diagnostics, VerdictRule, judge

GOOD = Diagnostics(effective_size=40.0, support=0.95, diverged=False, drift=0.0, disagreement=1.0)


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({}, "trust"),
        ({"effective_size": 25.0}, "trust"),
        ({"effective_size": 24.9}, "caution"),
        ({"effective_size": 3.0}, "caution"),
        ({"effective_size": 2.9}, "do not use"),
        ({"effective_size": None, "disagreement": None}, "caution"),
        ({"support": 0.93}, "trust"),
        ({"support": 0.92}, "caution"),
        ({"support": 0.7}, "caution"),
        ({"support": 0.69}, "do not use"),
        ({"diverged": True, "disagreement": None}, "do not use"),
        ({"drift": 0.1}, "trust"),
        ({"drift": 0.2}, "caution"),
        ({"disagreement": 3.0}, "trust"),
        ({"disagreement": 3.1}, "caution"),
        ({"disagreement": 3.1, "support": 0.1}, "do not use"),
    ],
)
def test_each_check_of_the_rule(change: dict[str, float], level: str) -> None:
    verdict = judge(GOOD._replace(**change), VerdictRule())
    assert verdict.level == level
    assert level in [reason for reason, _ in verdict.reasons]


def test_support_of_the_log_itself_and_of_what_nobody_did() -> None:
    rng = np.random.default_rng(0)
    observation = rng.standard_normal((2000, 2)).astype(np.float32)
    choice, other = (rng.standard_normal((2000, 1)).astype(np.float32) for _ in range(2))
    episode = np.repeat(np.arange(40), 50)
    same = compute_support(observation, choice, choice, episode, np.random.default_rng(1))
    assert same.share == pytest.approx(0.95, abs=0.01)
    assert same.policy == pytest.approx(same.logged)
    alike = compute_support(observation, choice, other, episode, np.random.default_rng(1))
    assert alike.share == pytest.approx(0.95, abs=0.02)
    far = compute_support(observation, choice, choice + 6.0, episode, np.random.default_rng(1))
    assert far.share == 0.0
    assert (far.policy > far.logged).all()


def test_an_action_that_was_never_taken_is_outside() -> None:
    rng = np.random.default_rng(0)
    state, eye = rng.integers(3, size=900), np.eye(3, dtype=np.float32)
    logged, wanted = eye[rng.integers(2, size=900)], eye[rng.integers(3, size=900)]
    found = compute_support(eye[state], logged, wanted, np.repeat(np.arange(30), 30), np.random.default_rng(1))
    assert found.share == pytest.approx(2.0 / 3.0, abs=0.05)


def test_a_single_episode_is_split_in_turns() -> None:
    steps = np.linspace(0.0, 1.0, 100, dtype=np.float32)[:, None]
    found = compute_support(steps, steps, steps, np.zeros(100, np.int64), np.random.default_rng(0))
    assert found.share >= 0.9
