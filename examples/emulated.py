"""Two robots that are not there, each a process of its own in real time, and how `supple adapt` meets them.

`python examples/emulated.py maze` is the robot of the preset `demo`, with 100 commands per second, and `arm` that of
`my_arm.py`, with 20. It runs in one terminal, and the policy in another one:

    supple adapt runs/demo --robot examples/emulated.py:MAZE --num-tasks 1 --accept-robot-change
    supple adapt runs/arm --robot examples/emulated.py:ARM --num-tasks 1 --accept-robot-change
"""

import os
import sys
import tempfile

from my_arm import ARM as SIMULATED_ARM

from supple.pipeline.presets import PRESETS
from supple.robots.emulated_robot import EmulatedFamily, Emulation, emulate

FOLDER = tempfile.gettempdir()
MAZE = EmulatedFamily(family=PRESETS["demo"].robot, address=os.path.join(FOLDER, "supple-maze"))
ARM = EmulatedFamily(family=SIMULATED_ARM, address=os.path.join(FOLDER, "supple-arm"))
BEHAVIOUR = {
    MAZE.name: Emulation(noise=0.001, latency=0.002, jitter=0.002, loss=0.01),
    ARM.name: Emulation(noise=0.001, latency=0.002, jitter=0.002),  # after a lost state the next is 0.1 s old, a fault
}

if __name__ == "__main__":
    robot = {"maze": MAZE, "arm": ARM}[sys.argv[1]]
    with emulate(robot.family, robot.address, BEHAVIOUR[robot.name]) as process:
        print(f"{robot.name} listens at {robot.address}; Ctrl-C ends it", flush=True)
        process.join()
