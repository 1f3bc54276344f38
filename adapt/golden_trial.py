"""The golden trial of a learner's bundle: a short trial of the trainer's agent, which every loading plays again.

What is recorded, all float32:

    in.observation    (E, R, K + 1, O)   what the robot showed
    in.reward         (E, R, K)
    in.length         (E, R)             decisions of each episode: rows end at different times
    in.terminated     (E, R)             1 where the task ended the episode
    in.noise.{i}.normal, in.noise.{i}.uniform    every draw of the agent, in their order
    out.latent        (E, R, K, Z)       what the agent chose
    out.action        (E, R, K, A)       what the robot was told
    out.state.{e}.{name}                 all that the agent knew after episode e

Where the policy sees pictures, some stacks of them and their features are recorded too:

    eye.image         (6, height, width, F channels)   whole numbers from 0 to 255
    eye.feature       (6, features)

After every second episode the agent is granted a step of adaptation. An agent that needs a host for it is played up to
the first such step here; the host plays the rest (`adapt/host/hosts.py`).

Axes: E episodes, R rows, K decisions, O observation, Z latent, A action.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError
from .bundle_folder import check_tensors
from .contract import BundleContract
from .eye import compute_features
from .networks import Array, Weights
from .runtime_agent import HOST, KEPT, RecordedNoise, RowEpisodes, RuntimeAgent, SeenRows

GOLDEN_TOLERANCE = 1e-4
"""Largest difference between a recorded output and a recomputed one, relative to max(1, largest output). Rounding takes
1e-6 to 3e-5 of it: the more, the longer a decoder was trained, since trials ask it for what no log has shown."""
ORDINARY_LATENT = 10.0
"""Latents up to this size are those of skills, which lie about N(0, I)."""
RUNAWAY = 1e6
"""Outputs beyond this are of no robot: their differences are no fault of a machine."""
LENGTHS = ((6, 4), (3, 6), (6, 5), (4, 6), (6, 2), (1, 6), (5, 6))
"""Decisions of each episode and row."""
ROUND = 2
"""Episodes before each step of adaptation: more than one, since some learners compare episodes with each other."""
UNREWARDED = 4
"""So many first episodes of the first row pay nothing: some learners go on searching until they are paid."""
EPISODES, ROWS, DECISIONS = len(LENGTHS), len(LENGTHS[0]), 6
PICTURES = 6
"""Stacks of pictures that are recorded."""
_NOISE = re.compile(r"in\.noise\.(\d+)\.(normal|uniform)")


def make_trial_inputs(contract: BundleContract, weights: Weights, rng: np.random.Generator) -> dict[str, Array]:
    """Inputs of a trial but for the noise: observations within their limits or spread as in training, rewards N(0, 1).

    Args:
        contract: Gives the robot.
        weights: `space.mean` and `space.std` give the spread, where they are there.
        rng: Source of the inputs.
    """
    shapes = _input_shapes(contract)
    spec = contract.robot.observation
    finite = np.isfinite(spec.low) & np.isfinite(spec.high)
    low, high = np.where(finite, spec.low, 0.0), np.where(finite, spec.high, 0.0)
    spread = rng.standard_normal(shapes["in.observation"], np.float32)
    if "space.mean" in weights:
        spread = weights["space.mean"] + weights["space.std"] * spread
    within = low + (high - low) * rng.random(shapes["in.observation"], np.float32)
    reward = rng.standard_normal(shapes["in.reward"], np.float32)
    reward[:UNREWARDED, 0] = 0.0
    return {
        "in.observation": np.where(finite, within, spread).astype(np.float32),
        "in.reward": reward,
        "in.length": np.array(LENGTHS, np.float32),
        "in.terminated": (rng.random(shapes["in.terminated"]) < 0.5).astype(np.float32),
    }


def _input_shapes(contract: BundleContract) -> dict[str, tuple[int, ...]]:
    return {
        "in.observation": (EPISODES, ROWS, DECISIONS + 1, contract.observation_dim),
        "in.reward": (EPISODES, ROWS, DECISIONS),
        "in.length": (EPISODES, ROWS),
        "in.terminated": (EPISODES, ROWS),
    }


def check_trial(contract: BundleContract, golden: Mapping[str, NDArray[Any]], where: str) -> None:
    """Checks names, shapes, dtype and finiteness of what does not depend on the kind.

    Raises:
        BundleError: Names the first array that is wrong.
    """
    shapes = _input_shapes(contract)
    shapes["out.latent"] = (EPISODES, ROWS, DECISIONS, contract.space.latent_dim)
    shapes["out.action"] = (EPISODES, ROWS, DECISIONS, contract.action_dim)
    if contract.eye is not None and contract.robot.image is not None:
        height, width, channels = contract.robot.image.shape
        shapes["eye.image"] = (PICTURES, height, width, contract.eye.frames * channels)
        shapes["eye.feature"] = (PICTURES, contract.eye.features)
    for name, array in golden.items():
        if _NOISE.fullmatch(name) or name.startswith("out.state."):
            shapes[name] = array.shape
    check_tensors(golden, shapes, where, "export the bundle again")
    length = golden["in.length"]
    pixels = golden.get("eye.image", np.zeros(0, np.float32))
    if not ((pixels >= 0) & (pixels <= 255) & (pixels == np.floor(pixels))).all():
        raise BundleError(f"{where}: expected 'eye.image' of whole numbers from 0 to 255, got others; export again")
    if not ((length >= 1) & (length <= DECISIONS) & (length == np.floor(length))).all():
        raise BundleError(f"{where}: expected episodes of 1 to {DECISIONS} decisions, got others; export again")


def look_again(weights: Weights, golden: Mapping[str, Array]) -> Array:
    """What numpy sees in the recorded pictures, as `eye.feature`."""
    return compute_features(weights, golden["eye.image"].astype(np.uint8))


def recorded_noise(golden: Mapping[str, Array], where: str) -> RecordedNoise:
    """The draws of the trial, in their order."""
    found = sorted((int(match[1]), match[2], name) for name in golden if (match := _NOISE.fullmatch(name)))
    return RecordedNoise([(kind, golden[name]) for _, kind, name in found], where)


def play_trial(agent: RuntimeAgent, inputs: Mapping[str, Array], episodes: int = EPISODES) -> dict[str, Array]:
    """Plays the first episodes of a trial; returns `out.*` of these.

    Args:
        agent: Before or after any task.
        inputs: `in.*`.
        episodes: How many of the E.
    """
    agent.begin_task(ROWS)
    outputs: dict[str, Array] = {}
    latents, actions = [], []
    for episode in range(episodes):
        if episode and episode % ROUND == 0:
            agent.adapt()
        agent.begin_episode()
        played, action = _play_episode(agent, {name: value[episode] for name, value in inputs.items() if _given(name)})
        agent.observe(played)
        latents.append(played.latent)
        actions.append(action)
        known = {name: value for name, value in agent.state().items() if not name.startswith((HOST, KEPT))}
        for name, value in known.items():
            outputs[f"out.state.{episode}.{name}"] = np.asarray(value, np.float32)
    return {"out.latent": np.stack(latents), "out.action": np.stack(actions), **outputs}


def _given(name: str) -> bool:
    return name.startswith("in.") and not _NOISE.fullmatch(name)


def _play_episode(agent: RuntimeAgent, inputs: Mapping[str, Array]) -> tuple[RowEpisodes, Array]:
    """One episode in which the robot shows what was recorded; also the actions, (R, K, A)."""
    observation, reward = inputs["in.observation"], inputs["in.reward"]
    length = inputs["in.length"].astype(np.int64)
    latent = np.zeros((ROWS, DECISIONS, agent.space.latent_dim), np.float32)
    actions: list[Array] = []
    for decision in range(DECISIONS):
        rows = np.flatnonzero(decision < length)
        if not len(rows):
            actions.append(np.zeros_like(actions[0]))
            continue
        seen = observation[rows, decision]
        last = reward[rows, decision - 1] if decision else np.zeros(len(rows), np.float32)
        latent[rows, decision] = agent.act(SeenRows(seen, rows, last))
        told = agent.space.hold(latent[rows, decision])(seen)
        actions.append(np.zeros((ROWS, told.shape[-1]), np.float32))
        actions[-1][rows] = told
    counts = np.arange(DECISIONS) < length[:, None]
    ended = np.arange(DECISIONS + 1) <= length[:, None]
    played = RowEpisodes(
        observation=np.where(ended[..., None], observation, np.float32(0.0)),
        latent=latent,
        reward=np.where(counts, reward, np.float32(0.0)),
        length=length,
        terminated=inputs["in.terminated"] > 0.0,
        steps=length * agent.space.horizon,
    )
    return played, np.stack(actions, axis=1)


def require_trial(
    recorded: Mapping[str, Array],
    outputs: Mapping[str, Array],
    where: str,
    *,
    episodes: int = EPISODES,
    tolerance: float = GOLDEN_TOLERANCE,
) -> None:
    """Checks what was played against the record.

    Args:
        recorded: The golden arrays.
        outputs: What `play_trial` gave for them.
        where: Which runtime played, for the message.
        episodes: How many were played.
        tolerance: Largest difference, relative to max(1, the largest number of the record); for actions also relative
            to the largest latent over `ORDINARY_LATENT`.

    Raises:
        BundleError: A number differs by more, or the agent knows other things than the recorded one.
    """
    wanted = {name: value for name, value in recorded.items() if name.startswith("out.")}
    wanted |= {name: wanted[name][:episodes] for name in ("out.latent", "out.action")}
    states = {name for name in wanted if name.startswith("out.state.") and int(name.split(".")[2]) < episodes}
    found = {name for name in outputs if name.startswith("out.state.")}
    if states != found:
        raise BundleError(
            f"{where}: expected golden states {sorted(states)}, got {sorted(found)}; export the bundle again"
        )
    # commands are computed from latents: of a policy that ran away they are large and cancel, and so does rounding
    latent = float(np.abs(wanted["out.latent"]).max(initial=0.0)) / ORDINARY_LATENT
    for name, output in outputs.items():
        require_close(name, output, wanted[name], where, tolerance, latent if name == "out.action" else 1.0)


def require_close(
    name: str, output: Array, record: Array, where: str, tolerance: float = GOLDEN_TOLERANCE, scale: float = 1.0
) -> None:
    """Checks a recomputed output against the recorded one; see `require_trial` for arguments and errors.

    The tolerance is relative to the largest of 1, the record, and the `scale` of what it was computed from.
    """
    largest = max(1.0, scale, float(np.abs(record).max(initial=0.0)))
    limit = tolerance * largest
    difference = np.inf
    if output.shape == record.shape:
        difference = float(np.abs(output.astype(np.float64) - record).max(initial=0.0))
    if not difference <= limit:
        why = (
            "the weights are not those that were exported, or this machine's numpy computes wrongly: export the bundle "
            "again, or reinstall numpy"
        )
        if largest > RUNAWAY:
            why = (
                f"numbers grow to {largest:.1e} there, so that rounding decides: the agent runs away when it adapts. "
                "Train it longer, or with a smaller step of adaptation"
            )
        raise BundleError(
            f"{where}: expected golden '{name}' within {limit:.1e} of the record, got a difference of "
            f"{difference:.3g}; {why}"
        )
