"""The settings of skill extraction."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, NamedTuple

from ..bounds import Batch, Bounded, Count, NonNegative, Positive, Seed, Width, Widths
from ..errors import ConfigError, RunError, SpecError
from ..robots.spec import RobotSpec
from ..strict_json import load_json

CONFIG_NAME = "skill.json"
"""In the folder of a skill model, beside its weights."""


_LATER = ("image_channels", "image_features", "image_frames", "hidden_axes")
"""Fields of pictures: a config that has none of them is written as before there were pictures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SkillConfig(Bounded):
    """Settings of the skill model and its training; the published value is named where ours departs from it."""

    skill_horizon: Width = 10
    """Low-level steps that one skill lasts, H of Pertsch et al. 2020; > 0."""
    skill_dim: Width = 10
    """Dimensions of a skill z; > 0."""
    encoder: Literal["mlp", "lstm"] = "mlp"
    """`lstm` is SPiRL's; `mlp` over the flattened window is our departure, several times faster on a CPU."""
    encoder_hidden: Widths = (128, 128)
    """Hidden widths of the MLP encoder; the LSTM encoder uses the first as its width (published: 128)."""
    decoder_hidden: Widths = (128, 128, 128)
    """Hidden widths of the closed-loop decoder (published: 4 or 6 times 128, with BatchNorm)."""
    open_decoder_hidden: Widths = (128, 128)
    """Hidden widths of the open-loop decoder (published: an LSTM of 128)."""
    prior_hidden: Widths = (128, 128, 128)
    """Hidden widths of the skill prior (published: 7 times 128, with BatchNorm)."""
    kl_weight: NonNegative = 1e-2
    """beta; the reconstruction and KL terms are means over their dimensions, not sums (published: 1e-2 in SPiRL's
    maze, 5e-4 in the kitchen). It decides how many nats a skill says beyond the prior: on our maze play data about 32
    at 5e-4, 5 at 1e-2 and 2.5 at 5e-2."""
    learning_rate: Positive = 1e-3
    """Adam's step size at the start; it falls to 0 along a half cosine (published: RAdam, 1e-3, constant)."""
    batch_size: Batch = 256
    """Windows per update (published: 128)."""
    num_updates: Count = 14_000
    """Updates in all; about two minutes on one core (published: 480,000 for the kitchen)."""
    decoded_steps: Count = 4
    """Steps of every window on which the closed-loop decoder is trained, drawn anew per update; `skill_horizon` or more
    trains on all (published: all)."""
    prior_temperature: Positive = 1.0
    """Standard deviation of the prior over that of the skills in the data, from the end of training on (published: 1).
    One Gaussian covers all that people or scripts do in a state, and between these lie skills that nobody used."""
    bfloat16: bool = False
    """Run the networks in bfloat16 during updates if the processor multiplies in it: twice as fast."""
    image_channels: Widths = (8, 16, 32)
    """Channels of the convolutions by which pictures are seen, each of 4 x 4 pixels at every second one; where the data
    have pictures."""
    image_features: Width = 32
    """Numbers that a policy has of the pictures, each within -1 and 1."""
    image_frames: Count = 2
    """Pictures that are seen at once: the newest and those before it (published: 2)."""
    hidden_axes: tuple[str, ...] = ()
    """Axes of the observation that encoder, decoder and prior do not see, such as the place in a maze: skills are then
    the same everywhere, and what is learned over them may still see these axes (published with pictures: all)."""
    seed: Seed = 0
    """Seed of the weights, the sampled skills and the sampled windows; >= 0."""

    def to_json(self) -> dict[str, object]:
        """The fields as JSON values; those of `_LATER` only where they are others than usual."""
        found = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        pairs = ((name, value) for name, value, usual in found if name not in _LATER or value != usual)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}

    @classmethod
    def from_json(cls, record: dict[str, object], where: str) -> "SkillConfig":
        """The config whose `to_json` gave this record.

        Raises:
            ConfigError: For a missing or unknown field, named after `where`.
        """
        later = {field.name: field.default for field in fields(cls) if field.name in _LATER}
        record = {"bfloat16": False, "prior_temperature": 1.0, **later, **record}  # earlier configs do not name it
        names = {field.name for field in fields(cls)}
        for name in sorted(names ^ set(record)):
            got = "none" if name in names else repr(record[name])
            raise ConfigError(f"{where}: expected the fields of SkillConfig, got {got} for {name!r}; extract again")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in record.items()}
        return cls(**values)  # type: ignore[arg-type]


class SkillFacts(NamedTuple):
    """What the folder of a skill model says beside its weights."""

    observation_dim: int
    action_dim: int
    config: SkillConfig
    robot: RobotSpec | None
    """That the data were from; None where nobody said."""
    stated: dict[str, Any]
    """The same as JSON, as the weights repeat it."""
    weights_digest: str


def load_skill_facts(folder: Path) -> SkillFacts:
    """Reads `skill.json`, not the weights.

    Raises:
        RunError: It is missing or damaged.
        ConfigError: The config has missing or unknown fields.
    """
    path = folder / CONFIG_NAME
    record = load_json(path, dict, RunError, "run the extract stage", "a skill model")
    try:
        return SkillFacts(
            observation_dim=int(record["observation_dim"]),
            action_dim=int(record["action_dim"]),
            config=SkillConfig.from_json(dict(record["config"]), str(path)),
            robot=None if record["robot"] is None else RobotSpec.from_json(record["robot"]),
            stated={key: value for key, value in record.items() if key != "sha256"},
            weights_digest=str(record["sha256"]),
        )
    except (KeyError, TypeError, SpecError, OverflowError) as error:
        reason = f"{type(error).__name__} ({error})"
        raise RunError(f"{path}: expected a skill model, got {reason}; run the extract stage again") from error
