import pytest

from supple.errors import ConfigError
from supple.skills.config import SkillConfig
from supple.skills.device import choose_device


def test_json_round_trip() -> None:
    config = SkillConfig(skill_horizon=3, prior_hidden=(7, 5), encoder="lstm", seed=4)
    assert SkillConfig.from_json(config.to_json(), "here") == config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("skill_horizon", 0),
        ("skill_dim", 0),
        ("batch_size", -1),
        ("num_updates", 0),
        ("decoded_steps", 0),
        ("prior_hidden", ()),
        ("decoder_hidden", (4, 0)),
        ("encoder", "transformer"),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("kl_weight", -1.0),
        ("seed", -1),
    ],
)
def test_a_useless_value_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"SkillConfig\.{field}(\[1\])?: expected .* got"):
        SkillConfig(**{field: value})


def test_missing_and_unknown_fields_are_refused_by_name() -> None:
    record = SkillConfig().to_json()
    with pytest.raises(ConfigError, match=r"skill\.json: .* got 3 for 'beta'"):
        SkillConfig.from_json({**record, "beta": 3}, "skill.json")
    del record["kl_weight"]
    with pytest.raises(ConfigError, match=r"skill\.json: .* got none for 'kl_weight'"):
        SkillConfig.from_json(record, "skill.json")


@pytest.mark.parametrize(("there", "found"), [(True, "cuda"), (False, "cpu")])
def test_devices(there: bool, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: there)
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type == found
    with pytest.raises(ConfigError, match=r"expected one of auto, cpu, cuda, got 'tpu'"):
        choose_device("tpu")


def test_configs_of_before_some_fields_are_read() -> None:
    config = SkillConfig(skill_dim=4)
    record = {name: value for name, value in config.to_json().items() if name not in ("bfloat16", "prior_temperature")}
    assert SkillConfig.from_json(record, "here") == config
