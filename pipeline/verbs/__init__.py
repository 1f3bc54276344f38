"""The verbs of the command line: arguments and output of each; `pipeline/cli.py` says which verb is where."""
