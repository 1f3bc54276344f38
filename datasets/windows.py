"""Random windows of fixed length from concatenated episodes, one gather per batch.

Legend: N steps of all episodes, E episodes, B batch, W window (steps), O observation dim, A action dim.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import SpecError

Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def compute_window_starts(start: Indices, length: Indices, window: int) -> Indices:
    """First rows of all windows that lie within one episode, shape (M,), in order of the episodes.

    Args:
        start: First row of each episode, shape (E,).
        length: Rows of each episode, shape (E,); shorter episodes than `window` have no window.
        window: Rows of a window, > 0.
    """
    counts = np.maximum(length - window + 1, 0)
    first = np.cumsum(counts) - counts
    return np.repeat(start - first, counts) + np.arange(counts.sum(), dtype=np.int64)


def split_episodes(episodes: int, validation_fraction: float, seed: int) -> tuple[Indices, Indices]:
    """Splits whole episodes into training and validation, so that no window is seen by both.

    Args:
        episodes: E, > 0.
        validation_fraction: Share of the episodes for validation, 0 <= fraction < 1; rounded, and at least one episode
            when it is above 0 and there are two or more.
        seed: Same seed, same split.

    Returns:
        Sorted episode numbers (training, validation).

    Raises:
        SpecError: no episode, or a fraction outside [0, 1).
    """
    if episodes < 1 or not 0 <= validation_fraction < 1:
        raise SpecError(
            f"split: expected >= 1 episode and a fraction in [0, 1), got {episodes} and {validation_fraction}; "
            "correct the split"
        )
    count = round(episodes * validation_fraction)
    if validation_fraction > 0:
        count = max(count, 1)
    count = min(count, episodes - 1)
    order = np.random.default_rng(seed).permutation(episodes)
    return np.sort(order[count:]), np.sort(order[:count])


class WindowSampler:
    """Draws windows uniformly over all valid starts of the given episodes.

    Args:
        observation: Shape (N, O), float32, C-contiguous; an array in memory or a memory map.
        action: Shape (N, A), likewise.
        start: First row of each episode to draw from, shape (E,).
        length: Rows of each of them, shape (E,).
        window: W, steps, > 0.

    Raises:
        SpecError: shapes or layouts that do not fit, an episode outside the arrays, or no episode of W steps.
    """

    def __init__(
        self,
        observation: npt.NDArray[Any],
        action: npt.NDArray[Any],
        start: npt.NDArray[Any],
        length: npt.NDArray[Any],
        window: int,
    ) -> None:
        rows = len(observation)
        for name, array in (("observation", observation), ("action", action)):
            if array.ndim != 2 or len(array) != rows or array.dtype != np.float32 or not array.flags.c_contiguous:
                raise SpecError(
                    f"WindowSampler: expected {name} as contiguous float32 of shape ({rows}, dim), got {array.dtype} "
                    f"{array.shape}; convert it with np.ascontiguousarray(array, np.float32)"
                )
        if window < 1:
            raise SpecError(f"WindowSampler: expected window >= 1, got {window} steps; correct the window")
        first, count = np.asarray(start, np.int64), np.asarray(length, np.int64)
        if first.ndim != 1 or first.shape != count.shape or np.any((first < 0) | (count < 0) | (first + count > rows)):
            raise SpecError(
                f"WindowSampler: expected episodes within {rows} rows, got starts {first.shape} and lengths "
                f"{count.shape} that reach outside; use the index of the same store"
            )
        self._starts = compute_window_starts(first, count, window)
        if not len(self._starts):
            longest = int(count.max(initial=0))
            raise SpecError(
                f"WindowSampler: expected an episode of >= {window} steps, got at most {longest} steps; "
                "shorten the window or record longer episodes"
            )
        self._window = window
        self._observation = _windows_of(observation, window)
        self._action = _windows_of(action, window)
        self._shapes = ((window, observation.shape[1]), (window, action.shape[1]))

    @property
    def num_windows(self) -> int:
        """M, the number of distinct windows."""
        return len(self._starts)

    @property
    def window(self) -> int:
        """W, steps."""
        return self._window

    def sample(self, batch_size: int, rng: np.random.Generator) -> tuple[Floats, Floats]:
        """B windows drawn with replacement: observation (B, W, O) and action (B, W, A), fresh arrays."""
        return self.gather(self.draw_starts(batch_size, rng))

    def draw_starts(self, batch_size: int, rng: np.random.Generator) -> Indices:
        """First rows of B windows drawn with replacement, shape (B,)."""
        starts: Indices = self._starts[rng.integers(len(self._starts), size=batch_size)]
        return starts

    def take(self, indices: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """The windows of these numbers, 0 <= index < num_windows, shape (B,): (B, W, O) and (B, W, A), fresh arrays.

        Raises:
            SpecError: a number outside the range.
        """
        numbers = np.asarray(indices, np.int64)
        if np.any((numbers < 0) | (numbers >= len(self._starts))):
            raise SpecError(
                f"WindowSampler: expected window numbers in [0, {len(self._starts)}), got {numbers.min()} to "
                f"{numbers.max()}; use num_windows"
            )
        return self.gather(self._starts[numbers])

    def gather(self, starts: Indices) -> tuple[Floats, Floats]:
        """The windows that begin in these rows, which are first rows of windows."""
        batch = len(starts)
        observation_shape, action_shape = self._shapes
        return (
            self._observation[starts].reshape(batch, *observation_shape),
            self._action[starts].reshape(batch, *action_shape),
        )


class PictureWindows:
    """Windows of a `WindowSampler` with the pictures that go with them.

    Args:
        windows: Of the episodes.
        pictures: Shape (N, height, width, channels), uint8; a memory map where they do not fit into memory.
        start: First row of each episode of the arrays, shape (E,), ascending.
        frames: F: that many pictures are seen at once, so that a window has F - 1 pictures before its first step.
            Before the begin of an episode stands its first picture.
    """

    def __init__(
        self, windows: WindowSampler, pictures: npt.NDArray[np.uint8], start: npt.NDArray[Any], frames: int
    ) -> None:
        self._windows, self._pictures, self._frames = windows, pictures, frames
        self._episodes = np.asarray(start, np.int64)

    def sample(self, batch_size: int, rng: np.random.Generator) -> tuple[Floats, Floats, npt.NDArray[np.uint8]]:
        """As `WindowSampler.sample`, and pictures (B, F - 1 + W, height, width, channels)."""
        starts = self._windows.draw_starts(batch_size, rng)
        rows = starts[:, None] + np.arange(1 - self._frames, self._windows.window)
        first = self._episodes[np.searchsorted(self._episodes, starts, side="right") - 1]
        return *self._windows.gather(starts), self._pictures[np.maximum(rows, first[:, None])]


def _windows_of(array: npt.NDArray[np.float32], window: int) -> npt.NDArray[np.float32]:
    """View of shape (N - W + 1, W * dim) whose row i is rows i to i + W - 1 of `array`, end to end.

    Rows overlap in memory, so the view is read-only. A gathered row is one run of bytes, which beats an index array of
    shape (B, W), and needs no (B, W) indices.
    """
    rows, width = array.shape
    return np.lib.stride_tricks.as_strided(
        np.asarray(array),
        shape=(max(rows - window + 1, 0), window * width),
        strides=(width * array.itemsize, array.itemsize),
        writeable=False,
    )
