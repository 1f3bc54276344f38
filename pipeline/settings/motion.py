"""Whether and how fast a robot is moved."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from ...bounds import Bounded, Range
from ...errors import ConfigError
from ...robots.family import Hardware, RobotFamily
from ...robots.hardware_family import HardwareFamily
from ...robots.limits import RobotLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class MotionConfig(Bounded):
    """A real robot is not moved unless `execute` says so; a simulated one is."""

    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Read the real robot, compute and limit all commands, and send none. Default on a real robot."""
    execute: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Move the real robot. Default in a simulator."""
    slow: Annotated[float, Range(0.0, 1.0, above=True)] = 1.0
    """Share of the speed: it scales velocity limits, its square those of accelerations, its cube those of jerks."""
    limits: Path | None = None
    """TOML file of further limits. It tightens those of the contract and of the model, and adds missing ones."""

    def is_dry(self, family: RobotFamily) -> bool:
        """Whether nothing is sent.

        Raises:
            ConfigError: Both modes are asked for; or a simulator is to stay where it is.
        """
        if self.dry_run and self.execute:
            raise ConfigError("adapt: expected --dry-run or --execute, got both; drop one of them")
        if self.dry_run and not isinstance(family, Hardware):
            raise ConfigError(
                f"adapt --dry-run: expected a real robot, got the simulated '{family.name}'; leave it out"
            )
        return isinstance(family, Hardware) and not self.execute

    def find_limits(self, family: RobotFamily) -> RobotLimits:
        """The limits of a robot that is moved like this.

        Raises:
            ConfigError: A limit is loosened, or a real robot lacks one.
        """
        where = f"adapt on '{family.name}'"
        limits = family.limits() if isinstance(family, HardwareFamily) else RobotLimits.of(family.spec())
        if self.limits is not None:
            limits = limits.override(self.limits)
        if isinstance(family, Hardware):
            limits.require_rates(where)
        if self.slow < 1.0:
            limits = limits.slow_down(self.slow, where)
        return limits.without_tracking() if self.is_dry(family) else limits

    def require_guarded(self, family: RobotFamily) -> None:
        """Refuses to move a real robot that nobody stops when this process dies, and a dry run that would move it.

        Raises:
            ConfigError: The family names no function that stops the robot, and does not say that it stops by itself; or
                it cannot be dry.
        """
        dry = self.is_dry(family)
        if isinstance(family, HardwareFamily):
            if not dry and family.stop is None and not family.stops_by_itself:
                raise ConfigError(
                    f"adapt --execute on '{family.name}': expected a way to stop the robot when this process dies, got "
                    "none; give HardwareFamily(stop=...), or stops_by_itself=True where the robot's own controller "
                    "stops it when commands cease"
                )
        elif dry:
            raise ConfigError(
                f"adapt on '{family.name}': expected a HardwareFamily for a dry run, got {type(family).__name__}; make "
                "it one, or pass --execute"
            )
