"""The processes of a running installation, started by a test and owned to their end.

A worker counts as started when it has said so in its log. What it wrote is in a file below the
test's folder and is shown when the test fails (see `tests/conftest.py`).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from tests.children import Child
from tests.waiting import wait_until

__all__ = ["Process", "start_beat", "start_command", "start_worker", "wait_until"]

ROOT = Path(__file__).parent.parent

#: Seconds within which a process has to be ready, on a machine that is busy with others.
READY_TIMEOUT = 60


class Process(Child):
    """A process of the installation; as a context manager it is killed at the end."""

    def wait_for_output(self, text: str, timeout: float = READY_TIMEOUT) -> Self:
        """Return when the process has written a text; raise when it ends before."""
        wait_until(
            lambda: text in self.output or not self.running,
            timeout,
            lambda: f"{text!r} in the output of {self.name}\n{self.tail()}",
        )
        if text not in self.output:
            raise RuntimeError(f"{self.name} ended before writing {text!r}\n{self.tail()}")
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.kill()


def start_worker(  # noqa: PLR0913 - options are keywords
    folder: Path,
    *,
    name: str = "worker",
    pool: str = "prefork",
    concurrency: int = 2,
    queues: Sequence[str] = (),
    app: str = "tests.project",
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Process:
    """
    Start a Celery worker and return when it takes messages.

    Args:
        folder: Where its log goes.
        name: Its node name before the `@`, and the name of its log file.
        pool: prefork, threads or solo.
        concurrency: How many tasks it runs at a time; solo always runs one.
        queues: The queues it consumes; Celery's default queue when empty.
        app: The module that holds the Celery app.
        arguments: More command-line arguments.
        environment: Variables on top of this process' own.
    """
    command = [
        *("celery", "-A", app, "worker", "--loglevel", "INFO", "--hostname", f"{name}@%h"),
        *("--pool", pool, "--concurrency", str(concurrency)),
        *(("--queues", ",".join(queues)) if queues else ()),
        *arguments,
    ]
    return launch(folder, name, command, environment).wait_for_output(" ready.")


def start_beat(folder: Path, *, name: str = "beat", app: str = "tests.project") -> Process:
    """Start Celery's scheduler and return when it has begun."""
    schedule = str(folder / name)
    command = ["celery", "-A", app, "beat", "--loglevel", "DEBUG", "--schedule", schedule]
    # It says "Starting" before it has read its schedule: a signal then finds it half made.
    return launch(folder, name, command, None).wait_for_output("beat: Ticking")


def start_command(
    folder: Path,
    *arguments: str,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Process:
    """Start a Django management command, for example `start_command(folder, "tasks", "relay")`."""
    return launch(folder, name or arguments[-1], ["django", *arguments], environment)


def launch(
    folder: Path,
    name: str,
    module_and_arguments: Sequence[str],
    environment: Mapping[str, str] | None,
) -> Process:
    """Start a Python module of this installation in the test project's environment."""
    return Process(
        name,
        [sys.executable, "-m", *module_and_arguments],
        log=folder / f"{name}.log",
        environment={
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "PYTHONPATH": os.pathsep.join([str(ROOT), *inherited_path()]),
            "PYTHONUNBUFFERED": "1",
            **(environment or {}),
        },
        folder=ROOT,
    )


def inherited_path() -> list[str]:
    """Return the entries of this process' PYTHONPATH."""
    return [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
