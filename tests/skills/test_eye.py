"""Skills that see: what decoder and prior may look at, and training that resumes bit for bit with pictures."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from supple.errors import SpecError
from supple.robots.image_maze import ImageMaze
from supple.robots.spec import ImageSpec
from supple.skills.checkpoint import load_skill_model, save_skill_model
from supple.skills.config import SkillConfig
from supple.skills.eye import Eye
from supple.skills.learner import SkillLearner, train
from supple.skills.model import SkillModel
from supple.skills.spirl import compute_losses

SPEC = ImageMaze(layout_size=10, play_size=8).spec()
SMALL = {
    "skill_horizon": 3,
    "skill_dim": 2,
    "encoder_hidden": (16,),
    "decoder_hidden": (16,),
    "open_decoder_hidden": (16,),
    "prior_hidden": (16,),
    "image_channels": (4, 4),
    "image_features": 3,
    "batch_size": 32,
}


class Signs:
    """The picture alone says what is done: white is +, black is -. Place and velocity are noise."""

    def sample(self, batch_size: int, rng: np.random.Generator) -> tuple[NDArray[np.generic], ...]:
        sign = rng.choice([-1.0, 1.0], size=batch_size)
        observation = rng.standard_normal((batch_size, 3, 4)).astype(np.float32)
        action = (sign[:, None, None] * np.ones((1, 3, 2))).astype(np.float32)
        pictures = np.where(sign > 0, 255, 0).astype(np.uint8)[:, None, None, None, None]
        return observation, action, np.broadcast_to(pictures, (batch_size, 4, 32, 32, 1)).copy()


def make_learner(**changes: object) -> SkillLearner:
    config = SkillConfig(**{**SMALL, "hidden_axes": ("x", "y"), **changes})  # type: ignore[arg-type]
    return SkillLearner(SkillModel(4, 2, config, SPEC), config)


def make_batch(learner: SkillLearner, seed: int) -> list[torch.Tensor]:
    return [torch.from_numpy(array) for array in Signs().sample(64, np.random.default_rng(seed))]


def test_the_prior_learns_to_look() -> None:
    """Behind a white picture other skills come than behind a black one, and the decoder does what the picture says."""
    learner = make_learner(num_updates=150, learning_rate=1e-2)
    list(train(learner, Signs()))
    model = learner.model.eval()
    state = torch.zeros(2, 4)
    pictures = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 32, 32, 2)
    with torch.no_grad():
        seen = model.see(state, pictures)
        action = model.decode(seen, model.prior_of(seen).loc)
    assert (action[0] < -0.7).all()
    assert (action[1] > 0.7).all()


def test_the_posterior_of_a_model_that_sees_reads_normalised_states() -> None:
    plain, shifted = (make_learner(hidden_axes=()).model for _ in range(2))
    shifted.normaliser.mean.fill_(64.0)
    shifted.normaliser.std.fill_(8.0)
    state, action = torch.randn(5, 3, 4), torch.randn(5, 3, 2)
    with torch.no_grad():
        expected = plain.encode(state, action).loc
        torch.testing.assert_close(shifted.encode(8.0 * state + 64.0, action).loc, expected, rtol=1e-4, atol=1e-4)


def test_pixels_are_read_between_minus_one_and_one_channels_first() -> None:
    config = SkillConfig(**SMALL)  # type: ignore[arg-type]
    eye = Eye(ImageSpec(height=16, width=8, channels=1), config, torch.Generator().manual_seed(0))
    read: list[torch.Tensor] = []
    eye.convolutions[0].register_forward_pre_hook(lambda layer, inputs: read.append(inputs[0]))
    pictures = torch.zeros(16, 8, 2, dtype=torch.uint8)  # two frames
    pictures[5, 3] = torch.tensor([51, 204])
    pictures[0, 0] = torch.tensor([127, 255])
    assert eye(pictures).shape == (3,)
    (value,) = read
    assert value.shape == (1, 2, 16, 8)
    assert value[0, :, 5, 3].tolist() == pytest.approx([-0.6, 0.6])
    assert value[0, :, 0, 0].tolist() == pytest.approx([-0.5 / 127.5, 1.0])
    assert float(value[0, :, 1:5].max()) == -1.0


def test_hidden_axes_change_nothing_and_have_no_weights() -> None:
    learner = make_learner(num_updates=20)
    list(train(learner, Signs()))
    model = learner.model.eval()
    seen = torch.randn(5, 4 + 3)
    elsewhere = seen.clone()
    elsewhere[:, :2] += 7.0
    skill, window = torch.randn(5, 2), torch.randn(5, 3, 2)
    with torch.no_grad():
        assert torch.equal(model.prior_of(seen).loc, model.prior_of(elsewhere).loc)
        assert torch.equal(model.decode(seen, skill), model.decode(elsewhere, skill))
        many, there = (part[:, None].expand(-1, 3, -1) for part in (seen, elsewhere))
        assert torch.equal(model.encode(many, window).loc, model.encode(there, window).loc)
        other = seen.clone()
        other[:, 3] += 7.0  # the velocity is seen
        assert not torch.equal(model.prior_of(seen).loc, model.prior_of(other).loc)
    # who computes the nets from their weights alone, such as the numpy runtime, is as blind there
    for net in (model.prior, model.decoder, model.open_decoder):
        assert torch.equal(net.layers[0].weight[:, :2], torch.zeros(16, 2))  # type: ignore[union-attr]


def test_unknown_hidden_axes_are_refused() -> None:
    with pytest.raises(SpecError, match="expected axes of the robot's observation, x, y, vx, vy, got 'z'"):
        make_learner(hidden_axes=("z",))
    with pytest.raises(SpecError, match="which nobody named, got 'x'"):
        SkillModel(4, 2, SkillConfig(hidden_axes=("x",)))


def test_too_many_convolutions_are_refused() -> None:
    with pytest.raises(SpecError, match="expected at most 5 convolutions for pictures of 32 x 32 pixels, got 6"):
        make_learner(image_channels=(2,) * 6)


def test_only_the_looked_at_pictures_count() -> None:
    """The loss looks at the first step and at decoded ones: with all steps decoded, at each of them."""
    learner = make_learner(decoded_steps=3)
    observation, action, pictures = make_batch(learner, 0)

    def compute(pictures: torch.Tensor) -> tuple[float, float]:
        with torch.no_grad():
            found = compute_losses(learner.model, observation, action, torch.Generator().manual_seed(0), 3, pictures)
        return float(found.reconstruction), float(found.prior)

    usual = compute(pictures)
    for frame, parts in ((0, (True, True)), (3, (True, False))):  # before the first step; at the last one
        changed = pictures.clone()
        changed[:, frame] = 255 - changed[:, frame]
        assert tuple(a != b for a, b in zip(compute(changed), usual, strict=True)) == parts


def test_resumes_bit_for_bit_with_pictures() -> None:
    whole = make_learner(num_updates=8)
    list(train(whole, Signs(), log_every=2))
    first = make_learner(num_updates=8)
    list(train(first, Signs(), num_updates=4, log_every=2))
    rest = make_learner(num_updates=8)
    rest.load_state(*first.state())
    list(train(rest, Signs(), log_every=2))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, rest.model.state_dict()[name]), name
    assert any(name.startswith("eye.") for name in whole.model.state_dict())


def test_a_saved_model_sees_the_same(tmp_path) -> None:  # type: ignore[no-untyped-def]
    model = make_learner().model
    save_skill_model(tmp_path, model)
    again = load_skill_model(tmp_path)
    seen = model.see(torch.zeros(2, 4), torch.randint(0, 256, (2, 32, 32, 2), dtype=torch.uint8))
    with torch.no_grad():
        assert torch.equal(model.prior_of(seen).loc, again.prior_of(seen).loc)
    assert again.config == model.config


def test_a_config_without_pictures_is_written_as_before() -> None:
    assert not {"image_channels", "hidden_axes"} & set(SkillConfig().to_json())
    config = SkillConfig(hidden_axes=("x",), image_features=8)
    assert SkillConfig.from_json(config.to_json(), "test") == config
    assert SkillConfig.from_json(SkillConfig().to_json(), "test") == SkillConfig()
