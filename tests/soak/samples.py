"""Memory, open files and connections over time, and the slope of memory."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.soak.members import Member

#: Seconds between two samples of everything.
INTERVAL = 5.0

#: Seconds after its start that a process still grows by what it loads.
WARM_UP = 120.0

#: Samples of one process that a slope needs.
FEWEST = 6

MEGABYTE = 1024 * 1024
PAGE = 4096


@dataclass(frozen=True)
class Sample:
    """One look at one main process."""

    member: str
    pid: int
    at: float
    rss: int
    files: int


@dataclass(frozen=True)
class Slope:
    """How memory grows: megabytes per hour, over so many seconds of so many processes."""

    megabytes_per_hour: float
    seconds: float
    processes: int


def take(members: Iterable[Member]) -> list[Sample]:
    """Look at the main processes of members; one that has just gone is left out."""
    now = time.monotonic()
    found = []
    for member in members:
        pid = member.current.pid
        try:
            pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
            files = len(list(Path(f"/proc/{pid}/fd").iterdir()))
        except (FileNotFoundError, ProcessLookupError):
            continue
        if pages:
            found.append(Sample(member.name, pid, now, pages * PAGE, files))
    return found


def slope(samples: Iterable[Sample]) -> Slope | None:
    """
    Fit one line through the memory of several processes, each with a level of its own.

    A process that is restarted starts low again: what it has in common with its predecessor is
    the slope, so each process' samples are taken relative to their mean.
    """
    seconds = 0.0
    processes = 0
    times: list[float] = []
    sizes: list[float] = []
    for series in _by_process(samples):
        grown = [each for each in series if each.at - series[0].at >= WARM_UP]
        if len(grown) < FEWEST:
            continue
        processes += 1
        seconds += grown[-1].at - grown[0].at
        times += _relative([each.at / 3600 for each in grown])
        sizes += _relative([each.rss / MEGABYTE for each in grown])
    if not processes:
        return None
    return Slope(statistics.linear_regression(times, sizes).slope, seconds, processes)


def most_files(samples: Sequence[Sample]) -> tuple[int, int] | None:
    """Return the most open files in the first and in the last third of the samples."""
    third = len(samples) // 3
    if not third:
        return None
    return max(each.files for each in samples[:third]), max(each.files for each in samples[-third:])


def _by_process(samples: Iterable[Sample]) -> list[list[Sample]]:
    found: dict[int, list[Sample]] = defaultdict(list)
    for sample in samples:
        found[sample.pid].append(sample)
    return list(found.values())


def _relative(values: Sequence[float]) -> list[float]:
    mean = statistics.fmean(values)
    return [value - mean for value in values]
