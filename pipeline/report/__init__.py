"""The report of a run: one HTML page (`page`), from what is in the run folder, with its curves, maps and scenes."""
