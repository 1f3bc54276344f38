"""From finished runs to docs/results/*.json, and from these to tables, pages and plots.

records                 the schema of one measured number
collect_runs, collect_results, collect_meta
                        records out of run folders
published, labels       numbers and names of others' work
pages, learner_tables, figures, panels, cell_figures, departures
                        `make results`: what README and docs show
"""
