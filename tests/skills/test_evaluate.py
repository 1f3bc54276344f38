import math
import re

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supple.errors import SpecError
from supple.robots.robot import StepRows
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.skills.config import SkillConfig
from supple.skills.evaluate import count_active, describe_collapse, evaluate_rollouts, evaluate_windows
from supple.skills.gaussian import Gaussian
from supple.skills.model import SkillModel

Floats = NDArray[np.float32]
HORIZON = 3


class Integrators:
    """Rows of x' = x + u + drift, in one dimension."""

    def __init__(self, rows: int, drift: float = 0.0) -> None:
        axis = (Axis("x", "m", -100.0, 100.0),)
        self.spec = RobotSpec(
            "integrator",
            ArraySpec("observation", axis),
            ArraySpec("action", axis),
            ArraySpec("goal", axis),
            control_period=0.1,
            episode_steps=1000,
        )
        self.rows = rows
        self.drift = drift
        self.state = np.zeros((rows, 1), np.float32)

    def set_state(self, rows: NDArray[np.int64], observation: Floats) -> Floats:
        self.state[rows] = observation
        return self.state[rows].copy()

    def reset(self, rows: NDArray[np.int64], goals: Floats, rng: np.random.Generator) -> Floats:
        return self.set_state(rows, np.zeros((len(rows), 1), np.float32))

    def step(self, rows: NDArray[np.int64], action: Floats) -> StepRows:
        self.state[rows] += action + np.float32(self.drift)
        ended = np.zeros(len(rows), np.bool_)
        return StepRows(self.state[rows].copy(), np.zeros(len(rows), np.float32), ended, ended)

    def compute_reward(self, observation: Floats, goals: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        shape = (*observation.shape[:-1], len(goals))
        return np.zeros(shape, np.float32), np.zeros(shape, np.bool_)

    def close(self) -> None:
        pass


def make_model() -> SkillModel:
    """A model whose encoder reads the last action and whose decoders are exact.

    Skill = the last logged action = the state to go to; closed-loop action = z - x; open-loop actions = z - x_0, 0, 0.
    """
    hidden = {"encoder_hidden": (2,), "decoder_hidden": (2,), "open_decoder_hidden": (2,), "prior_hidden": (2,)}
    model = SkillModel(1, 1, SkillConfig(skill_horizon=HORIZON, skill_dim=1, **hidden))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        # relu(v) - relu(-v) = v: input columns are [x, z] for the decoders, [x, u] per step for the encoder
        for net in (model.decoder, model.open_decoder):
            net.layers[0].weight.copy_(torch.tensor([[-1.0, 1.0], [1.0, -1.0]]))
            net.layers[1].weight[0].copy_(torch.tensor([1.0, -1.0]))
        model.encoder.net.layers[0].weight[:, -1].copy_(torch.tensor([1.0, -1.0]))
        model.encoder.net.layers[1].weight[0].copy_(torch.tensor([1.0, -1.0]))
        model.encoder.net.layers[1].bias[1] = -10.0
    return model


def make_log(batch: int) -> tuple[Floats, Floats]:
    """Windows that stay for two steps and then go to 2 * start + 1; the action after the horizon is junk."""
    start = np.linspace(-1.0, 3.0, batch, dtype=np.float32)
    end = 2.0 * start + 1.0
    observation = np.stack([start, start, start, end], axis=1)[..., None]
    action = np.stack([0.0 * start, 0.0 * start, end - start, 77.0 + start], axis=1)[..., None]
    return observation, action


def set_skill_to_end(model: SkillModel) -> None:
    # the last action is end - start and the last observation start: their sum is the end
    with torch.no_grad():
        model.encoder.net.layers[0].weight[:, -2].copy_(torch.tensor([1.0, -1.0]))


@pytest.mark.parametrize("rows", [2, 7, 50])
def test_exact_decoders_reach_the_logged_state(rows: int) -> None:
    model, batch = make_model(), Integrators(rows)
    set_skill_to_end(model)
    metrics = evaluate_rollouts(model, batch, batch.set_state, *make_log(7))
    assert metrics["rollout_closed"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["rollout_open"] == pytest.approx(0.0, abs=1e-5)
    assert metrics["rollout_replayed"] == pytest.approx(0.0, abs=1e-5)
    # mean of |start + 1| over seven even starts in [-1, 3]
    assert metrics["rollout_travelled"] == pytest.approx(2.0)


def test_feedback_pays_where_the_robot_drifts() -> None:
    model, batch = make_model(), Integrators(7, drift=0.5)
    set_skill_to_end(model)
    metrics = evaluate_rollouts(model, batch, batch.set_state, *make_log(7))
    # open loop and replay drift three times; closed loop corrects all but the last drift
    assert metrics["rollout_open"] == pytest.approx(1.5)
    assert metrics["rollout_replayed"] == pytest.approx(1.5)
    assert metrics["rollout_closed"] == pytest.approx(0.5)


def test_only_the_chosen_dimensions_count() -> None:
    model, batch = make_model(), Integrators(7, drift=0.5)
    observation, action = make_log(7)
    assert evaluate_rollouts(model, batch, batch.set_state, observation, action, dims=())["rollout_open"] == 0.0


def test_windows_without_the_last_state_are_refused() -> None:
    model, batch = make_model(), Integrators(7)
    observation, action = make_log(7)
    with pytest.raises(SpecError, match=r"expected windows of 4 steps, got 3"):
        evaluate_rollouts(model, batch, batch.set_state, observation[:, :3], action)


def test_window_metrics_by_hand() -> None:
    model = make_model()
    observation = torch.zeros(2, HORIZON, 1)
    action = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, -3.0]])[..., None]
    metrics = evaluate_windows(model, observation, action, torch.Generator().manual_seed(0), ["force"])
    scale = math.exp(-3.0)
    noise = scale * torch.randn((2, 1), generator=torch.Generator().manual_seed(0)).squeeze(1)
    z = torch.tensor([3.0, -3.0]) + noise
    # closed loop plays z at all three steps: errors z, z, noise; open loop plays z, 0, 0: errors z, 0, 3
    closed = (2.0 * z.square() + noise.square()).mean().item() / 3.0
    assert metrics["reconstruction_rmse/force"] == pytest.approx(math.sqrt(closed), rel=1e-5)
    # under the skill of the other window closed loop errs by the other's z, and by 6 more at the last step
    swapped = (2.0 * z.square() + (z.flip(0) - torch.tensor([3.0, -3.0])).square()).mean().item() / 3.0
    assert metrics["skill_gain"] == pytest.approx(1.0 - closed / swapped, rel=1e-4)
    assert metrics["open_reconstruction_rmse/force"] == pytest.approx(
        math.sqrt((z.square().mean().item() + 9.0) / 3.0), rel=1e-5
    )
    # the prior is N(0, 1) here, so both divergences are 9/2 + s^2/2 - 1/2 - log s
    assert metrics["kl"] == pytest.approx(4.5 + 0.5 * scale**2 - 0.5 + 3.0, rel=1e-4)
    assert metrics["kl_to_prior"] == pytest.approx(metrics["kl"])
    assert metrics["prior_nll"] == pytest.approx(0.5 * (z.square().mean().item() + math.log(2.0 * math.pi)), rel=1e-5)
    assert (metrics["active_dims"], metrics["skill_dims"]) == (1.0, 1.0)


