"""Learners that read the episodes of a task with a recurrent network: RL2, E-RL2 and the recurrent updater."""
