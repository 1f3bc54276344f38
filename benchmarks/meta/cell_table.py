"""The tables of the meta-RL benchmark's cells in the documentation: from the cells, and from their records."""

from collections.abc import Sequence

from ..results.records import Record
from .cells import CELLS, Cell, Gate, Reference

PAGE, SECTION = "docs/benchmarks.md", "meta-cells"
"""The page that holds the table, and the name of its section there."""


def describe_gate(gate: Gate, cell: Cell) -> str:
    """`return at gradient_step 1 >= -14`."""
    place = "" if gate.place is None else f" at {cell.axis} {gate.place}"
    return f"{gate.metric}{place} >= {gate.at_least:g}"


def describe_reference(reference: Reference) -> str:
    """`maml-published -40.41, -11.68 (its source)`; the sum over a trial is marked as one."""
    values = ", ".join(f"{value:.4g}" for value in reference.values)
    whole = " whole trial" if reference.metric == "return_trial" else ""
    return f"{reference.method}{whole} {values} ({reference.source})"


def render_cells() -> str:
    """The table in Markdown."""
    lines = [
        "| cell | learner | tasks | axis | gate | published or exact, along the axis | minutes |",
        "|---|---|---|---|---|---|---|",
    ]
    shown: set[tuple[Reference, ...]] = set()
    for name, cell in CELLS.items():
        numbers = "; ".join(describe_reference(reference) for reference in cell.references)
        references = "as above" if numbers and cell.references in shown else numbers
        shown.add(cell.references)
        values = (
            f"`{name}`",
            cell.config.learner.method,
            cell.config.robot.name,
            cell.axis,
            "; ".join(describe_gate(gate, cell) for gate in cell.gates),
            references,
            f"{cell.minutes:g}",
        )
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def render_gates(records: Sequence[Record]) -> str:
    """Markdown: what the records of each cell say about each of its gates."""
    lines = ["| cell | gate | seeds | reached | passed by |", "|---|---|---|---|---|"]
    for name, cell in CELLS.items():
        for gate in cell.gates:
            record = find_record(records, cell, gate)
            if record is not None and record.mean is not None:
                bounds = "" if record.low is None or record.high is None else f" [{record.low:.4g}, {record.high:.4g}]"
                reached = f"{record.mean:.4g}{bounds}"
                values = (f"`{name}`", describe_gate(gate, cell), str(record.seeds), reached, judge_gate(gate, record))
                lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def find_record(records: Sequence[Record], cell: Cell, gate: Gate) -> Record | None:
    """The record that a gate is about; None before the cell was run."""
    asked = (cell.benchmark, cell.config.learner.method, gate.metric)
    for record in records:
        there = gate.place is None or (record.axis, record.place) == (cell.axis, gate.place)
        if there and (record.benchmark, record.method, record.metric) == asked:
            return record
    return None


def judge_gate(gate: Gate, record: Record) -> str:
    """Whether the whole 95 % interval lies above the gate, the mean alone, or neither."""
    if record.low is not None and record.low >= gate.at_least:
        return "the interval"
    return "the mean alone" if record.mean is not None and record.mean >= gate.at_least else "neither"
