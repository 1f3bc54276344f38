"""Three robots that are not there, each a process of its own in real time, and how `supple adapt` meets them.

`python examples/emulated.py maze` is the robot of the preset `demo`, with 100 commands per second, `arm` that of
`my_arm.py`, with 20, and `kitchen` that of the preset `kitchen`, with 12.5. It runs in one terminal, and the policy in
another one:

    supple adapt runs/demo --robot examples/emulated.py:MAZE --num-tasks 1 --accept-robot-change --execute
    supple adapt runs/arm --robot examples/emulated.py:ARM --num-tasks 1 --accept-robot-change --execute \
        --limits examples/my_arm_limits.toml
    supple adapt runs/kitchen --robot examples/emulated.py:KITCHEN --num-tasks 1 --accept-robot-change --execute

Without `--execute` nothing is sent. The arm's model has no velocity limits, so that a file gives them.
"""

import os
import sys
import tempfile

from my_arm import ARM as SIMULATED_ARM

from supple.pipeline.presets import PRESETS
from supple.robots.emulated_robot import Emulation, emulate, make_emulated_family

FOLDER = tempfile.gettempdir()
SIMULATED = {"maze": PRESETS["demo"].robot, "arm": SIMULATED_ARM, "kitchen": PRESETS["kitchen"].robot}
ADDRESSES = {name: os.path.join(FOLDER, f"supple-{name}") for name in SIMULATED}
MAZE, ARM, KITCHEN = (make_emulated_family(SIMULATED[name], ADDRESSES[name]) for name in SIMULATED)
BEHAVIOUR = {
    "maze": Emulation(noise=0.001, latency=0.002, jitter=0.002, loss=0.01),
    "arm": Emulation(noise=0.001, latency=0.002, jitter=0.002, loss=0.01),
    "kitchen": Emulation(latency=0.002, jitter=0.002, loss=0.01),  # its readings have their own noise
}

if __name__ == "__main__":
    name = sys.argv[1]
    with emulate(SIMULATED[name], ADDRESSES[name], BEHAVIOUR[name]) as process:
        print(f"{name} listens at {ADDRESSES[name]}; Ctrl-C ends it", flush=True)
        process.join()
