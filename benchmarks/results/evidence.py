"""Tables of what is known of each format and message type: one row each, from the records of three benchmarks.

`fuzz` (reliability.json) counts damaged recordings, `formats` and `message-types` (speed.json) compare with the
format's own library. A row without one of them says "not measured".
"""

from collections.abc import Sequence

from .records import Record, group

TITLES = {
    "d4rl": "D4RL HDF5",
    "minari-hdf5": "Minari, HDF5",
    "minari-arrow": "Minari, Arrow",
    "minari-parquet": "Minari, Parquet",
    "robomimic": "robomimic HDF5",
    "lerobot-2.1": "LeRobotDataset v2.1",
    "lerobot-3.0": "LeRobotDataset v3.0",
    "lerobot-2.1-video": "LeRobotDataset v2.1, pictures of its videos",
    "lerobot-3.0-video": "LeRobotDataset v3.0, pictures of its videos",
    "zarr": "zarr v2 replay buffer",
    "zarr-zip": "the same, `.zarr.zip`",
    "ogbench": "OGBench `.npz`",
    "spirl": "SPiRL rollouts",
    "mcap": "ROS 2 folder, MCAP of rosbags, which writes no CRC",
    "mcap-file": "the same, compressed by file",
    "plain": "MCAP, not compressed",
    "plain-zstd": "MCAP, zstd",
    "plain-unchunked": "MCAP without chunks",
    "sqlite": "ROS 2 folder, SQLite",
    "sqlite-message": "the same, compressed by message",
    "rosbag1": "ROS 1 bag",
    "rosbag1-lz4": "ROS 1 bag, lz4",
}
"""Layouts of recordings as the tables call them."""
_MISSING = "not measured"


def render_formats(speed: Sequence[Record], reliability: Sequence[Record]) -> str:
    """Markdown: a row for each layout that was measured in either."""
    fuzz = {record.method: record for record in reliability if record.benchmark == "fuzz"}
    return _render(
        "format", "steps per second", TITLES, _by_method(speed, "formats"), fuzz, "mutants", "unnoticed, of all"
    )


def render_types(speed: Sequence[Record]) -> str:
    """Markdown: a row for each message type."""
    found = _by_method(speed, "message-types")
    damage = {name: rows["damaged payloads"] for name, rows in found.items() if "damaged payloads" in rows}
    titles = {name: f"`{name.replace('/msg/', '/')}`" for name in found}
    return _render("message type", "messages per second", titles, found, damage, "payloads", "read as other numbers")


def _by_method(records: Sequence[Record], benchmark: str) -> dict[str, dict[str, Record]]:
    rows = [record for record in records if record.benchmark == benchmark and ", " not in record.method]
    return {name: {one.metric: one for one in ones} for name, ones in group(rows, lambda one: one.method).items()}


def _render(
    what: str,
    rate: str,
    titles: dict[str, str],
    speed: dict[str, dict[str, Record]],
    damage: dict[str, Record],
    unit: str,
    silent: str,
) -> str:
    lines = [
        f"| {what} | values equal to those of | damaged {unit} | {silent} | crashed, hung | {rate} "
        "| against the library |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, title in titles.items():
        rows = speed.get(name, {})
        equal, fast, ratio = (rows.get(key) for key in ("values equal", rate, f"{rate} against the library"))
        counts = damage[name].counts if name in damage else {}
        cells = [
            title,
            _MISSING if equal is None else f"{equal.peer}: {equal.mean or 0.0:.0%} of {equal.n:,}",
            f"{counts['injected']:,}" if counts else _MISSING,
            f"{counts['silent'] / counts['injected']:.1%}" if counts else _MISSING,
            f"{counts['crashed']}, {counts['hung']}" if counts else _MISSING,
            _MISSING if fast is None else f"{fast.mean or 0.0:,.0f}",
            _MISSING if ratio is None else f"{ratio.ratio or 0.0:.2g} x",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def render_faults(records: Sequence[Record]) -> str:
    """Markdown: single faults in the learners by folder, and how many of them the tests noticed."""
    lines = ["| folder | files | faults | noticed | of which hung | not noticed |", "|---|---|---|---|---|---|"]
    folders = group(records, lambda record: record.method.rpartition("/")[0])
    for folder, rows in [*sorted(folders.items()), ("all", list(records))]:
        count = {name: sum(row.counts[name] for row in rows) for name in rows[0].counts}
        noticed = count["injected"] - count["silent"]
        cells = [len(rows), count["injected"], f"{noticed} ({noticed / count['injected']:.1%})", count["hung"]]
        name = folder if folder == "all" else f"`{folder}/`"
        lines.append("| " + " | ".join(str(cell) for cell in [name, *cells, count["silent"]]) + " |")
    return "\n".join(lines)


ESTIMATORS = {
    "FQE": "fitted Q evaluation",
    "WDR": "weighted doubly robust",
    "DR": "doubly robust",
    "WPDIS": "weighted per-decision importance sampling",
    "PDIS": "per-decision importance sampling",
    "WIS": "weighted importance sampling",
    "IS": "importance sampling",
}
"""Methods of off-policy evaluation as the table calls them."""


def render_off_policy(replay: Sequence[Record]) -> str:
    """Markdown: how often the stated 95 % interval of each estimator holds the known value, by log."""
    rows = [record for record in replay if record.benchmark == "ope-tabular"]
    logs = list(dict.fromkeys(str(record.place) for record in rows))
    found = {(record.method, record.metric, str(record.place)): record for record in rows}
    size = {log: found["log", "effective episodes", log].mean or 0.0 for log in logs}
    head = ["estimator", *(f"{log}, worth {size[log]:.0f}" for log in logs)]
    lines = [head, ["---"] * len(head)]
    for method, title in ESTIMATORS.items():
        cells = [found[method, "coverage of the stated interval", log] for log in logs]
        shown = [f"{one.mean or 0.0:.3f} ({one.low or 0.0:.3f} to {one.high or 0.0:.3f})" for one in cells]
        lines.append([title, *shown])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
