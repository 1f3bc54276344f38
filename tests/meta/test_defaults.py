"""What a caller may leave out means the same in all learners and agents: sampled choices, one row, seed 0, the CPU."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from supple.meta.baselines.distral_learner import DistralLearner
from supple.meta.baselines.ppo_agent import PpoAgent
from supple.meta.baselines.ppo_learner import PpoLearner
from supple.meta.baselines.sac_agent import SacAgent
from supple.meta.baselines.sac_learner import SacLearner
from supple.meta.gradient.maesn_agent import MaesnAgent
from supple.meta.gradient.maesn_learner import MaesnLearner
from supple.meta.gradient.maml_agent import MamlAgent
from supple.meta.gradient.maml_learner import MamlLearner
from supple.meta.hierarchy.mlsh_actor import HierarchyActor
from supple.meta.hierarchy.mlsh_agent import MlshAgent
from supple.meta.hierarchy.mlsh_learner import MlshLearner
from supple.meta.inference.pearl_agent import PearlAgent
from supple.meta.inference.pearl_finetune import FineTunedPearlAgent
from supple.meta.inference.pearl_learner import PearlLearner
from supple.meta.inference.varibad_agent import VaribadAgent
from supple.meta.inference.varibad_belief import belief_of_cells
from supple.meta.inference.varibad_learner import VaribadLearner
from supple.meta.iterative import IterativeLearner
from supple.meta.memory.recurrent_updater_agent import RecurrentUpdaterAgent
from supple.meta.memory.recurrent_updater_learner import RecurrentUpdaterLearner
from supple.meta.memory.rl2_agent import Rl2Agent
from supple.meta.memory.rl2_learner import Rl2Learner
from supple.meta.row_agent import RowAgent
from supple.meta.simpl.adaptive_agent import SimplAdaptiveAgent
from supple.meta.simpl.agent import SimplAgent
from supple.meta.simpl.learner import SimplLearner
from supple.meta.simpl.spirl import SpirlAgent, SpirlLearner
from supple.meta.simpl.task_tuners import TaskTuners

USUAL: dict[str, Any] = {"greedy": False, "greedy_tuning": False, "seed": 0, "rollouts": 1, "device": "cpu"}
LEARNERS: list[Any] = [
    DistralLearner,
    MaesnLearner,
    MamlLearner,
    MlshLearner,
    PearlLearner,
    PpoLearner,
    RecurrentUpdaterLearner,
    Rl2Learner,
    SacLearner,
    SimplLearner,
    SpirlLearner,
    VaribadLearner,
]
CALLS: list[Callable[..., Any]] = [
    *LEARNERS,
    *(learner.agent for learner in LEARNERS),
    PearlLearner.fine_tuned_agent,
    FineTunedPearlAgent,
    HierarchyActor,
    IterativeLearner,
    MaesnAgent,
    MamlAgent,
    MlshAgent,
    PearlAgent,
    PpoAgent,
    RecurrentUpdaterAgent,
    Rl2Agent,
    RowAgent,
    SacAgent,
    SimplAdaptiveAgent,
    SimplAgent.act,
    SpirlAgent,
    TaskTuners,
    VaribadAgent,
    belief_of_cells,
]


OWN: dict[Callable[..., Any], dict[str, Any]] = {
    FineTunedPearlAgent: {"inference_episodes": 1},
    HierarchyActor: {"random_choice": 0.0},
    MaesnAgent: {"later_scale": 0.5},  # released
    MaesnLearner.agent: {"later_scale": 0.5},
    MamlAgent: {"later_scale": 1.0},
    MamlLearner.agent: {"later_scale": 1.0},
    MlshAgent: {"random_choice": 0.0},
    MlshLearner.agent: {"random_choice": 0.0},
    PearlLearner.agent: {"prior_episodes": None},
    SacLearner: {"tasks": 16, "iterations": 20},
}
"""Further defaults of some; what they mean stands in the docstrings."""


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__qualname__)
def test_what_is_left_out_means_the_same_everywhere(call: Callable[..., Any]) -> None:
    given = {name: one.default for name, one in inspect.signature(call).parameters.items()}
    found = {name: given[name] for name in given.keys() & USUAL if given[name] is not inspect.Parameter.empty}
    assert found
    assert found == {name: USUAL[name] for name in found}
    own = OWN.get(call, {})
    assert {name: given[name] for name in own} == own
