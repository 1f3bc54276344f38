"""What an agent computes while it acts on one robot, as graphs: for ONNX and for controllers in C++.

    policy        observation, noise and what the agent remembers -> latent, and what it remembers then
    decoder       observation, latent -> action within the robot's limits; at every control step
    end_episode   for a belief: the last transition of an episode -> what the agent remembers then
    eye           for a policy that sees: the newest pictures, one behind the other at each pixel -> the last numbers of
                  the observation

Adaptation is no part of it: inference over episodes and steps of gradients run between episodes, in Python, and give an
adapted bundle, whose path is written again. Noise of zeros (normal) or of one half (uniform) takes the mean of the
policy, or its likeliest choice.

Axes: O observation, A action, Z latent, E embedding of the task, C choices, K sub-policies.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from ..robots.spec import ImageSpec
from .agents.maesn import MaesnSettings
from .agents.mlsh import MlshSettings
from .agents.pearl import PearlSettings
from .agents.pearl_ft import PearlFtSettings
from .agents.rl2 import Rl2Settings
from .agents.simpl import SimplSettings
from .agents.varibad import LARGEST_INPUT, LEAST_VARIANCE, VaribadSettings
from .bundle import Bundle
from .eye import STRIDE, BundledEye
from .graph import Graph
from .networks import Activation, Array, Weights
from .policies import LOG_SCALE_LOW, MIN_SCALE
from .policy_settings import PolicySettings
from .runtime_agent import PARAMS, Arrays, RandomNoise
from .spaces import split_prefix

NEXT = ".next"
"""An output of this name is the input of the name before it at the next decision."""
QUIET = {"normal": 0.0, "uniform": 0.5}
"""Noise that takes the middle of a distribution."""


@dataclass(frozen=True, slots=True)
class EpisodeInput:
    """An input that is drawn at the begin of each episode: mean + scale * N(0, 1)."""

    mean: Array
    scale: Array


@dataclass(slots=True)
class ActingPath:
    """The graphs of one bundle, and what their inputs are."""

    policy: Graph
    decoder: Graph
    end_episode: Graph | None = None
    eye: Graph | None = None
    noise: dict[str, Literal["normal", "uniform"]] = field(default_factory=dict)
    """Distribution of each input that is drawn anew for each decision."""
    state: dict[str, Array] = field(default_factory=dict)
    """Inputs that the output `<name>.next` of the decision before gives, and what they are at first."""
    forgotten: tuple[str, ...] = ()
    """Of these, those that begin anew with each episode."""
    episode: dict[str, EpisodeInput] = field(default_factory=dict)
    """Inputs that hold for an episode."""
    reward: float = 0.0
    """What the input `reward` is at the first decision of all."""

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """All of them."""
        return tuple(graph for graph in (self.policy, self.decoder, self.end_episode, self.eye) if graph is not None)


def make_acting_path(bundle: Bundle) -> ActingPath:
    """The graphs of a bundle, adapted or not."""
    maker = _Maker(bundle)
    BUILDERS.get(bundle.contract.kind, _build_plain)(maker)
    if bundle.eye is not None and bundle.contract.image is not None:
        maker.path.eye = _build_eye(bundle.eye, bundle.contract.image)
    return maker.path


def _build_eye(eye: BundledEye, image: ImageSpec) -> Graph:
    """See `eye.compute_features`, of one stack of pictures (height, width, F channels)."""
    graph, weights = Graph("eye"), eye.weights
    height, width, _ = image.shape
    value = graph.input("pictures", height * width * eye.settings.frames * image.channels)
    value = graph.binary("sub", graph.mul(value, graph.constant([1.0 / 127.5])), graph.constant([1.0]))
    for index in range(len(eye.settings.channels)):
        name = f"eye.convolutions.{index}"
        value = graph.convolve(value, weights[f"{name}.weight"], weights[f"{name}.bias"], height, width)
        value = graph.unary("relu", value)
        height, width = height // STRIDE, width // STRIDE
    head = weights["eye.head.weight"].reshape(eye.settings.features, -1, height, width)  # as torch has it
    flat = head.transpose(0, 2, 3, 1).reshape(eye.settings.features, -1)
    graph.output("feature", graph.unary("tanh", graph.linear(value, flat, weights["eye.head.bias"])))
    return graph


class _Maker:
    """Builds a path; the methods are those of `RowSpace` and `distribution.py` as operations."""

    def __init__(self, bundle: Bundle) -> None:
        self.contract, self.weights, self.task = bundle.contract, bundle.weights, bundle.task
        self.settings: Any = bundle.kind.read(bundle.contract)
        agent = bundle.make_agent(RandomNoise(np.random.default_rng(0)))
        agent.begin_task(1)
        self.agent = agent
        self.state: Arrays = {name: value[0] for name, value in agent.state().items()}
        self.plain = bundle.kind.read_policy(bundle.contract)
        self.choices = len(self.contract.robot.choices) if self.contract.space.name == "choice" else 0
        self.path = ActingPath(Graph("policy"), Graph("decoder"))
        self.graph = self.path.policy
        self._build_decoder(self.path.decoder)

    def _build_decoder(self, graph: Graph) -> None:
        space, robot = self.contract.space, self.contract.robot
        latent = graph.input("latent", space.latent_dim)
        if space.name == "skill":
            scaled = self.normalise(self.observe(graph), graph)
            latent = graph.mlp(graph.concat(scaled, latent), self.weights, "space.decoder", "relu")
        elif space.name == "unit":
            low, high = robot.action.low, robot.action.high
            middle, half = (low + high) / np.float32(2.0), (high - low) / np.float32(2.0)
            latent = graph.add(graph.constant(middle), graph.mul(latent, graph.constant(half)))
        graph.output("action", graph.clip(latent, robot.action.inner_low, robot.action.inner_high))

    def observe(self, graph: Graph | None = None) -> str:
        """The observation, raw, (O,)."""
        return (graph or self.graph).input("observation", self.contract.observation_dim)

    def normalise(self, value: str, graph: Graph | None = None) -> str:
        """See `RowSpace.normalise`."""
        graph = graph or self.graph
        if "space.mean" not in self.weights:
            return value
        centred = graph.binary("sub", value, graph.constant(self.weights["space.mean"]))
        return graph.binary("div", centred, graph.constant(self.weights["space.std"]))

    def prior(self) -> tuple[str, str] | None:
        """Mean and scale of the skill prior, (Z,) each; None where it is N(0, I)."""
        if self.contract.space.name != "skill":
            return None
        output = self.graph.mlp(self.normalise(self.observe()), self.weights, "space.prior", "relu")
        loc, log_scale = self.graph.split(output, 2)
        return loc, self.scale_from_log(log_scale)

    def scale_from_log(self, value: str) -> str:
        """See `networks.scale_from_log`."""
        return self.graph.unary("exp", self.graph.clip(value, [-3.0], [2.0]))

    def to_latent(self, choice: str) -> str:
        """See `RowSpace.to_latent`; of an index for choices."""
        prior = self.prior()
        return choice if prior is None else self.graph.add(prior[0], self.graph.mul(prior[1], choice))

    def draw_noise(self, name: str, kind: Literal["normal", "uniform"], width: int) -> str:
        """Noise of one decision."""
        self.path.noise[name] = kind
        return self.graph.input(name, width)

    def sample(self, loc: str, scale: str, *, greedy: bool) -> str:
        """Loc + scale * noise, or loc."""
        if greedy:
            return loc
        noise = self.draw_noise("noise", "normal", self.graph.widths[loc])
        return self.graph.add(loc, self.graph.mul(scale, noise))

    def sample_choice(self, logits: str, *, greedy: bool, name: str = "noise") -> str:
        """1 at the choice, 0 elsewhere, (C,); see `distribution.draw_choice`."""
        graph = self.graph
        if not greedy:
            noise = self.draw_noise(name, "uniform", graph.widths[logits])
            logits = self.add_clock(logits, noise)
        return graph.unary("argmax", logits)

    def add_clock(self, logits: str, noise: str) -> str:
        """Logits - log(-log(1 - noise)); a noise of 0 is moved to the smallest that float32 can tell from it."""
        graph = self.graph
        left = graph.binary("sub", graph.constant([1.0]), graph.clip(noise, [1e-7], [1.0]))
        clock = graph.binary("sub", graph.constant([0.0]), graph.unary("log", left))
        return graph.binary("sub", logits, graph.unary("log", clock))

    def draw(self, output: str, *, greedy: bool) -> str:
        """The choice as networks read it, (C,) one-hot or (Z,); see `distribution.draw`."""
        if self.choices:
            return self.sample_choice(output, greedy=greedy)
        loc, log_scale = self.graph.split(output, 2)
        return self.sample(loc, self.scale_from_log(log_scale), greedy=greedy)

    def give(self, choice: str) -> None:
        """The latent of a choice as networks read it."""
        self.graph.output("latent", self.to_latent(self.graph.index(choice) if self.choices else choice))

    def act_plain(self, settings: PolicySettings, params: Weights, inputs: str, log_scale: Array | None = None) -> None:
        """A policy that is a multilayer perceptron; see `policies.choose_rows`."""
        graph, greedy = self.graph, settings.greedy
        output = graph.mlp(inputs, params, "", settings.activation)
        if settings.scale == "residual":
            graph.output("latent", self.act_residual(output, greedy=greedy))
        elif self.choices or settings.scale == "output":
            self.give(self.draw(output, greedy=greedy))
        else:
            scale = np.exp(np.maximum(params["log_scale"] if log_scale is None else log_scale, LOG_SCALE_LOW))
            self.give(self.sample(output, graph.constant(scale), greedy=greedy))

    def act_residual(self, output: str, *, greedy: bool) -> str:
        """See `policies.compute_residual`."""
        graph, prior = self.graph, self.prior()
        shift, scale_shift = graph.split(output, 2)
        if prior is None:
            one = np.ones(graph.widths[shift], np.float32)
            prior = (graph.constant(np.zeros_like(one)), graph.constant(one))
        loc, scale = prior
        # log(exp(x) - 1) as x + log(1 - exp(-x)): the prior's scale is at least exp(-3)
        decay = graph.unary("exp", graph.binary("sub", graph.constant([0.0]), scale))
        inverse = graph.add(scale, graph.unary("log", graph.binary("sub", graph.constant([1.0]), decay)))
        spread = graph.unary("softplus", graph.add(inverse, scale_shift))
        return self.sample(graph.add(loc, shift), graph.add(graph.constant([MIN_SCALE]), spread), greedy=greedy)

    def remember(self, name: str, initial: ArrayLike, graph: Graph | None = None) -> str:
        """An input that the output `<name>.next` gives."""
        self.path.state[name] = np.asarray(initial, np.float32).reshape(-1)
        return (graph or self.graph).input(name, self.path.state[name].size)

    def embed(self, name: str, mean: ArrayLike, scale: ArrayLike) -> str:
        """An input that is drawn for each episode."""
        self.path.episode[name] = EpisodeInput(np.asarray(mean, np.float32), np.asarray(scale, np.float32))
        return self.graph.input(name, np.size(mean))

    def gru(self, graph: Graph, name: str, value: str, hidden: str) -> str:
        """See `recurrent_cells.step_gru`."""
        rates = [
            graph.linear(source, self.weights[f"{name}.weight_{part}_l0"], self.weights[f"{name}.bias_{part}_l0"])
            for source, part in ((value, "ih"), (hidden, "hh"))
        ]
        (reset_in, update_in, new_in), (reset_hidden, update_hidden, new_hidden) = (graph.split(x, 3) for x in rates)
        reset = graph.unary("sigmoid", graph.add(reset_in, reset_hidden))
        update = graph.unary("sigmoid", graph.add(update_in, update_hidden))
        new = graph.unary("tanh", graph.add(new_in, graph.mul(reset, new_hidden)))
        stay = graph.binary("sub", graph.constant([1.0]), update)
        return graph.add(graph.mul(stay, new), graph.mul(update, hidden))

    def linear(self, graph: Graph, name: str, value: str) -> str:
        """The layer of this name."""
        return graph.linear(value, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])


def _build_plain(maker: _Maker) -> None:
    """Kinds that act by a policy of the task, which is a constant here."""
    assert maker.plain is not None, "kinds without a plain policy have builders of their own"
    params = {name: value[0] for name, value in maker.agent.params.items()}  # type: ignore[attr-defined]
    maker.act_plain(maker.plain, params, maker.normalise(maker.observe()))


def _build_simpl(maker: _Maker) -> None:
    settings: SimplSettings = maker.settings
    if maker.state["settled"] or maker.state["kept.tuned"]:
        _build_plain(maker)
        return
    size = settings.embedding_dim
    embedding = maker.embed("task_embedding", np.zeros(size), np.ones(size))
    inputs = maker.graph.concat(maker.normalise(maker.observe()), embedding)
    maker.act_plain(settings.policy, split_prefix(maker.weights, "policy."), inputs)


def _build_pearl(maker: _Maker, settings: PearlSettings | None = None) -> None:
    settings = settings or maker.settings
    size, state = settings.embedding_dim, maker.state
    mean, scale = np.zeros(size), np.ones(size)
    if state["episodes"] >= settings.prior_episodes:
        known = np.where(state["precision"] > 0.0, state["precision"], 1.0)
        mean, scale = state["weighted"] / known, 1.0 / np.sqrt(known)
    embedding = maker.embed("task_embedding", mean, scale)
    inputs = maker.graph.concat(maker.normalise(maker.observe()), embedding)
    output = maker.graph.mlp(inputs, maker.weights, "policy", "relu")
    maker.give(maker.draw(output, greedy=settings.greedy))


def _build_pearl_ft(maker: _Maker) -> None:
    settings: PearlFtSettings = maker.settings
    if any(name.startswith(PARAMS) for name in maker.state):
        _build_plain(maker)
    else:
        _build_pearl(maker, settings.pearl)


def _build_maesn(maker: _Maker) -> None:
    settings: MaesnSettings = maker.settings
    z = maker.embed("task_embedding", maker.state["mean"], np.exp(maker.state["log_scale"]))
    inputs = maker.graph.concat(maker.normalise(maker.observe()), z)
    maker.act_plain(settings.policy, split_prefix(maker.weights, "policy."), inputs)


def _build_mlsh(maker: _Maker) -> None:
    """A master's choice is held by a one-hot row and a countdown, both of which begin anew with each episode."""
    settings: MlshSettings = maker.settings
    graph, count = maker.graph, settings.sub_policies
    master = {name: value[0] for name, value in maker.agent.params.items()}  # type: ignore[attr-defined]
    scaled = maker.normalise(maker.observe())
    active = maker.remember("sub_policy", np.zeros(count))
    countdown = maker.remember("countdown", np.zeros(1))
    maker.path.forgotten = ("sub_policy", "countdown")
    logits = graph.mlp(scaled, master, "", settings.activation)
    chosen = maker.sample_choice(logits, greedy=False, name="master_noise")
    due = graph.binary("less", countdown, graph.constant([0.5]))
    active = graph.blend(due, chosen, active)
    held = graph.blend(due, graph.constant([float(settings.hold)]), countdown)
    graph.output(f"sub_policy{NEXT}", active)
    graph.output(f"countdown{NEXT}", graph.binary("sub", held, graph.constant([1.0])))
    members = split_prefix(maker.weights, "sub_policies.")
    rows = [
        graph.mlp(scaled, {name: value[index] for name, value in members.items()}, "", settings.activation)
        for index in range(count)
    ]
    width = graph.widths[rows[0]]
    all_rows = graph.concat(*rows)
    if maker.choices:
        noise = maker.draw_noise("noise", "uniform", count * width)
        output = graph.matmul(active, maker.add_clock(all_rows, noise), 1, count, width)
        maker.give(graph.unary("argmax", output))
        return
    scale = np.exp(np.maximum(members["log_scale"], LOG_SCALE_LOW)).reshape(-1)
    drawn = maker.sample(all_rows, graph.constant(scale), greedy=False)
    maker.give(graph.matmul(active, drawn, 1, count, width))


