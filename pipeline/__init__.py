"""Stages, run folders, the `supple` command line and reports; the only package that knows run folders.

How a stage is run stands in this folder: `stage` with its keys, folders, checkpoints, metrics and progress; `presets`
of the whole chain; `cli`, the entry point; toys for tests. Below it:

    stages   the chain: generate, ingest, extract, meta-train, export, adapt
    bench    the meta-RL benchmark: robots, learners, cells and their stages
    results  records, tables and plots from finished runs
    report   the HTML page of a run
    verbs    the verbs of the command line
"""
