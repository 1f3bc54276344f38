"""Learners of shared sub-policies that a master of each task chooses from: MLSH."""
