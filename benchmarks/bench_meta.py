"""How fast meta-training runs on the maze: closed-loop skill collection, and the meta-update against plain products.

Prints a JSON list of records (schema: `benchmarks/results/records.py`). A round times every method one after the other,
so that a busy machine slows all; `low` and `high` bound the middle 95 % of the rounds, a ratio is the median of the
rounds' ratios. Metrics named `cpu` count the processor time of all threads of this process instead of wall time: on a
busy machine only they mean anything.

Collection is `meta.collect` as meta-training calls it: 80 rows, the high-level policy every 10 steps, the closed-loop
decoder at every step, everything recorded. The loops only act: the same networks through their plain `forward`, one
mj_step after the other, nothing recorded.

The update's floating point operations are those of its matrix products alone, forward and backward, worked out from
the layers' sizes. Their rate over the best rate that `torch.mm` reaches here, at the same thread count, is what part of
the machine the update uses.

    OMP_NUM_THREADS=1 python benchmarks/bench_meta.py
    OMP_NUM_THREADS=1 python benchmarks/bench_meta.py parts     only where the time of a collection goes
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import mujoco
import numpy as np
import torch
from numpy.typing import NDArray
from recording import print_records
from torch import Tensor, nn

from supple.meta.collect import Episodes, Seen, collect
from supple.meta.simpl.agent import SimplAgent
from supple.meta.simpl.config import SimplConfig
from supple.meta.simpl.learner import SimplLearner
from supple.meta.simpl.pool import view_of_all_tasks
from supple.meta.space import SkillSpace
from supple.robots.maze import MAX_SPEED, MazeBatch, make_maze_model
from supple.robots.maze_layout import make_layout, start_cell
from supple.robots.maze_tasks import published_tasks
from supple.skills.config import SkillConfig
from supple.skills.device import multiplies_bfloat16
from supple.skills.model import SkillModel

ROWS, STEPS, ONE_ROW_STEPS, ROUNDS = 80, 300, 1000, 5
UPDATE_ROUNDS = 6
PRODUCTS = ((2560, 256, 256), (5120, 256, 256), (2560, 1024, 1024))
PEERS = {
    "loop_1_row": "one environment: mj_step, batch-1 torch decoder every step, batch-1 policy every 10, 1 thread",
    "loop_80_rows": "a Python loop of mj_step over 80 MjData, batched torch decoder and policy, 1 thread",
}
COMMAND = "OMP_NUM_THREADS=1 python benchmarks/bench_meta.py"
CPU = torch.device("cpu")
LAYOUT = make_layout(20, 0)
GOALS = np.array([task.goal for task in published_tasks("flat-40").train], np.float32)
Record = dict[str, Any]


def time_of(action: Callable[[], object]) -> tuple[float, float]:
    """Seconds that one call takes: on the wall, and of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def summarise(values: NDArray[np.float64], digits: int) -> Record:
    """Median and the middle 95 % of the rounds."""
    low, middle, high = (round(float(value), digits) for value in np.percentile(values, [2.5, 50, 97.5]))
    return {"mean": middle, "low": low, "high": high, "n": len(values)}


def make_space() -> SkillSpace:
    """Skills of the default size with random weights, on the maze's scale."""
    model = SkillModel(4, 2, SkillConfig())
    low, high = torch.tensor([0.0, 0.0, -MAX_SPEED, -MAX_SPEED]), torch.tensor([20.0, 20.0, MAX_SPEED, MAX_SPEED])
    model.normaliser.fit(low + (high - low) * torch.rand((10_000, 4), generator=torch.Generator().manual_seed(0)))
    return SkillSpace(model)


