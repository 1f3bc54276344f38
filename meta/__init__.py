"""Meta-reinforcement learning over skills or raw actions: spaces, the rollout loop, the episode pool and the learners."""
