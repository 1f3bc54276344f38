"""How long a bundle takes to act on one observation: the numpy runtime, and eager torch at batch 1 in the same run.

Prints a JSON list of records (schema: `benchmarks/results/records.py`). Rounds of both are interleaved, so that a busy
machine slows both; `low` and `high` bound the middle 95 % of the rounds. Use one BLAS thread:

    OMP_NUM_THREADS=1 python benchmarks/bench_runtime.py
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from recording import print_records
from torch.nn.functional import softplus

from supple.adapt.agents.kinds import KINDS
from supple.adapt.bundle import Bundle, load_bundle
from supple.adapt.contract import Budget, BundleContract
from supple.adapt.host.plain_policy import write_plain_policy
from supple.adapt.numpy_policy import NumpyPolicy
from supple.adapt.spaces import SpaceSettings
from supple.robots.spec import ArraySpec, Axis, RobotSpec
from supple.skills.network import MLP

OBSERVATION, ACTION, SKILL, HORIZON = 4, 2, 10, 10
ROUNDS, ACTS = 40, 1000
PEER = "torch eager, batch 1, inference_mode, 1 thread"
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_runtime.py"


def make_bundle(folder: Path) -> Bundle:
    """A bundle with the shapes of the maze and random weights."""

    def axes(count: int, low: float, high: float) -> tuple[Axis, ...]:
        return tuple(Axis(f"axis{index}", "cell", low, high) for index in range(count))

    robot = RobotSpec(
        "maze",
        ArraySpec("observation", axes(OBSERVATION, -np.inf, np.inf)),
        ArraySpec("action", axes(ACTION, -1.0, 1.0)),
        ArraySpec("goal", axes(2, 0.0, 20.0)),
        control_period=0.01,
        episode_steps=2000,
    )
    space = SpaceSettings(
        name="skill",
        horizon=HORIZON,
        latent_dim=SKILL,
        prior=(OBSERVATION, 128, 128, 128, 2 * SKILL),
        decoder=(OBSERVATION + SKILL, 128, 128, 128, ACTION),
    )
    contract = BundleContract(
        kind="policy",
        robot=robot,
        space=space,
        learner={"hidden": [256, 256, 256], "activation": "relu", "greedy": False, "scale": "residual"},
        budget=Budget(episodes=1),
        provenance={},
    )
    kind, rng = KINDS["policy"], np.random.default_rng(0)
    shapes = kind.weight_shapes(contract) | space.weight_shapes(OBSERVATION)
    weights = {
        name: (rng.standard_normal(shape) * (shape[-1] ** -0.5 if len(shape) > 1 else 0.1)).astype(np.float32)
        for name, shape in shapes.items()
    }
    weights["space.std"] = np.ones(OBSERVATION, np.float32)
    params = {name.removeprefix("policy."): value for name, value in weights.items() if name.startswith("policy.")}
    return write_plain_policy(folder / "bundle", Bundle(contract, weights, {}, ""), params, {})


class TorchPolicy:
    """What a control loop would do with the trained modules: the same decisions, one row at a time."""

    def __init__(self, bundle: Bundle) -> None:
        self.networks = {}
        for name in ("prior", "decoder", "policy"):
            space = bundle.contract.space
            sizes = {"prior": space.prior, "decoder": space.decoder}.get(name, (OBSERVATION, 256, 256, 256, 2 * SKILL))
            network = MLP(sizes, generator=torch.Generator())
            prefix = "policy." if name == "policy" else f"space.{name}."
            state = {key[len(prefix) :]: torch.tensor(w) for key, w in bundle.weights.items() if key.startswith(prefix)}
            network.load_state_dict(state)
            self.networks[name] = network.eval()
        self.mean, self.std = (torch.tensor(bundle.weights[f"space.{name}"]) for name in ("mean", "std"))
        self.skill = torch.zeros(1, SKILL)
        self.generator = torch.Generator().manual_seed(0)
        self.countdown = 0

    @torch.inference_mode()
    def act(self, observation: NDArray[np.float32]) -> NDArray[np.float32]:
        """The action, shape (A,)."""
        normalised = (torch.from_numpy(observation)[None] - self.mean) / self.std
        if self.countdown == 0:
            loc, log_scale = self.networks["prior"](normalised).chunk(2, dim=-1)
            delta = self.networks["policy"](normalised)
            delta_loc, delta_scale = delta.chunk(2, dim=-1)
            scale = 0.001 + softplus(torch.log(torch.expm1(log_scale.clamp(-10.0, 2.0).exp())) + delta_scale)
            noise = torch.randn(loc.shape, generator=self.generator)
            self.skill = loc + delta_loc + scale * noise
            self.countdown = HORIZON
        self.countdown -= 1
        action = self.networks["decoder"](torch.cat((normalised, self.skill), dim=-1))
        numpy_action: NDArray[np.float32] = action.clamp(-1.0, 1.0)[0].numpy()
        return numpy_action


def measure(act: Callable[[NDArray[np.float32]], object], observation: NDArray[np.float32]) -> NDArray[np.float64]:
    """Microseconds of each call, shape (calls,)."""
    clock = time.perf_counter_ns
    times = np.empty(len(observation))
    for index, row in enumerate(observation):
        start = clock()
        act(row)
        times[index] = clock() - start
    return times / 1e3


def main() -> None:
    """Measures both and prints the records."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder))
        opening = time.perf_counter()
        policy = NumpyPolicy(load_bundle(Path(folder) / "bundle"))
        load_ms = (time.perf_counter() - opening) * 1e3
    policy.begin_episode(np.random.default_rng(0))
    peer = TorchPolicy(bundle)
    observation = np.random.default_rng(1).standard_normal((ACTS, OBSERVATION)).astype(np.float32)
    for act in (policy.act, peer.act):
        measure(act, observation)
    rounds = [(measure(policy.act, observation), measure(peer.act, observation)) for _ in range(ROUNDS)]
    times = np.array(rounds).transpose(1, 0, 2)  # (2, ROUNDS, ACTS); every HORIZON-th call picks a skill
    common = {
        "at": {"decoder": "-".join(str(size) for size in bundle.contract.space.decoder)},
        "n": ROUNDS * ACTS,
    }
    records = [common | {"method": "numpy", "metric": "load_and_verify_ms", "mean": round(load_ms, 2), "n": 1}]
    skill = times.reshape(2, ROUNDS, ACTS // HORIZON, HORIZON)[..., 0]
    metrics = {
        "act_p50_us": np.percentile(times, 50, axis=2),
        "act_p99_us": np.percentile(times, 99, axis=2),
        "act_mean_us": times.mean(axis=2),
        "act_with_new_skill_p50_us": np.percentile(skill, 50, axis=2),
    }
    for metric, values in metrics.items():
        for method, row in zip(("numpy", "torch"), values, strict=True):
            low, middle, high = (round(float(x), 2) for x in np.percentile(row, [2.5, 50, 97.5]))
            records.append(common | {"method": method, "metric": metric, "mean": middle, "low": low, "high": high})
        ratio = round(float(np.median(values[1] / values[0])), 2)
        records.append(common | {"method": "numpy", "metric": f"{metric} against torch", "ratio": ratio, "peer": PEER})
    print_records("runtime", COMMAND, began, records)


if __name__ == "__main__":
    main()
