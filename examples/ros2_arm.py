"""The arm of `my_arm.py` as a robot of ROS 2, without a ROS installation (`pip install 'supple[cyclonedds]'`).

`python examples/ros2_arm.py` is an arm that is not there, behind the topics that an arm of ros2_control has: joint
states with the joints in another order, a forward position controller, and a node that says where the hand is. It runs
in one terminal. In another one the arm is looked at, and then moved by the bundle of `my_arm.py`:

    supple doctor runs/arm --robot examples/ros2_arm.py:ARM
    supple adapt runs/arm --robot examples/ros2_arm.py:ARM --num-tasks 1 --accept-robot-change --execute \
        --limits examples/my_arm_limits.toml

Without `--execute` nothing is sent. For an arm of your own, change names and topics, take `CycloneDds()` for all
computers of the network, or `Rclpy()` where ROS is installed, and have the emergency stop at hand.
"""

import os
import tempfile

from my_arm import ARM as SIMULATED

from supple.robots.emulated_robot import Emulation
from supple.robots.hardware_family import HardwareFamily
from supple.robots.ros.cyclonedds import CycloneDds
from supple.robots.ros.driver import RosConnection, stop_ros_robot
from supple.robots.ros.emulated import emulate_ros
from supple.robots.ros.messages import Element, ForwardController, JointValue
from supple.robots.ros.ros_robot import RosRobot

JOINTS = ("base", "elbow", "shoulder", "wrist")  # in the order of the controller, which is not that of the model
ROBOT = RosRobot(
    transport=CycloneDds(domain=42, interface="127.0.0.1", peers=("127.0.0.1",)),  # this computer alone
    contract=SIMULATED.spec(),
    observation={
        **{joint: JointValue(joint) for joint in JOINTS},
        **{f"{joint}_v": JointValue(joint, "velocity") for joint in JOINTS},
        **{f"hand_{axis}": Element("/hand_place", index) for index, axis in enumerate("xyz")},
    },
    action={joint: JointValue(joint) for joint in JOINTS},
    controller=ForwardController(topic="/forward_position_controller/commands", joints=JOINTS),
    home=(0.0, -0.8, 1.6, 0.4),  # base, shoulder, elbow, wrist: the axes of the contract
    home_seconds=2.0,
    home_tolerance=0.1,
    stop_topic="/stop",
    ready_topic="/ready",
)
GOALS = SIMULATED.tasks()


def stop_arm(reason: str) -> None:
    stop_ros_robot(ROBOT, reason)


ARM = HardwareFamily(
    name="ros2-arm",
    connect=RosConnection(ROBOT, SIMULATED.make(1).compute_reward),
    contract=ROBOT.contract,
    train_goals=tuple(task.goal for task in GOALS.train),
    test_goals=tuple(task.goal for task in GOALS.test),
    stop=stop_arm,
)

if __name__ == "__main__":
    panel = os.path.join(tempfile.gettempdir(), "supple-ros2-arm")
    with emulate_ros(SIMULATED, panel, ROBOT, Emulation(noise=0.001, stop_periods=100)) as process:
        print(f"the arm is in domain {ROBOT.transport.domain}; Ctrl-C ends it", flush=True)  # type: ignore[attr-defined]
        process.join()
