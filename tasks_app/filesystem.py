"""
The embedded broker: a kombu transport that keeps messages as files, for a project without servers.

Its invariant: a file with a message's name is a whole message. It is written elsewhere and renamed
into place, taken by a rename that only one consumer wins, and what still cannot be read goes to
``quarantine/`` with a warning, so that no file ever stops a worker. Messages are doorbells: one
that was taken by a killed process is lost here, and rung again by the relay. POSIX only.

Use it as ``broker_url = url(folder)``; importing this module makes the scheme known to kombu.
Below the folder: ``queues/<queue>/*.msg``, ``exchanges/<exchange>/*.json`` (one binding each),
``tmp/`` (being written or read), ``wakeups/`` (pipes that wake workers) and ``quarantine/``. An
auto-delete queue lives as long as a process that declared it: the kernel drops the lock on its file
``alive`` with that process.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import logging
import os
import time
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from queue import Empty
from typing import IO, TYPE_CHECKING, Any, Final
from urllib.parse import quote
from uuid import uuid4

from kombu.exceptions import ChannelError
from kombu.exceptions import ConnectionError as BrokerError
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.utils.json import dumps, loads

from tasks_app.filesystem_wakeups import WakeupPipe, wake
from tasks_app.poison import tell_dropped
from tasks_app.shapes import Malformed, check_envelope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger(__name__)

SCHEME: Final = "tasks-app"
DEFAULT_FOLDER: Final = ".tasks_broker"

#: Folder of the pipes by which workers are woken.
WAKEUPS: Final = "wakeups"

#: Seconds after which a file in tmp/ is what a killed process left; writing takes milliseconds.
_STALE_SECONDS: Final = 3600.0

#: Seconds between two looks where the transport option asks for none.
_SHORTEST_LOOK: Final = 0.01

_serial = itertools.count()

_Binding = tuple[str, str, str]

TRANSPORT_ALIASES[SCHEME] = f"{__name__}:Transport"


def url(folder: str | os.PathLike[str]) -> str:
    """
    Return the broker URL for messages kept in ``folder``, which is created when missing.

    >>> url("/srv/shop/.tasks_broker")
    'tasks-app://localhost//srv/shop/.tasks_broker'
    """
    return f"{SCHEME}://localhost/{quote(os.fspath(folder))}"


class Channel(virtual.Channel):
    """Queues and bindings as files; see the module's docstring for the layout."""

    supports_fanout = True

    def __init__(self, connection: Transport, **options: Any) -> None:
        super().__init__(connection, **options)
        self._root = connection.folder
        self._alive: dict[str, IO[str]] = {}

    # Messages

    def _put(self, queue: str, message: dict[str, Any], **_: Any) -> None:
        order = self._get_message_priority(message, reverse=True)
        name = f"{order}-{time.time_ns():020}-{next(_serial):08}-{uuid4().hex}.msg"
        try:
            self._write(self._queue(queue) / name, dumps(message))
            wake(self._root / WAKEUPS)
        except FileNotFoundError:
            logger.debug("queue %s was deleted while a message was put into it", queue)
        except OSError as error:
            raise ChannelError(f"Cannot write to queue {queue!r}: {error}") from error

    def _get(self, queue: str, timeout: float | None = None) -> dict[str, Any]:
        for path in self._messages(queue):
            taken = self._root / "tmp" / uuid4().hex
            try:
                taken.parent.mkdir(parents=True, exist_ok=True)
                path.rename(taken)
            except OSError:
                continue  # another consumer was faster
            try:
                message = self._read(taken)
            except Exception as error:  # noqa: BLE001 - whatever is in there, the worker lives on
                self._quarantine(path, taken, error)
            else:
                taken.unlink(missing_ok=True)
                return message
        raise Empty

    def _read(self, path: Path) -> dict[str, Any]:
        payload: dict[str, Any] = loads(path.read_bytes())
        check_envelope(payload)
        if not self.Message(payload, channel=self).body:
            raise Malformed("the body")
        return payload

    def _quarantine(self, path: Path, taken: Path, error: Exception) -> None:
        kept = self._root / "quarantine" / f"{uuid4().hex}.msg"
        with suppress(OSError):
            kept.parent.mkdir(exist_ok=True)
            taken.rename(kept)
        place = str(error) if isinstance(error, Malformed) else type(error).__name__
        tell_dropped(f"unreadable message {path} moved to {kept} ({place})")

    def _size(self, queue: str) -> int:
        return len(self._messages(queue))

    def _purge(self, queue: str) -> int:
        return sum(_remove(path) for path in self._messages(queue))

    def _messages(self, queue: str) -> list[Path]:
        folder = self._queue(queue)
        try:
            names = os.listdir(folder)  # noqa: PTH208 - names sort faster, and this is the poll
        except OSError:
            return []
        return [folder / name for name in sorted(names) if name.endswith(".msg")]

    def _queue(self, queue: str) -> Path:
        return self._root / "queues" / f"{quote(queue, safe='')}.queue"

    def _write(self, path: Path, text: str) -> None:
        temporary = self._root / "tmp" / uuid4().hex
        for folder in (temporary.parent, path.parent):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.rename(path)
        finally:
            temporary.unlink(missing_ok=True)

    # Queues and bindings

    def _new_queue(self, queue: str, **options: Any) -> None:
        temporary = options.get("auto_delete") or options.get("exclusive")
        try:
            if temporary and queue not in self._alive:
                self._alive[queue] = self._keep_alive(self._queue(queue))
            self._queue(queue).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ChannelError(f"Cannot create queue {queue!r}: {error}") from error

    @staticmethod
    def _keep_alive(folder: Path) -> IO[str]:
        while True:
            folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # a publisher removed the folder just now
                handle = (folder / "alive").open("a")
                fcntl.flock(handle, fcntl.LOCK_SH)
                if os.fstat(handle.fileno()).st_nlink:
                    return handle
                handle.close()  # … or the file, while we waited for its lock

    def _queue_bind(self, exchange: str, *binding: str | None) -> None:
        routing_key, pattern, queue = (part or "" for part in binding)
        text = json.dumps([routing_key, pattern, queue, queue in self._alive])
        try:
            self._write(self._binding(exchange, routing_key, pattern, queue), text)
        except OSError as error:
            raise ChannelError(f"Cannot bind {queue!r} to {exchange!r}: {error}") from error

    def _binding(self, exchange: str, *binding: str | None) -> Path:
        digest = sha256(json.dumps([part or "" for part in binding]).encode()).hexdigest()
        return self._exchange(exchange) / f"{digest}.json"

    def _exchange(self, exchange: str) -> Path:
        return self._root / "exchanges" / f"{quote(exchange, safe='')}.exchange"

    def get_table(self, exchange: str) -> list[_Binding]:
        """Return the bindings of an exchange, without those whose queues died."""
        return list(self._bindings(exchange))

    def _bindings(self, exchange: str) -> Iterator[_Binding]:
        for path in sorted(self._exchange(exchange).glob("*.json")):
            try:
                routing_key, pattern, queue, temporary = json.loads(path.read_bytes())
            except FileNotFoundError:
                continue  # unbound just now
            except (OSError, TypeError, ValueError) as error:
                self._quarantine(path, path, error)
                continue
            if not (temporary and self._bury(queue, path)):
                yield routing_key, pattern, queue

    def _bury(self, queue: str, binding: Path) -> bool:
        """Remove a queue that no process keeps alive, and tell whether it was so."""
        folder = self._queue(queue)
        try:
            with (folder / "alive").open() as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                # A process that declares the queue anew at this moment waits for the lock, sees
                # its file gone and starts over; so the binding must go before the file does.
                if os.fstat(handle.fileno()).st_nlink:
                    binding.unlink(missing_ok=True)
                    self._remove_queue(folder)
        except BlockingIOError:
            return False
        except FileNotFoundError:
            pass  # somebody else buried it
        return True

    def _remove_queue(self, folder: Path) -> None:
        for path in [*folder.glob("*.msg"), folder / "alive"]:
            _remove(path)
        with suppress(OSError):  # somebody uses it again
            folder.rmdir()

    def _put_fanout(
        self, exchange: str, message: dict[str, Any], routing_key: str, **options: Any
    ) -> None:
        del routing_key
        for _, _, queue in self.get_table(exchange):
            self._put(queue, message, **options)

    def _delete(self, queue: str, *binding: Any, **_: Any) -> None:
        exchange, *rest = binding
        self._binding(exchange, *rest).unlink(missing_ok=True)
        self._remove_queue(self._queue(queue))
        if queue in self._alive:
            self._alive.pop(queue).close()

    def after_reply_message_received(self, queue: str) -> None:
        """Empty the reply queue and keep it, since the next request reuses it undeclared."""
        self._purge(queue)

    def close(self) -> None:
        """Close the channel; its auto-delete queues die with it."""
        super().close()
        while self._alive:
            self._alive.popitem()[1].close()


