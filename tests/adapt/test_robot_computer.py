"""A robot's computer: an environment with numpy and safetensors alone loads bundles, checks them, acts and adapts."""

import json
import subprocess
import venv
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

from supple.adapt.bundle import load_bundle
from supple.adapt.contract import Budget
from supple.adapt.host.export import write_exported
from supple.adapt.host.exported import Exported
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.meta.inference.config import PearlConfig
from supple.meta.memory.config import Rl2Config
from supple.meta.simpl.config import SimplConfig
from supple.meta.simpl.deployment import DeploymentConfig
from supple.meta.space import UnitSpace
from supple.pipeline.learners import PearlSettings, Rl2Settings, SimplSettings
from supple.robots.navigation import POINT_ROBOT, NavigationBatch
from supple.robots.task import Task

ROOT = Path(__file__).resolve().parents[2]
STEPS, EPISODES = 5, 4
GOALS = ((0.3, -0.2), (-0.4, 0.1))
ADAPT = f"""
import json, sys
from importlib import metadata

import numpy as np

from supple.adapt.audit import AuditLog
from supple.adapt.bundle import load_bundle, require_robot
from supple.adapt.loop import Adapter
from supple.adapt.runtime_agent import RandomNoise
from supple.adapt.safety import SafetyLimits
from supple.robots.navigation import POINT_ROBOT, NavigationBatch
from supple.robots.task import Task

bundle = load_bundle(sys.argv[1])
rng = np.random.default_rng(0)
robot = SafetyLimits(NavigationBatch(POINT_ROBOT, 2, episode_steps={STEPS}), AuditLog(sys.argv[2]))
require_robot(bundle.contract, robot.spec)
tasks = tuple(Task(str(goal), goal) for goal in {GOALS})
agent = bundle.make_agent(RandomNoise(rng))
adapter = Adapter(agent, robot, tasks, bundle.contract.budget, {EPISODES}, rng, make_fork=bundle.make_agent)
returns = [[record["return"] for record in records] for records in adapter.run()]
robot.close()
installed = sorted(distribution.metadata["Name"] for distribution in metadata.distributions())
print(json.dumps({{"returns": returns, "installed": installed, "torch": "torch" in sys.modules}}))
"""


@pytest.fixture(scope="module")
def robot_computer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment that holds numpy, safetensors and supple, and nothing else, not even pip."""
    folder = tmp_path_factory.mktemp("robot")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    for name in ("numpy", "safetensors"):
        for path in metadata.files(name) or ():
            top = path.parts[0]
            if top != ".." and not (site / top).exists():
                (site / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    (site / "supple").symlink_to(ROOT)
    return folder / "bin" / "python"


def export(kind: str) -> Exported:
    robot = NavigationBatch(POINT_ROBOT, 8, episode_steps=STEPS)
    settings: SimplSettings | Rl2Settings | PearlSettings
    if kind == "simpl":
        simpl = SimplConfig(embedding_dim=2, hidden=(8, 8), encoder_hidden=8, epochs=1, success_batch=2, batch=8)
        settings = SimplSettings(config=simpl, deployment=DeploymentConfig(exploration_episodes=2, context=16))
    else:
        pearl = PearlConfig(embedding_dim=3, encoder_hidden=(5,), rollouts=1, tasks=2, iterations=1)
        rl2 = Rl2Config(trials=2, hidden=7, iterations=1)
        settings = Rl2Settings(config=rl2) if kind == "rl2" else PearlSettings(config=pearl)
    rows = NavigationBatch(POINT_ROBOT, settings.rows(2), episode_steps=STEPS)
    learner = settings.make_learner(UnitSpace(robot.spec), rows, np.array(GOALS, np.float32), seed=0, device="cpu")
    return settings.export(learner)


@pytest.mark.parametrize("kind", ["rl2", "pearl", "simpl"])
def test_an_agent_adapts_by_inference_where_nothing_but_numpy_and_safetensors_is(
    kind: str, robot_computer: Path, tmp_path: Path
) -> None:
    robot = NavigationBatch(POINT_ROBOT, 2, episode_steps=STEPS)
    budget = Budget(episodes=EPISODES, exploration_episodes=2 if kind == "simpl" else 0)
    folder = tmp_path / "bundle"
    write_exported(folder, export(kind), robot.spec, budget, simulator=None, provenance={"seed": 0})
    command = [str(robot_computer), "-I", "-c", ADAPT, str(folder), str(tmp_path / "audit.jsonl")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["installed"] == ["numpy", "safetensors"]
    assert said["torch"] is False

    bundle, rng = load_bundle(folder), np.random.default_rng(0)
    tasks = tuple(Task(str(goal), goal) for goal in GOALS)
    agent = bundle.make_agent(RandomNoise(rng))
    here = Adapter(agent, robot, tasks, budget, EPISODES, rng, make_fork=bundle.make_agent)
    assert said["returns"] == [[record["return"] for record in records] for records in here.run()]
