"""Reference policies that are made for a robot and not learned, and what is exactly the best that any can do."""
