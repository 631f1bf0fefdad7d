"""
Lines on their way to a disk or a console that may be slow: no task waits for either.

A line is made where it is written and put into a bounded queue; a thread of the same process takes
it to its target. What finds the queue full is dropped, counted, and told in a line of its own as
soon as there is room. A forked process begins with a queue and a thread of its own; at a process'
end the thread gets a moment to finish.
"""

import atexit
import logging
import os
import threading
from collections.abc import Mapping
from logging.handlers import QueueHandler
from queue import SimpleQueue
from typing import Any
from weakref import WeakSet

from django.utils.module_loading import import_string

#: Lines that may wait.
CAPACITY = 10_000

#: Seconds that a process which ends gives to the lines that still wait.
LAST_LINES = 5.0

#: Descriptors of the streams, where Python has none.
STREAMS = {"stdout": 1, "stderr": 2}

_handlers: "WeakSet[QueuedHandler]" = WeakSet()
#: Targets of a process that has forked: nothing of them may be closed here.
_inherited: list[Any] = []


class ConsoleHandler(logging.Handler):
    """
    Writes each line at once and in one piece, past Python's buffers, which a fork may find locked.

    Args:
        stream: `"stdout"` or `"stderr"`: the process' own, whatever `sys` has in their place.
    """

    def __init__(self, stream: str = "stderr") -> None:
        super().__init__()
        self.descriptor = STREAMS[stream]

    def emit(self, record: logging.LogRecord) -> None:
        try:
            rest = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            while rest:
                rest = rest[os.write(self.descriptor, rest) :]
        except Exception:  # noqa: BLE001 - as every handler of `logging`
            self.handleError(record)


class QueuedHandler(QueueHandler):
    """
    Hands lines to a target in a thread; `flush` waits for it, for so long.

    Args:
        target: The handler's class, or its dotted path; made in each process that writes a line.
        options: Arguments of the target.
        capacity: Lines that may wait.
        patience: Seconds that `flush` waits for a target.
    """

    def __init__(
        self,
        target: Any,
        options: Mapping[str, Any] | None = None,
        capacity: int = CAPACITY,
        patience: float = LAST_LINES,
    ) -> None:
        super().__init__(SimpleQueue())
        self.queue: SimpleQueue[Any]
        self.make_target = target
        self.options = dict(options or {})
        self.capacity = capacity
        self.patience = patience
        #: The target hung when somebody waited for it: nobody waits again until it moves.
        self._hangs = False
        #: Lines of this process that found no room.
        self.dropped = 0
        self._told = 0
        self._thread: threading.Thread | None = None
        self._target: logging.Handler | None = None
        _handlers.add(self)

    def enqueue(self, record: logging.LogRecord) -> None:
        if self._thread is None:
            # Not before: a thread does not survive the fork that may follow.
            self._thread = threading.Thread(target=self._write, name="tasks_app-log", daemon=True)
            self._thread.start()
        if self.queue.qsize() >= self.capacity:
            self.dropped += 1
        else:
            self.queue.put_nowait(record)

    def flush(self) -> None:
        """Wait until what was written before is at its target, or a moment has passed."""
        if self._hangs or self._thread in {None, threading.current_thread()}:
            return
        reached = threading.Event()
        self.queue.put_nowait(reached)
        self._hangs = not reached.wait(self.patience)

    def forked(self) -> None:
        """Leave the parent's lines to the parent."""
        _inherited.append(self._target)
        self.queue = SimpleQueue()
        self.dropped = self._told = 0
        self._thread = self._target = None
        self._hangs = False

    def _write(self) -> None:
        queue = self.queue
        target = self._target = self._open()
        while True:
            item: Any = queue.get()
            if isinstance(item, threading.Event):
                item.set()
                continue
            target.handle(item)
            self._hangs = False
            if self.dropped > self._told:
                self._tell(target)

    def _open(self) -> logging.Handler:
        make = self.make_target
        try:
            made: logging.Handler = (import_string(make) if isinstance(make, str) else make)(
                **self.options
            )
        except Exception as error:  # noqa: BLE001 - lines in the wrong place are better than none
            made = ConsoleHandler()
            made.handle(self._line("the log's target cannot be opened: %s", error))
        return made

    def _tell(self, target: logging.Handler) -> None:
        dropped = self.dropped
        self._told, count = dropped, dropped - self._told
        target.handle(self._line("%d lines of the log were dropped: its target is slow", count))

    def _line(self, text: str, value: Any) -> logging.LogRecord:
        record = logging.LogRecord(
            "tasks_app.logs", logging.WARNING, __file__, 0, text, (value,), None
        )
        self.filter(record)
        prepared: logging.LogRecord = self.prepare(record)
        return prepared


def flush() -> None:
    """Wait for the lines of all queues of this process, a moment for each."""
    for handler in list(_handlers):
        handler.flush()


def _forked() -> None:
    for handler in list(_handlers):
        handler.forked()


# Before the interpreter lets go of threads, and before `logging` closes the targets.
atexit.register(flush)
os.register_at_fork(after_in_child=_forked)
