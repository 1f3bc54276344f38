"""Meta-reinforcement learning over skills or raw actions.

What all learners share stands in this folder: action spaces (`space`), the rollout loop (`collect`, `trial`), what a
learner and its agent promise (`adaptive`), policies, advantages, buffers, the evaluation, and the contract as tests
(`testing_learners`). It imports none of the learners, which stand below:

    simpl      SiMPL: the pool of episodes, meta-training, task inference, fine-tuning
    gradient   adaptation by gradient steps: MAML and its variants, learned update rules, MAESN
    memory     adaptation by a recurrent network: RL2, E-RL2, the recurrent updater
    inference  adaptation by a belief about the task: PEARL, variBAD
    hierarchy  shared sub-policies and a master for each task: MLSH
    baselines  no meta-learning: SAC, PPO, Distral

`<algo>.py` holds the losses, `<algo>_learner.py` all that changes in training, `<algo>_agent.py` how it acts and
adapts.
"""
