"""What agents compute on a robot, in numpy, for rows at once: spaces, policies, distributions, advantages, the loop."""
