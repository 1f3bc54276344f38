"""Deployment: policy bundles, a runtime that acts without torch, safety limits, and the adaptation loop.

    contract   what a bundle promises: robot, action space, networks, shapes
    networks   the forward passes in numpy, in rows
    bundle     a bundle on disk: written whole or not at all, verified before it is used
    runtime    `NumpyPolicy`: one robot, one observation in, one action out
    safety     limits, rate limits and a latched stop between any policy and any robot
    loop       adaptation to a new task (the only module here that loads torch)

Nothing is imported here, so that a robot controller loads a bundle with numpy and safetensors alone.
"""
