"""SiMPL: its networks and losses, the pool of episodes, meta-training, task inference and fine-tuning."""
