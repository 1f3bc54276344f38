"""The numbers that were published for the mazes and the kitchen, as records to stand beside ours.

Nam, Sun, Pertsch, Hwang, Lim, "Skill-based Meta-Reinforcement Learning", ICLR 2022: mean return of training episodes
over 10 target tasks and 3 seeds, with the stochastic policy; read off the figures, +-.02 (kitchen: +-.05). The goals of
figure 11, in the maze that is seen, are not known: its curves stand beside ours of other goals in the same maze.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedCurve:
    """One curve of one figure."""

    method: str
    tasks: str
    figure: str
    axis: str
    success: Mapping[int, float]
    """By place on the axis; in the kitchen the return, subtasks of 4."""


CURVES: Final[Sequence[PublishedCurve]] = (
    PublishedCurve(
        method="simpl-published",
        tasks="flat-40",
        figure="4",
        axis="episode",
        success={
            21: 0.44,
            30: 0.68,
            40: 0.74,
            60: 0.82,
            80: 0.78,
            100: 0.93,
            150: 0.94,
            200: 0.92,
            300: 0.97,
            400: 1.0,
            490: 1.0,
        },
    ),
    PublishedCurve(
        method="spirl-published",
        tasks="flat-40",
        figure="4",
        axis="episode",
        success={
            0: 0.23,
            21: 0.20,
            30: 0.45,
            40: 0.34,
            60: 0.48,
            80: 0.57,
            100: 0.62,
            150: 0.60,
            200: 0.76,
            300: 0.83,
            400: 0.83,
            490: 0.81,
        },
    ),
    PublishedCurve(
        method="simpl-fig6a-published",
        tasks="flat-40",
        figure="6a",
        axis="episode",
        success={21: 0.46, 40: 0.74, 60: 0.85, 100: 0.94, 200: 0.93, 300: 0.97, 490: 1.0},
    ),
    PublishedCurve(
        method="simpl-fig6a-published",
        tasks="flat-20",
        figure="6a",
        axis="episode",
        success={21: 0.48, 40: 0.65, 60: 0.77, 100: 0.82, 200: 0.89, 300: 0.92, 490: 0.92},
    ),
    PublishedCurve(
        method="simpl-fig6a-published",
        tasks="flat-10",
        figure="6a",
        axis="episode",
        success={21: 0.45, 40: 0.5, 60: 0.6, 100: 0.71, 200: 0.90, 300: 0.92, 490: 0.93},
    ),
    PublishedCurve(
        method="simpl-published",
        tasks="narrow-top",
        figure="6b",
        axis="episode",
        success={20: 0.73, 40: 0.90, 60: 0.92, 100: 0.98, 200: 0.99},
    ),
    PublishedCurve(
        method="spirl-published",
        tasks="narrow-top",
        figure="6b",
        axis="episode",
        success={20: 0.06, 40: 0.22, 60: 0.41, 100: 0.58, 200: 0.68},
    ),
    PublishedCurve(
        method="simpl-published",
        tasks="narrow-bottom",
        figure="6c",
        axis="episode",
        success={20: 0.01, 40: 0.01, 60: 0.13, 100: 0.41, 200: 0.80},
    ),
    PublishedCurve(
        method="spirl-published",
        tasks="narrow-bottom",
        figure="6c",
        axis="episode",
        success={20: 0.33, 40: 0.58, 60: 0.60, 100: 0.62, 200: 0.83},
    ),
    PublishedCurve(
        method="simpl-published",
        tasks="flat-40",
        figure="10",
        axis="inference_episodes",
        success={1: 0.26, 2: 0.32, 5: 0.39, 8: 0.44, 10: 0.47, 20: 0.53},
    ),
    PublishedCurve(
        method="simpl-published",
        tasks="kitchen",
        figure="4",
        axis="episode",
        success={
            21: 1.72,
            30: 2.01,
            40: 2.21,
            50: 2.35,
            60: 2.37,
            80: 2.56,
            100: 2.59,
            120: 2.79,
            150: 2.72,
            198: 2.75,
        },
    ),
    PublishedCurve(
        method="spirl-published",
        tasks="kitchen",
        figure="4",
        axis="episode",
        success={
            0: 0.59,
            21: 0.97,
            30: 0.85,
            40: 1.06,
            50: 1.3,
            60: 0.87,
            80: 1.33,
            100: 1.91,
            120: 1.95,
            150: 2.26,
            198: 2.26,
        },
    ),
    PublishedCurve(
        method="simpl-published",
        tasks="kitchen",
        figure="10",
        axis="inference_episodes",
        success={1: 0.87, 2: 1.11, 5: 1.49, 8: 1.65, 10: 1.75, 20: 1.78},
    ),
    PublishedCurve(
        method="simpl-published",
        tasks="within-30-10-10-0",
        figure="11",
        axis="episode",
        success={50: 0.22, 100: 0.41, 200: 0.60, 400: 0.69, 600: 0.77, 800: 0.80},
    ),
    PublishedCurve(
        method="spirl-published",
        tasks="within-30-10-10-0",
        figure="11",
        axis="episode",
        success={50: 0.12, 100: 0.37, 200: 0.37, 400: 0.48, 600: 0.47, 800: 0.65},
    ),
)
"""Figure 4: success, or return, by episode. Figure 6a: the same by number of train tasks. Figures 6b and
6c: with train goals at the top of the maze, and test goals at the top and at the bottom. Figure 10: by episodes of
inference."""


def make_published(benchmark: str, tasks: str, measure: str = "success") -> list[dict[str, Any]]:
    """Records of the published curves of one task set; empty where none was published.

    Args:
        benchmark: Name of it in the records.
        tasks: Name of the task set.
        measure: `success` or `return`.
    """
    return [
        {
            "benchmark": benchmark,
            "method": curve.method,
            "metric": f"{measure}_stochastic",
            "at": {curve.axis: place},
            "mean": mean,
            "low": None,
            "high": None,
            "n": 30,
            "seeds": [0, 1, 2],
            "tasks": tasks,
            "command": f"digitised from the paper's figure {curve.figure}, +-.0{5 if measure == 'return' else 2}",
            "commit": "",
            "wall_s": None,
            "machine": "",
        }
        for curve in CURVES
        if curve.tasks == tasks
        for place, mean in curve.success.items()
    ]
