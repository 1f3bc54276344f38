"""How long a control step takes by each runtime of a bundle, and how well a loop of 100 Hz keeps its deadlines.

A step is `decoder`, and every H-th `policy` before it; the robot has the axes of the maze. All take turns, so that a
busy machine slows all. `numpy` is `AgentSession.act` with its checks and limits, the others run the graphs alone; torch
runs them operation by operation. `low` and `high` bound the middle 95 % of the rounds. The loop takes turns with one
that does nothing, `nothing`.

    OMP_NUM_THREADS=1 python benchmarks/bench_act.py
    OMP_NUM_THREADS=1 python benchmarks/bench_act.py --seconds 600 --picture docs/results/act-lateness.svg
"""

import argparse
import gc
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from recording import print_records
from torch.nn.functional import linear, softplus

from supple.adapt.acting_path import NEXT, QUIET, ActingPath, make_acting_path
from supple.adapt.agents.kinds import KINDS
from supple.adapt.bundle import Bundle
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.graph import Graph
from supple.adapt.session import AgentSession, make_middle
from supple.adapt.spaces import SpaceSettings
from supple.pipeline.deploy.onnx_graph import OnnxPath, make_onnx
from supple.robots.cadence import EDGES_MS, Cadence, CadenceReport
from supple.robots.spec import ArraySpec, Axis, RobotSpec

COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_act.py"
ROUNDS, STEPS = 20, 500
WIDE = [256, 256, 256]
MLP: dict[str, Any] = {"hidden": WIDE, "greedy": False}
BELIEF: dict[str, Any] = {"hidden": 128, "latent": 5, "embedding": 16, "policy_hidden": [128, 128], "boundaries": True}
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "flat": ("policy", "unit", {**MLP, "activation": "tanh", "scale": "parameter"}),
    "skill": ("policy", "skill", {**MLP, "activation": "relu", "scale": "residual"}),
    "recurrent": ("rl2", "unit", {"hidden": 256, "greedy": False, "slots": 0, "slot_content": 1}),
    "belief": ("varibad", "unit", {**BELIEF, "greedy": False}),
}
SPACES = {
    "unit": SpaceSettings(name="unit", latent_dim=2),
    "skill": SpaceSettings(
        name="skill", horizon=10, latent_dim=10, prior=(4, 128, 128, 128, 20), decoder=(14, 128, 128, 128, 2)
    ),
}
BINARY: dict[str, Callable[..., torch.Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "div": torch.div,
    "min": torch.minimum,
    "max": torch.maximum,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "exp": torch.exp,
    "log": torch.log,
    "relu": torch.relu,
    "softplus": softplus,
    "linear": linear,
    "less": lambda a, b: (a < b).float(),
}


def make_bundle(case: str) -> Bundle:
    """A bundle of that kind with random weights."""
    kind, space, learner = CASES[case]
    places = tuple(Axis(name, "cell", -1.0, 21.0) for name in "xy")
    speeds = tuple(Axis(name, "cell/s", -np.inf, np.inf) for name in ("vx", "vy"))
    robot = RobotSpec(
        "maze",
        ArraySpec("observation", places + speeds),
        ArraySpec("action", tuple(Axis(name, "N", -1.0, 1.0) for name in ("fx", "fy"))),
        ArraySpec("goal", places),
        control_period=0.01,
        episode_steps=STEPS,
    )
    contract = BundleContract(
        kind=kind, robot=robot, space=SPACES[space], learner=learner, budget=Budget(episodes=1), provenance={}
    )
    rng = np.random.default_rng(0)
    shapes = KINDS[kind].weight_shapes(contract) | contract.space.weight_shapes(4)
    weights = {
        name: (rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1)).astype(np.float32)
        for name, shape in shapes.items()
    }
    for name in weights:
        if name == "space.std" or name.endswith("variance"):
            weights[name] = np.ones_like(weights[name])
    return Bundle(contract, weights, {}, "")


