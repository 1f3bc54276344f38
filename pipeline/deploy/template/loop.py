"""A control loop at the rate of the policy, without torch: numpy, safetensors and the folder `supple` beside this file.

    python3 loop.py --seconds 10

Replace the three methods of `Robot` by those of your driver. As it stands, `Robot` is a stand-in that rests at its
start. Put `supple.adapt.safety.SafetyLimits` and a watchdog between this loop and a real robot.
"""

import argparse
import gc
import json
import math
import signal
import sys
from pathlib import Path

try:
    from supple.adapt.bundle import load_bundle
    from supple.adapt.session import AgentSession, make_middle
    from supple.errors import SuppleError
    from supple.robots.cadence import Cadence
except ModuleNotFoundError as error:
    sys.exit(f"loop.py: expected the library {error.name}, got none; run pip install -r requirements.txt")

HERE = Path(__file__).resolve().parent


class Robot:
    """Your driver; the axes, their order and their units stand in README.md and interface.json."""

    def __init__(self, session):
        self.observation = make_middle(session.measured)
        self.picture = None if session.image is None else session.image.make_dark()

    def read(self):
        """The newest observation, one number for each axis, and the newest picture, None where there is no camera."""
        return self.observation, self.picture

    def send(self, action):
        """Sends a command; it is finite and within the limits."""

    def stop(self):
        """Holds the robot, or cuts its drives."""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""What ends the loop and stops the robot: Ctrl-C, a service manager, a terminal that goes away."""


def end(number, frame):
    """Without it Python dies of most of these with the robot on its way, and is deaf to a Ctrl-C in the background."""
    sys.exit(128 + number)


def seconds(text):
    """A time that ends."""
    value = float(text)
    if not 0.0 <= value < math.inf:
        raise ValueError(text)
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=seconds, default=10.0, help="how long the loop runs")
    parser.add_argument("--greedy", action="store_true", help="take the mean of the policy instead of a sample")
    given = parser.parse_args()
    bundle = load_bundle(HERE / "bundle")  # every byte and the golden trial are checked here
    spec = bundle.contract.robot
    session = AgentSession(bundle, greedy=given.greedy)
    robot = Robot(session)
    session.reset(task=True)
    session.act(*robot.read())  # the first call of a process is slow: never while the robot moves
    session.reset(task=True)
    gc.collect()
    gc.freeze()
    gc.disable()
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup outlives its terminal
            signal.signal(number, end)
    try:
        cadence = Cadence(spec.control_period)
        for _ in range(round(given.seconds / spec.control_period)):
            if session.steps == spec.episode_steps:
                session.end_episode(*robot.read(), terminated=False)
                gc.collect()
                session.reset()
                cadence.start()
            robot.send(session.act(*robot.read()))
            cadence.wait()
            session.observe(0.0)  # the reward of your task
    finally:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not interrupt the stop
        robot.stop()
    print(json.dumps(cadence.report.to_json()))


if __name__ == "__main__":
    try:
        main()
    except SuppleError as error:  # the robot is stopped
        sys.exit(f"loop.py: {error}")
