"""A network as a list of simple operations: what ONNX and the controllers in C++ are written from.

Every value is a row of numbers, (1, n). The operations are few, so that a controller in C++ can carry them out without
a library (`pipeline/deploy/controller/supple_policy.hpp`), and each is one or two nodes of ONNX
(`pipeline/deploy/onnx_graph.py`). Nothing here computes: the numbers are those of the agents.

    linear            W x + b, of a matrix (out, in) and a row (out,)
    matmul            of two rows that hold matrices (m, k) and (k, n)
    add sub mul div min max less    number by number; a row of one number goes with any; less is 1 or 0
    relu tanh sigmoid exp log softplus softmax
    argmax            1 at the first largest number, else 0
    concat, slice     rows behind each other, and a part of a row
    patches           of a picture (h, w, c): under each output pixel of a convolution of 4 x 4 at every second pixel,
                      with a rim of one zero, (h / 2, w / 2, 4, 4, c)
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from .networks import Activation, Array, Weights

UNARY = ("relu", "tanh", "sigmoid", "exp", "log", "softplus", "softmax", "argmax")
BINARY = ("add", "sub", "mul", "div", "min", "max", "less")


class Op(NamedTuple):
    """One operation."""

    name: str
    inputs: tuple[str, ...]
    """Names of inputs, constants or earlier outputs."""
    output: str
    numbers: tuple[int, ...] = ()
    """Of slice: begin and end; of matmul: m, k and n; of patches: h, w and c."""


@dataclass(slots=True)
class Graph:
    """Operations in their order, built by calling the methods; each gives the name of its result.

    Raises:
        ValueError: Widths do not fit each other; the weights of a verified bundle always do.
    """

    name: str
    inputs: dict[str, int] = field(default_factory=dict)
    """Width of each input, in the order in which they were first used."""
    outputs: dict[str, str] = field(default_factory=dict)
    """Name of the value of each output."""
    constants: dict[str, Array] = field(default_factory=dict)
    """Rows (n,) and matrices (out, in)."""
    ops: list[Op] = field(default_factory=list)
    widths: dict[str, int] = field(default_factory=dict)
    """Of every value."""
    _names: count[int] = field(default_factory=count)

    def input(self, name: str, width: int) -> str:
        """An input, perhaps used before."""
        self.widths[name] = self.inputs.setdefault(name, width)
        return name

    def constant(self, value: ArrayLike) -> str:
        """A row that does not change, (n,), or a matrix (out, in)."""
        array = np.asarray(value, np.float32)
        array = array.reshape(-1) if array.ndim < 2 else array
        for name, known in self.constants.items():
            if known.shape == array.shape and known.tobytes() == array.tobytes():
                return name
        name = f"c{next(self._names)}"
        self.constants[name] = array
        self.widths[name] = array.size
        return name

    def output(self, name: str, value: str) -> None:
        """Gives a value to whoever runs the graph."""
        self.outputs[name] = value

    def unary(self, name: str, value: str) -> str:
        """One of `UNARY`."""
        return self._append(Op(name, (value,), ""), self.widths[value])

    def binary(self, name: str, first: str, second: str) -> str:
        """One of `BINARY`."""
        widths = {self.widths[first], self.widths[second]}
        if len(widths - {1}) > 1:
            raise ValueError(f"{name} of widths {widths}")
        return self._append(Op(name, (first, second), ""), max(widths))

    def add(self, first: str, second: str) -> str:
        """The sum."""
        return self.binary("add", first, second)

    def mul(self, first: str, second: str) -> str:
        """The product, number by number."""
        return self.binary("mul", first, second)

    def clip(self, value: str, low: ArrayLike, high: ArrayLike) -> str:
        """At least `low`, at most `high`; left alone where both are infinite."""
        for name, limit in (("max", low), ("min", high)):
            if np.isfinite(limit).any():
                value = self.binary(name, value, self.constant(limit))
        return value

    def linear(self, value: str, weight: Array, bias: Array) -> str:
        """W x + b."""
        if weight.shape != (len(bias), self.widths[value]):
            raise ValueError(f"linear {weight.shape} of width {self.widths[value]}")
        return self._append(Op("linear", (value, self.constant(weight), self.constant(bias)), ""), len(bias))

    def mlp(self, value: str, weights: Weights, name: str, activation: Activation) -> str:
        """The network whose layers are `name.layers.{i}`, or `layers.{i}` without a name; see `compute_mlp`."""
        layers, index = f"{name}.layers" if name else "layers", 0
        while f"{layers}.{index}.weight" in weights:
            if index > 0:
                value = self.unary(activation, value)
            value = self.linear(value, weights[f"{layers}.{index}.weight"], weights[f"{layers}.{index}.bias"])
            index += 1
        return value

    def matmul(self, first: str, second: str, m: int, k: int, n: int) -> str:
        """The product of (m, k) and (k, n), as a row."""
        if (self.widths[first], self.widths[second]) != (m * k, k * n):
            raise ValueError(f"matmul {m, k, n} of widths {self.widths[first]}, {self.widths[second]}")
        return self._append(Op("matmul", (first, second), "", (m, k, n)), m * n)

    def convolve(self, value: str, weight: Array, bias: Array, height: int, width: int) -> str:
        """The convolution of a picture (height, width, channels) with (outputs, channels, 4, 4); see `eye.py`."""
        outputs, channels = weight.shape[:2]
        pixels, under = (height // 2) * (width // 2), weight[0].size
        if self.widths[value] != height * width * channels:
            raise ValueError(f"convolve {weight.shape} of {height, width} and width {self.widths[value]}")
        patches = self._append(Op("patches", (value,), "", (height, width, channels)), pixels * under)
        kernel = self.constant(weight.transpose(2, 3, 1, 0).reshape(-1))
        return self.add(self.matmul(patches, kernel, pixels, under, outputs), self.constant(np.tile(bias, pixels)))

    def concat(self, *values: str) -> str:
        """Rows behind each other."""
        return values[0] if len(values) == 1 else self._append(Op("concat", values, ""), sum(map(self._width, values)))

    def slice(self, value: str, begin: int, end: int) -> str:
        """Numbers `begin` to before `end`."""
        return self._append(Op("slice", (value,), "", (begin, end)), end - begin)

    def split(self, value: str, parts: int) -> list[str]:
        """So many equal parts."""
        width = self.widths[value] // parts
        return [self.slice(value, part * width, (part + 1) * width) for part in range(parts)]

    def blend(self, weight: str, first: str, second: str) -> str:
        """W first + (1 - w) second; w is 0 or 1, of one number."""
        other = self.binary("sub", self.constant([1.0]), weight)
        return self.add(self.mul(weight, first), self.mul(other, second))

    def index(self, one_hot: str) -> str:
        """Where the 1 stands, as one number."""
        width = self.widths[one_hot]
        return self.linear(one_hot, np.arange(width, dtype=np.float32)[None], np.zeros(1, np.float32))

    def _width(self, value: str) -> int:
        return self.widths[value]

    def _append(self, op: Op, width: int) -> str:
        for known in self.ops:
            if known._replace(output="") == op:
                return known.output
        name = f"v{next(self._names)}"
        self.ops.append(op._replace(output=name))
        self.widths[name] = width
        return name
