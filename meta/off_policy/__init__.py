"""Off-policy evaluation: the return of a policy that never ran, from episodes that another one made.

    config.py         settings of what is fitted
    decisions.py      logged decisions, side by side
    importance.py     importance sampling: ordinary, weighted, per decision; effective sample size
    fitted_q.py       fitted Q evaluation: a model of the return, which needs no densities
    doubly_robust.py  both together
    behaviour.py      who made the log: a density, cross-fitted over episodes
    skill_level.py    one decision per skill instead of one per control step
    intervals.py      95 % intervals over episodes
    estimates.py      all of them for one log
    support.py        whether the log holds what the policy would do
    verdict.py        trust, caution, do not use

All but `fitted_q.py` and `behaviour.py`, which train networks, are functions of arrays. They know no robot, no file and
no learner: a policy is the densities of the logged choices and draws of its own.
"""
