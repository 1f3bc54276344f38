"""The contract of a `Reader`, shipped as tests: inherit `ReaderContract` and say how to make a source.

    class TestMyReader(ReaderContract):
        def make_source(self, folder): ...   # writes a small source, returns its path
        def make_reader(self, path): ...

pytest collects the subclass; nothing here needs pytest to be installed.
"""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from ..errors import SourceError
from .episode import Reader
from .store_writer import write_store
from .verify import verify_store


class ReaderContract(ABC):
    """What every reader must do, whatever the format."""

    @abstractmethod
    def make_source(self, folder: Path) -> Path:
        """Writes a source of at least two episodes into `folder`, and returns its path."""

    @abstractmethod
    def make_reader(self, path: Path) -> Reader:
        """A reader of that path; construction must not fail, even if nothing is there."""

    def test_episodes_are_what_describe_promises(self, tmp_path: Path) -> None:
        """Counts, names, shapes and types match the description, and every value is finite."""
        reader = self.make_reader(self.make_source(tmp_path))
        spec = reader.describe()
        episodes = list(reader.episodes())
        assert len(episodes) == spec.episodes >= 2
        assert sum(episode.length for episode in episodes) == spec.rows
        for episode in episodes:
            assert set(episode.arrays) == set(spec.schema.names)
            for feature in spec.schema.features:
                array = episode.arrays[feature.name]
                assert array.shape == (episode.length, *feature.shape)
                assert array.dtype == np.dtype(feature.dtype)
                assert np.isfinite(array).all()

    def test_every_episode_says_how_it_ended(self, tmp_path: Path) -> None:
        """No episode just stops: it is terminated, truncated or both."""
        reader = self.make_reader(self.make_source(tmp_path))
        assert all(episode.terminated or episode.truncated for episode in reader.episodes())

    def test_there_are_observations_and_actions(self, tmp_path: Path) -> None:
        """The two features that skills are learned from have their names and roles."""
        schema = self.make_reader(self.make_source(tmp_path)).describe().schema
        assert {"observation", "action"} <= set(schema.names)
        assert schema.feature("observation").role == "observation"
        assert schema.feature("action").role == "action"

    def test_reading_twice_gives_the_same(self, tmp_path: Path) -> None:
        """Reading has no memory and no chance in it."""
        reader = self.make_reader(self.make_source(tmp_path))
        for first, second in zip(reader.episodes(), reader.episodes(), strict=True):
            assert (first.terminated, first.truncated) == (second.terminated, second.truncated)
            for name, array in first.arrays.items():
                np.testing.assert_array_equal(array, second.arrays[name])

    def test_the_source_is_not_modified(self, tmp_path: Path) -> None:
        """Every byte of the source is the same afterwards, and no file is added."""
        path = self.make_source(tmp_path)
        before = _bytes_below(path)
        reader = self.make_reader(path)
        reader.describe()
        list(reader.episodes())
        assert _bytes_below(path) == before

    def test_a_store_holds_the_same_data(self, tmp_path: Path) -> None:
        """What is read can be stored, and comes back unchanged."""
        reader = self.make_reader(self.make_source(tmp_path))
        spec = reader.describe()
        store = write_store(tmp_path / "store", reader.episodes(), spec.schema, spec.provenance)
        verify_store(tmp_path / "store")
        for name in spec.schema.names:
            whole = np.concatenate([episode.arrays[name] for episode in reader.episodes()])
            np.testing.assert_array_equal(store.load(name), whole)

    def test_provenance_does_not_depend_on_the_folder(self, tmp_path: Path) -> None:
        """The same source elsewhere gives the same provenance, hence the same digest."""
        first, second = tmp_path / "first", tmp_path / "second"
        first.mkdir()
        path = self.make_source(first)
        shutil.copytree(first, second)
        specs = [self.make_reader(place).describe() for place in (path, second / path.relative_to(first))]
        assert specs[0] == specs[1]

    def test_provenance_tells_another_source(self, tmp_path: Path) -> None:
        """One byte more anywhere in the source is another source."""
        path = self.make_source(tmp_path)
        before = self.make_reader(path).describe().provenance
        file = path if path.is_file() else next(file for file in sorted(path.rglob("*")) if file.is_file())
        file.write_bytes(file.read_bytes() + b"\n")
        try:
            after = self.make_reader(path).describe().provenance
        except SourceError:
            return
        assert after != before

    def test_it_says_what_the_source_holds(self, tmp_path: Path) -> None:
        """A person can see the entries of the source, and nothing that is left out lacks a reason."""
        spec = self.make_reader(self.make_source(tmp_path)).describe()
        assert spec.contents
        assert all(spec.contents.values())
        assert all(spec.ignored.values())

    def test_a_missing_source_is_refused(self, tmp_path: Path) -> None:
        """One line that names the path."""
        path = tmp_path / "nothing-here"
        refusal = ""
        try:
            self.make_reader(path).describe()
        except SourceError as error:
            refusal = str(error)
        assert str(path) in refusal
        assert "\n" not in refusal


def _bytes_below(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    return {str(file): file.read_bytes() for file in files}
