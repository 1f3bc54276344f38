"""The table of the meta-RL benchmark's cells in the documentation, made from the cells themselves."""

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
