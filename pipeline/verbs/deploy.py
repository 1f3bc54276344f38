"""The verb `deploy`: the folder for a robot's computer."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from ..cli_common import Common, Options, Runner


@dataclass(frozen=True, slots=True, kw_only=True)
class Deploy:
    """Arguments of `supple deploy`."""

    bundle: tyro.conf.Positional[Path]
    """A policy bundle, adapted or not, or a folder of `export` or `run` that holds one."""
    out: Path
    """Folder to make; it must not exist."""
    options: Common = field(default_factory=Options)

    def execute(self, runner: Runner) -> None:
        """Writes the folder, and prints the parity of each runtime."""
        from ..deploy.folder import make_folder

        interface = make_folder(self.bundle, self.out)
        lines = [f"{self.out}: {interface['kind']} policy, {1.0 / interface['control_period']:g} Hz; compared:"]
        lines += [f"  {name:<12} {describe_parity(found)}" for name, found in interface["parity"].items()]
        lines.append(f"  supple/ loads in {interface['import_ms']:g} ms after numpy")
        facts = {name: interface[name] for name in ("bundle", "kind", "adapted", "parity", "import_ms")}
        runner.view.record("deployed", {"path": str(self.out), **facts}, "\n".join(lines))


def describe_parity(found: Any) -> str:
    """The largest differences on one line."""
    if isinstance(found, str):
        return found
    return "; ".join(
        f"{name} inputs: " + ", ".join(f"{output} {difference:.1e}" for output, difference in largest.items())
        for name, largest in found.items()
    )