def _build_rl2(maker: _Maker) -> None:
    settings: Rl2Settings = maker.settings
    graph, width = maker.graph, settings.hidden
    maker.path.reward = float(maker.state["reward"])
    memory = maker.remember("memory", maker.state["hidden"])
    before = maker.remember("previous_action", maker.state["action"])
    reward, first = graph.input("reward", 1), graph.input("first", 1)
    value = graph.concat(maker.normalise(maker.observe()), before, reward, first)
    hidden = maker.gru(graph, "gru", value, graph.slice(memory, 0, width))
    if settings.slots:
        count, content = settings.slots, settings.slot_content
        wrote = graph.mlp(value, maker.weights, "slots.write", "relu")
        address = graph.slice(memory, width, width + count)
        stored = graph.slice(memory, width + count, width + count * (1 + content))
        stored = graph.add(stored, graph.matmul(address, wrote, count, 1, content))
        now = graph.unary("softmax", maker.linear(graph, "slots.address", graph.concat(hidden, value)))
        read = graph.matmul(now, stored, 1, count, content)
        output = graph.mlp(graph.concat(hidden, read), maker.weights, "policy_head", "relu")
        memory = graph.concat(hidden, now, stored)
    else:
        output, memory = maker.linear(graph, "policy_head", hidden), hidden
    choice = maker.draw(output, greedy=settings.greedy)
    graph.output(f"memory{NEXT}", memory)
    graph.output(f"previous_action{NEXT}", choice)
    maker.give(choice)


