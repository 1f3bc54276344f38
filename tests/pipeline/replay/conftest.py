"""A robot with two axes, a linear policy whose commands can be worked out by hand, and logs of it."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.spaces import SpaceSettings
from supple.datasets import Episode, Feature, Schema, write_store
from supple.pipeline.replay.section import Replay
from supple.robots.spec import ArraySpec, Axis, RobotSpec

SPEC = RobotSpec(
    name="slider",
    observation=ArraySpec("observation", (Axis("x", "m", -10.0, 10.0), Axis("y", "m", -np.inf, np.inf))),
    action=ArraySpec("action", (Axis("vx", "m/s", -2.0, 2.0), Axis("vy", "m/s", -1.0, 1.0))),
    goal=ArraySpec("goal", (Axis("x", "m", -10.0, 10.0),)),
    control_period=0.1,
    episode_steps=40,
)


def make_bundle(space: str = "unit", weight: NDArray[np.float32] | None = None) -> Bundle:
    """A policy of u = W o with standard deviation 0.5 on both axes; in robot's units u is doubled in vx."""
    matrix = np.eye(2, dtype=np.float32) if weight is None else weight
    contract = BundleContract(
        kind="policy",
        robot=SPEC,
        space=SpaceSettings(name=space, latent_dim=2),  # type: ignore[arg-type]
        learner={"hidden": [], "activation": "relu", "greedy": False, "scale": "parameter"},
        budget=Budget(episodes=1),
        provenance={},
    )
    weights = {
        "policy.layers.0.weight": matrix,
        "policy.layers.0.bias": np.zeros(2, np.float32),
        "policy.log_scale": np.full(2, np.log(0.5), np.float32),
    }
    if space == "raw":
        weights |= {"space.mean": np.zeros(2, np.float32), "space.std": np.ones(2, np.float32)}
    return Bundle(contract, weights, {}, "0" * 64)


@pytest.fixture
def replay_of(tmp_path: Path) -> Callable[..., Replay]:
    """Makes a replay of a bundle on episodes of (observation, action, reward or None), and their valid steps."""

    def make(
        episodes: Sequence[tuple[object, object, object]],
        bundle: Bundle | None = None,
        valid: Sequence[Sequence[int]] = (),
    ) -> Replay:
        rewarded = episodes[0][2] is not None
        features = [
            Feature(
                name=array.name,
                shape=(2,),
                units=tuple(axis.unit for axis in array.axes),
                role=array.name,  # type: ignore[arg-type]
                axes=array.names,
            )
            for array in (SPEC.observation, SPEC.action)
        ]
        if rewarded:
            features.append(Feature(name="reward", shape=(), units=("",), role="reward", axes=("reward",)))
        if valid:
            features.append(Feature(name="valid", dtype="uint8", shape=(), units=("",), role="other", axes=("valid",)))
        made = [
            Episode(
                {
                    name: np.asarray(value, np.float32)
                    for name, value in zip(("observation", "action", "reward"), one, strict=True)
                    if value is not None
                }
                | ({"valid": np.array(valid[place], np.uint8)} if valid else {}),
                False,
                True,
            )
            for place, one in enumerate(episodes)
        ]
        number = len(list(tmp_path.iterdir()))
        schema = Schema(features=tuple(features), control_period=0.1, robot=SPEC)
        store = write_store(tmp_path / f"store-{number}", made, schema, {})
        folder = tmp_path / f"kept-{number}"
        folder.mkdir()
        return Replay(
            label="slider", bundle=bundle or make_bundle(), store=store, spec=SPEC, folder=folder, view=Silent()
        )

    return make


class Silent:
    """A view that shows nothing."""

    def start(self, stage: str, total: float | None, step: float, unit: str) -> None: ...

    def update(self, step: float, metrics: object) -> None: ...

    def finish(self, stage: str, status: str, folder: str, wall_s: float) -> None: ...

    def note(self, text: str) -> None: ...

    def record(self, event: str, facts: object, text: str) -> None: ...

    def close(self) -> None: ...
