import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.errors import ConfigError, RunError, SpecError
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.skills.checkpoint import load_checkpoint, load_skill_model, save_checkpoint, save_skill_model
from supple.skills.config import SkillConfig
from supple.skills.model import SkillModel

TENSORS = {
    "scalar": torch.tensor(1.5),
    "empty": torch.zeros(0, 3),
    "transposed": torch.arange(6.0).reshape(2, 3).T,
    "bytes": torch.arange(5, dtype=torch.uint8),
    "half": torch.tensor([1.0, -2.0], dtype=torch.bfloat16),
    "whole": torch.tensor([2**40]),
}
FACTS = {"step": 7, "rng": {"state": 2**127 + 1}, "name": "é"}
SMALL = SkillConfig(
    skill_horizon=2, encoder_hidden=(3,), decoder_hidden=(3,), open_decoder_hidden=(3,), prior_hidden=(3,)
)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    tensors, facts = load_checkpoint(path)
    assert facts == FACTS
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype
        assert torch.equal(tensors[name], value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    digest = save_checkpoint(first, TENSORS, FACTS)
    assert save_checkpoint(second, dict(reversed(TENSORS.items())), dict(reversed(FACTS.items()))) == digest
    assert first.read_bytes() == second.read_bytes()
    assert save_checkpoint(second, TENSORS, {**FACTS, "step": 8}) != digest


def test_views_of_one_storage_are_saved_apart(tmp_path: Path) -> None:
    flat = torch.arange(4.0)
    save_checkpoint(tmp_path / "a", {"low": flat[:2], "all": flat}, {})
    assert load_checkpoint(tmp_path / "a")[0]["low"].tolist() == [0.0, 1.0]


@settings(max_examples=60, deadline=None)
@given(position=st.floats(0.0, 1.0, exclude_max=True), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused(tmp_path_factory: pytest.TempPathFactory, position: float, bit: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "a.safetensors"
    save_checkpoint(path, {"weight": torch.arange(12.0)}, {"step": 1})
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= 1 << bit
    path.write_bytes(data)
    # The JSON header holds no redundant letter, so no flip can leave the content as it was.
    with pytest.raises(RunError, match=r"a\.safetensors: expected .* run its stage again"):
        load_checkpoint(path)


def test_a_changed_weight_is_named_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, {"weight": torch.arange(12.0)}, FACTS)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(
        RunError, match=r"a\.safetensors: expected content with SHA-256 \w+, got \w+; the file is damaged"
    ):
        load_checkpoint(path)


@pytest.mark.parametrize("length", [0, 4, 20, 200])
def test_a_truncated_file_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, TENSORS, FACTS)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(RunError, match=r"a\.safetensors: expected a Supple checkpoint, got"):
        load_checkpoint(path)


def test_a_missing_file_and_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"absent: expected a checkpoint, got no file"):
        load_checkpoint(tmp_path / "absent")
    with pytest.raises(RunError, match=r"expected a writable checkpoint, got No such file"):
        save_checkpoint(tmp_path / "no" / "a", TENSORS, FACTS)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    save_checkpoint(path, TENSORS, FACTS)

    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(RunError, match="No space left on device"):
        save_checkpoint(path, {}, {})
    assert load_checkpoint(path)[1] == FACTS
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_skill_model_round_trip(tmp_path: Path) -> None:
    model = SkillModel(3, 2, SMALL)
    model.normaliser.fit(torch.randn(50, 3) * 4.0 + 2.0)
    save_skill_model(tmp_path, model)
    loaded = load_skill_model(tmp_path)
    assert loaded.config == SMALL
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value)


def array(name: str, *names: str) -> ArraySpec:
    return ArraySpec(name, tuple(Axis(axis, "m", -1.0, float("inf"), rate_limit=2.0) for axis in names))


ARM = RobotSpec("arm", array("observation", "x", "y", "z"), array("action", "u", "v"), array("goal", "x"), 0.02, 50)


def test_skill_model_carries_its_robot_and_its_action_scale(tmp_path: Path) -> None:
    model = SkillModel(3, 2, SMALL, ARM)
    model.action_scale.fit(torch.randn(50, 2) * 30.0 + 2.0, None)
    save_skill_model(tmp_path, model)
    loaded = load_skill_model(tmp_path)
    assert loaded.robot == ARM
    assert torch.equal(loaded.action_scale.scale, model.action_scale.scale)
    assert torch.equal(loaded.action_scale.offset, model.action_scale.offset)
    save_skill_model(tmp_path, SkillModel(3, 2, SMALL))
    assert load_skill_model(tmp_path).robot is None


def test_a_robot_of_other_sizes_is_refused() -> None:
    message = "SkillModel: expected 4 observation and 2 action axes, got robot 'arm' with 3 and 2"
    with pytest.raises(SpecError, match=message):
        SkillModel(4, 2, SMALL, ARM)


@pytest.mark.parametrize("robot", ["arm", {"name": "arm"}, 3])
def test_a_robot_that_is_none_is_refused(tmp_path: Path, robot: object) -> None:
    save_skill_model(tmp_path, SkillModel(3, 2, SMALL, ARM))
    path = tmp_path / "skill.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"robot": robot}))
    with pytest.raises(RunError, match=r"skill\.json: expected a skill model, got .*run the extract stage again"):
        load_skill_model(tmp_path)


def test_a_skill_model_from_before_is_refused(tmp_path: Path) -> None:
    """It names no robot."""
    save_skill_model(tmp_path, SkillModel(3, 2, SMALL))
    path = tmp_path / "skill.json"
    record = json.loads(path.read_text())
    del record["robot"]
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"skill\.json: expected a skill model, got .*'robot'.*; run the extract stage"):
        load_skill_model(tmp_path)


def test_skill_model_files_must_belong_together(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    save_skill_model(tmp_path, SkillModel(3, 2, SMALL))
    save_skill_model(other, SkillModel(4, 2, SMALL))
    shutil.copy(other / "skill.json", tmp_path / "skill.json")
    with pytest.raises(RunError, match=r"skill\.json: expected the config of skill\.safetensors, got another"):
        load_skill_model(tmp_path)


def test_skill_model_of_other_weights_is_refused(tmp_path: Path) -> None:
    """Same config, one weight more: only the digest in the config file tells."""
    model = SkillModel(3, 2, SMALL)
    save_skill_model(tmp_path, model)
    record = (tmp_path / "skill.json").read_text()
    with torch.no_grad():
        model.prior.layers[0].bias[0] += 1.0
    save_skill_model(tmp_path, model)
    (tmp_path / "skill.json").write_text(record)
    with pytest.raises(RunError, match=r"skill\.json: expected weights with SHA-256"):
        load_skill_model(tmp_path)


def test_missing_skill_model_and_bad_config_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"skill\.json: expected a skill model, got No such file"):
        load_skill_model(tmp_path)
    save_skill_model(tmp_path, SkillModel(3, 2, SMALL))
    path = tmp_path / "skill.json"
    record = json.loads(path.read_text())
    record["config"]["beta"] = 1
    path.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match="'beta'"):
        load_skill_model(tmp_path)
    for text in ("{", "[]", "{}", '{"config": 3, "observation_dim": 1, "action_dim": 1}'):
        path.write_text(text)
        with pytest.raises(RunError, match=r"skill\.json: expected (strict JSON|an object|a skill model), got"):
            load_skill_model(tmp_path)
