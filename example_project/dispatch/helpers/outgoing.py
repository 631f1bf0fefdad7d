"""One HTTP call to an outside service: bounded in time, judged by the caller.

No session, no retry, no proxy: trying again is the task's business. Anything that is not an
answer (refused, timed out, cut off) is one exception, ``Unreachable``.
"""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.message import Message
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

_GOOD = range(200, 300)


class Unreachable(Exception):
    """The service gave no answer."""


class Refused(Exception):
    """The service answered, but not with what was asked for."""


@dataclass(frozen=True)
class Answer:
    """What a service said."""

    status: int
    headers: Message
    body: bytes

    @property
    def is_good(self) -> bool:
        """Whether the service did what it was asked (2xx)."""
        return self.status in _GOOD

    def json(self) -> Any:
        """Return the decoded body of a good answer.

        Raises:
            Refused: The status is not 2xx, or the body is not JSON.
        """
        if not self.is_good:
            raise Refused(f"HTTP {self.status}")
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise Refused(f"HTTP {self.status} with a body that is not JSON") from error

    def retry_after(self, default: float) -> float:
        """Return the seconds that ``Retry-After`` asks to wait, given as seconds or as a date."""
        value = self.headers.get("Retry-After", "")
        if value.isdigit():
            return float(value)
        try:
            moment = parsedate_to_datetime(value)
        except ValueError:
            return default
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return max(0.0, (moment - datetime.now(UTC)).total_seconds())


def call(
    method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> Answer:
    """Send one request and return the answer, whatever its status.

    Raises:
        Unreachable: No whole answer came within ``DISPATCH["TIMEOUT"]``.
    """
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=settings.DISPATCH["TIMEOUT"])
    try:
        target = f"{parts.path}?{parts.query}" if parts.query else parts.path
        connection.request(method, target, body=body, headers=dict(headers or {}))
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    except (OSError, http.client.HTTPException) as error:
        raise Unreachable(f"{method} {url}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
