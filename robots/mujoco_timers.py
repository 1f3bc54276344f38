"""MuJoCo's profiling timers, which its Python package switches on.

The package installs a clock, `mjcb_time`, that every `mj_step` reads some thirty times to fill `MjData.timer`. For a
model as small as the maze that is a sixth of the step. The clock has no part in the physics, so the motion is the same
without it (tested). `mujoco.set_mjcb_time(None)` does not remove the clock but puts the package's own back, so the
pointer in the library itself is cleared.
"""

import ctypes
from contextlib import suppress
from pathlib import Path

import mujoco

_LIBRARY = "libmujoco.so.*"
"""The library in the package's folder, as named on Linux; elsewhere the timers are left on and only cost time."""


def stop_timers() -> None:
    """Stops the timers of this process: `MjData.timer` stays at 0 until `mujoco.set_mjcb_time` is called."""
    for path in Path(mujoco.__file__).parent.glob(_LIBRARY):
        with suppress(ValueError):  # a library without this symbol keeps whatever timers it has
            ctypes.c_void_p.in_dll(ctypes.CDLL(str(path)), "mjcb_time").value = None
