"""The settings of each stage, one file for each, which load no torch: the command line reads them before it works."""
