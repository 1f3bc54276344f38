"""Learners without meta-learning: SAC, PPO and Distral. PEARL and the recurrent updater use parts of them."""
