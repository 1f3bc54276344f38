"""The fine-tuners of several rows: settings and seeds reach each of them."""

import pytest
import torch

from supple.meta.simpl.config import FinetuneConfig, SpirlConfig
from supple.meta.simpl.finetune import Finetuner
from supple.meta.simpl.spirl import SpirlAgent
from supple.meta.simpl.task_tuners import TaskTuners
from supple.meta.space import RawSpace
from supple.meta.testing import PointBatch

SPACE = RawSpace(PointBatch(1).spec, torch.zeros(2), torch.ones(2))
CONFIG = FinetuneConfig(batch=4, pool_episodes=8)
NOTHING = torch.zeros(0)


def test_each_row_draws_its_weights_from_a_seed_of_its_own() -> None:
    tuners = TaskTuners(SPACE, 2, (4,), CONFIG, seed=5)
    tuners.begin_task(2)
    assert tuners.tuners == [None, None]
    for row in range(2):
        tuners.begin(row, NOTHING, 3)
        alone = Finetuner(SPACE, 2, 3, NOTHING, (4,), CONFIG, 5 + row)
        tuner = tuners.tuners[row]
        assert tuner is not None
        for name, value in alone.state_dict().items():
            assert torch.equal(tuner.state_dict()[name], value), name
        assert torch.equal(tuner.generator.get_state(), alone.generator.get_state())


@pytest.mark.parametrize("norm", [False, True])
def test_the_norm_of_critics_reaches_critics_and_targets(norm: bool) -> None:
    agent = SpirlAgent(SPACE, 2, 3, SpirlConfig(hidden=(4,), critic_norm=norm, finetune=CONFIG))
    agent.begin_task(1)
    (tuner,) = agent.tuners
    assert tuner is not None
    assert (tuner.critic.norm, tuner.target_critic.norm) == (norm, norm)
