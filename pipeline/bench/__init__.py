"""The benchmark of `supple bench-meta`: robots, learners and cells of the meta-RL results table.

    robots, maze, mujoco_robots  families of robots with their train and test tasks; `robot_record` writes them as JSON
    <learner>                    a learner with its settings (`maml`, `rl2`, ...); `cloning` starts from play data
    cell, *_cells, cells         what a cell is; the cells of a family; all of them
    cell_stages, references      the stages of a cell: training and evaluation, and policies that are not learned
    measures, gate_progress      what else is measured: exploration, success; when a training reached its gates
    beliefs, boards, cell_table  pictures, and the table of cells in the documentation
    learner_exports              which exporter belongs to which learner

A file here has the name of what it brings to the benchmark; the learners themselves are in `supple.meta`, the robots in
`supple.robots`.
"""
