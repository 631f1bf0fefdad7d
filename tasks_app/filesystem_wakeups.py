"""
Pipes by which a process that has put a message into a folder wakes those that look there.

A wake-up is latency only: who has no pipe, or is not woken, finds the message at its next look. The
pipe has a name and its listener holds it open, so that the kernel knows who still listens; one
whose listener was killed is removed by whoever comes next. Local file systems of POSIX only.
"""

import errno
import os
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

#: How the names of pipes end.
SUFFIX = ".pipe"

#: Bytes that a pipe holds at most on any system of today.
CAPACITY = 65_536


class WakeupPipe:
    """
    A listener's pipe; `fileno()` is readable once somebody has written to it.

    Args:
        folder: Where those look who wake; made when missing.
        workshop: A folder of the same file system, in which the pipe is made: one that could be
            found before it is held open would be taken for a dead listener's.

    Raises:
        OSError: There are no named pipes here.
    """

    def __init__(self, folder: Path, workshop: Path) -> None:
        self._path = folder / f"{uuid4().hex}{SUFFIX}"
        made = workshop / self._path.name
        folder.mkdir(parents=True, exist_ok=True)
        os.mkfifo(made)
        self._reader = os.open(made, os.O_RDONLY | os.O_NONBLOCK)
        # Without a writer a pipe whose last writer has left would be at its end, and readable.
        self._writer = os.open(made, os.O_WRONLY | os.O_NONBLOCK)
        made.rename(self._path)

    def fileno(self) -> int:
        return self._reader

    def wake(self) -> None:
        """Wake its listener, as others do."""
        with suppress(BlockingIOError):  # it is full: its listener is awake
            os.write(self._writer, b"!")

    def quieten(self) -> None:
        """Forget who has written so far; whoever writes from now on is heard."""
        with suppress(BlockingIOError):
            os.read(self._reader, CAPACITY)

    def close(self) -> None:
        """Listen no more."""
        self._path.unlink(missing_ok=True)
        os.close(self._reader)
        os.close(self._writer)


def wake(folder: Path) -> None:
    """Wake all that listen in a folder; never waits and never fails."""
    try:
        names = os.listdir(folder)  # noqa: PTH208 - once for each message
    except OSError:
        return
    for name in names:
        if name.endswith(SUFFIX):
            _write(folder / name)


def _write(path: Path) -> None:
    try:
        pipe = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    except OSError as error:
        if error.errno == errno.ENXIO:  # nobody holds it open: its listener was killed
            path.unlink(missing_ok=True)
        return
    with suppress(OSError):  # it is full: its listener is awake; or that listener has just left
        os.write(pipe, b"!")
    os.close(pipe)
