import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from supple.meta.collect import Episodes
from supple.pipeline.report.embedding_map import compute_goal_colors
from supple.pipeline.report.embeddings import compute_map, split_rounds
from supple.skills.gaussian import Gaussian


def test_rounds_are_split_by_row() -> None:
    def numbered(*shape: int) -> torch.Tensor:
        return torch.arange(6.0).reshape(6, *[1] * len(shape)).expand(6, *shape)

    episodes = Episodes(
        numbered(3, 4), numbered(2, 5), Gaussian(numbered(3, 5), numbered(3, 5) + 10), *[numbered()] * 4, numbered(4, 4)
    )
    rounds = split_rounds(episodes, 3)
    assert [part.length.tolist() for part in rounds] == [[0, 1], [2, 3], [4, 5]]
    assert rounds[2].prior.scale[:, 0, 0].tolist() == [14, 15]
    assert rounds[1].path.shape == (2, 4, 4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 1000))
def test_map_keeps_distances_of_flat_embeddings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    plane = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    train, test = rng.normal(size=(9, 2)) * (3.0, 1.0), rng.normal(size=(4, 2))
    found = compute_map(train @ plane + 5, test @ plane + 5, np.ones(9, np.bool_), np.zeros(4, np.bool_))
    both, flat = np.concatenate((train, test)), np.concatenate((found.train, found.test))
    expected = np.linalg.norm(both[:, None] - both, axis=2)
    assert np.linalg.norm(flat[:, None] - flat, axis=2) == pytest.approx(expected, abs=1e-9)
    assert found.train.mean(axis=0) == pytest.approx([0, 0], abs=1e-9)
    assert sum(found.share) == pytest.approx(1.0)
    assert found.train[:, 0].var() >= found.train[:, 1].var()


def test_map_of_one_axis_or_one_task() -> None:
    one = np.array([True])
    single = compute_map(np.array([[1.0], [3.0]]), np.array([[2.0]]), np.ones(2, np.bool_), one)
    assert np.abs(single.train).tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert single.share == (1.0, 0.0)
    alone = compute_map(np.array([[1.0, 2.0]]), np.array([[1.0, 2.0]]), one, one)
    assert alone.test.tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("axes", [1, 2, 5])
def test_goals_of_any_dimension_have_colours(axes: int) -> None:
    goals = np.linspace(-1.0, 1.0, 4)[:, None].repeat(axes, axis=1)
    goals[:, -1] *= -1.0 if axes > 1 else 1.0
    colors = compute_goal_colors(goals, goals[:2])
    assert colors.shape == (4, 3)
    assert ((colors >= 0.0) & (colors <= 1.0)).all()
    assert len(np.unique(colors.round(6), axis=0)) == 4
    alone = compute_goal_colors(goals[:1], goals[:1])
    assert np.isfinite(alone).all()
