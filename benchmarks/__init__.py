"""What measures Supple and what reproduces papers: run from a checkout, no part of what is installed."""