class TorchPath:
    """The graphs, operation by operation."""

    def __init__(self, path: ActingPath) -> None:
        self._graphs = {graph.name: graph for graph in path.graphs}
        self._constants = {
            graph.name: {name: torch.tensor(value) for name, value in graph.constants.items()} for graph in path.graphs
        }

    @torch.inference_mode()
    def run(self, name: str, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """The outputs by name."""
        graph: Graph = self._graphs[name]
        values = self._constants[name] | {key: torch.from_numpy(value) for key, value in inputs.items()}
        for op in graph.ops:
            given = [values[one] for one in op.inputs]
            if op.name == "concat":
                values[op.output] = torch.cat(given)
            elif op.name == "slice":
                values[op.output] = given[0][op.numbers[0] : op.numbers[1]]
            else:
                values[op.output] = BINARY[op.name](*given)
        return {key: values[value].numpy() for key, value in graph.outputs.items()}


def make_step(path: ActingPath, runtime: Any, horizon: int, seen: NDArray[np.float32]) -> Callable[[int], object]:
    """A control step by the graphs, given its number in the episode."""
    given = {**path.state, "observation": seen, "reward": np.zeros(1, np.float32), "first": np.ones(1, np.float32)}
    given |= {name: np.full(path.policy.inputs[name], QUIET[kind], np.float32) for name, kind in path.noise.items()}
    given["latent"] = np.zeros(path.decoder.inputs["latent"], np.float32)

    def step(index: int) -> object:
        if index % horizon == 0:
            given["first"][:] = index == 0
            found = runtime.run("policy", {name: given[name] for name in path.policy.inputs})
            given.update({name.removesuffix(NEXT): value for name, value in found.items()})
        return runtime.run("decoder", {name: given[name] for name in path.decoder.inputs})

    return step


def measure(step: Callable[[int], object]) -> NDArray[np.float64]:
    """Microseconds of each step of an episode."""
    clock, times = time.perf_counter_ns, np.empty(STEPS)
    for index in range(STEPS):
        began = clock()
        step(index)
        times[index] = clock() - began
    return times / 1e3


def measure_case(case: str) -> list[dict[str, Any]]:
    """Records of one kind of policy."""
    bundle = make_bundle(case)
    path, session = make_acting_path(bundle), AgentSession(bundle)
    seen, horizon = make_middle(bundle.contract.robot.observation), bundle.contract.space.horizon
    onnx = OnnxPath(path, {graph.name: make_onnx(graph, {}) for graph in path.graphs})
    steps = {
        "numpy": lambda index: session.act(seen),
        "onnxruntime": make_step(path, onnx, horizon, seen),
        "torch": make_step(path, TorchPath(path), horizon, seen),
    }
    rounds: dict[str, list[NDArray[np.float64]]] = {name: [] for name in steps}
    for turn in range(ROUNDS + 1):
        for name, step in steps.items():
            session.reset(task=True)
            times = measure(step)
            if turn:  # the first one warms up
                rounds[name].append(times)
    records = []
    for name, found in rounds.items():
        for share in (50.0, 99.0, 99.9):
            each = [np.percentile(times, share) for times in found]
            low, high = np.percentile(each, [2.5, 97.5])
            middle = float(np.percentile(np.concatenate(found), share))
            numbers = {"mean": round(middle, 1), "low": round(float(low), 1), "high": round(float(high), 1)}
            metric = f"act_p{share:g}_us".replace(".", "_")
            records.append({"method": name, "metric": metric, "at": {"policy": case}, "n": ROUNDS * STEPS, **numbers})
    return records


def run_loop(seconds: float) -> dict[str, CadenceReport]:
    """A loop of 100 Hz with the policy over skills, as `loop.py` of a deployed folder runs it, and one beside it.

    The other one does nothing at all: what it is late, the machine is. Their deadlines alternate.
    """
    bundle = make_bundle("skill")
    session, seen = AgentSession(bundle), make_middle(bundle.contract.robot.observation)
    session.reset(task=True)
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        period = bundle.contract.robot.control_period
        clock = Cadence(period / 2.0)
        acting, nothing = clock.report, CadenceReport()
        for _ in range(round(seconds / period)):
            if session.steps == STEPS:
                session.reset()
            session.act(seen)
            clock.report = acting
            clock.wait()
            clock.report = nothing
            clock.wait()
    finally:
        gc.enable()
        gc.unfreeze()
    return {"numpy": acting, "nothing": nothing}


def draw(report: CadenceReport, path: str) -> None:
    """The histogram of lateness."""
    figure = Figure((7.5, 3.0), layout="constrained")
    axes = figure.subplots()
    labels = [f"<= {edge:g}" for edge in EDGES_MS] + [f"> {EDGES_MS[-1]:g}"]
    shares = 100.0 * np.array(report.lateness) / report.periods
    bars = axes.bar(labels, shares)
    axes.bar_label(bars, [f"{share:.3g} %" if share else "" for share in shares], fontsize=7)
    axes.set(xlabel="ms after the deadline", ylabel="% of the periods", ylim=(0, 110))
    axes.set_title(f"{report.periods} periods at 100 Hz, worst {report.worst_ms:.1f} ms", fontsize=9)
    figure.savefig(path)


def main() -> None:
    """Measures everything and prints the records."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--picture")
    given = parser.parse_args()
    torch.set_num_threads(1)
    began = time.perf_counter()
    records = [record for case in CASES for record in measure_case(case)]
    reports = run_loop(given.seconds)
    for method, report in reports.items():
        common = {"method": method, "at": {"loop": "100 Hz"}, "n": report.periods}
        for metric, value in (
            ("rate_hz", report.rate),
            ("periods more than 5 ms late", sum(report.lateness[EDGES_MS.index(5.0) + 1 :])),
            ("worst_lateness_ms", report.worst_ms),
        ):
            records.append({**common, "metric": metric, "mean": round(value, 3)})
    if given.picture:
        draw(reports["numpy"], given.picture)
    print_records("act", " ".join([COMMAND, *sys.argv[1:]]), began, records)


if __name__ == "__main__":
    main()
