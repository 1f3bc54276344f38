"""Deployment: policy bundles, a runtime that acts without torch, safety limits, and the adaptation loop.

    contract   what a bundle promises: robot, action space, networks, shapes
    networks   the forward passes in numpy, in rows
    encoder    the task encoder in numpy: from what was seen to a task embedding
    golden     recorded inputs and outputs that every loading of a bundle recomputes
    bundle     a bundle on disk: written whole or not at all, verified before it is used
    runtime    `NumpyPolicy`: one robot, one observation in, one action out
    policy     a bundle as a torch agent that can be adapted
    safety     limits, rate limits and a latched stop between any policy and any robot
    loop       adaptation to a new task (this and `policy` load torch)

Learners that are not SiMPL:

    bundle_folder    the files of a bundle, whatever they mean
    learner_contract what such a bundle promises; `learner_bundle` reads and writes it
    agent_runtime    the calls of an agent in numpy, and the noise that it draws
    golden_trial     a recorded trial of the trainer's agent, which every loading plays again
    rows             what agents compute in numpy, and `rows.loop`: episodes and steps of adaptation on a robot
    learners         the kinds of learners by name; each is a `kind_*` in numpy and an `export_*` from the trainer

Nothing is imported here, so that a robot controller loads a bundle with numpy and safetensors alone.
"""
