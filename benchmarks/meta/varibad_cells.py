"""Settings of variBAD in the cells of the meta-RL benchmark."""

from supple.meta.config import EvaluationConfig, Trial
from supple.meta.inference.config import VaeConfig, VaribadConfig
from supple.pipeline.learners import VaribadSettings
from supple.robots.gridnavi import GridNavi

from ..policies.oracles import gridnavi_bayes_returns
from .cell import Cell, Gate, Reference
from .cell_train import BenchConfig

TRIAL = Trial(episodes=4)

VARIBAD_CELLS: dict[str, Cell] = {
    "demo-varibad": Cell(
        config=BenchConfig(
            robot=GridNavi(num_train=16),
            space="choice",
            learner=VaribadSettings(
                config=VaribadConfig(
                    trial=Trial(episodes=2),
                    trials=8,
                    iterations=4,
                    vae=VaeConfig(hidden=8, embedding=4, decoder="cells", reward_model="bernoulli", buffer_trials=16),
                    policy_hidden=(8,),
                )
            ),
            evaluation=EvaluationConfig(trial=Trial(episodes=2), trials=2),
        ),
        minutes=0.1,
    ),
    "varibad-gridnavi": Cell(
        # larger steps than published, for fewer and larger iterations; a second layer for policy and value function
        config=BenchConfig(
            robot=GridNavi(),
            space="choice",
            learner=VaribadSettings(
                config=VaribadConfig(
                    trial=TRIAL,
                    iterations=1500,
                    vae=VaeConfig(decoder="cells", reward_model="bernoulli", learning_rate=3e-3, updates=4),
                    policy_hidden=(64, 64),
                    epochs=3,
                    clip=0.2,
                    entropy_weight=0.06,
                    anneal_entropy=True,
                    learning_rate=2e-3,
                )
            ),
            evaluation=EvaluationConfig(trial=TRIAL, trials=50),
        ),
        minutes=6,
        gates=(Gate(3.0, 1), Gate(10.0, 2), Gate(10.8, 3), Gate(10.8, 4)),
        references=(
            Reference(
                "bayes-optimal-exact", tuple(gridnavi_bayes_returns(4).tolist()), "benchmarks/policies/oracles.py"
            ),
        ),
    ),
}
"""By name."""
