"""An acting path as one file for the controller in C++: lines of text, then float32 numbers, little-endian.

    supple-acting-path 1 <FNV-1a of all that follows, 64 bit, hexadecimal>
    bundle <digest>
    period <seconds>          horizon <control steps of a latent>          reward <at the first decision>
    observation <unit> <name>
    picture <height> <width> <channels> <how many of them the eye sees>
    action <unit> <low> <high> <largest change per control period> <observation that it commands, or -1> <name>
    noise normal|uniform <input>       state <input> <width>       forget <input>       episode <input> <width>
    graph policy|decoder|end_episode|eye, then its lines, then end
        input <name> <width>
        constant <name> <rows> <columns>; a row of numbers has 0 columns
        op <operation> <output> <width> <count> <inputs> <count> <numbers>
        output <name> <value>
    data <count>

The numbers are in the order in which their lines stand: a state's first values, an episode input's mean and scale, the
constants.
"""

from __future__ import annotations

import numpy as np

from ...adapt.acting_path import ActingPath
from ...adapt.action_limits import ActionLimits
from ...adapt.contract import BundleContract
from ...adapt.graph import Graph
from ...adapt.networks import Array


def make_graph_file(path: ActingPath, contract: BundleContract, digest: str) -> bytes:
    """The content of the file.

    Raises:
        SpecError: An action axis of the robot has no limits.
    """
    robot, limits = contract.robot, ActionLimits.of(contract.robot)
    lines = [
        f"bundle {digest}",
        f"period {robot.control_period!r}",
        f"horizon {contract.space.horizon}",
        f"reward {path.reward!r}",
        *(f"observation {_word(axis.unit)} {axis.name}" for axis in robot.observation.axes),
    ]
    if contract.image is not None and contract.eye is not None:
        lines.append(f"picture {' '.join(map(str, contract.image.shape))} {contract.eye.frames}")
    for index, (axis, commanded) in enumerate(zip(robot.action.axes, robot.find_commanded(), strict=True)):
        numbers = [float(each[index]) for each in (limits.low, limits.high, limits.change)]
        place = -1 if commanded is None else robot.observation.names.index(commanded)
        lines.append(f"action {_word(axis.unit)} {' '.join(map(repr, numbers))} {place} {axis.name}")
    data: list[Array] = []
    lines += [f"noise {kind} {name}" for name, kind in path.noise.items()]
    for name, initial in path.state.items():
        lines.append(f"state {name} {initial.size}")
        data.append(initial)
    lines += [f"forget {name}" for name in path.forgotten]
    for name, given in path.episode.items():
        lines.append(f"episode {name} {given.mean.size}")
        data += [given.mean, given.scale]
    for graph in path.graphs:
        lines += _list_graph(graph, data)
    numbers_ = np.concatenate([part.reshape(-1) for part in data]).astype("<f4")
    return seal("\n".join([*lines, f"data {numbers_.size}", ""]).encode() + numbers_.tobytes())


def seal(content: bytes) -> bytes:
    """The file of this content: its first line tells damage."""
    value = 0xCBF29CE484222325
    for byte in content:
        value = (value ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
    return f"supple-acting-path 1 {value:x}\n".encode() + content


def _word(unit: str) -> str:
    """A unit as one word."""
    return unit.replace(" ", "_") or "1"


def _list_graph(graph: Graph, data: list[Array]) -> list[str]:
    lines = [f"graph {graph.name}"]
    lines += [f"input {name} {width}" for name, width in graph.inputs.items()]
    for name, value in graph.constants.items():
        lines.append(f"constant {name} {value.shape[0]} {value.shape[1] if value.ndim == 2 else 0}")
        data.append(value)
    for op in graph.ops:
        words = [op.name, op.output, graph.widths[op.output], len(op.inputs), *op.inputs, len(op.numbers), *op.numbers]
        lines.append("op " + " ".join(map(str, words)))
    return [*lines, *(f"output {name} {value}" for name, value in graph.outputs.items()), "end"]
