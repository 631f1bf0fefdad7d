"""
Levels of loggers, changed while processes run.

The wish is written into one small file per host, sealed with the project's key, and every process
of the project there looks at it about once a second: workers and the children of their pools,
relays and web servers. Remote control carries it to workers on other hosts. A wish that is over,
or put back, leaves each logger as it was.
"""

import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.core import signing
from django.utils.crypto import salted_hmac

from tasks_app.conf import conf

logger = logging.getLogger("tasks_app.logs")

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

#: Instead of a level: as the project's settings have it.
RESET = "RESET"

#: Seconds between two looks at the file.
LOOK = 1.0

SALT = "tasks_app.logs.levels"

#: By a logger's name: its level, and until when in seconds since the epoch, or None.
Wishes = Mapping[str, tuple[str, float | None]]

#: Called after a change in this process.
listeners: list[Callable[[], None]] = []

#: What the loggers had before.
_before: dict[str, int] = {}
_lock = threading.RLock()
_watching = 0


def path() -> Path:
    """Return the file of this host, the same for all processes of the project."""
    if conf.LOG_LEVELS_FILE is not None:
        return Path(conf.LOG_LEVELS_FILE)
    name = salted_hmac(SALT, "file", algorithm="sha256").hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tasks_app-{name}.levels"


def change(name: str, level: str, until: float | None = None) -> None:
    """
    Wish for a logger's level on this host, and follow at once in this process.

    Args:
        name: The logger; `root` is the root logger.
        level: One of `LEVELS`, or `RESET`.
        until: When the wish is over, in seconds since the epoch; None if never.

    Raises:
        OSError: the file cannot be written.
    """
    with _lock:
        wishes = dict(_still(read()))
        wishes.pop(name, None)
        if level != RESET:
            wishes[name] = (level, until)
        _write(wishes)
        follow()


def read() -> Wishes:
    """Return the wishes of this host; none where nobody wrote any with the project's key."""
    try:
        found: Wishes = signing.loads(path().read_text(), salt=SALT)
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, signing.BadSignature) as error:
        logger.warning("%s is ignored: %s", path(), error)
        return {}
    return found


def follow() -> float | None:
    """Make this process' loggers what is wished for; return when to look again at the latest."""
    with _lock:
        wishes = _still(read())
        before = dict(_before)
        for name in _before.keys() - wishes.keys():
            logging.getLogger(name).setLevel(_before.pop(name))
        for name, (level, _) in wishes.items():
            known = logging.getLogger(name)
            _before.setdefault(name, known.level)
            known.setLevel(level)
        if before or wishes:
            for listen in listeners:
                listen()
        return min((until for _, until in wishes.values() if until is not None), default=None)


def watch(**kwargs: Any) -> None:
    """Look at the file from now on, in a thread of this process; also a signal's receiver."""
    global _watching  # noqa: PLW0603 - one thread per process
    if _watching != os.getpid():
        _watching = os.getpid()
        threading.Thread(target=_look_on, name="tasks_app-log-levels", daemon=True).start()


def _look_on() -> None:
    pause = threading.Event()
    seen: object = None
    until: float | None = None
    while True:
        found = _stamp()
        if found != seen or (until is not None and time.time() >= until):
            seen = found
            with suppress(Exception):
                until = follow()
        pause.wait(LOOK)


def _stamp() -> object:
    try:
        stat = path().stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ino, stat.st_size


def _still(wishes: Wishes) -> Wishes:
    now = time.time()
    return {
        name: (level, until)
        for name, (level, until) in wishes.items()
        if level in LEVELS and (until is None or until > now)
    }


def _forked() -> None:
    global _lock  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _lock = threading.RLock()


def _write(wishes: Wishes) -> None:
    """Write the file in one step: a reader finds the old one or the new one."""
    target = path()
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(signing.dumps(wishes, salt=SALT))
        # Processes of the project may run as other users; what it says is no secret.
        Path(name).chmod(0o644)
        Path(name).replace(target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


os.register_at_fork(after_in_child=_forked)
