"""What needs torch: from a trained learner to a bundle, and hosts, where a bundle's agent learns by gradients."""
