"""Deployment: policy bundles, agents that act and adapt without torch, safety limits, and the adaptation loop.

    contract       what a bundle promises; `settings` reads its objects
    bundle         a bundle on disk, written whole or not at all, verified before use; `bundle_folder` has its files
    version_1      reads bundles of SiMPL from before all learners had one contract
    golden_trial   a recorded trial of the trainer's agent, which every loading plays again
    runtime_agent  the calls of an agent in numpy, and the noise that it draws
    agents         the agents of all learners, one file for each, and the table of them
    loop           episodes of N tasks, steps of adaptation between them, and evaluation on a fork of the agent
    numpy_policy   one robot, one observation in, one action out, within microseconds
    safety, audit  limits, rate limits and a latched stop between any policy and any robot, and their log
    guards         caps, canary episodes and roll-back; `policy_change` measures updates, `guard_config` has limits
    watch          between the loop and the limits: `takeover` by a person, `task_monitor`, `novelty` of what happens
    watchdog       a second process that stops the robot when the controlling process falls silent
    host           what needs torch: from a trained learner to a bundle, and learning by gradients between episodes

What agents are made of: `spaces`, `networks`, `policies`, `policy_settings`, `distribution`, `recurrent_cells`,
`task_encoder`, `transitions`, `advantage`.

Nothing is imported here, so that a robot controller loads a bundle with numpy and safetensors alone.
"""
