"""The verbs that make stores of stores: `append`, `merge` and `split`."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from ...bounds import Seed, Share
from ...datasets.compression import Compression
from ...errors import ConfigError, SpecError
from ..cli_common import Common, Options, Runner
from ..folder import refuse_place
from ..interrupt import Interrupted, catch_signals
from ..settings.ingest import IngestConfig

SPLIT = ("train", "validation")
"""Names of the stores of a split by a fraction."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Append:
    """Arguments of `supple append`."""

    store: tyro.conf.Positional[Path]
    """The store that grows, or a folder of `ingest` with it."""
    sources: tyro.conf.Positional[tuple[Path, ...]]
    """Recordings of any format that `supple ingest` reads, or stores, of the same robot."""
    out: Path | None = None
    """Folder to make; without it, the store itself is replaced in one step. A store in a stage folder needs it."""
    ingest: Annotated[IngestConfig, tyro.conf.arg(name="")] = field(default_factory=IngestConfig)
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the new store; the old one stays until it is whole."""
        from ...datasets.evolve import Addition, appending
        from ...datasets.source_ingest import SourceIngest
        from ...datasets.store import find_store, open_store
        from ..stages.ingest import find_source

        path = find_store(self.store)
        refuse_place(path if self.out is None else self.out, () if self.out is None else (path, *self.sources))
        schema = open_store(path).schema
        config = self.ingest
        found = [
            SourceIngest(
                find_source(one), config, schema.robot, clip_actions=config.clip_actions, clip_share=config.clip_share
            )
            for one in self.sources
        ]
        additions = [
            Addition(str(one), source.source, source.episodes())
            for one, source in zip(self.sources, found, strict=True)
        ]
        run_writer(runner, "append", appending(path, additions, out=self.out))
        for source in found:
            for note in source.notes():
                runner.view.note(f"append: {note}")
        tell_store(runner, self.out or path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """Arguments of `supple merge`."""

    stores: tyro.conf.Positional[tuple[Path, ...]]
    """Stores or folders of `ingest`, of one robot, in the order of their episodes. One is written anew."""
    out: Path
    """Folder to make: the store."""
    compression: Compression | None = None
    """Of the chunks; without it, as in the first store."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes one store of all of them."""
        from ...datasets.evolve import merging

        refuse_place(self.out, self.stores)
        run_writer(runner, "merge", merging(self.stores, self.out, self.compression))
        tell_store(runner, self.out)


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Arguments of `supple split`."""

    store: tyro.conf.Positional[Path]
    """A store, a folder of `ingest` or a run folder."""
    out_dir: Path
    """Folder to make, with one store for each part."""
    fraction: Share | None = None
    """Share of the episodes in `validation`, drawn at random; the others are in `train`."""
    seed: Seed = 0
    """Of that draw."""
    episodes: tuple[str, ...] = ()
    """Instead of a fraction: ranges such as 0:100 100:120; the end does not count. Each is a store of that name."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes all parts, or none."""
        from ...datasets.evolve import splitting
        from ...datasets.store import open_store
        from ...datasets.windows import split_episodes

        if (self.fraction is None) == (not self.episodes):
            raise ConfigError(
                f"split: expected either --fraction or --episodes, got {self.fraction} and {list(self.episodes)}; give "
                "one of them"
            )
        refuse_place(self.out_dir, (self.store,))
        count = len(open_store(self.store).episodes.start)
        if self.fraction is not None:
            try:
                parts = split_episodes(count, self.fraction, self.seed)
            except SpecError as error:
                raise ConfigError(f"--fraction: {error}") from error
            chosen = {name: part.tolist() for name, part in zip(SPLIT, parts, strict=True)}
            for name, numbers in chosen.items():
                if not numbers:
                    raise ConfigError(
                        f"--fraction: expected episodes on both sides, got none of {count} in {name}; "
                        "give another share"
                    )
        else:
            chosen = dict(parse_range(text) for text in self.episodes)
        run_writer(runner, "split", splitting(self.store, self.out_dir, chosen))
        for name in chosen:
            tell_store(runner, self.out_dir / name)


def parse_range(text: str) -> tuple[str, list[int]]:
    """Name of the store and numbers of its episodes, of `10:20`.

    Raises:
        ConfigError: it is no range.
    """
    first, colon, stop = text.partition(":")
    if not (colon and first.isascii() and first.isdigit() and stop.isascii() and stop.isdigit()) or len(text) > 20:
        raise ConfigError(f"--episodes: expected ranges such as 0:100, got {text!r}; give first and end of each")
    if int(first) >= int(stop):
        raise ConfigError(f"--episodes: expected first < end, got {text}; the end does not count")
    return f"episodes-{int(first)}-{int(stop)}", list(range(int(first), int(stop)))


def run_writer(runner: Runner, name: str, steps: Iterator[tuple[int, int | None]]) -> None:
    """Writes to the end, with progress; a signal stops it and leaves what was there.

    Raises:
        Interrupted: a signal asked to stop.
    """
    with catch_signals(runner.stop):
        for number, (rows, total) in enumerate(steps):
            if not number:
                runner.view.start(name, total, 0, "row")
            runner.view.update(rows, {})
            if runner.stop:
                steps.close()  # type: ignore[attr-defined]
                raise Interrupted(name, rows, runner.stop.signal or 2)


def tell_store(runner: Runner, path: Path) -> None:
    """Says what is there now."""
    from ...datasets.parts import describe_repeats, list_parts
    from ...datasets.store import open_store

    store = open_store(path)
    parts = list_parts(store)
    if repeats := describe_repeats(parts):
        runner.view.note(f"{path}: {repeats}")
    facts = {
        "path": str(path),
        "episodes": len(store.episodes.start),
        "rows": store.rows,
        "parts": len(parts),
        "digest": store.digest,
    }
    text = f"{path}: {facts['episodes']} episodes, {store.rows} rows, of {len(parts)} parts; digest {store.digest}"
    runner.view.record("store", facts, text)
