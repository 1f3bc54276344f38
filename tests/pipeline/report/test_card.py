from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from supple.datasets import EpisodeStore, open_store, write_store
from supple.datasets.evolve import splitting
from supple.datasets.store_source import read_episodes
from supple.errors import SuppleError
from supple.pipeline.cli import main
from supple.pipeline.report.card import SECTIONS, make_card, make_end_table
from supple.pipeline.report.cells import LEVELS, draw_cells, pool
from supple.pipeline.report.store_survey import BINS, survey_store
from supple.pipeline.report.style import make_axes


def test_the_numbers_of_a_survey_are_those_of_the_data(hostile_store: EpisodeStore) -> None:
    survey, store = survey_store(hostile_store), hostile_store
    observation, action = store.load("observation").astype(np.float64), store.load("action")
    for axis, (counts, edges) in enumerate(survey.histograms["observation"]):
        assert counts.sum() == store.rows
        np.testing.assert_array_equal(counts, np.histogram(observation[:, axis], edges)[0])
    number = 77
    part = slice(int(store.episodes.start[number]), int(store.episodes.start[number] + store.episodes.length[number]))
    std = observation.std(0)
    np.testing.assert_allclose(survey.motion[:-1, number], observation[part].std(0)[:-1] / std[:-1], rtol=1e-5)
    assert survey.motion[-1].max() == 0.0, "an axis that never moves"
    assert [one.axis for one in survey.ranges["observation"] if one.constant] == ["x" * 300]
    assert any("1 axes hardly move" in finding for finding in survey.findings)
    assert survey.at_high is not None
    np.testing.assert_allclose(survey.at_high[:, number], (action[part] == 1.0).mean(0))
    rows = make_end_table(store, survey).groups[""]
    assert rows[0][2] == f"{100 * (action[:, 0] == 1.0).mean():.2g} %"
    assert all(plane.counts.shape == (BINS, BINS) and plane.counts.sum() == store.rows for plane in survey.planes)
    assert [record["rate"] for record in survey.quality["/../../x"] if record] == [100.0 + n for n in range(130)]


def test_quality_follows_its_episodes_through_a_split(hostile_store: EpisodeStore, tmp_path: Path) -> None:
    list(splitting(hostile_store.path, tmp_path / "out", {"part": [5, 3, 99]}))
    survey = survey_store(open_store(tmp_path / "out" / "part"))
    assert [record["rate"] for record in survey.quality["/../../x"] if record] == [105.0, 103.0, 199.0]


def test_the_first_component_is_the_direction_of_most_spread(hostile_store: EpisodeStore, tmp_path: Path) -> None:
    """Three axes that move as one, and noise: nearly all variance is in two components."""
    rng = np.random.default_rng(1)
    episodes = list(read_episodes(hostile_store))
    for episode in episodes:
        observation = episode.arrays["observation"]
        observation[:] = 0.3 * observation[:, :1] + 1e-3 * rng.normal(size=observation.shape)
    store = write_store(tmp_path / "store", episodes, hostile_store.schema, {})
    title = survey_store(store).planes[0].title
    share = float(title.partition("with ")[2].partition(" %")[0])
    assert 90 < share <= 100


def test_the_card_is_the_same_for_the_same_store_and_has_every_section(
    card: Path, tiny_run: Path, tmp_path: Path, capsys: Any
) -> None:
    text = card.read_text()
    assert main(["info", str(tiny_run / "ingest"), "--html", str(tmp_path / "a" / "card.html")]) == 0
    assert "card.html: axes, episodes" in capsys.readouterr().out
    assert (tmp_path / "a" / "card.html").read_text() == text
    assert all(f'<section id="{name}">' in text for name in SECTIONS)
    assert "Only bags do." in text


def test_hostile_names_are_text(hostile_card: Path, hostile: ModuleType) -> None:
    text = hostile_card.read_text()
    assert hostile.SCRIPT not in text
    assert "<img" not in text
    assert "\u202e" not in text


def test_cells_are_as_opaque_as_their_value() -> None:
    _, axes = make_axes(2.0, 2.0)
    values = np.array([[0.0, np.nan, 1.0], [0.5, 0.01, 1.0]])
    draw_cells(axes, values, np.arange(4.0), np.arange(3.0), 1.0)
    found: dict[float | None, int] = {patch.get_alpha(): len(patch.get_path().vertices) // 5 for patch in axes.patches}  # type: ignore[attr-defined]
    assert found == {1 / LEVELS: 1, 0.5: 1, 1.0: 2}


def test_pooling_keeps_the_mean_and_leaves_out_what_is_missing() -> None:
    means, edges = pool(np.array([[1.0, 3.0, np.nan, 5.0, np.nan, np.nan]]), 3)
    np.testing.assert_array_equal(edges, [0, 2, 4, 6])
    np.testing.assert_array_equal(means, [[2.0, 5.0, np.nan]])


def test_a_card_is_refused_where_it_would_be_lost(tiny_run: Path, tmp_path: Path, capsys: Any) -> None:
    assert main(["info", "--html", str(tmp_path / "card.html")]) == 2
    assert "--html: expected a store with it" in capsys.readouterr().err
    with pytest.raises(SuppleError, match="expected a place of its own"):
        make_card(tiny_run, tiny_run / "ingest" / "card.html")
    with pytest.raises(SuppleError, match="expected a file to write, got a folder"):
        make_card(tiny_run, tmp_path)
