"""Child processes of the demo: started in sessions of their own, never left behind.

A prefork worker must be stopped by a signal to its parent alone, which then lets its children
finish; a signal to the whole group kills them under its hands. So ``stop`` sends TERM to the
parent, waits, and only then kills the group. The terminal's Ctrl+C reaches the supervisor only.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

#: Seconds that a program may take to finish what it is doing.
GRACE = 30.0

_write_lock = threading.Lock()


def say(name: str, colour: int, text: str) -> None:
    """Print one line under the coloured name of who says it."""
    prefix = f"{name:>8} │"
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        prefix = f"\033[{colour}m{prefix}\033[0m"
    with _write_lock:
        print(prefix, text, flush=True)


class Program:
    """One command, its output under a coloured prefix, and its way to start and to end."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        folder: Path,
        colour: int,
    ) -> None:
        self.name = name
        self.colour = colour
        #: Set by who kills it on purpose, so that the death surprises nobody.
        self.is_condemned = False
        self.started_at = 0.0
        self._command = list(command)
        self._environment = dict(environment)
        self._folder = folder
        self._last_lines: deque[str] = deque(maxlen=15)
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process id, which is the id of its group and session too."""
        if self._process is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._process.pid

    def start(self) -> None:
        """Start the command in a session of its own."""
        self.is_condemned = False
        self.started_at = time.monotonic()
        self._last_lines.clear()
        self._process = subprocess.Popen(  # noqa: S603 - the commands are the demo's own
            self._command,
            env=self._environment,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout], daemon=True)
        self._reader.start()

    def exit_code(self) -> int | None:
        """Return how it ended (negative: the signal that killed it), or None while it runs."""
        return self._process.poll() if self._process else None

    def ask_to_stop(self) -> None:
        """Send TERM to the parent process alone."""
        if self._process and self._process.poll() is None:
            self._process.terminate()

    def end(self, deadline: float) -> None:
        """Wait for its end until a moment of the monotonic clock, then kill its whole group."""
        if self._process is None:
            return
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))
        self.kill_group()
        self._process.wait()
        if self._reader:
            self._reader.join(timeout=5)

    def kill_group(self) -> None:
        """Kill what is left of the command and everything it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def epitaph(self) -> str:
        """Say how it died and what it said last."""
        if self._reader:
            self._reader.join(timeout=1)
        code = self.exit_code() or 0
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        lived = time.monotonic() - self.started_at
        lines = "".join(f"\n    {line}" for line in self._last_lines) or " nothing"
        return f"{self.name} ended after {lived:.0f} s ({how}). It said last:{lines}"

    def _read(self, output: IO[str]) -> None:
        with output:
            for line in output:
                self._last_lines.append(line.rstrip())
                say(self.name, self.colour, line.rstrip())


def stop(programs: Sequence[Program], grace: float = GRACE) -> None:
    """Stop programs together: TERM to each parent, then the groups of those that stay."""
    for program in programs:
        program.ask_to_stop()
    deadline = time.monotonic() + grace
    for program in programs:
        program.end(deadline)


def children_of(pid: int) -> list[int]:
    """Return the direct child processes of a process."""
    if Path("/proc/self/stat").exists():
        pairs = [pair for entry in Path("/proc").iterdir() if (pair := _parent(entry))]
    else:
        listing = subprocess.run(
            ["ps", "-A", "-o", "pid=,ppid="],  # noqa: S607 - wherever this system keeps it
            capture_output=True,
            text=True,
            check=True,
        )
        pairs = [(int(a), int(b)) for a, b in map(str.split, listing.stdout.splitlines())]
    return sorted(child for child, parent in pairs if parent == pid)


def _parent(entry: Path) -> tuple[int, int] | None:
    if not entry.name.isdigit():
        return None
    try:
        # The second field is the command in brackets and may hold anything, spaces too.
        fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None  # it ended while we looked
    return int(entry.name), int(fields[1])
