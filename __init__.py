"""Supple: robots that learn new skills from unlabeled motion and adapt to a new task in a handful of episodes.

The repository root is this package. High to low, a package imports only from packages below it:

    pipeline   stages, run folders, the `supple` command line, the meta-RL benchmark, results and reports
    adapt      policy bundles, the torch-free runtime, the adaptation loop
    meta       outer loops and learners: SiMPL and its baselines, MAML and RL2 with their variants
    skills     the SPiRL skill model: encoder, decoders, skill prior
    datasets   the episode store, D4RL files, window sampling
    robots     specs, tasks, the maze robot, the planner that makes play data, the families of meta-RL
    errors     the typed errors that all of them raise

The docstrings of `pipeline`, `adapt` and `meta` say what their folders hold.

`robots`, `datasets` and what `adapt` runs on a robot load without torch; `import supple` alone loads nothing else.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
