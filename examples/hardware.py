"""A robot family for hardware: `supple adapt --robot examples/hardware.py:ARM` with a bundle made for such a robot.

`python examples/hardware.py FILE` writes a log of it as a D4RL HDF5 file, in which somebody waves the arm about.

`PlanarArm` stands for the driver of a real arm and needs none: two joints that follow speed commands with a lag.
Replace its `reset`, `step`, `hold`, `stop` and `close` by what your driver offers, and the contract by that of your
robot.
"""

import sys
from pathlib import Path

import numpy as np

from supple.errors import RobotFault
from supple.robots.hardware_family import HardwareFamily
from supple.robots.robot import Bool, Float, Holds, Observes, Step, Stops
from supple.robots.spec import ArraySpec, Axis, RobotSpec

PERIOD, LINKS, RADIUS = 0.05, (0.3, 0.2), 0.05  # s, m, m
SPEC = RobotSpec(
    name="planar-arm",
    observation=ArraySpec(
        "observation",
        (
            *(Axis(f"joint{index}", "rad", -2.8, 2.8) for index in (1, 2)),
            *(Axis(f"hand_{axis}", "m", -0.5, 0.5) for axis in "xy"),
        ),
    ),
    action=ArraySpec("action", tuple(Axis(f"speed{index}", "rad/s", -1.5, 1.5, rate_limit=20.0) for index in (1, 2))),
    goal=ArraySpec("goal", tuple(Axis(f"goal_{axis}", "m", -0.5, 0.5) for axis in "xy")),
    control_period=PERIOD,
    episode_steps=100,
)


class PlanarArm(Stops, Holds, Observes):
    """The driver; see `supple.robots.robot.Robot` for the contract."""

    def __init__(self, spec: RobotSpec = SPEC) -> None:
        self.spec, self.connected = spec, True
        self.goal, self.angle, self.speed, self.steps = np.zeros(2, np.float32), np.zeros(2), np.zeros(2), 0

    def reset(self, goal: Float, rng: np.random.Generator) -> Float:
        """Drives the arm back to its start."""
        if not self.connected:
            raise RobotFault("planar arm: expected a connected arm, got a closed one; connect it again")
        self.goal = self.spec.goal.require_one(goal, "planar arm reset")
        self.angle = np.array([0.0, 1.0]) + rng.uniform(-0.02, 0.02, 2)
        self.speed, self.steps = np.zeros(2), 0
        return self.read()

    def step(self, action: Float) -> Step:
        """Sends one command, waits for the control period to end, and reads the sensors."""
        command = self.spec.action.require_rows(np.asarray(action)[None], 1, "planar arm step")[0]
        command = np.clip(command, self.spec.action.low, self.spec.action.high)
        self.speed += 0.6 * (command - self.speed)
        self.angle = np.clip(self.angle + PERIOD * self.speed, -2.8, 2.8)
        self.steps += 1
        observation = self.read()
        reward, reached = (array.item() for array in self.compute_reward(observation, self.goal[None]))
        late = self.steps >= self.spec.episode_steps
        return Step(observation, reward, reached, late and not reached, success=reached)

    def read(self) -> Float:
        """Joint angles and the place of the hand."""
        first, both = self.angle[0], self.angle.sum()
        hand = LINKS[0] * np.array([np.cos(first), np.sin(first)]) + LINKS[1] * np.array([np.cos(both), np.sin(both)])
        return np.concatenate([self.angle, hand]).astype(np.float32)

    def compute_reward(self, observation: Float, goals: Float) -> tuple[Float, Bool]:
        """1 within the radius of the goal, which ends the episode."""
        distance = np.linalg.norm(observation[..., None, 2:] - goals, axis=-1)
        return (distance <= RADIUS).astype(np.float32), distance <= RADIUS

    def stop(self, reason: str) -> None:
        """Holds the arm where it is; called at every fault, and when the policy ends in the middle of an episode."""
        self.speed = np.zeros(2)

    def hold(self) -> None:
        """Holds the arm between episodes; it would go on with its last speed."""
        self.speed = np.zeros(2)

    def close(self) -> None:
        """Stops the arm and lets go of it."""
        self.connected = False


ARM = HardwareFamily(
    name="planar-arm",
    connect=PlanarArm,
    contract=SPEC,
    train_goals=((0.3, 0.3), (0.0, 0.4), (0.2, -0.3), (0.45, 0.0)),
    test_goals=((0.1, 0.3), (0.35, -0.2)),
    stops_by_itself=True,  # it is not there; a real arm gets stop=..., a function that another process can call
)


def record(path: Path, episodes: int = 200) -> None:
    """Writes a log without any task: every fifteen steps the arm gets other speeds, with some noise on each command."""
    import h5py  # the robot's computer needs none

    rng, arm = np.random.default_rng(0), PlanarArm()
    steps = episodes * SPEC.episode_steps
    observation, action = np.zeros((steps, 4), np.float32), np.zeros((steps, 2), np.float32)
    begins, speed = np.arange(steps) % SPEC.episode_steps == 0, np.zeros(2)
    for step in range(steps):
        if begins[step]:
            arm.reset(np.array(ARM.train_goals[0], np.float32), rng)
        if step % 15 == 0:
            speed = rng.uniform(-1.4, 1.4, 2)
        observation[step], action[step] = arm.read(), np.clip(speed + 0.1 * rng.standard_normal(2), -1.5, 1.5)
        arm.step(action[step])
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["observations"], file["actions"], file["rewards"] = observation, action, np.zeros(steps, np.float32)
        file["terminals"], file["timeouts"] = np.zeros(steps, np.bool_), np.roll(begins, -1)


if __name__ == "__main__":
    record(Path(sys.argv[1]))
