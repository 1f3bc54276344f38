"""Logs as experience of the skill level: which states, which skills, in which order."""

import numpy as np
import pytest
import torch

from supple.errors import SpecError
from supple.skills.config import SkillConfig
from supple.skills.log_transitions import encode_log
from supple.skills.model import SkillModel

HORIZON = 4


def make_model() -> SkillModel:
    """O = 1, A = 1, Z = 2."""
    config = SkillConfig(
        skill_horizon=HORIZON, skill_dim=2, encoder_hidden=(8,), decoder_hidden=(8,), prior_hidden=(8,)
    )
    return SkillModel(1, 1, config).eval()


def test_states_are_one_skill_apart_and_each_skill_is_that_of_its_window() -> None:
    """Episodes of 9, 3 and 6 steps, whose observation is the step: 0, 4, 8; none; and 12, 16."""
    model = make_model()
    step = np.arange(18, dtype=np.float32)[:, None]
    action = np.sin(step)
    log = encode_log(model, step, action, np.array([0, 9, 12]), np.array([9, 3, 6]))
    assert log.state[:, 0].tolist() == [0.0, 4.0, 8.0, 12.0, 16.0]
    assert log.start.tolist() == [0, 3]
    for row in (0, 1, 3):
        begin = int(log.state[row, 0])
        window = slice(begin, begin + HORIZON)
        wanted = model.encode(torch.from_numpy(step[None, window]), torch.from_numpy(action[None, window])).loc
        assert log.skill[row] == pytest.approx(wanted[0].detach().numpy(), abs=1e-6)
    assert not log.skill[[2, 4]].any()


def test_a_window_needs_the_state_behind_it() -> None:
    """H steps are a skill, but nobody knows where it led."""
    model, step = make_model(), np.zeros((HORIZON + 1, 1), np.float32)
    assert len(encode_log(model, step, step, np.array([0]), np.array([HORIZON + 1])).state) == 2
    with pytest.raises(SpecError, match="more than 4 steps, one skill, got 4"):
        encode_log(model, step, step, np.array([0]), np.array([HORIZON]))


def test_with_a_pace_windows_begin_within_skills_too() -> None:
    """Two rows for a skill of four steps: states 0, 2, 4, 6, 8 of nine, and the last two lead nowhere."""
    model, step = make_model(), np.arange(14, dtype=np.float32)[:, None]
    given = (model, step, np.sin(step), np.array([0, 9]), np.array([9, 5]))
    apart, close = encode_log(*given), encode_log(*given, pace=2)
    assert close.state[:, 0].tolist() == [0.0, 2.0, 4.0, 6.0, 8.0, 9.0, 11.0, 13.0]
    assert close.start.tolist() == [0, 5]
    assert close.skill.any(axis=1).tolist() == [True, True, True, False, False, True, False, False]
    assert close.skill[[0, 2, 5]] == pytest.approx(apart.skill[[0, 1, 3]], abs=1e-6)
    one = model.encode(torch.from_numpy(step[None, 2:6]), torch.from_numpy(np.sin(step[None, 2:6]))).loc
    assert close.skill[1] == pytest.approx(one[0].detach().numpy(), abs=1e-6)
