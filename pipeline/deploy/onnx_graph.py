"""Graphs of an acting path as ONNX models, written node by node from the bundle's weights, and run by ONNX Runtime.

Every input and output is float32 of shape (1, n). The operations are of opset 17: ONNX
Runtime 1.12 and later.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from ...adapt.acting_path import ActingPath
from ...adapt.graph import Graph, Op
from ...adapt.networks import Array

OPSET, IR_VERSION = 17, 8
NAMES = {
    name: name.title()
    for name in ("relu", "tanh", "sigmoid", "exp", "log", "softplus", "add", "sub", "mul", "div", "min", "max")
}
"""Operations that are one node without attributes."""


class _Nodes:
    """Nodes and initializers of one graph."""

    def __init__(self, graph: Graph) -> None:
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        for name, value in graph.constants.items():
            self.add_initializer(name, value if value.ndim == 2 else value[None])
        for op in graph.ops:
            self.add(op, graph)
        for name, source in graph.outputs.items():
            self.node("Identity", (source,), f"out.{name}")

    def add_initializer(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self.initializers.setdefault(name, numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def numbers(self, *values: int) -> str:
        """A list of whole numbers."""
        return self.add_initializer("i" + "_".join(map(str, values)), np.array(values, np.int64))

    def node(self, kind: str, inputs: tuple[str, ...], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def add(self, op: Op, graph: Graph) -> None:
        """The nodes of one operation."""
        inputs, output, numbers = op.inputs, op.output, op.numbers
        if op.name in NAMES:
            self.node(NAMES[op.name], inputs, output)
        elif op.name == "linear":
            self.node("Gemm", inputs, output, transB=1)
        elif op.name == "softmax":
            self.node("Softmax", inputs, output, axis=1)
        elif op.name == "concat":
            self.node("Concat", inputs, output, axis=1)
        elif op.name == "slice":
            begin, end = (self.numbers(number) for number in numbers)
            self.node("Slice", (*inputs, begin, end, self.numbers(1)), output)
        elif op.name == "matmul":
            m, k, n = numbers
            first = self.node("Reshape", (inputs[0], self.numbers(m, k)), f"{output}.first")
            second = self.node("Reshape", (inputs[1], self.numbers(k, n)), f"{output}.second")
            product = self.node("MatMul", (first, second), f"{output}.product")
            self.node("Reshape", (product, self.numbers(1, m * n)), output)
        elif op.name == "patches":
            rim = self.add_initializer("rim", np.zeros((1, 1), np.float32))
            rimmed = self.node("Concat", (inputs[0], rim), f"{output}.rimmed", axis=1)
            where = self.add_initializer(f"{output}.where", list_patches(*numbers))
            self.node("Gather", (rimmed, where), output, axis=1)
        elif op.name == "less":
            self.node("Cast", (self.node("Less", inputs, f"{output}.less"),), output, to=TensorProto.FLOAT)
        elif op.name == "argmax":
            index = self.node("ArgMax", inputs, f"{output}.index", axis=1, keepdims=1)
            places = self.numbers(*range(graph.widths[output]))
            here = self.node("Equal", (index, places), f"{output}.here")
            self.node("Cast", (here,), output, to=TensorProto.FLOAT)
        else:
            raise AssertionError(f"operation {op.name} is none of graph.py")


def list_patches(height: int, width: int, channels: int) -> np.ndarray[Any, Any]:
    """Place of each number of `patches` in the picture (height, width, channels); one behind it is the rim."""
    places = np.arange(height * width * channels, dtype=np.int64).reshape(height, width, channels)
    rimmed = np.pad(places, ((1, 1), (1, 1), (0, 0)), constant_values=places.size)
    patches = np.lib.stride_tricks.sliding_window_view(rimmed, (4, 4), axis=(0, 1))[::2, ::2]
    flat: np.ndarray[Any, Any] = patches[: height // 2, : width // 2].transpose(0, 1, 3, 4, 2).reshape(-1)
    return flat


def make_onnx(graph: Graph, facts: Mapping[str, str]) -> bytes:
    """The ONNX model of a graph, checked by `onnx.checker`.

    Args:
        graph: Of an acting path.
        facts: What the model says of itself.
    """
    nodes = _Nodes(graph)

    def describe(name: str, width: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, width])

    # names of inputs never meet those of values (v0, c0), and outputs are renamed by an identity
    outputs = {f"out.{name}": name for name in graph.outputs}
    for node in nodes.nodes:
        node.output[:] = [outputs.get(name, name) for name in node.output]
    made = helper.make_graph(
        nodes.nodes,
        graph.name,
        [describe(name, width) for name, width in graph.inputs.items()],
        [describe(name, graph.widths[value]) for name, value in graph.outputs.items()],
        list(nodes.initializers.values()),
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="supple")
    model.ir_version = IR_VERSION
    helper.set_model_props(model, dict(facts))
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def make_session(content: bytes) -> onnxruntime.InferenceSession:
    """A session on one thread: such small networks lose by more."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


class OnnxPath:
    """The graphs of an acting path in ONNX Runtime; see `parity.PathRuntime`."""

    def __init__(self, path: ActingPath, models: Mapping[str, bytes]) -> None:
        """Makes a session of each model."""
        self._sessions = {graph.name: (make_session(models[graph.name]), list(graph.outputs)) for graph in path.graphs}

    def run(self, name: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """See `parity.PathRuntime.run`."""
        session, names = self._sessions[name]
        found = session.run(names, {key: value.reshape(1, -1) for key, value in inputs.items()})
        return {key: np.asarray(value, np.float32)[0] for key, value in zip(names, found, strict=True)}
