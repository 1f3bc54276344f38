"""The learners that a bundle may hold, besides SiMPL.

    kinds     the table of them, by name
    kind_*    an agent in numpy, one file for each kind
    export_*  from the trainer's learner to a bundle; `exported` has what is the same for all
    host_*    gradient steps between episodes, where a kind needs them; `host` has what is the same for all
    plain_policy   what a task came to, as a bundle of its own

`kinds` and `kind_*` load without torch; the others, with `torch_rows` and `step_seeded`, load it.
"""
