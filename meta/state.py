"""Networks, optimisers and episodes as named tensors: a checkpoint is one flat table of tensors and a JSON record."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from ..errors import RunError
from ..skills.gaussian import Gaussian
from .collect import Episodes


@contextmanager
def refuse_parts(where: str, remedy: str) -> Iterator[None]:
    """Loading that ends in a RunError where the state lacks a part or belongs to other sizes."""
    try:
        yield
    except RunError:
        raise  # of a part that says itself what it lacks
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise RunError(f"{where}: expected a whole state, got {error}; {remedy}") from error


def join_parts(**parts: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """One table of the tensors of all parts, by `<part>.<name>`."""
    return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def clone_like(like: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies of the tensors that have the names of `like`, in its shapes; KeyError and RuntimeError where none fits."""
    return {name: tensors[name].clone().view_as(value) for name, value in like.items()}


@torch.no_grad()
def copy_into(target: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Overwrites tensors in place by those of the same names; KeyError and RuntimeError where none fits."""
    for name, value in target.items():
        value.copy_(tensors[name].view_as(value))


def named_part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def optimiser_tensors(optimisers: Mapping[str, torch.optim.Adam]) -> dict[str, Tensor]:
    """Adam's moments and step counts, by `adam.<optimiser>.<parameter>.<field>`."""
    return {
        f"adam.{name}.{index}.{field}": value
        for name, optimiser in optimisers.items()
        for index, moments in optimiser.state_dict()["state"].items()
        for field, value in moments.items()
    }


def load_optimisers(optimisers: Mapping[str, torch.optim.Adam], tensors: Mapping[str, Tensor]) -> None:
    """Restores what `optimiser_tensors` gave."""
    for name, optimiser in optimisers.items():
        saved: dict[int, dict[str, Tensor]] = {}
        for key, value in named_part(tensors, f"adam.{name}.").items():
            index, field = key.split(".")
            saved.setdefault(int(index), {})[field] = value.clone()
        optimiser.load_state_dict({**optimiser.state_dict(), "state": saved})


def episodes_tensors(rounds: Sequence[Episodes]) -> dict[str, Tensor]:
    """Rounds of episodes by `<index>.<field>`; the prior's are `<index>.prior.<field>`.

    The range of rewards and the success are left out: whoever reads them does so when the episode ends.
    """
    tensors: dict[str, Tensor] = {}
    for index, episodes in enumerate(rounds):
        fields = episodes._replace(reward_range=None, success=None)._asdict()
        prior = fields.pop("prior")
        tensors |= {f"{index}.{name}": value for name, value in fields.items() if value is not None}
        tensors |= {f"{index}.prior.{name}": value for name, value in prior._asdict().items()}
    return tensors


def load_episodes(tensors: Mapping[str, Tensor], count: int) -> list[Episodes]:
    """This many rounds out of the tensors of `episodes_tensors`; a missing field is a KeyError or a TypeError."""
    rounds = []
    for index in range(count):
        fields = named_part(tensors, f"{index}.")
        prior = Gaussian(fields.pop("prior.loc"), fields.pop("prior.scale"))
        rounds.append(Episodes(prior=prior, **fields))
    return rounds
