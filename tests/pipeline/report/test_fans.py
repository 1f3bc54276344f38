from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from supple.meta.space import SkillSpace
from supple.pipeline.report.fans import Fans, compute_fans
from supple.robots.maze_family import Maze
from supple.skills.checkpoint import load_skill_model

MAZE = Maze(layout_size=10, layout_seed=1, episode_steps=60, num_train_tasks=3, num_test_tasks=2)


def draw(space: SkillSpace, seed: int) -> Fans:
    return compute_fans(MAZE, space, skills=5, chain=3, seed=seed)


def test_skills_start_from_one_state_and_are_reproducible(tiny_run: Path) -> None:
    space = SkillSpace(load_skill_model(tiny_run / "extract"))
    fans = draw(space, 0)
    assert [path.shape for path in fans.single] == [(space.horizon + 1, 4)] * 5
    assert [path.shape for path in fans.chains] == [(3 * space.horizon + 1, 4)] * 5
    for paths in fans:
        assert all((path[0] == paths[0][0]).all() for path in paths)
    assert len(np.unique(np.stack(fans.single)[:, -1], axis=0)) == 5
    middle = fans.chains[0][len(fans.chains[0]) // 2]
    assert fans.moving[0][0] == pytest.approx(middle, abs=1e-6)
    assert np.abs(middle[2:]).max() > 0.0  # it moves
    for one, other in zip(draw(space, 0), fans, strict=True):
        assert (np.stack(one) == np.stack(other)).all()
    assert not (draw(space, 1).single[0] == fans.single[0]).all()


def test_chains_end_with_the_episode(tiny_run: Path) -> None:
    space = SkillSpace(load_skill_model(tiny_run / "extract"))
    fans = compute_fans(MAZE, space, skills=2, chain=1000, seed=0)
    assert max(len(path) for path in fans.chains) == MAZE.episode_steps + 1


def test_a_robot_whose_state_cannot_be_set_has_no_second_start(hostile: ModuleType, hostile_run: Path) -> None:
    space = SkillSpace(load_skill_model(hostile_run / "extract"))
    fans = compute_fans(hostile.ROBOT, space, skills=4, chain=9, seed=0)
    assert fans.moving == []
    assert [path.shape for path in fans.chains] == [(31, 3)] * 4  # an episode has 30 steps
