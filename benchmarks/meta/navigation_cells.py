"""Cells of the 2D navigation of Finn et al. that no gradient step adapts, or that nothing was meta-trained for.

Source of the references: Finn, Abbeel, Levine, "Model-Agnostic Meta-Learning for Fast Adaptation of Deep Networks",
ICML 2017 (the results of 2D navigation that the authors' code stores, 40 test tasks).
"""

from supple.meta.baselines.config import DistralConfig, PpoConfig, PpoSteps
from supple.meta.config import EvaluationConfig
from supple.meta.memory.config import RecurrentUpdaterConfig
from supple.pipeline.learners import DistralSettings, LearnerSettings, PpoSettings, RecurrentUpdaterSettings
from supple.robots.navigation import PointNavigation

from .cell import Cell, Gate, Reference
from .cell_train import BenchConfig

FINN = "Finn et al. 2017, the authors' stored results"
NAVIGATION_REFERENCES = (
    Reference("maml-published", (-40.41, -11.68, -3.33, -3.23), FINN),
    Reference("pretrained-published", (-40.8, -19.7, -11.7, -8.5), FINN),
    Reference("random-init-published", (-82.7, -58.0, -53.8, -46.8), FINN),
)
ADAPTATION = PpoSteps(learning_rate=3e-3)
"""Of one step of adaptation: 40 steps of Adam on 40 episodes. 1e-3, 3e-3 and 1e-2 led to returns within .4 of each
other: PPO's clip decides how far a step goes."""
PPO_STEPS = 10
"""Steps of adaptation: more than of the learners that were trained to need few."""


def _cell(learner: LearnerSettings, minutes: float, adapt_steps: int, *gates: Gate) -> Cell:
    return Cell(
        config=BenchConfig(
            robot=PointNavigation(),
            space="unit",
            learner=learner,
            evaluation=EvaluationConfig(adapt_steps=adapt_steps),
        ),
        minutes=minutes,
        gates=gates,
        references=tuple(each._replace(values=each.values[: adapt_steps + 1]) for each in NAVIGATION_REFERENCES),
    )


def _demo(learner: LearnerSettings) -> Cell:
    robot = PointNavigation(num_train=8, num_test=4)
    evaluation = EvaluationConfig(adapt_steps=1)
    return Cell(config=BenchConfig(robot=robot, space="unit", learner=learner, evaluation=evaluation), minutes=0.1)


NAVIGATION_CELLS: dict[str, Cell] = {
    "demo-recurrent-updater": _demo(
        RecurrentUpdaterSettings(
            config=RecurrentUpdaterConfig(
                hidden=(8,), embedding=8, memory=8, rank=2, iterations=4, tasks=2, support=2, query=2, minibatch=2
            ),
            rollouts=2,
        )
    ),
    "demo-ppo": _demo(PpoSettings(config=PpoConfig(hidden=(8,), iterations=4, tasks=2, episodes=2), rollouts=2)),
    "demo-distral": _demo(
        DistralSettings(config=DistralConfig(hidden=(8,), iterations=4, tasks=2, episodes=2), rollouts=2)
    ),
    "recurrent-updater-2d-navigation": _cell(
        RecurrentUpdaterSettings(
            config=RecurrentUpdaterConfig(activation="relu", tasks=20, query=10, epochs=3, minibatch=5)
        ),
        3,
        1,
        Gate(-12.0, 1),
    ),
    "ppo-2d-navigation": _cell(
        PpoSettings(
            config=PpoConfig(iterations=60, training=PpoSteps(learning_rate=1e-3, epochs=5), adaptation=ADAPTATION)
        ),
        1,
        PPO_STEPS,
    ),
    "ppo-scratch-2d-navigation": _cell(
        PpoSettings(method="ppo-scratch", config=PpoConfig(iterations=0, adaptation=ADAPTATION)), 1, PPO_STEPS
    ),
    "distral-2d-navigation": _cell(
        DistralSettings(config=DistralConfig(training=PpoSteps(learning_rate=3e-3, epochs=5), adaptation=ADAPTATION)),
        1,
        PPO_STEPS,
    ),
}
"""By name."""
