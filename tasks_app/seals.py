"""
Seals: proof that a message was written by a process of this Django project.

A seal is made with `django.core.signing` and the project's `SECRET_KEY`; it verifies with
`SECRET_KEY_FALLBACKS` too, so keys can be changed while workers run. It is bound to one purpose
and to the message's content, tells when it was made, and names itself, so that whoever accepts
it can refuse it the second time.
"""

import time
from collections.abc import Callable
from datetime import timedelta
from hashlib import sha256
from typing import Any
from uuid import uuid4

from django.core import signing
from kombu.utils.json import dumps, loads

#: Separates these signatures from every other use of the same key.
SALT = "tasks_app.seals"


class Refused(Exception):
    """A seal is missing, forged, of another message, too old, or was used before."""


def seal(purpose: str, content: Any) -> str:
    """Return the seal of a JSON value for one purpose."""
    about = {"digest": _digest(content), "name": uuid4().hex, "at": time.time()}
    return signing.dumps(about, salt=f"{SALT}.{purpose}")


def read_seal(purpose: str, content: Any, token: Any, age: timedelta) -> tuple[str, float]:
    """
    Return a seal's own name and when it was made.

    Raises:
        Refused: it is no seal of this content, or it is older than `age`.
    """
    if not isinstance(token, str):
        raise Refused("it is not signed")
    try:
        about = signing.loads(token, salt=f"{SALT}.{purpose}", max_age=age)
    except signing.SignatureExpired:
        raise Refused("its signature is too old") from None
    except signing.BadSignature:
        raise Refused("its signature is not this project's") from None
    if about["digest"] != _digest(content):
        raise Refused("its signature is another message's")
    return about["name"], about["at"]


def _digest(content: Any) -> str:
    """Return a digest of the content as it is after a journey through JSON."""
    return sha256(dumps(loads(dumps(content)), sort_keys=True).encode()).hexdigest()


class Once:
    """
    Accepts each seal once, and none from before it began or from a clock that is far ahead.

    What it has to remember is bounded by the number of genuine seals within two ages.
    """

    def __init__(self, age: timedelta, clock: Callable[[], float] = time.time) -> None:
        self.age = age
        self._clock = clock
        self._began = clock()
        self._seen: dict[str, float] = {}

    def accept(self, purpose: str, content: Any, token: Any) -> None:
        """
        Return if the seal is genuine, of this content, fresh and new.

        Raises:
            Refused: it is not.
        """
        name, at = read_seal(purpose, content, token, self.age)
        now, age = self._clock(), self.age.total_seconds()
        if at < self._began:
            raise Refused("it was signed before this process began")
        if at > now + age:
            raise Refused("it was signed in the future")
        if name in self._seen:
            raise Refused("it was received before")
        self._seen = {known: made for known, made in self._seen.items() if made > now - age}
        self._seen[name] = at
