"""
What a line looks like, and which lines there are at all.

Whatever a line holds, it neither acts on a terminal nor passes for another line: control
characters are written out, and what follows the first line of an entry is indented.
"""

import logging
from collections.abc import Mapping
from typing import Any
from zlib import crc32

from tasks_app.logs.fields import UNKNOWN, current_work
from tasks_app.printable import plain

#: One line of text.
TEXT = "%(asctime)s %(levelname)-7s %(name)s [%(task)s %(outcome_id)s %(request_id)s] %(message)s"

#: Stands before what belongs to the line above.
INDENT = "\n    "


class TextFormatter(logging.Formatter):
    """Lines for people; needs `ContextFilter` before it."""

    def __init__(self, fmt: str = TEXT, **options: Any) -> None:
        nothing = dict.fromkeys(("task", "outcome_id", "request_id"), UNKNOWN)
        given = options.pop("defaults", None) or {}
        super().__init__(fmt, defaults={**nothing, **given}, **options)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        work = current_work()
        if work is not None:
            text = work.mask(text)
        return plain(text).replace("\n", INDENT)


class SamplingFilter(logging.Filter):
    """
    Lets lines below WARNING pass for a share of all runs; stands behind `ContextFilter`.

    The outcome's id decides, so that all lines of an outcome are there or none, in every process.

    Args:
        rate: The share, from 0 to 1, or shares by task name; `"*"` stands for all other tasks.
    """

    def __init__(self, rate: float | Mapping[str, float] = 1.0) -> None:
        super().__init__()
        self.rates = dict(rate) if isinstance(rate, Mapping) else {"*": rate}
        self.otherwise = self.rates.get("*", 1.0)

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            return True
        outcome_id = record.__dict__.get("outcome_id", UNKNOWN)
        if outcome_id == UNKNOWN:
            return True
        rate = self.rates.get(record.__dict__.get("task", ""), self.otherwise)
        return rate >= 1 or crc32(str(outcome_id).encode()) < rate * 2**32
