"""`supple replay`: what logs alone say about a policy, before it moves a robot.

- `logs`: logs (bags, files, a store) become one verified episode store
- `section`: what each part is given (`Replay`) and what it returns (`Section`)
- `kept`: intermediate results on disk: a replay that was killed goes on, and ends with the same numbers
- `open_loop`: actions of the policy on the logged observations: error, likelihood, skills, limits, latency
- `predictions`: these actions beside the logged ones as an MCAP log
- `off_policy`: the return that the policy would have had, estimated from the rewards of the log
- `simulator`: logged commands through the simulator: delay, gain, bias, sign and unit of each joint
- `rehearsal`: the task is inferred from the first logged episodes, and the rest is predicted
- `verdict`: trust, caution or do not use: the rule, from the grounds of all sections
- `page`: one HTML page, and the same as JSON
"""
