import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supple.errors import ConfigError, RunError, TrainingFault
from supple.skills.checkpoint import load_checkpoint, save_checkpoint
from supple.skills.config import SkillConfig
from supple.skills.gaussian import kl, standard_like
from supple.skills.learner import SkillLearner, cosine_decay, train
from supple.skills.model import SkillModel

Floats = NDArray[np.float32]
HORIZON = 4
SMALL = {
    "skill_horizon": HORIZON,
    "skill_dim": 2,
    "encoder_hidden": (32,),
    "decoder_hidden": (32,),
    "open_decoder_hidden": (32,),
    "prior_hidden": (32,),
    "batch_size": 64,
}


class TwoModes:
    """A toy whose optimum is known: the action is a sign * (1, .5), held for the window; the state says how often.

    Observation [s, noise] with s in {-1, 1}: at s = 1 the sign is always +, at s = -1 it is + or - with equal chance.
    """

    def sample(self, batch_size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        state = rng.choice([-1.0, 1.0], size=batch_size)
        sign = np.where(state > 0, 1.0, rng.choice([-1.0, 1.0], size=batch_size))
        observation = np.stack([state, rng.standard_normal(batch_size)], axis=-1)[:, None].repeat(HORIZON, 1)
        action = (sign[:, None] * [1.0, 0.5])[:, None].repeat(HORIZON, 1)
        return observation.astype(np.float32), action.astype(np.float32)


class Broken(TwoModes):
    """Windows with one NaN from the given draw on."""

    def __init__(self, first: int) -> None:
        self.draws = itertools.count()
        self.first = first

    def sample(self, batch_size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        observation, action = super().sample(batch_size, rng)
        if next(self.draws) >= self.first:
            action[0, 0, 0] = np.nan
        return observation, action


def make_learner(**changes: object) -> SkillLearner:
    config = SkillConfig(**{**SMALL, **changes})
    return SkillLearner(SkillModel(2, 2, config), config)


def tensors_of(learner: SkillLearner) -> dict[str, torch.Tensor]:
    return learner.state()[0]


@pytest.mark.parametrize("encoder", ["mlp", "lstm"])
def test_learns_the_toy(encoder: str) -> None:
    learner = make_learner(num_updates=600, learning_rate=5e-3, kl_weight=1e-2, encoder=encoder)
    first, *_, last = train(learner, TwoModes(), log_every=50)
    floor = 0.5 * math.log(2.0 * math.pi)
    assert last["reconstruction"] - floor < 0.01 < first["reconstruction"] - floor
    assert last["open_reconstruction"] - floor < 0.01
    model = learner.model
    observation, action = (torch.from_numpy(part) for part in TwoModes().sample(4000, np.random.default_rng(9)))
    with torch.no_grad():
        posterior = model.encode(observation, action)
        prior = model.prior_of(observation[:, 0])
        skill = prior.sample(torch.Generator().manual_seed(0))
        sign = torch.sign(model.decode(observation[:, 0], skill)[:, 0])
    fixed = observation[:, 0, 0] > 0
    # where the state decides the sign, skills of the prior keep it; where it does not, both signs appear
    assert (sign[fixed] > 0).float().mean().item() > 0.95
    assert 0.25 < (sign[~fixed] > 0).float().mean().item() < 0.75
    # the prior at s = -1 must cover both modes, so it is wider than at s = 1
    assert prior.scale[~fixed].log().sum(-1).mean() > prior.scale[fixed].log().sum(-1).mean() + 0.2
    # the window says one bit: the posterior has to spend about that much
    assert kl(posterior, standard_like(posterior)).mean().item() > 0.3


def test_resume_is_exact(tmp_path: Path) -> None:
    """30 updates equal 20, a file, and 10 more: weights, moments, both generators, metrics."""
    whole = make_learner(num_updates=40)
    expected = list(train(whole, TwoModes(), num_updates=30, log_every=10))
    part = make_learner(num_updates=40)
    metrics = list(train(part, TwoModes(), num_updates=20, log_every=10))
    path = tmp_path / "state.safetensors"
    save_checkpoint(path, *part.state())
    resumed = make_learner(num_updates=40)
    resumed.load_state(*load_checkpoint(path))
    assert resumed.step == 20
    metrics += train(resumed, TwoModes(), num_updates=30, log_every=10)
    assert metrics == expected
    tensors, facts = resumed.state()
    assert facts == whole.state()[1]
    assert tensors.keys() == tensors_of(whole).keys()
    for name, value in tensors_of(whole).items():
        assert torch.equal(tensors[name], value), name


@pytest.mark.parametrize("part", ["generator", "adam", "rng"])
def test_resume_needs_every_part(part: str) -> None:
    """The state is minimal: without one part the next updates differ."""
    whole = make_learner(num_updates=40)
    list(train(whole, TwoModes(), num_updates=10))
    tensors, facts = whole.state()
    if part == "generator":
        tensors["generator"] = torch.Generator().manual_seed(99).get_state()
    elif part == "adam":
        tensors = {name: value * 0 if "exp_avg" in name else value for name, value in tensors.items()}
    else:
        facts["rng"] = np.random.default_rng(99).bit_generator.state
    resumed = make_learner(num_updates=40)
    resumed.load_state(tensors, facts)
    list(train(whole, TwoModes(), num_updates=15))
    list(train(resumed, TwoModes(), num_updates=15))
    assert not torch.equal(
        tensors_of(resumed)["model.prior.layers.0.weight"], tensors_of(whole)["model.prior.layers.0.weight"]
    )


def test_a_fresh_state_resumes_too() -> None:
    first, second = make_learner(num_updates=5), make_learner(num_updates=5)
    second.load_state(*first.state())
    assert list(train(first, TwoModes())) == list(train(second, TwoModes()))


def test_the_state_is_a_snapshot() -> None:
    learner = make_learner(num_updates=5)
    before = tensors_of(learner)["model.prior.layers.0.weight"].clone()
    snapshot, facts = learner.state()
    list(train(learner, TwoModes()))
    assert torch.equal(snapshot["model.prior.layers.0.weight"], before)
    assert facts["step"] == 0


def test_a_state_of_another_config_is_refused() -> None:
    with pytest.raises(RunError, match=r"expected this run's config, got another"):
        make_learner(seed=1).load_state(*make_learner(seed=2).state())


def test_a_state_without_a_part_is_refused() -> None:
    learner = make_learner(num_updates=3)
    list(train(learner, TwoModes()))
    tensors, facts = learner.state()
    del tensors["adam.exp_avg.prior.layers.0.weight"]
    with pytest.raises(RunError, match=r"expected a whole state, got .*adam\.exp_avg\.prior\.layers\.0\.weight"):
        make_learner(num_updates=3).load_state(tensors, facts)


def test_yields_every_n_updates_and_at_the_end() -> None:
    steps = [metrics["step"] for metrics in train(make_learner(num_updates=25), TwoModes(), log_every=10)]
    assert steps == [10.0, 20.0, 25.0]
    assert list(train(make_learner(num_updates=5), TwoModes(), num_updates=0)) == []


def test_the_metrics_are_means_over_the_updates() -> None:
    each = list(train(make_learner(num_updates=4), TwoModes(), log_every=1))
    (mean,) = train(make_learner(num_updates=4), TwoModes(), log_every=4)
    for name in ("reconstruction", "open_reconstruction", "kl", "prior"):
        assert mean[name] == pytest.approx(sum(metrics[name] for metrics in each) / 4.0, rel=1e-5)


def test_the_seed_decides_everything_and_the_global_generators_nothing() -> None:
    runs = []
    for seed in (1, 1, 2):
        before = torch.get_rng_state()
        learner = make_learner(num_updates=5, seed=seed)
        list(train(learner, TwoModes()))
        assert torch.equal(before, torch.get_rng_state())
        runs.append(tensors_of(learner)["model.decoder.layers.0.weight"])
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


def test_the_step_size_decays_to_nothing() -> None:
    assert [cosine_decay(step, 4) for step in (0, 2, 4, 9)] == pytest.approx([1.0, 0.5, 0.0, 0.0])
    learner = make_learner(num_updates=3)
    list(train(learner, TwoModes()))
    before = tensors_of(learner)
    learner.update(*(torch.from_numpy(part) for part in TwoModes().sample(8, np.random.default_rng(0))))
    assert torch.equal(tensors_of(learner)["model.prior.layers.0.weight"], before["model.prior.layers.0.weight"])


def test_a_nan_names_the_loss_and_the_step() -> None:
    metrics = train(make_learner(num_updates=30), Broken(first=12), log_every=10)
    assert next(metrics)["step"] == 10.0
    with pytest.raises(TrainingFault, match=r"loss 'reconstruction' at step 20: expected a finite value, got nan"):
        next(metrics)


def test_a_nan_that_appears_in_the_last_update_is_not_saved() -> None:
    learner = make_learner()
    with torch.no_grad():
        learner.model.prior.layers[0].bias[3] = torch.inf
    with pytest.raises(TrainingFault, match=r"weight 'prior\.layers\.0\.bias' at step 0: expected a finite value"):
        learner.require_finite({"kl": 0.0})


def test_a_missing_gpu_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    config = SkillConfig(**SMALL)
    with pytest.raises(ConfigError, match=r"device: expected a CUDA device, got none"):
        SkillLearner(SkillModel(2, 2, config), config, device="cuda")
