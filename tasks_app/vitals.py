"""
What a long-running process tells of itself with its heartbeat: where it runs, and which code.

Host, process, memory and what a worker adds of its pool and queues; never its environment or its
arguments, which may hold secrets.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tasks_app.conf import VERSION_LENGTH, conf

About = Mapping[str, Any]

#: When this process began, on its own clock.
BEGAN = time.monotonic()

#: Asks Sentry's SDK, which knows Git and the hosting platforms, in a process of its own: loaded
#: into a worker it would take part in every run.
ASK = "from sentry_sdk.utils import get_default_release; print(get_default_release() or '')"

#: Seconds that it may take to answer.
PATIENCE = 10


def version() -> str:
    """Return the version of the project's code: as the settings say, else as far as it shows."""
    return conf.VERSION or default_version()


@cache
def default_version() -> str:
    """Return what Sentry would call this release, or "" where that is not known; asked once."""
    try:
        answer = subprocess.run(  # noqa: S603 - this very Python, with a text of this module
            [sys.executable, "-c", ASK],
            capture_output=True,
            check=False,
            stdin=subprocess.DEVNULL,
            text=True,
            timeout=PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()[:VERSION_LENGTH]


def about(**more: Any) -> About:
    """Return what this process says of itself; the values are JSON."""
    return {"host": socket.gethostname(), "pid": os.getpid(), **memory(), **more}


def memory() -> dict[str, int]:
    """Return the bytes of this process and its children; nothing where psutil is not installed."""
    process = _process()
    if process is None:
        return {}
    return {"memory": sum(map(_resident, (process, *process.children(recursive=True))))}


def _resident(process: Any) -> int:
    try:
        return int(process.memory_info().rss)
    except import_module("psutil").Error:
        # It has ended meanwhile.
        return 0


@cache
def _process() -> Any:
    return import_module("psutil").Process() if find_spec("psutil") else None
