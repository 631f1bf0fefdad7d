"""What every test server has in common: a free port, a folder, a process, a URL.

The port is chosen when the object is made and kept over restarts, so that clients configured
once find the server again. `start` returns only when the server has really answered a client;
`close` ends it and removes its folder.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from tests.children import Child
from tests.waiting import wait_until

#: Seconds within which a server has to answer after its process was started.
START_TIMEOUT = 60


class ServerMissing(Exception):
    """The server's programs are not installed on this machine."""


class Server(ABC):
    """A real server that a test owns; usable as a context manager."""

    name: ClassVar[str]
    #: Programs without which the server cannot be started.
    programs: ClassVar[tuple[str, ...]]
    #: System user to run as when the tests run as root.
    service_user: ClassVar[str | None] = None
    #: Python module of the client, which an optional extra may have left out.
    client_module: ClassVar[str]

    def __init__(self) -> None:
        self.port = free_port()
        self.child: Child | None = None
        self.folder: Path | None = None

    # -- what each kind of server says about itself -------------------------------------------

    @property
    @abstractmethod
    def url(self) -> str:
        """Address in the form that Celery or a database URL parser takes."""

    @abstractmethod
    def ask(self) -> None:
        """Connect as a client, get one answer and disconnect; raise when that fails."""

    @abstractmethod
    def command(self) -> Sequence[str | Path]:
        """Program and arguments that run the server in the foreground."""

    @classmethod
    def find(cls, program: str) -> Path | None:
        """Return where a program of this server is installed."""
        found = shutil.which(program)
        return Path(found) if found else None

    def prepare(self) -> None:  # noqa: B027 - a server without a data folder needs none
        """Make the data folder when there is none yet."""

    def environment(self) -> Mapping[str, str]:
        """Environment of the server's process."""
        return os.environ

    def shut_down(self, child: Child) -> None:
        """End the server in its own orderly way."""
        child.terminate()

    # -- what tests do with it ----------------------------------------------------------------

    @classmethod
    def missing(cls) -> str | None:
        """Return one line that says what is not installed, or None when all of it is."""
        absent = [program for program in cls.programs if cls.find(program) is None]
        if absent:
            return f"{cls.name} is not installed: no {', '.join(absent)} found"
        if importlib.util.find_spec(cls.client_module) is None:
            return f"{cls.name} has no client: the Python module {cls.client_module} is missing"
        return None

    @classmethod
    def is_available(cls) -> bool:
        """Return whether this machine has all the programs of this server."""
        return cls.missing() is None

    @property
    def running(self) -> bool:
        """Whether the server's process has been started and has not ended."""
        return self.child is not None and self.child.running

    def start(self) -> Self:
        """Start the server on its port, with the data it had, and wait until it answers."""
        if missing := self.missing():
            raise ServerMissing(missing)
        if not self.running:
            self.folder = self.folder or self.make_folder()
            self.prepare()
            self.child = self.spawn(self.name, self.command())
            self.wait_until_accepting()
        return self

    def stop(self) -> None:
        """End the server in an orderly way and keep its data."""
        if self.child is not None:
            self.shut_down(self.child)
            self.child = None

    def kill(self) -> None:
        """End the server as a power cut would and keep what it had on disk."""
        if self.child is not None:
            self.child.kill()
            self.child = None

    def restart(self, *, lose_data: bool = False) -> Self:
        """Stop and start the server, with the data it had or, on request, with none."""
        if lose_data:
            self.close()
        else:
            self.stop()
        return self.start()

    def pause(self) -> None:
        """Freeze the server: its port still takes connections, but nothing answers."""
        self.started.pause()

    def resume(self) -> None:
        """Let a paused server go on."""
        self.started.resume()

    def close(self) -> None:
        """End the server and remove its folder."""
        self.stop()
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = None

    def accepts(self) -> bool:
        """Return whether the server answers a client now."""
        try:
            self.ask()
        except Exception:  # noqa: BLE001 - each client library has its own ways to fail
            return False
        return True

    def wait_until_accepting(self, timeout: float = START_TIMEOUT) -> None:
        """Return when the server answers; end the wait early when its process has ended."""
        child = self.started
        wait_until(
            lambda: self.accepts() or not child.running,
            timeout,
            lambda: f"an answer of {self.name}\n{child.tail()}",
        )
        if not child.running:
            raise RuntimeError(f"{self.name} ended while starting\n{child.tail()}")

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    # -- parts for the kinds of server --------------------------------------------------------

    @property
    def started(self) -> Child:
        """The server's process; an error when there is none."""
        if self.child is None:
            raise RuntimeError(f"{self.name} is not running")
        return self.child

    @property
    def home(self) -> Path:
        """The server's folder; an error when there is none."""
        if self.folder is None:
            raise RuntimeError(f"{self.name} has no folder before its start")
        return self.folder

    def program(self, program: str) -> Path:
        """Return where a program is installed; an error when it is not."""
        found = self.find(program)
        if found is None:
            raise ServerMissing(f"{self.name} is not installed: no {program} found")
        return found

    def make_folder(self) -> Path:
        """Make an empty folder that belongs to the user the server runs as."""
        folder = Path(tempfile.mkdtemp(prefix=f"tasks-app-{self.name.lower()}-"))
        if user := self.run_as():
            account = pwd.getpwnam(user)
            os.chown(folder, account.pw_uid, account.pw_gid)
        return folder

    @classmethod
    def run_as(cls) -> str | None:
        """Return the system user to change to, or None to stay who we are."""
        if cls.service_user is None or os.geteuid() != 0:
            return None
        known = {account.pw_name for account in pwd.getpwall()}
        return cls.service_user if cls.service_user in known else "nobody"

    def spawn(self, name: str, command: Sequence[str | Path]) -> Child:
        """Start one of the server's programs."""
        return Child(
            name,
            command,
            log=self.home / f"{name.lower()}.log",
            environment=self.environment(),
            user=self.run_as(),
            folder=self.home,
        )

    def run(self, name: str, command: Sequence[str | Path]) -> None:
        """Run one of the server's programs to its end; raise when it fails."""
        child = self.spawn(name, command)
        try:
            code = child.process.wait(START_TIMEOUT)
        finally:
            child.kill()
        if code:
            raise RuntimeError(f"{name} ended with exit code {code}\n{child.tail()}")


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
