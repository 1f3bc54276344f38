"""Each departure of the preset `maze` that is no matter of size, switched off by itself, at half the budget.

    supple sweep benchmarks/ablations.py:half benchmarks/ablations.py:no-relabelling --seeds 0:3 --out runs/ablations
    python -m benchmarks.results.collect_sweep runs/ablations

`half` is the preset `maze` without logs and with half of its meta-training. Every other preset differs from it in one
departure alone, which has its published value. `--reuse RUN` behind `--` takes the skills of another run of the same
seed over.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from supple.meta.simpl.config import FinetuneConfig
from supple.pipeline.learners import SimplSettings
from supple.pipeline.presets import PRESETS as PUBLISHED
from supple.pipeline.presets import RunConfig
from supple.pipeline.settings.map_logs import MapConfig

MAZE = PUBLISHED["maze"]
LEARNER = MAZE.learner
assert isinstance(LEARNER, SimplSettings)

HALF = replace(
    MAZE,
    map=MapConfig(enabled=False),
    learner=replace(LEARNER, config=replace(LEARNER.config, epochs=LEARNER.config.epochs // 2)),
    adapt=replace(MAZE.adapt, episodes=40, evaluate_at=(21,)),
)


def ablate(config: Mapping[str, Any] | None = None, deployment: Mapping[str, Any] | None = None) -> RunConfig:
    """`HALF` with other settings of meta-training and of adaptation."""
    learner = HALF.learner
    assert isinstance(learner, SimplSettings)
    return replace(
        HALF,
        learner=replace(
            learner,
            config=replace(learner.config, **config or {}),
            deployment=replace(learner.deployment, **deployment or {}),
        ),
    )


PRESETS: dict[str, RunConfig] = {
    "half": HALF,
    "no-relabelling": ablate({"relabel": False}),
    "no-reward-head": ablate({"reward_prediction": 0.0}, {"search": "blind"}),
    "blind-search": ablate(deployment={"search": "blind", "keep_searching": False, "learn_from_exploration": False}),
    "uniform-draws": ablate({"success_batch": 0, "context_episodes": 0}),
    "published-finetuning": ablate(
        deployment={"finetune": FinetuneConfig(learning_rate=3e-4, target_rate=0.005, critic_updates_first=0)}
    ),
    "published-multipliers": ablate(
        {
            "multiplier_learning_rate": 3e-4,
            "only_increase": True,
            "policy_kl_prior": (3e-3, 0.5),
            "policy_kl_posterior": (1e-3, 1.0),
        }
    ),
    "published-steps": ablate({"learning_rate": 3e-4, "target_rate": 0.005}),
}
"""A reward head that was never trained cannot direct a search: `no-reward-head` searches blindly."""