class Transport(virtual.Transport):
    """The transport behind the scheme ``tasks-app``; its virtual host is the folder."""

    Channel = Channel
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset(["direct", "topic", "fanout"])
    )
    driver_type = "filesystem"
    driver_name = "tasks_app"
    default_port = 0
    #: Seconds between two looks at empty queues; the transport option of this name overrides it.
    polling_interval = 0.1
    #: No host to fall back on: there is none to connect to.
    default_connection_params: dict[str, Any] = {}

    def __init__(self, client: Any, **options: Any) -> None:
        super().__init__(client, **options)
        self._leave_loop: Callable[[], None] = _nothing

    @property
    def folder(self) -> Path:
        """The folder named by the URL, or `DEFAULT_FOLDER` below the current one."""
        named = self.client.virtual_host if self.client else None
        return Path(DEFAULT_FOLDER if named in (None, "", "/") else named)

    def driver_version(self) -> str:
        """Return no version: files have none."""
        return "N/A"

    def establish_connection(self) -> Transport:
        """Create the folder, clear what killed processes left half-done, and connect."""
        try:
            (self.folder / "tmp").mkdir(parents=True, exist_ok=True)
            for path in (self.folder / "tmp").iterdir():
                with suppress(FileNotFoundError):
                    # A rename renews ctime but not mtime, so a message being read is fresh.
                    if time.time() - path.stat().st_ctime > _STALE_SECONDS:
                        _remove(path)
        except OSError as error:
            raise BrokerError(f"Cannot use the broker folder {self.folder}: {error}") from error
        connection: Transport = super().establish_connection()
        return connection

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """
        Look for messages whenever the worker's loop turns, and make it turn often enough.

        It turns when somebody wakes it, and every `polling_interval` seconds in case nobody has. It
        turns once more after messages were found: who hands them to the pool's processes does so at
        the beginning of a turn, which may have come before this look.

        A worker with an event loop gives each child of its prefork pool a pipe of its own. Without
        one they share a queue and its lock; a child killed while it holds the lock, as an idle one
        does, would leave the worker deaf for good.
        """
        pipe = self._pipe()

        def look() -> None:
            if self._deliver_all(connection) and pipe is not None:
                pipe.wake()

        waking = loop.call_repeatedly(self.polling_interval or _SHORTEST_LOOK, lambda: None)
        loop.on_tick.add(look)
        if pipe is not None:
            loop.add_reader(pipe, pipe.quieten)

        def leave() -> None:
            loop.on_tick.discard(look)
            waking.cancel()
            if pipe is not None:
                loop.remove(pipe)
                pipe.close()

        self._leave_loop = leave

    def _deliver_all(self, connection: Any) -> int:
        """Deliver what waits and may be taken, and return how many messages that were."""
        delivered = 0
        with suppress(TimeoutError):
            while True:
                self.drain_events(connection, timeout=0)
                delivered += 1
        return delivered

    def _pipe(self) -> WakeupPipe | None:
        """Return a pipe that wakes this worker; None where the file system knows no pipes."""
        try:
            return WakeupPipe(self.folder / WAKEUPS, self.folder / "tmp")
        except OSError as error:
            logger.debug("no pipe in %s, looking every now and then: %s", self.folder, error)
            return None

    def close_connection(self, connection: Any) -> None:
        """Leave the worker's loop and close every channel."""
        self._leave_loop()
        self._leave_loop = _nothing
        super().close_connection(connection)


def _nothing() -> None:
    """Do nothing: there is no loop to leave."""


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False  # somebody else did, or it is no file
    return True
