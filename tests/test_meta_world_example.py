"""The loop of Meta-World's protocol is written here anew, with the calls in its order, for environments of a toy."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box

from supple.adapt.host.torch_rows import TorchRowAgent
from supple.adapt.runtime_agent import RowEpisodes, RuntimeAgent, SeenRows
from supple.errors import SpecError
from supple.meta.config import Trial
from supple.meta.gradient.config import MamlConfig
from supple.meta.gradient.maml_learner import MamlLearner
from supple.meta.memory.config import Rl2Config
from supple.meta.memory.rl2_learner import Rl2Learner
from supple.meta.space import UnitSpace
from supple.meta.trial import run_episodes
from supple.robots.gymnasium_batch import GymnasiumBatch
from supple.robots.spec import ArraySpec, Axis, RobotSpec

EXAMPLE = Path(__file__).parents[1] / "examples" / "meta_world"
MetaWorldAgent: Any = runpy.run_path(str(EXAMPLE / "meta_world_agent.py"))["MetaWorldAgent"]
STEPS = 4
GOAL = ArraySpec("goal", (Axis("x", "m", -5.0, 5.0),))


class Point(gymnasium.Env[Any, Any]):
    """Moves by its action; the reward is minus the distance to the goal. It ends within `radius` of it."""

    observation_space = Box(-100.0, 100.0, (1,), np.float64)
    action_space = Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, goal: float, radius: float = 0.0) -> None:
        self.goal, self.radius = goal, radius

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.x, self.count = 0.0, 0
        return np.array([self.x]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.x += float(action[0])
        self.count += 1
        away = abs(self.x - self.goal)
        return np.array([self.x]), -away, away < self.radius, self.count == STEPS, {}


class Timestep(NamedTuple):
    observation: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    aux_policy_outputs: dict[str, np.ndarray]


class Vector:
    """Environments that begin anew in the step that ends them, as Meta-World makes them."""

    def __init__(self, envs: list[Point], recurrent: bool) -> None:
        self.envs, self.recurrent = envs, recurrent

    def show(self, x: Any, action: Any = (0.0,), reward: float = 0.0, ended: bool = False) -> np.ndarray:
        return np.concatenate([x, action, [reward], [float(ended)]]) if self.recurrent else np.asarray(x)

    def reset(self) -> np.ndarray:
        return np.array([self.show(env.reset()[0]) for env in self.envs])

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, ...]:
        rows = []
        for env, action in zip(self.envs, actions, strict=True):
            x, reward, terminated, truncated, _ = env.step(action)
            ended = terminated or truncated
            rows.append((self.show(env.reset()[0] if ended else x, (0.0,) if ended else action,
                                   0.0 if ended else reward, False), reward, terminated, truncated))  # fmt: skip
        return tuple(np.array(part) for part in zip(*rows, strict=True))


def protocol(
    agent: MetaWorldAgent, envs: Vector, *, steps: int, episodes: int, evaluations: int
) -> list[list[np.ndarray]]:
    """All actions of each phase: one per step of adaptation, and the evaluation."""
    phases: list[list[np.ndarray]] = []
    agent.init()
    for _ in range(steps):
        seen, elapsed = envs.reset(), np.zeros(len(envs.envs))
        phases.append([])
        while (elapsed < episodes).any():
            actions, extra = agent.adapt_action(seen)
            following, reward, terminated, truncated = envs.step(actions)
            agent.step(Timestep(seen, actions, reward, terminated, truncated, extra))
            elapsed += terminated | truncated
            seen = following
            phases[-1].append(actions)
        agent.adapt()
    seen, counts = envs.reset(), np.zeros(len(envs.envs))
    agent.reset(np.ones(len(envs.envs), np.bool_))
    phases.append([])
    while (counts < evaluations).any():
        actions = agent.eval_action(seen)
        seen, _, terminated, truncated = envs.step(actions)
        agent.reset(terminated | truncated)
        counts += terminated | truncated
        phases[-1].append(actions)
    return phases


class Recorder:
    """Chooses 0.1 times the decision's number; notes all calls."""

    def __init__(self, horizon: int = 1) -> None:
        self.calls: list[Any] = []
        self.seen: list[tuple[float, float]] = []
        self.space: Any = self
        self.horizon, self.latent_dim, self.count = horizon, 1, 0

    def hold(self, latent: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
        return lambda observation: latent

    def begin_task(self, rows: int) -> None:
        self.calls.append(("task", rows))

    def begin_episode(self) -> None:
        self.calls.append("episode")
        self.count = 0

    def act(self, seen: SeenRows) -> np.ndarray:
        self.count += 1
        self.seen.append((float(seen.observation[0, 0]), float(seen.reward[0])))
        return np.full((1, 1), 0.1 * self.count, np.float32)

    def observe(self, episodes: RowEpisodes) -> None:
        self.calls.append(episodes)

    def adapt(self) -> None:
        self.calls.append("adapt")


def make_spec() -> RobotSpec:
    batch = GymnasiumBatch(lambda goal: Point(float(goal[0])), GOAL, 1, example=[0.0], episode_steps=STEPS)
    return batch.spec


def run_recorders(
    envs: list[Point], *, recurrent: bool = False, horizon: int = 1, **budget: int
) -> tuple[list[Recorder], list[list[np.ndarray]]]:
    recorders = [Recorder(horizon) for _ in envs]
    agent = MetaWorldAgent(lambda row: recorders[row], make_spec())
    return recorders, protocol(agent, Vector(envs, recurrent), **budget)


def test_calls_and_episodes_of_a_row_by_hand() -> None:
    (recorder,), _ = run_recorders([Point(1.0)], steps=1, episodes=2, evaluations=1)
    names = ["observe" if isinstance(call, RowEpisodes) else call for call in recorder.calls]
    assert names == [("task", 1), "episode", "observe", "episode", "observe", "adapt", "episode"]
    played = recorder.calls[2]
    # x is 0, .1, .3, .6 before the four actions .1, .2, .3, .4, and 1 after the last, which nobody shows
    assert np.allclose(played.observation[0, :, 0], [0.0, 0.1, 0.3, 0.6, 0.6])
    assert np.allclose(played.latent[0, :, 0], [0.1, 0.2, 0.3, 0.4])
    assert np.allclose(played.reward[0], [-0.9, -0.7, -0.4, 0.0], atol=1e-6)
    assert (int(played.length[0]), bool(played.terminated[0]), int(played.steps[0])) == (4, False, 4)
    assert np.allclose(recorder.seen[:4], [(0.0, 0.0), (0.1, -0.9), (0.3, -0.7), (0.6, -0.4)])
    assert np.allclose(recorder.seen[-4:], [(0.0, 0.0), (0.1, 0.0), (0.3, 0.0), (0.6, 0.0)])  # no rewards are given


def test_recurrent_info_gives_the_rewards_of_the_episodes_that_count() -> None:
    (recorder,), _ = run_recorders([Point(1.0)], recurrent=True, steps=1, episodes=1, evaluations=2)
    expected = [(0.0, 0.0), (0.1, -0.9), (0.3, -0.7), (0.6, -0.4)]
    assert np.allclose(recorder.seen, expected * 3)
    assert sum(isinstance(call, RowEpisodes) for call in recorder.calls) == 1


def test_a_held_choice_lasts_and_its_rewards_add_up() -> None:
    (recorder,), phases = run_recorders([Point(1.0)], horizon=3, steps=1, episodes=1, evaluations=1)
    played = recorder.calls[2]
    # .1 for three steps, then .2 for one; x is 0, .1, .2, .3, then .5
    assert np.allclose(np.ravel(phases[0]), [0.1, 0.1, 0.1, 0.2])
    assert np.allclose(played.reward[0], [-0.9 - 0.8 - 0.7, -0.5])
    assert np.allclose(played.observation[0, :, 0], [0.0, 0.3, 0.3])
    assert (int(played.length[0]), int(played.steps[0])) == (2, 4)


def test_environments_end_when_they_end() -> None:
    recorders, _ = run_recorders([Point(1.0), Point(0.3, radius=0.05)], steps=1, episodes=2, evaluations=3)
    lengths = [[int(call.length[0]) for call in recorder.calls if isinstance(call, RowEpisodes)]
               for recorder in recorders]  # fmt: skip
    # the second goes on until the first has played its two episodes
    assert lengths == [[4, 4], [2, 2, 2, 2]]
    assert [bool(call.terminated[0]) for call in recorders[1].calls if isinstance(call, RowEpisodes)] == [True] * 4
    assert recorders[1].calls[2].reward.shape == (1, STEPS)  # padded to the longest episode
    # in the 12 steps of evaluation the first begins 3 episodes, the second 6
    assert [recorder.calls.count("episode") for recorder in recorders] == [2 + 3, 4 + 6]


def test_an_episode_that_is_not_over_is_learned_from_as_cut_off() -> None:
    recorder = Recorder()
    agent = MetaWorldAgent(lambda row: recorder, make_spec())
    agent.init()
    agent.adapt_action(np.zeros((1, 1)))
    agent.adapt()
    played = recorder.calls[2]
    assert (int(played.length[0]), bool(played.terminated[0]), recorder.calls[3]) == (1, False, "adapt")


def test_a_new_task_forgets_the_last_one() -> None:
    recorder = Recorder()
    agent = MetaWorldAgent(lambda row: recorder, make_spec())
    for _ in range(2):
        protocol(agent, Vector([Point(1.0)], False), steps=1, episodes=1, evaluations=1)
    assert [call for call in recorder.calls if not isinstance(call, RowEpisodes)].count(("task", 1)) == 2


def test_observations_of_another_width_are_refused() -> None:
    agent = MetaWorldAgent(lambda row: Recorder(), make_spec())
    for shape in ((2, 2), (2, 5), (1,)):
        with pytest.raises(SpecError, match="Meta-World: expected observations of 1 numbers, or 4 with recurrent info"):
            agent.adapt_action(np.zeros(shape))


@pytest.mark.parametrize("name", ["rl2", "maml"])
def test_actions_are_those_of_the_rollout_loop(name: str) -> None:
    goals = np.array([[1.0], [-2.0], [0.5]], np.float32)
    batch = GymnasiumBatch(lambda goal: Point(float(goal[0])), GOAL, 1, example=[0.0], episode_steps=STEPS)
    space = UnitSpace(batch.spec)
    if name == "rl2":
        rl2 = Rl2Learner(space, batch, goals, Rl2Config(trial=Trial(episodes=2), trials=1, hidden=8), seed=0)
        agents = [rl2.agent(greedy=False, seed=row) for row in range(3)]
        twins = [rl2.agent(greedy=False, seed=row) for row in range(3)]
    else:
        config = MamlConfig(hidden=(8,), tasks=1, episodes=1)
        maml = MamlLearner(space, batch, goals, config, seed=0)
        agents = [maml.agent(rollouts=1, seed=row) for row in range(3)]
        twins = [maml.agent(rollouts=1, seed=row) for row in range(3)]

    def wrap(row: int) -> RuntimeAgent:
        return TorchRowAgent(agents[row], space, batch.spec, lambda agent, seen: {})

    adapter = MetaWorldAgent(wrap, batch.spec)
    envs = Vector([Point(float(goal[0])) for goal in goals], recurrent=True)
    adapting, counting = protocol(adapter, envs, steps=1, episodes=2, evaluations=1)
    rng, device = np.random.default_rng(0), torch.device("cpu")
    for row, twin in enumerate(twins):
        twin.begin_task(1)
        rounds = run_episodes(batch, space, twin, goals[row : row + 1], 2, rng, device=device)
        twin.adapt()
        rounds += run_episodes(batch, space, twin, goals[row : row + 1], 1, rng, device=device)
        expected = torch.cat([episodes.latent[0] for episodes in rounds]).numpy().clip(-1.0, 1.0)
        got = np.array([actions[row] for actions in (*adapting, *counting)])
        assert np.allclose(got, expected, atol=1e-6)
