"""Runs the real d4rl package on one file, in a process of its own: `reference_sequences.py FILE OUT.npz [MAX_STEPS]`.

d4rl imports gym, termcolor and mujoco_py, which do not install beside current packages; `sequence_dataset` needs only a
handful of names from them.
"""

import collections
import collections.abc
import importlib
import os
import sys
import tempfile
import types
import warnings

import gymnasium
import numpy as np


def main() -> None:
    source, target, *rest = sys.argv[1:]
    warnings.simplefilter("ignore")
    os.environ.update(D4RL_SUPPRESS_IMPORT_ERROR="1", D4RL_DATASET_DIR=tempfile.mkdtemp())
    sys.modules["gym"] = gymnasium
    for name in ("spaces", "utils", "utils.seeding", "envs", "envs.registration", "error", "core", "logger"):
        sys.modules[f"gym.{name}"] = importlib.import_module(f"gymnasium.{name}")
    sys.modules["gym.envs.mujoco"] = None  # d4rl reports the environments that it cannot import, and goes on
    gymnasium.utils.colorize = lambda text, *_, **__: text
    for name in ("termcolor", "click"):
        sys.modules[name] = types.SimpleNamespace(colored=lambda text, *_, **__: text)
    sys.modules["mujoco_py"] = None
    collections.Mapping = collections.abc.Mapping
    import d4rl
    from d4rl.offline_env import OfflineEnv

    class FileEnv(OfflineEnv):
        _max_episode_steps = int(rest[0]) if rest else 10**9
        observation_space = gymnasium.spaces.Box(-1.0, 1.0, (4,))
        action_space = gymnasium.spaces.Box(-1.0, 1.0, (2,))

    env = FileEnv()
    arrays = {}
    for number, episode in enumerate(d4rl.sequence_dataset(env, env.get_dataset(source))):
        for key, value in episode.items():
            arrays[f"{number}|{key}"] = value
    np.savez(target, **arrays)


if __name__ == "__main__":
    main()
