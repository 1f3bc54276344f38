"""The agents of all learners in numpy, one file for each, and the table of them."""
