"""How the chunks of a store are compressed, by name."""

from typing import Literal

Compression = Literal["none", "zstd"]
"""`none` reads and writes at the speed of memory; `zstd` (level 1) trades that speed for some 10-30 % of the space."""
