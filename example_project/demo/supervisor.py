"""Starts what the desk needs, keeps it alive, and takes all of it down again.

Services come up first, since the others need their ports; they go down last. A program that was
killed is started again; one that ends by itself while it should run is an error, shown with its
last lines. Whatever happens, ``close`` leaves no process behind.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO

import example_project
from example_project.demo import programs
from example_project.demo.programs import Program, say

ROOT = Path(example_project.__file__).resolve().parents[1]
#: Seconds that a program may take until it answers.
START = 60.0
#: A program that dies more often than so many times in so many seconds is broken, not unlucky.
DEATHS, LATELY = 5, 60.0


class DemoError(Exception):
    """The demo cannot go on; the text says why."""


class Interrupted(Exception):
    """Somebody asked the demo to stop."""


class Supervisor:
    """The demo's processes, from the first to the last."""

    def __init__(self, data: Path, seed: int) -> None:
        self.data = data
        self._seed = seed
        self._stopping = threading.Event()
        self._programs: dict[str, Program] = {}
        self._deaths: list[float] = []

    def listen_for_signals(self) -> None:
        """Stop on Ctrl+C, SIGTERM or a closed terminal; on a second one, at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._stopping.is_set():
            for program in self._programs.values():
                program.kill_group()
        self._stopping.set()
        # No print: the signal may have come in the middle of one.
        os.write(sys.stdout.fileno(), "\nStopping …\n".encode())

    def pause(self, seconds: float) -> None:
        """Wait a little.

        Raises:
            Interrupted: Somebody asked the demo to stop.
        """
        if self._stopping.wait(seconds):
            raise Interrupted

    def run(self, name: str, colour: int, *command: str, **environment: str) -> Program:
        """Start one Python module with its arguments, beside the others."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        program = Program(
            name,
            [sys.executable, "-m", *command],
            {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1", **environment},
            ROOT,
            colour,
        )
        self._programs[name] = program
        program.start()
        return program

    def run_services(self) -> dict[str, int]:
        """Start the outside services and return their ports by name."""
        addresses = self.data / "services.json"
        addresses.unlink(missing_ok=True)
        arguments = ("--data", str(self.data), "--seed", str(self._seed))
        self.run("services", 35, "example_project.demo.services", *arguments)
        self.wait_for("the services", addresses.exists)
        ports: dict[str, int] = json.loads(addresses.read_text(encoding="utf-8"))
        return ports

    def run_desk(self, port: int, flower_port: int) -> Program:
        """Start web, worker, beat and Flower; return the worker."""
        celery = ("celery", "--quiet", "-A", "example_project")
        quiet = "--loglevel=WARNING"
        web = f"127.0.0.1:{port}"
        # Only the page needs DEBUG, for its static files; in a worker it would cost time.
        self.run("web", 36, "example_project", "runserver", "--noreload", web, DISPATCH_DEBUG="1")
        worker = self.run("worker", 32, *celery, "worker", "--concurrency=2", quiet)
        self.run("beat", 33, *celery, "beat", quiet, f"--schedule={self.data / 'beat-schedule'}")
        address = ("--address=127.0.0.1", f"--port={flower_port}")
        self.run("flower", 34, *celery, "flower", *address, "--logging=warning")
        return worker

    def wait_for(self, what: str, is_there: Callable[[], bool]) -> None:
        """Wait until something is there, watching the programs meanwhile.

        Raises:
            DemoError: It did not come in time, or a program ended.
            Interrupted: Somebody asked the demo to stop.
        """
        deadline = time.monotonic() + START
        while not is_there():
            self.watch()
            if time.monotonic() > deadline:
                raise DemoError(f"Waited {START:.0f} s in vain for {what}.")
            self.pause(0.1)

    def watch(self) -> None:
        """Start again what was killed.

        Raises:
            DemoError: A program ended by itself, or keeps dying.
        """
        for program in self._programs.values():
            code = program.exit_code()
            if code is None:
                continue
            program.kill_group()  # children of a killed worker would go on without it
            if not program.is_condemned:
                now = time.monotonic()
                self._deaths = [death for death in self._deaths if now - death < LATELY] + [now]
                is_lost = program.name == "services"  # its ports went with it
                if code >= 0 or is_lost or len(self._deaths) > DEATHS:
                    raise DemoError(program.epitaph())
                say("demo", 31, program.epitaph())
            say("demo", 37, f"starting {program.name} again")
            program.start()

    def close(self) -> None:
        """Stop everything: what uses the services first, then these."""
        services = self._programs.pop("services", None)
        programs.stop([*reversed(self._programs.values())])
        if services:
            programs.stop([services])
        self._programs.clear()


def answers(url: str) -> bool:
    """Tell whether something answers at an address of this machine, whatever it says."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        direct.open(url, timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def claim_folder(data: Path) -> IO[str]:
    """Keep a data folder to this demo for as long as the returned file is open.

    Raises:
        DemoError: Another demo works in it.
    """
    lock = (data / "demo.lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        lock.close()
        raise DemoError(
            f"Another demo works in {data}. "
            "Stop it, or choose another folder: DISPATCH_DATA=FOLDER in the environment."
        ) from error
    return lock


def claim_port(wanted: int, option: str) -> int:
    """Return a port that can be listened on: the wanted one, or any if that is 0.

    Raises:
        DemoError: Another program has it.
    """
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still closing counts as free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except (OSError, OverflowError) as error:
            raise DemoError(
                f"Port {wanted} cannot be used: {error}. "
                f"Stop the program that has it, or choose another: {option} N (0: any free one)."
            ) from error
        port: int = probe.getsockname()[1]
        return port
