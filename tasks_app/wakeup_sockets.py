"""
Wake-ups: a word from whoever has enqueued to the relays of the same host, after the commit.

A relay listens at a socket in a folder that all processes of the project on this host know by its
name; the word is the one outcome that was enqueued, or a byte that says "look". It is never waited
for and may be lost: the relay looks by itself, only later. Whoever says it opens no connection, to
no broker and to no other host.
"""

import os
import select
import socket
import tempfile
import time
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4
from weakref import WeakKeyDictionary

from django.db import connections, transaction
from django.utils.crypto import salted_hmac

from tasks_app.conf import conf

#: Seconds for which the relays that a process has found are not looked for again.
KNOWN = 1.0

#: Whoever may run code of the project, as whatever user, may wake relays.
_MODE = 0o666

#: The word for more than one outcome; for a single one it is its id.
LOOK = b"!"

#: Bytes of an outcome's id, which is the longest word.
_ID = 16


def folder() -> Path:
    """Return where the relays of this project's database on this host listen."""
    if conf.WAKEUP_FOLDER is not None:
        return Path(conf.WAKEUP_FOLDER)
    database = connections[conf.DATABASE].settings_dict
    return _folder_for(repr([database.get(key) for key in ("ENGINE", "HOST", "PORT", "NAME")]))


@lru_cache(maxsize=8)
def _folder_for(database: str) -> Path:
    name = salted_hmac("tasks_app.wakeups", database, algorithm="sha256").hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"tasks_app-{name}.relays"


class WakeupSocket:
    """
    A relay's socket.

    Where there cannot be one (`WAKEUPS` is off, the folder is another user's, its path is too long
    for a socket) nobody wakes it, and `wait` only sleeps.
    """

    def __init__(self) -> None:
        self._path = folder() / uuid4().hex
        self._socket = _listening(self._path) if conf.WAKEUPS else None

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._path.unlink(missing_ok=True)
            with suppress(OSError):
                # The last one leaves nothing behind.
                self._path.parent.rmdir()

    def wait(self, seconds: float) -> bool:
        """Wait to be woken, so many seconds at most; tell whether it was."""
        if self._socket is None:
            time.sleep(seconds)
            return False
        poller = select.poll()
        poller.register(self._socket, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def heard(self) -> list[UUID | None]:
        """Return what was said since the last time: outcomes, and None where one is to look."""
        named: list[UUID | None] = []
        if self._socket is not None:
            with suppress(BlockingIOError):
                while True:
                    word = self._socket.recv(_ID)
                    named.append(UUID(bytes=word) if len(word) == _ID else None)
        return named


class Waker:
    """A process' way to the relays of its host."""

    def __init__(self) -> None:
        self._relays: dict[Path, set[str]] = {}
        self._known_until = 0.0

    def wake(self, at: Path, word: bytes = LOOK) -> None:
        """Say a word to the relays that listen in a folder; never wait, never fail."""
        if time.monotonic() >= self._known_until:
            self._known_until = time.monotonic() + KNOWN
            self._relays = {at: _listeners(at)}
        relays = self._relays.get(at, set())
        if not relays:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(0)
            for path in tuple(relays):
                _say_at(sender, path, relays, word)


_waker = Waker()


class _Wish:
    """What one transaction has enqueued, of which the relays are told once it is committed."""

    def __init__(self) -> None:
        self.ids: list[UUID | None] = []
        self.is_told = False

    def tell(self, at: Path) -> None:
        """Tell the relays which outcome it was, or to look where there are several."""
        if not self.is_told:
            self.is_told = True
            lone = self.ids[0] if len(self.ids) == 1 else None
            _waker.wake(at, LOOK if lone is None else lone.bytes)


#: The last wish of each of Django's connections; what was rolled back is part of the next one.
_wishes: WeakKeyDictionary[Any, _Wish] = WeakKeyDictionary()


def wake_relays_after_commit(outcome_id: UUID | None = None) -> None:
    """
    Wake them once the current transaction is committed, or now where there is none.

    They are told which outcome to ring for, if it is the only one: of several the one with the
    highest priority comes first, which a look sees.
    """
    connection: Any = connections[conf.DATABASE]
    if not conf.WAKEUPS or not (connection.in_atomic_block or connection.get_autocommit()):
        return
    wish = _wishes.get(connection)
    if wish is None or wish.is_told:
        wish = _wishes[connection] = _Wish()
    wish.ids.append(outcome_id)
    transaction.on_commit(partial(wish.tell, folder()), using=conf.DATABASE, robust=True)


def _listening(path: Path) -> socket.socket | None:
    for _ in range(2):
        # The first time the last relay may just have removed the folder.
        with suppress(AttributeError, OSError):
            return _bound(path)
    return None


def _bound(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        path.parent.mkdir(exist_ok=True)
        made.settimeout(0)
        made.bind(str(path))
        path.chmod(_MODE)
    except OSError:
        made.close()
        raise
    return made


def _listeners(at: Path) -> set[str]:
    with suppress(OSError), os.scandir(at) as entries:
        return {entry.path for entry in entries}
    return set()


def _say_at(sender: socket.socket, path: str, relays: set[str], word: bytes) -> None:
    try:
        sender.sendto(word, path)
    except BlockingIOError:
        # It has more words than it can read: it is about to look.
        return
    except ConnectionRefusedError:
        # A relay that was killed has left its socket; no other one is ever called so.
        relays.discard(path)
        with suppress(OSError):
            Path(path).unlink()
    except OSError:
        relays.discard(path)
