"""What processes have used of the machine, as Linux tells it: seconds of CPU and memory."""

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from tests.children import Child

_TICKS = os.sysconf("SC_CLK_TCK")

#: Fields of /proc/PID/stat after the program's name: own time, and that of children that ended.
_TIMES = slice(11, 15)


def cpu_seconds(children: Iterable[Child]) -> float:
    """Return the CPU time of all processes that descend from these, ended ones included."""
    return sum(_cpu_seconds(pid) for child in children for pid in child.family())


def memory(pids: Iterable[int]) -> list[float]:
    """
    Return the proportional share of memory of each process, in MiB.

    What several processes share counts for each by its share.
    """
    return [_memory(pid) for pid in pids]


def _cpu_seconds(pid: int) -> float:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[_TIMES])) / _TICKS
    return 0.0


def _memory(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name == "Pss":
            return int(rest.split()[0]) / 1024
    raise ValueError(f"no Pss of process {pid}")
