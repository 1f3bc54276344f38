"""Robots, tasks, specs and the planner that makes play data. Loads no torch: a control process must start fast."""
