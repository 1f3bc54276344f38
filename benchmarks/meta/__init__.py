"""The meta-RL benchmark: learners on the robots and tasks of their papers, `python -m benchmarks.meta CELL`.

cells, *_cells          the cells: settings, published numbers, gates
cell_train, cell_evaluate
                            meta-training and evaluation as stages
oracle, references      what the best policy returns, and policies that are not learned
measures, boards, beliefs, gate_progress
                        what evaluations and trainings have to tell beside returns
"""
