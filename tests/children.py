"""One subprocess, owned to its end.

Servers and Celery processes are started through `Child`: in a session of their own, with their
output in a file, and known here until they are gone. Nothing outlives the test run: an orderly
end stops them, `atexit` kills what was forgotten, and on Linux the kernel kills them when the
test process itself is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.waiting import wait_until

PR_SET_PDEATHSIG = 1

#: Loaded before any fork: a child between fork and exec must not look for libraries.
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None

#: Every child that has not been seen to end.
LIVING: set[Child] = set()


class Child:
    """
    A subprocess in its own session whose output goes to a file.

    Args:
        name: How messages call it.
        command: Program and arguments.
        log: File that receives standard output and error, appended to.
        environment: The whole environment of the process; this process' own when omitted.
        user: System user to run as; only root may name another one.
        folder: Working directory.
    """

    def __init__(  # noqa: PLR0913 - options are keywords
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        environment: Mapping[str, str] | None = None,
        user: str | None = None,
        folder: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self.left_behind: list[int] = []
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                user=user,
                extra_groups=[] if user else None,
                cwd=folder,
                start_new_session=True,
                preexec_fn=die_with_parent,  # noqa: PLW1509 - calls one loaded C function
            )
        LIVING.add(self)

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its session and process group."""
        return self.process.pid

    @property
    def running(self) -> bool:
        """Whether the process has not ended (a paused one has not)."""
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """Everything the process has written so far."""
        return self.log.read_text(errors="replace")

    def family(self) -> list[int]:
        """Ids of the process and of all that descend from it, the oldest first."""
        return [self.pid, *descendants(self.pid)]

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        if self.running:
            self.process.send_signal(number)

    def terminate(self, timeout: float = 30, number: signal.Signals = signal.SIGTERM) -> int:
        """
        Ask the process to end, wait for it, and return its exit code.

        What it leaves running is killed and counted in `left_behind`.

        Raises:
            TimeoutError: It had not ended in time; it is killed all the same.
        """
        family = self.family()
        self.send(number)
        try:
            code = self.process.wait(timeout)
            self.left_behind = still_alive(family, patience=2)
        except subprocess.TimeoutExpired:
            raise TimeoutError(
                f"{self.name} ignored {number.name} for {timeout:g} s\n{self.tail()}"
            ) from None
        finally:
            self.clear(family)
        return code

    def kill(self) -> None:
        """End the process and everything below it at once, as a power cut would."""
        self.clear(self.family())

    def kill_alone(self) -> None:
        """Kill this process and leave its children to notice."""
        if self.running:
            self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Stop the process and everything below it without ending it."""
        signal_all(self.family(), signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process and everything below it go on."""
        signal_all(self.family(), signal.SIGCONT)

    def tail(self, lines: int = 60) -> str:
        """Return the end of the output, headed by the name: what a failing test shows."""
        last = "\n".join(self.output.splitlines()[-lines:])
        return f"--- {self.name} (pid {self.pid}, {self.log}) ---\n{last}"

    def clear(self, family: Sequence[int]) -> None:
        """Kill the given processes and those of this session, and wait until they are gone."""
        signal_all(family, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: not any(map(alive, family)), 10, f"the end of all of {self.name}")
        LIVING.discard(self)


def die_with_parent() -> None:
    """Between fork and exec: ask the kernel to kill this process when its parent ends."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the ids of all processes below one, parents before their children."""
    children: dict[int, list[int]] = {}
    for child, parent, _state in process_table():
        children.setdefault(parent, []).append(child)
    found = [pid]
    for ancestor in found:
        found.extend(children.get(ancestor, []))
    return found[1:]


def alive(pid: int) -> bool:
    """Return whether a process runs; one that has ended and waits for its parent does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return any(found == pid and state[0] != "Z" for found, _parent, state in process_table())


def still_alive(pids: Sequence[int], patience: float) -> list[int]:
    """Return those processes that are still there after some seconds of patience."""
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not any(map(alive, pids)), patience, "the end of all processes")
    return [pid for pid in pids if alive(pid)]


def process_table() -> list[tuple[int, int, str]]:
    """Return process id, parent id and state of every process."""
    if sys.platform == "linux":
        stats = (read_stat(path) for path in Path("/proc").glob("[0-9]*/stat"))
        return [stat for stat in stats if stat]
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    ).stdout
    words = (line.split(maxsplit=2) for line in listing.splitlines())
    return [(int(pid), int(parent), state) for pid, parent, state in words]


def read_stat(path: Path) -> tuple[int, int, str] | None:
    """Read one line of Linux's process table; None when the process has just gone."""
    try:
        text = path.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name stands in parentheses and may itself hold spaces and parentheses.
    state, parent = text.rpartition(")")[2].split()[:2]
    return int(path.parent.name), int(parent), state


def signal_all(pids: Sequence[int], number: signal.Signals) -> None:
    """Send a signal to each process that is still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@atexit.register
def kill_forgotten() -> None:
    """Kill every child that is still known when the interpreter ends."""
    for child in list(LIVING):
        child.kill()
