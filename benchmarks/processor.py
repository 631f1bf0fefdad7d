"""Processor time of processes, as Linux counts it: what a wall clock hides on a busy machine."""

import os
from collections.abc import Iterable
from pathlib import Path

#: Places of user, system, and ended children's user and system time after the program's name.
_TIMES = slice(11, 15)


def seconds(pids: Iterable[int]) -> float:
    """
    Return the processor time that processes and their ended children have used so far.

    The kernel counts in hundredths of a second. A process that has ended counts with its parent.
    """
    return sum(map(_ticks, pids)) / os.sysconf("SC_CLK_TCK")


def _ticks(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(map(int, text.rpartition(")")[2].split()[_TIMES]))
