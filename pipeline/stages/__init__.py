"""The stages of the chain, one file for each, and the two that export and adapt the other learners (`*_learner`)."""
