"""The fine-tuners of several rows: settings and seeds reach each of them."""

import pytest
import torch

from supple.meta.simpl.config import FinetuneConfig, SpirlConfig
from supple.meta.simpl.finetune import Finetuner
from supple.meta.simpl.spirl import SpirlAgent
from supple.meta.simpl.task_tuners import TaskTuners
from supple.meta.space import RawSpace
from supple.meta.testing import PointBatch

from .test_finetune import draw_episodes

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


def test_each_row_that_has_a_policy_learns_from_its_own_episode_and_no_other_row_does() -> None:
    config = FinetuneConfig(batch=4, pool_episodes=8, min_transitions=1, reuse_rate=12.0)
    tuners = TaskTuners(SPACE, 2, (4,), config)
    tuners.begin_task(3)
    tuners.begin(1, NOTHING, 2)
    episodes = draw_episodes(3)
    # one transition each, 12 uses of it in batches of 4
    assert tuners.observe(episodes) == [0, 3, 0]
    assert [tuner is None for tuner in tuners.tuners] == [True, False, True]
    tuner = tuners.tuners[1]
    assert tuner is not None
    assert tuner.pool.num_transitions().tolist() == [1]
    assert torch.equal(tuner.pool.tensors["latent"][0, 0], episodes.latent[1, 0])
    assert {int(kept["step"]) for kept in tuner.optimisers["critic"].state.values()} == {3}


@pytest.mark.parametrize("norm", [False, True])
def test_the_norm_of_critics_reaches_critics_and_targets(norm: bool) -> None:
    agent = SpirlAgent(SPACE, 2, 3, SpirlConfig(hidden=(4,), critic_norm=norm, finetune=CONFIG))
    agent.begin_task(1)
    (tuner,) = agent.tuners
    assert tuner is not None
    assert (tuner.critic.norm, tuner.target_critic.norm) == (norm, norm)
