"""The one place where a device name becomes a device, and what its updates are computed in."""

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


def update_precision(device: torch.device, bfloat16: bool) -> torch.autocast:
    """Context of an update: hidden layers in bfloat16 if wanted and if the device multiplies in it, else in float32.

    A processor without such instructions emulates them: an update then takes ten times as long as in float32.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=bfloat16 and multiplies_bfloat16(device))


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for products in bfloat16 (x86: AVX-512 or AMX, ARM: bf16, or its GPU's)."""
    if device.type != "cpu":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    abilities = torch.cpu.get_capabilities()
    return any(abilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
