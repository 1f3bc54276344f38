"""The one place where a device name becomes a device."""

import torch

from ..errors import ConfigError

DEVICES = ("auto", "cpu", "cuda")


def choose_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA where there is one.

    Raises:
        ConfigError: For an unknown name, or for `cuda` where torch finds none.
    """
    if name not in DEVICES:
        raise ConfigError(f"device: expected one of {', '.join(DEVICES)}, got {name!r}; choose a known name")
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device: expected a CUDA device, got none on this machine; use cpu or auto")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)
