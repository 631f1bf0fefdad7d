"""The chart of a burst: the age of the oldest due outcome, and the workers, over time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl

from benchmarks.simulation.model import Course

mpl.use("svg")

from matplotlib import pyplot as plt

#: A picture is the same whoever draws it: names of its parts come from this, not from dice.
SETTINGS = {"svg.hashsalt": "tasks_app", "svg.fonttype": "none", "font.size": 9}


def draw(courses: Mapping[str, Course], target: float, path: Path) -> None:
    """Draw each course's ages above its workers, with the target as a line, into an SVG."""
    with plt.rc_context(SETTINGS):
        figure, (ages, workers) = plt.subplots(
            2, sharex=True, figsize=(7.5, 4.5), height_ratios=(3, 1), layout="constrained"
        )
        for name, course in courses.items():
            minutes = [moment / 60 for moment in course.moments]
            ages.plot(minutes, course.ages, label=name)
            workers.step(minutes, course.workers, where="post")
        ages.axhline(target, color="grey", linestyle=":", label=f"target, {target:g} s")
        ages.set_ylabel("age of the oldest due outcome, s")
        ages.legend()
        workers.set_ylabel("workers")
        workers.set_xlabel("minutes")
        workers.set_ylim(bottom=0)
        for axes in (ages, workers):
            axes.grid(alpha=0.3)
            axes.set_facecolor("white")
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        plt.close(figure)