def test_names_must_fit() -> None:
    window = torch.zeros(2, HORIZON, 1)
    with pytest.raises(SpecError, match=r"names: expected 1, got 2"):
        evaluate_windows(make_model(), window, window, torch.Generator(), ["a", "b"])


def test_active_dimensions_have_variance_above_a_hundredth() -> None:
    # variances .0121, .0081, 0
    loc = torch.tensor([[0.11, 0.09, 5.0], [-0.11, -0.09, 5.0]])
    assert count_active(Gaussian(loc, torch.ones_like(loc))) == 1


def test_window_metrics_do_not_depend_on_the_unit_of_the_actions() -> None:
    """Newtons to kilonewtons: errors are in the new unit, and all that has no unit stays."""
    model, other = make_model(), make_model()
    other.action_scale.scale.fill_(1e-3)
    observation = torch.zeros(2, HORIZON, 1)
    action = torch.tensor([[0.0, 0.0, 3.0], [0.0, 0.0, -3.0]])[..., None]
    newtons = evaluate_windows(model, observation, action, torch.Generator().manual_seed(0))
    kilonewtons = evaluate_windows(other, observation, 1e-3 * action, torch.Generator().manual_seed(0))
    for name, value in newtons.items():
        assert kilonewtons[name] == pytest.approx(value * (1e-3 if "rmse" in name else 1.0), rel=1e-4)


GOOD = {"active_dims": 3.0, "skill_dims": 10.0, "kl": 5.0, "skill_gain": 0.9}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"active_dims": 0.0}, "^0 of 10 skill axes are active$"),
        ({"kl": 0.69}, r"^KL 0\.69 nats per skill, below 0\.69: not enough to tell two behaviours apart$"),
        ({"skill_gain": 0.0099}, r"^knowing the skill removes 1\.0% of the decoder's error$"),
        ({"active_dims": 0.0, "kl": 5e-5, "skill_gain": -1e-4}, r"^0 of 10 .*; KL 5e-05 nats .*; knowing .* -0\.0%"),
    ],
)
def test_a_collapse_is_described_by_its_signs(changes: dict[str, float], message: str) -> None:
    text = describe_collapse({**GOOD, **changes})
    assert text is not None
    assert re.search(message, text)


@pytest.mark.parametrize("changes", [{}, {"active_dims": 1.0}, {"kl": 0.7}, {"skill_gain": 0.011}])
def test_skills_that_say_something_have_not_collapsed(changes: dict[str, float]) -> None:
    assert describe_collapse({**GOOD, **changes}) is None
