"""Tensors and facts in one file that is either whole or refused.

A checkpoint is a safetensors file with one metadata entry, a JSON record of the facts and a SHA-256 digest of facts and
tensors. It is written beside its name, synced and renamed, so a reader sees the old file or the new one. Equal content
gives equal bytes. Nothing is pickled.
"""

import hashlib
import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import RunError, SpecError
from ..plain_files import write_durably
from ..strict_json import parse_json
from .config import CONFIG_NAME, load_skill_facts
from .model import SkillModel

METADATA_KEY = "supple"
"""One key only: safetensors writes several in a random order."""
WEIGHTS_NAME = "skill.safetensors"
AGAIN = "delete it and run its stage again"


def compute_digest(tensors: dict[str, Tensor], facts: str) -> str:
    """SHA-256 (hex) of the facts and of every tensor's name, type, shape and bytes, in the order of the names."""
    digest = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"\0{name}\0{tensor.dtype}\0{list(tensor.shape)}\0".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save_checkpoint(path: Path, tensors: dict[str, Tensor], facts: dict[str, object]) -> str:
    """Write tensors and JSON facts to one file, atomically; the folder must exist.

    Args:
        path: Where; an old file is replaced.
        tensors: By name, on any device.
        facts: JSON values only.

    Returns:
        The digest of the content.

    Raises:
        RunError: If the file cannot be written.
    """
    text = json.dumps(facts, sort_keys=True)
    snapshot = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    digest = compute_digest(snapshot, text)
    record = json.dumps({"facts": text, "sha256": digest}, sort_keys=True)
    try:
        write_durably(path, save(snapshot, metadata={METADATA_KEY: record}))
    except OSError as error:
        raise RunError(f"{path}: expected a writable checkpoint, got {error.strerror}; free or create it") from error
    return digest


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Read tensors (on the CPU) and facts, and verify the digest.

    Raises:
        RunError: If the file is missing, is no checkpoint of ours or differs from its digest.
    """
    if not path.is_file():
        raise RunError(f"{path}: expected a checkpoint, got no file; run the stage that writes it")
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors: dict[str, Tensor] = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
        record = parse_json(metadata[METADATA_KEY], dict, path, RunError, AGAIN)
        text, expected = str(record["facts"]), str(record["sha256"])
        facts: dict[str, object] = parse_json(text, dict, path, RunError, AGAIN)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        reason = f"{type(error).__name__} ({error})"
        raise RunError(f"{path}: expected a Supple checkpoint, got {reason}; {AGAIN}") from error
    actual = compute_digest(tensors, text)
    if actual != expected:
        raise RunError(
            f"{path}: expected content with SHA-256 {expected[:12]}, got {actual[:12]}; the file is damaged, {AGAIN}"
        )
    return tensors, facts


def save_skill_model(folder: Path, model: SkillModel) -> str:
    """Write `skill.safetensors` and `skill.json` into the existing folder and return the digest of the weights.

    Raises:
        RunError: If a file cannot be written.
    """
    facts: dict[str, object] = {
        "observation_dim": model.state_dim,
        "action_dim": model.action_dim,
        "config": model.config.to_json(),
        "robot": None if model.robot is None else model.robot.to_json(),
    }
    digest = save_checkpoint(folder / WEIGHTS_NAME, model.state_dict(), facts)
    text = json.dumps({**facts, "sha256": digest}, indent=2, sort_keys=True) + "\n"
    try:
        write_durably(folder / CONFIG_NAME, text.encode())
    except OSError as error:
        raise RunError(f"{folder / CONFIG_NAME}: expected a writable file, got {error.strerror}; free it") from error
    return digest


def load_skill_model(folder: Path) -> SkillModel:
    """Read the model that `save_skill_model` wrote, on the CPU, in eval mode and without gradients.

    Raises:
        RunError: If a file is missing or damaged, or the two belong to different models.
        ConfigError: If the config has missing or unknown fields.
    """
    path, found = folder / CONFIG_NAME, load_skill_facts(folder)
    tensors, facts = load_checkpoint(folder / WEIGHTS_NAME)
    digest, stated = compute_digest(tensors, json.dumps(facts, sort_keys=True)), found.weights_digest
    if found.stated == facts and digest != stated:
        raise RunError(f"{path}: expected weights with SHA-256 {stated[:12]}, got {digest[:12]}; extract again")
    if found.stated != facts:
        raise RunError(f"{path}: expected the config of {WEIGHTS_NAME}, got another; run the extract stage again")
    try:
        model = SkillModel(found.observation_dim, found.action_dim, found.config, found.robot)
        model.load_state_dict(tensors)
    except (RuntimeError, SpecError) as error:
        raise RunError(f"{folder}: expected weights that fit the config, got others; extract again") from error
    return model.eval().requires_grad_(False)
