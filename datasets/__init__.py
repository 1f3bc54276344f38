"""Unlabeled motion on disk: readers of foreign formats, the episode store, and the window sampler.

    schema      what the arrays mean: names, units, roles, control period, robot
    episode     Episode, and the Reader protocol that every format implements
    formats     the table of formats that can be read; containers and hdf5_layouts name what a path is
    d4rl        reader and writer of D4RL's HDF5 files; hdf5 refuses what a file must not contain
    keyed       the reader of all sources that are named arrays; each of these formats is a small class beside it:
                minari, minari_arrow, robomimic, lerobot, zarr_replay, ogbench, spirl, on episode_groups (HDF5 groups)
                and arrow_columns (Arrow, Parquet)
    side_arrays, source_files   types and names of further arrays; digest, size and growth of the files of a source
    checks      what a person should know of a source: jumps, ends without a reset, axes that hardly move
    limits      are recorded steps within the limits of their robot
    store       opens a zarr v3 episode store; store_writer writes one, layout says how it is encoded, store_metadata
                refuses what its metadata cannot be
    manifest    the list of hashes that names a store's content; publish makes files appear whole or not at all
    verify      checks every byte of a store against its manifest; deep_verify every step, and the sources
    evolve      stores out of stores: append, merge, split; parts says in the provenance which episodes are from where,
                store_source reads a store as a source
    windows     WindowSampler: random windows in memory, one gather per batch
    downloads   fetches files with resume; d4rl_infos knows the addresses of D4RL's data sets
    testing     the contract that every reader must pass

Legend: N steps of all episodes, E episodes, T steps of one episode, dim number of axes, B batch, W window.
"""

from typing import TYPE_CHECKING

from ..lazy import make_getattr

if TYPE_CHECKING:
    from .d4rl import D4RLReader
    from .d4rl_infos import D4RLInfo, load_d4rl_info
    from .d4rl_writer import write_d4rl
    from .downloads import download, downloading
    from .episode import Episode, EpisodeIndex, Reader, ReadOptions, SourceSpec
    from .formats import FORMATS, find_format, open_source
    from .limits import LimitCheck
    from .schema import SCHEMA_VERSION, Feature, Schema
    from .store import EpisodeStore, open_store
    from .store_writer import write_store, writing_store
    from .verify import StoreReport, verify_store
    from .windows import WindowSampler, split_episodes

__all__ = [
    "FORMATS",
    "SCHEMA_VERSION",
    "D4RLInfo",
    "D4RLReader",
    "Episode",
    "EpisodeIndex",
    "EpisodeStore",
    "Feature",
    "LimitCheck",
    "ReadOptions",
    "Reader",
    "Schema",
    "SourceSpec",
    "StoreReport",
    "WindowSampler",
    "download",
    "downloading",
    "find_format",
    "load_d4rl_info",
    "open_source",
    "open_store",
    "split_episodes",
    "verify_store",
    "write_d4rl",
    "write_store",
    "writing_store",
]

__getattr__ = make_getattr(
    __name__,
    {
        "D4RLReader": "d4rl",
        "D4RLInfo": "d4rl_infos",
        "load_d4rl_info": "d4rl_infos",
        "write_d4rl": "d4rl_writer",
        "download": "downloads",
        "downloading": "downloads",
        "Episode": "episode",
        "EpisodeIndex": "episode",
        "Reader": "episode",
        "ReadOptions": "episode",
        "FORMATS": "formats",
        "find_format": "formats",
        "open_source": "formats",
        "SourceSpec": "episode",
        "LimitCheck": "limits",
        "SCHEMA_VERSION": "schema",
        "Feature": "schema",
        "Schema": "schema",
        "EpisodeStore": "store",
        "open_store": "store",
        "write_store": "store_writer",
        "writing_store": "store_writer",
        "StoreReport": "verify",
        "verify_store": "verify",
        "WindowSampler": "windows",
        "split_episodes": "windows",
    },
)
