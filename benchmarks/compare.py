"""
Compare: this project and its peers in one run, told as ratios against what is wanted.

Each part adds its figures to one sheet, which is written when the part has ended: a run that is
interrupted has lost one part, and `--only PART …` measures some again and keeps the others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import (
    charts,
    draining,
    embedded,
    enqueueing,
    footprint,
    relaying,
    responding,
    sizes,
    tables,
    targets,
)
from benchmarks.arena import Arena
from benchmarks.course import QUICK, Course, Sizes
from benchmarks.figures import Sheet
from benchmarks.lineup import LINEUP

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "_static" / "performance"

#: Load average above which a machine has other work than this.
QUIET = 0.5


@dataclass(frozen=True)
class Part:
    """
    One part of the comparison.

    Attributes:
        name: As the command line calls it.
        run: Adds the figures of so many rounds to a sheet.
        seconds: What a round of all contestants takes on two quiet cores, at most.
    """

    name: str
    run: Callable[[Sheet, int], None]
    seconds: float


#: Parts that bring their own servers and contestants: a line for each module.
MODULES: Sequence[Part] = (
    Part("relay", relaying.run, 120),
    Part("footprint", footprint.run, 30),
    Part("sizes", sizes.run, 120),
    Part("embedded", embedded.run, 120),
)


def parts(course: Course) -> Sequence[Part]:
    """Return all parts; the first ones share the course's servers and contestants."""
    return (
        Part("enqueue", partial(enqueueing.run, course), 40),
        Part("drain", partial(draining.run, course), 145),
        Part("latency", partial(responding.run, course), 50),
        *MODULES,
    )


def main(arguments: Sequence[str]) -> None:
    """Read the command line, measure, and tell; exit with 1 if a contestant or a part failed."""
    given = parsed(arguments)
    course = Course(
        Arena(in_one_environment=given.here),
        [each for each in LINEUP if not given.contestants or each.key in given.contestants],
        QUICK if given.quick else Sizes(),
    )
    chosen = chosen_parts(course, given)
    rounds = 1 if given.quick else given.rounds
    announce(chosen, rounds)
    folder = given.output or FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    course.equip()
    with course.arena:
        for part in chosen:
            facts = facts_of(course.arena, rounds)
            write(folder, part, measure(part, course, rounds), facts)
    tell(folder, PAGE if given.output is None else None)
    if course.failures:
        sys.exit("failed: " + ", ".join(course.failures))


def parsed(arguments: Sequence[str]) -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(prog="run.py bench", description=__doc__)
    names = [part.name for part in parts(Course(Arena(), ()))]
    keys = [contestant.key for contestant in LINEUP]
    parser.add_argument("--rounds", type=int, default=5, help="turns of each contestant (5)")
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=", ".join(names))
    parser.add_argument(
        "--contestants",
        nargs="+",
        choices=keys,
        metavar="NAME",
        help=f"{', '.join(keys)}; needs --output",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="for figures and charts, rather than docs/_static/performance and its page",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of few calls, to see that everything runs; needs --output",
    )
    parser.add_argument(
        "--here",
        action="store_true",
        help="run the peers in this environment, where it has what they need, too",
    )
    given = parser.parse_args(arguments)
    if (given.quick or given.contestants) and given.output is None:
        parser.error("the page shows whole runs alone: --quick and --contestants need --output")
    return given


def chosen_parts(course: Course, given: argparse.Namespace) -> Sequence[Part]:
    """Return the parts that are asked for; a quick run has those of the course alone."""
    offered = [part for part in parts(course) if not (given.quick and part in MODULES)]
    return [part for part in offered if not given.only or part.name in given.only]


def announce(chosen: Sequence[Part], rounds: int) -> None:
    """Say what will be measured, how long that takes, and whether the machine is quiet."""
    minutes = sum(part.seconds for part in chosen) * rounds / 60
    names = ", ".join(part.name for part in chosen)
    print(f"{names}; rounds: {rounds}; at most {minutes:.0f} min on two quiet cores", flush=True)
    if (load := os.getloadavg()[0]) > QUIET:
        print(f"This machine has other work: its load average is {load:.1f}.", flush=True)


def measure(part: Part, course: Course, rounds: int) -> Sheet:
    """Return the figures of a part; what fails in it is named in the course's failures."""
    sheet = Sheet()
    try:
        part.run(sheet, rounds)
    except Exception as error:  # noqa: BLE001 - the other parts go on, whatever it was
        course.failures.append(part.name)
        print(f"{part.name} FAILED: {error}", file=sys.stderr, flush=True)
    return sheet


def facts_of(arena: Arena, rounds: int) -> Mapping[str, Any]:
    """Return what the figures depend on, and how busy the machine is before they are taken."""
    return {
        "rounds": rounds,
        "load": round(os.getloadavg()[0], 2),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "postgresql": arena.ask("SHOW server_version", "postgres").split()[0],
    }


def write(folder: Path, part: Part, measured: Sheet, facts: Mapping[str, Any]) -> None:
    """Put a part's figures in place of its earlier ones, with the facts of its run."""
    figures, notes = folder / "figures.json", folder / "runs.json"
    sheet = Sheet.read(figures) if figures.exists() else Sheet()
    sheet.replace(measured)
    sheet.write(figures)
    runs = json.loads(notes.read_text()) if notes.exists() else {}
    runs[part.name] = {"ended": f"{datetime.now(UTC):%Y-%m-%d %H:%M}", **facts}
    notes.write_text(json.dumps(runs, indent=1) + "\n")


def tell(folder: Path, page: Path | None) -> None:
    """Print the targets, draw the charts, and write all tables, into a page too if there is one."""
    sheet = Sheet.read(folder / "figures.json")
    runs = json.loads((folder / "runs.json").read_text())
    wanted = tables.of_targets(targets.verdicts(sheet))
    print(f"\n{wanted}", flush=True)
    drawn = charts.draw(sheet, folder) if charts.is_possible() else []
    names = [f"{chart.name}.svg" for chart in drawn]
    (folder / "tables.md").write_text(tables.text(wanted, sheet, runs, names))
    if page is not None:
        addresses = [f"_static/performance/{name}" for name in names]
        tables.put_between_marks(page, tables.text(wanted, sheet, runs, addresses))


if __name__ == "__main__":
    main(sys.argv[1:])
