"""Meta-reinforcement learning over skills or raw actions: spaces, rollout loop, episode pool and learners."""
