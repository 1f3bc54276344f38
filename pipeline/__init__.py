"""Stages, run folders, the `supple` command line and reports; the only package that knows run folders."""
