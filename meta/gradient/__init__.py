"""Learners that adapt by gradient steps: MAML and its variants, learned update rules, MAESN."""