def collect_once(space: SkillSpace, agent: SimplAgent, robot: MazeBatch) -> Episodes:
    """One episode in all rows, each with a task embedding of its own."""
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn((ROWS, agent.embedding_dim), generator=generator)

    def choose(seen: Seen) -> Tensor:
        return agent.act(seen.observation, seen.prior, embedding[torch.from_numpy(seen.rows)], generator)

    goals = np.tile(GOALS, (ROWS // len(GOALS), 1))
    return collect(robot, space, choose, goals, np.random.default_rng(0), device=CPU, stop_at_goal=False)


def make_collection(space: SkillSpace, agent: SimplAgent, torch_threads: int) -> Callable[[], object]:
    """Episodes of `STEPS` low-level steps in all rows, physics on 2 threads."""
    robot = MazeBatch(LAYOUT, ROWS, threads=2, episode_steps=STEPS)

    def run() -> None:
        torch.set_num_threads(torch_threads)
        collect_once(space, agent, robot)
        torch.set_num_threads(1)

    return run


def make_loop(space: SkillSpace, agent: SimplAgent, rows: int, steps: int) -> Callable[[], object]:
    """What one writes first: the same networks, one simulation after the other."""
    model = make_maze_model(LAYOUT)
    simulations = [mujoco.MjData(model) for _ in range(rows)]
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn((rows, agent.embedding_dim), generator=generator)

    state = [(data.qpos, data.qvel, data.ctrl) for data in simulations]  # views, looked up once

    @torch.no_grad()
    def run() -> None:
        rng = np.random.default_rng(0)
        observation = np.zeros((rows, 4), np.float32)
        observation[:, :2] = np.asarray(start_cell(LAYOUT)) + rng.uniform(-0.1, 0.1, (rows, 2))
        for row, data in enumerate(simulations):
            mujoco.mj_resetData(model, data)
            state[row][0][:] = observation[row, :2]
        for step in range(steps):
            seen = torch.from_numpy(observation)
            if step % space.horizon == 0:
                skill = agent.act(seen, space.prior_of(seen), embedding, generator)
            action = space.model.decode(seen, skill).clamp(-1.0, 1.0).numpy()
            velocity = np.clip(observation[:, 2:], -MAX_SPEED, MAX_SPEED)
            for row, data in enumerate(simulations):
                position, speed, control = state[row]
                control[:] = action[row]
                speed[:] = velocity[row]
                mujoco.mj_step(model, data)
                observation[row, :2] = position
                observation[row, 2:] = speed

    return run


def measure_collection(space: SkillSpace, agent: SimplAgent) -> list[Record]:
    """Low-level steps per second of each method, and the ratios of the better collection to the loops."""
    runs = {
        "collect": make_collection(space, agent, 1),
        "collect_torch_2_threads": make_collection(space, agent, 2),
        "loop_80_rows": make_loop(space, agent, ROWS, STEPS),
        "loop_1_row": make_loop(space, agent, 1, ONE_ROW_STEPS),
    }
    steps = np.array([[ROWS * STEPS], [ROWS * STEPS], [ROWS * STEPS], [ONE_ROW_STEPS]])
    for run in runs.values():
        run()
    times = np.array([[time_of(run) for run in runs.values()] for _ in range(ROUNDS)])  # (rounds, methods, 2 clocks)
    rates = steps / times
    records: list[Record] = []
    for clock, metric in enumerate(("steps_per_s", "steps_per_cpu_s")):
        for side, method in enumerate(runs):
            at = {"rows": 1 if method == "loop_1_row" else ROWS}
            records.append({"method": method, "metric": metric, "at": at} | summarise(rates[:, side, clock], 0))
        better = int(np.median(rates[:, :2, clock], axis=0).argmax())
        for side, method in enumerate(runs):
            if method in PEERS:
                ratio = round(float(np.median(rates[:, better, clock] / rates[:, side, clock])), 2)
                name = f"{metric} against {method.replace('_', ' ')}"
                common = {"method": list(runs)[better], "metric": name, "at": {"rows": ROWS}}
                records.append(common | {"ratio": ratio, "peer": PEERS[method]})
    return records


def measure_parts(space: SkillSpace, agent: SimplAgent) -> list[Record]:
    """Processor microseconds of one low-level step of all rows on one thread: physics, decoder, and all of it."""
    robot = MazeBatch(LAYOUT, ROWS, episode_steps=STEPS, terminate_at_goal=False)
    goals, rows = np.tile(GOALS, (ROWS // len(GOALS), 1)), np.arange(ROWS)
    control = space.hold(torch.randn((ROWS, space.latent_dim), generator=torch.Generator().manual_seed(0)))
    actions: list[NDArray[np.float32]] = []
    now = robot.reset(rows, goals, np.random.default_rng(0))
    for _ in range(STEPS):
        actions.append(control(torch.from_numpy(now)).numpy())
        now = robot.step(rows, actions[-1]).observation
    seen = torch.from_numpy(now)

    def simulate() -> None:
        robot.reset(rows, goals, np.random.default_rng(0))
        for action in actions:
            robot.step(rows, action)

    def decode() -> None:
        for _ in range(STEPS):
            control(seen)

    parts = {"physics": simulate, "decoder": decode, "collect": partial(collect_once, space, agent, robot)}
    times = np.array([[time_of(run)[1] for run in parts.values()] for _ in range(ROUNDS)]) / STEPS * 1e6
    metric, at = "cpu_us_per_step_of_all_rows", {"rows": ROWS}
    return [{"method": m, "metric": metric, "at": at} | summarise(times[:, i], 1) for i, m in enumerate(parts)]


def layer_flops(network: nn.Module, batch: int) -> NDArray[np.int64]:
    """Floating point operations of each layer's product for `batch` inputs, 2 per weight and input, shape (layers,)."""
    return np.array([2 * batch * value.numel() for name, value in network.named_parameters() if "weight" in name])


def count_update_flops(learner: SimplLearner) -> tuple[int, int]:
    """Operations of the products of the critics' and encoder's part of an update, and of the policy's part.

    A layer's backward pass is a product for the gradient of its weights and one for the gradient of its inputs, each as
    large as the forward one. The first layer's inputs have a gradient only where they contain the task embedding or a
    sampled skill; the critics' weights have none in the policy's part.
    """
    config, agent = learner.config, learner.networks
    batch = (config.prior_tasks + config.posterior_tasks) * config.batch
    tokens = config.prior_tasks * config.prior_context + config.posterior_tasks * config.posterior_context
    token = layer_flops(agent.encoder["context"].get_submodule("token"), tokens)
    head = layer_flops(agent.encoder["context"].get_submodule("head"), config.prior_tasks + config.posterior_tasks)
    reward = layer_flops(agent.encoder["reward"], batch)
    policy, critic = layer_flops(agent.policy, batch), layer_flops(agent.critic, batch)
    encoder = 3 * token.sum() - token[0] + 3 * head.sum() + 3 * reward.sum()
    critics = policy.sum() + critic.sum() + 3 * critic.sum()  # policy and targets at s', critics at s
    actor = 3 * policy.sum() - policy[0] + 2 * critic.sum()
    return int(encoder + critics), int(actor)


def make_learner(space: SkillSpace, config: SimplConfig) -> SimplLearner:
    """A learner with a full pool, made of one round of episodes."""
    robot = MazeBatch(LAYOUT, ROWS, threads=2)
    learner = SimplLearner(space, robot, GOALS, config)
    episodes = collect_once(space, learner.networks, robot)
    reward, terminated = robot.compute_reward(episodes.path.numpy(), GOALS)
    view = view_of_all_tasks(episodes, torch.from_numpy(reward), torch.from_numpy(terminated))
    for _ in range(config.pool_episodes // ROWS):
        learner.pool.add(episodes, view, explored=True)
    return learner


def make_learners(space: SkillSpace, config: SimplConfig) -> dict[str, SimplLearner]:
    """A learner of each precision that this processor multiplies in."""
    names = ["float32", "bfloat16"] if multiplies_bfloat16(torch.device("cpu")) else ["float32"]
    return {name: make_learner(space, replace(config, bfloat16=name == "bfloat16")) for name in names}


def time_products(repeats: int) -> NDArray[np.float64]:
    """Best operations per second of float32 `torch.mm` over shapes and repeats: by wall and by processor time."""
    best = np.zeros(2)
    for rows, inner, columns in PRODUCTS:
        left, right, result = torch.rand(rows, inner), torch.rand(inner, columns), torch.empty(rows, columns)
        for _ in range(repeats):
            seconds = time_of(partial(torch.mm, left, right, out=result))
            best = np.maximum(best, 2.0 * rows * inner * columns / np.array(seconds))
    return best


def measure_update(learners: dict[str, SimplLearner], threads: int) -> list[Record]:
    """Milliseconds per update in float32 and, where the processor has it, bfloat16; and the reached part of its rate.

    A round takes `policy_every` updates, of which one also updates the policy; times are per update.
    """
    torch.set_num_threads(threads)
    every = learners["float32"].config.policy_every
    critics, actor = count_update_flops(learners["float32"])
    flops = critics + actor / every

    def run(name: str) -> Callable[[], object]:
        return lambda: [learners[name].update() for _ in range(every)]

    for name in learners:
        run(name)()
    rates, rounds = [], []
    for _ in range(UPDATE_ROUNDS):
        rates.append(time_products(5))
        rounds.append([time_of(run(name)) for name in learners])
    torch.set_num_threads(1)
    times, rate = np.array(rounds) / every, np.array(rates)  # (rounds, methods, 2 clocks), (rounds, 2 clocks)
    at = {"threads": threads}
    records: list[Record] = [
        {"method": "float32", "metric": "gflop_per_update", "at": at, "mean": round(flops / 1e9, 3), "n": 1}
    ]
    # the processor time of other threads lags by a scheduler tick, which is longer than a product
    for clock, suffix in enumerate(("", "_cpu") if threads == 1 else ("",)):
        records.append(
            {"method": "torch.mm", "metric": f"gflop_per_s{suffix}", "at": at} | summarise(rate[:, clock] / 1e9, 1)
        )
        for side, name in enumerate(learners):
            metric = f"ms_per_update{suffix}"
            records.append({"method": name, "metric": metric, "at": at} | summarise(times[:, side, clock] * 1e3, 1))
        part = float(np.median(flops / times[:, 0, clock] / rate[:, clock]))
        peer = f"the best of torch.mm in float32, {threads} thread{'s' if threads > 1 else ''}"
        ratios = [("float32", f"gflop_per_s{suffix} against torch.mm", part, peer)]
        if "bfloat16" in learners:
            faster = float(np.median(times[:, 0, clock] / times[:, 1, clock]))
            ratios += [("bfloat16", f"ms_per_update{suffix} against float32", faster, "the same update in float32")]
        for method, metric, ratio, other in ratios:
            records.append({"method": method, "metric": metric, "at": at, "ratio": round(ratio, 3), "peer": other})
    return records


def main() -> None:
    """Measures everything and prints the records."""
    torch.set_num_threads(1)
    began = time.perf_counter()
    space = make_space()
    config = SimplConfig()
    agent = SimplAgent(space, 4, config, torch.Generator().manual_seed(0))
    if sys.argv[1:] == ["parts"]:
        print_records("meta-collection", f"{COMMAND} parts", began, measure_parts(space, agent))
        return
    records = measure_collection(space, agent)
    learners = make_learners(space, config)
    for threads in (1, 2):
        records += measure_update(learners, threads)
    print_records("meta", COMMAND, began, records)


if __name__ == "__main__":
    main()
