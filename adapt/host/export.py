"""From a meta-trained learner to a bundle: what an exporter gives, and what is the same for all of them.

The exporter of a kind stands in a file of its name here; its numpy agent in a file of the same name in `adapt/agents`.

Axes: O observation, Z latent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import BundleError
from ...robots.spec import RobotSpec
from ..bundle import Bundle, make_bundle, write_bundle
from ..contract import Budget, BundleContract
from ..eye import BundledEye
from ..golden_trial import GOLDEN_TOLERANCE, ROUND, make_trial_inputs, play_trial
from ..networks import Array, Weights
from ..novelty import NoveltyModel
from ..runtime_agent import Arrays, RandomNoise
from .exported import Exported
from .hosts import make_hosted, require_adaptation
from .spaces import export_space, to_arrays
from .torch_rows import NoiseRecorder, TorchRowAgent

TRIALS = 8
"""Golden trials that are recorded, at most, until one is steady."""
MARGINS = (0.1, 0.5)
"""Share of the tolerance that rounding may use on the machine that exports; the second if no trial keeps the first."""


def write_exported(
    path: str | os.PathLike[str],
    exported: Exported,
    robot: RobotSpec,
    budget: Budget,
    *,
    simulator: Mapping[str, Any] | None,
    provenance: Mapping[str, Any],
    seed: int = 0,
    logs: Arrays | None = None,
    eye: BundledEye | None = None,
    novelty: NoveltyModel | None = None,
) -> Bundle:
    """Records a golden trial of the trainer's agent and writes the bundle.

    Args:
        path: The directory to make.
        exported: The learner.
        robot: That it was meta-trained for.
        budget: How it was evaluated.
        simulator: What stands in for the robot.
        provenance: Where the weights come from.
        seed: Of the trial's inputs.
        logs: That come along, see `write_bundle`.
        eye: How it sees the robot's pictures, see `spaces.export_eye`.
        novelty: Of nominal motion, see `write_bundle`.

    Raises:
        BundleError: See `write_bundle`; or the numpy runtime, or the host, does not act as the trainer did.
    """
    settings, of_space = export_space(exported.space)
    contract = BundleContract(
        kind=exported.kind,
        robot=robot,
        space=settings,
        learner=exported.learner,
        budget=budget,
        simulator=simulator,
        provenance=provenance,
        eye=None if eye is None else eye.settings,
    )
    weights = to_arrays({**exported.weights, **of_space}) | ({} if eye is None else dict(eye.weights))
    golden = _record_steady_trial(exported, contract, weights, seed, {} if eye is None else eye.golden)
    bundle = write_bundle(path, contract=contract, weights=weights, golden=golden, logs=logs, novelty=novelty)
    if bundle.kind.hosted:
        make_hosted(bundle, RandomNoise(np.random.default_rng(0)))
    return bundle


def _record_steady_trial(
    exported: Exported, contract: BundleContract, weights: Weights, seed: int, seen: Weights
) -> dict[str, Array]:
    """The first of some trials that the runtimes play with the largest of `MARGINS`, else the last one.

    Adam's first updates follow the sign of a gradient, however small: in some trials they blow rounding up until it
    passes for another learner. Another machine rounds otherwise, and needs the margin. A runtime that does act
    otherwise fails in all of them, and in the check of the bundle that is written.

    A step of gradients is as long as suits hundreds of decisions, and that of a trial has ten: a policy with small
    deviations, as one of cloned data, runs away within three. So the last trials are calm, see `record_trial`.
    """
    trials: list[dict[str, Array]] = []
    for calm in (False, True):
        trials.clear()
        for share in MARGINS:
            for attempt in range(TRIALS):
                if attempt == len(trials):
                    rng = np.random.default_rng(seed if attempt == 0 else (seed, attempt))
                    trials.append({**record_trial(exported, contract, weights, rng, calm=calm), **seen})
                with suppress(BundleError):
                    tolerance = share * GOLDEN_TOLERANCE
                    bundle = make_bundle(contract, weights, trials[attempt], Path("golden trial"), tolerance=tolerance)
                    if bundle.kind.hosted:
                        require_adaptation(bundle, tolerance)
                    return trials[attempt]
    return trials[-1]


def record_trial(
    exported: Exported, contract: BundleContract, weights: Weights, rng: np.random.Generator, *, calm: bool = False
) -> dict[str, Array]:
    """The golden trial as the trainer's agent plays it, with all noise that it drew.

    In a calm one nothing is paid after the first round, so that gradients take one step: the second and third start
    from whatever the first has led to.

    Raises:
        BundleError: The agent draws noise that the numpy runtime does not have.
    """
    inputs = make_trial_inputs(contract, weights, rng)
    if calm:
        inputs["in.reward"][ROUND:] = 0.0
    recorder = NoiseRecorder(exported.generator)
    agent = TorchRowAgent(exported.agent, exported.space, contract.robot, exported.read_state, recorder)
    with recorder:
        outputs = play_trial(agent, inputs)
    return inputs | recorder.arrays() | outputs
