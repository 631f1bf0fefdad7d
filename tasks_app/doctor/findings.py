"""
What a probe is and what it finds, and how one is run so that it can neither hang nor raise.

A probe that does not answer is left behind in its daemon thread; the process can end all the
same. Texts of errors lose the passwords that this project connects with.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from queue import Empty, SimpleQueue

from django.db import connections

from tasks_app.celery import app
from tasks_app.redaction import scrub

#: Seconds that one probe may take.
PATIENCE = 10.0

#: Names told in one finding.
TOLD = 5


class Status(StrEnum):
    """How well something is: only `FAIL` makes the doctor's exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one probe found, and what to do about it."""

    name: str
    status: Status
    found: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding before it has its probe's name."""

    status: Status
    found: str
    remedy: str = ""

    def of(self, name: str) -> Finding:
        """Return the finding of the probe of this name."""
        return Finding(name, self.status, self.found, self.remedy)


def ok(found: str) -> Verdict:
    """Return that all is well."""
    return Verdict(Status.OK, found)


def warn(found: str, remedy: str = "") -> Verdict:
    """Return that something deserves a look."""
    return Verdict(Status.WARN, found, remedy)


def fail(found: str, remedy: str = "") -> Verdict:
    """Return that something is broken."""
    return Verdict(Status.FAIL, found, remedy)


def several(parts: Iterable[str]) -> str:
    """
    Return the first few parts of a list that may be long.

    >>> several("abcdefg")
    'a, b, c, d, e, and 2 more'
    """
    known = list(parts)
    more = [f"and {len(known) - TOLD:,} more"] if len(known) > TOLD else []
    return ", ".join(known[:TOLD] + more)


@dataclass(frozen=True, slots=True)
class Probe:
    """One look at one thing; `needs` names the probe that must not have failed before."""

    name: str
    look: Callable[[], Verdict]
    needs: str | None = None


def bounded(probe: Probe, patience: float = PATIENCE) -> Finding:
    """Run a probe; an exception or silence is a finding too."""
    answer: SimpleQueue[Verdict] = SimpleQueue()
    threading.Thread(
        target=lambda: answer.put(_look(probe)), name=f"doctor {probe.name}", daemon=True
    ).start()
    try:
        return answer.get(timeout=patience).of(probe.name)
    except Empty:
        return fail(f"no answer within {patience:g} s").of(probe.name)


def _look(probe: Probe) -> Verdict:
    try:
        return probe.look()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong is what was found
        text = " ".join(str(error).split())
        return fail(scrub(f"{type(error).__name__}: {text}", _passwords()))
    finally:
        connections.close_all()


def _passwords() -> list[str]:
    known = [connections[alias].settings_dict.get("PASSWORD") for alias in connections]
    known.append(app.connection_for_write().password)
    return [str(password) for password in known if password]
