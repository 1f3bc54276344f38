"""Learners that keep a belief about the task and act by it: PEARL and variBAD."""