def _build_varibad(maker: _Maker) -> None:
    settings: VaribadSettings = maker.settings
    graph = maker.graph
    before = np.asarray(maker.state["choice"], np.float32)
    if maker.choices:
        before = np.eye(maker.choices, dtype=np.float32)[int(before[0])]
    initial = {"memory": maker.state["hidden"], "previous_action": before}

    def consume(graph: Graph) -> tuple[str, str]:
        """Memory before and after the last transition."""
        memory, action = (maker.remember(name, value, graph) for name, value in initial.items())
        parts = {
            "action": action,
            "reward": graph.input("reward", 1),
            "observation": maker.normalise(maker.observe(graph), graph),
        }
        embedded = [maker.linear(graph, f"encoder.embed_{name}", value) for name, value in parts.items()]
        value = graph.unary("relu", graph.concat(*embedded))
        return memory, maker.gru(graph, "encoder.gru", value, memory)

    memory, after = consume(graph)
    first = graph.input("first", 1)
    memory = graph.blend(first, memory, after)
    belief = maker.linear(graph, "encoder.head", memory)
    value = graph.concat(maker.normalise(maker.observe()), belief)
    value = graph.binary("sub", value, graph.constant(maker.weights["input_scale.mean"]))
    spread = np.sqrt(np.maximum(maker.weights["input_scale.variance"], LEAST_VARIANCE))
    value = graph.clip(graph.binary("div", value, graph.constant(spread)), -LARGEST_INPUT, LARGEST_INPUT)
    if settings.boundaries:
        value = graph.concat(value, first)
    activation: Activation = "tanh"
    choice = maker.draw(graph.mlp(value, maker.weights, "policy", activation), greedy=settings.greedy)
    graph.output(f"memory{NEXT}", memory)
    graph.output(f"previous_action{NEXT}", choice)
    maker.give(choice)
    maker.path.end_episode = Graph("end_episode")
    _, after = consume(maker.path.end_episode)
    maker.path.end_episode.output(f"memory{NEXT}", after)


BUILDERS: Mapping[str, Callable[[_Maker], None]] = {
    "maesn": _build_maesn,
    "mlsh": _build_mlsh,
    "pearl": _build_pearl,
    "pearl-ft": _build_pearl_ft,
    "rl2": _build_rl2,
    "simpl": _build_simpl,
    "varibad": _build_varibad,
}
"""By kind; all others act by a plain policy."""
