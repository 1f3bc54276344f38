"""Whether the graphs of an acting path act as the bundle's agent does: the same noise, episode after episode.

The graphs keep their own memory from decision to decision, as on a robot, so that errors would add up. What the agent
learns from whole episodes is no part of the path: of these, only agents with a memory are told.

Axes: E episodes, K decisions, O observation.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np

from ...adapt.acting_path import NEXT, QUIET, ActingPath
from ...adapt.bundle import Bundle
from ...adapt.eye import compute_features
from ...adapt.golden_trial import GOLDEN_TOLERANCE, make_trial_inputs
from ...adapt.networks import Array
from ...adapt.runtime_agent import RandomNoise, RowEpisodes, SeenRows
from ...errors import BundleError

ROUNDS = 8
"""Trials with random inputs, each as long as a golden trial."""


class PathRuntime(Protocol):
    """What runs the graphs: ONNX Runtime, or a controller in C++."""

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs of a graph by name, each (n,).

        Args:
            name: Of the graph.
            inputs: By name, each (n,).
        """
        ...


class Call(NamedTuple):
    """One run of a graph, and what the bundle's agent came to."""

    output: str
    """`latent`, `action` or `feature`."""
    expected: Array
    """Of the bundle's agent."""
    found: Array
    """Of the graph."""


class _TappedNoise(RandomNoise):
    """Keeps what was drawn."""

    def __init__(self, seed: int) -> None:
        super().__init__(np.random.default_rng(seed))
        self.drawn: list[Array] = []

    def normal(self, shape: tuple[int, ...]) -> Array:
        return self._keep(super().normal(shape))

    def uniform(self, shape: tuple[int, ...]) -> Array:
        return self._keep(super().uniform(shape))

    def _keep(self, drawn: Array) -> Array:
        self.drawn.append(drawn.reshape(-1))
        return drawn

    def take(self) -> list[Array]:
        drawn, self.drawn = self.drawn, []
        return drawn


Inputs = Mapping[str, Array]
"""Of a trial, see `golden_trial.py`."""


def list_trials(bundle: Bundle, seed: int = 1) -> Iterator[tuple[Literal["golden", "random"], Inputs]]:
    """The golden trial, and trials with other inputs."""
    if bundle.golden:
        yield "golden", bundle.golden
    rng = np.random.default_rng(seed)
    for _ in range(ROUNDS):
        yield "random", make_trial_inputs(bundle.contract, bundle.weights, rng)


def play_path(bundle: Bundle, path: ActingPath, runtime: PathRuntime, trial: Inputs, seed: int) -> Iterator[Call]:
    """Plays the first row of a trial with the agent and the graphs side by side; yields what both came to."""
    noise = _TappedNoise(seed)
    agent = bundle.make_agent(noise)
    agent.begin_task(1)
    noise.take()
    state = dict(path.state)
    last = np.full(1, path.reward, np.float32)
    for episode, length in enumerate(trial["in.length"][:, 0].astype(int)):
        observation, reward = trial["in.observation"][episode, 0], trial["in.reward"][episode, 0]
        agent.begin_episode()
        drawn = noise.take()
        state |= {name: path.state[name] for name in path.forgotten}
        held = {
            name: (given.mean + given.scale * part).astype(np.float32)
            for (name, given), part in zip(path.episode.items(), drawn, strict=True)
        }
        latents = np.zeros((1, trial["in.reward"].shape[-1], agent.space.latent_dim), np.float32)
        for decision in range(length):
            seen = observation[decision]
            row = SeenRows(seen[None], np.zeros(1, np.int64), last if decision else np.zeros(1, np.float32))
            latents[:, decision] = agent.act(row)
            drawn = noise.take()
            missing = len(path.noise) - len(drawn)  # the first one, where a choice of before is held
            given: dict[str, Any] = {
                name: drawn[index - missing] if index >= missing else np.full(path.policy.inputs[name], QUIET[kind])
                for index, (name, kind) in enumerate(path.noise.items())
            }
            given |= {**state, **held, "observation": seen, "reward": last}
            given["first"] = np.full(1, decision == 0, np.float32)
            found = runtime.run("policy", {name: np.asarray(given[name], np.float32) for name in path.policy.inputs})
            yield Call("latent", latents[0, decision], found["latent"])
            state |= {name.removesuffix(NEXT): value for name, value in found.items() if name.endswith(NEXT)}
            given = {"observation": seen, "latent": found["latent"]}
            found = runtime.run("decoder", {name: given[name] for name in path.decoder.inputs})
            yield Call("action", agent.space.hold(latents[:, decision])(seen[None])[0], found["action"])
            last = reward[decision : decision + 1]
        if "memory" in path.state:
            _end_episode(agent, trial, episode, latents)
        if path.end_episode is not None:
            given = {**state, "observation": observation[length], "reward": last}
            found = runtime.run("end_episode", {name: given[name] for name in path.end_episode.inputs})
            state |= {name.removesuffix(NEXT): value for name, value in found.items()}


def _end_episode(agent: Any, trial: Inputs, episode: int, latents: Array) -> None:
    length = trial["in.length"][episode, :1].astype(np.int64)
    agent.observe(
        RowEpisodes(
            observation=trial["in.observation"][episode, :1],
            latent=latents,
            reward=trial["in.reward"][episode, :1],
            length=length,
            terminated=trial["in.terminated"][episode, :1] > 0.0,
            steps=length * agent.space.horizon,
        )
    )


def look_at_pictures(bundle: Bundle, runtime: PathRuntime, seed: int = 1) -> Iterator[Call]:
    """Shows the eye of a policy that sees the golden pictures, and others; nothing where it has no eye."""
    eye = bundle.eye
    if eye is None:
        return
    golden = eye.golden["eye.image"]
    noise = np.random.default_rng(seed).integers(0, 256, golden.shape)
    for pictures in (golden.astype(np.uint8), noise.astype(np.uint8)):
        expected = compute_features(eye.weights, pictures)
        for picture, feature in zip(pictures, expected, strict=True):
            found = runtime.run("eye", {"pictures": picture.astype(np.float32).reshape(-1)})
            yield Call("feature", feature, found["feature"])


def measure_parity(bundle: Bundle, path: ActingPath, runtime: PathRuntime) -> dict[str, dict[str, float]]:
    """Largest absolute difference from the bundle's agent, by inputs (golden, random, pictures) and output.

    Raises:
        BundleError: One is beyond `GOLDEN_TOLERANCE`, relative to max(1, largest number).
    """
    largest: dict[str, dict[str, float]] = {}

    def compare(name: str, call: Call) -> None:
        difference = float(np.abs(call.found.astype(np.float64) - call.expected).max())
        limit = GOLDEN_TOLERANCE * max(1.0, float(np.abs(call.expected).max()))
        if not difference <= limit:
            raise BundleError(
                f"{call.output} on {name} inputs: expected that of the bundle's agent within {limit:.1e}, got "
                f"a difference of {difference:.3g}; this runtime computes otherwise: do not deploy it"
            )
        here = largest.setdefault(name, {})
        here[call.output] = max(here.get(call.output, 0.0), difference)

    with np.errstate(all="ignore"):
        for seed, (name, trial) in enumerate(list_trials(bundle)):
            for call in play_path(bundle, path, runtime, trial, seed):
                compare(name, call)
        for call in look_at_pictures(bundle, runtime):
            compare("pictures", call)
    return largest
