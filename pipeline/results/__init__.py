"""From finished runs to records in docs/results, and from these to tables and plots.

    summary                       what one run came to
    collect_runs                  reads finished runs of the chain
    collect_results               these in, records out; `published` has the published numbers
    collect_meta                  runs of `supple bench-meta` in, records out
    records                       what a record is
    pages, figures, cell_figures  tables in README.md and docs/, and plots
    departures                    the table of departures from the published run

`make results` runs `pages`.
"""
