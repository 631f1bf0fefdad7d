"""
Web requests: a row for each that enqueued something, where the trace of its work begins.

Written once the response is ready, outside any transaction of the view, so it tells of requests
whose work was rolled back, too. Nothing of it may cost anybody a response: a database that is away
is told in a line at debug level. A process that dies before leaves no row.
"""

import logging
import time
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

from django.db import connections, transaction
from django.db.models.constants import OnConflict
from django.http import HttpRequest

from tasks_app import context
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.models import WebRequest

logger = logging.getLogger(__name__)


class Visit:
    """One web request, from its arrival to its response."""

    def __init__(self, request: HttpRequest) -> None:
        self.request = request
        self.began = time.monotonic()
        self.work = context.WebWork(request.request_id)  # type: ignore[attr-defined]  # the middleware's

    def noticing(self) -> AbstractContextManager[None]:
        """Return the block in which the request is answered."""
        return context.answering(self.work) if conf.RECORD_REQUESTS else nullcontext()

    @property
    def is_to_be_told(self) -> bool:
        return self.work.has_enqueued

    def record(self, status: int | None) -> None:
        """Write the row if the request enqueued anything; of one id's requests the first counts."""
        if not self.is_to_be_told:
            return
        try:
            self._insert(status)
        except Exception as error:  # noqa: BLE001 - the response is ready and must go out
            logger.debug("A web request was not recorded: %s", error)

    def _insert(self, status: int | None) -> None:
        row = WebRequest(
            request_id=self.work.request_id,
            method=_shortened(self.request.method, "method"),
            route=_shortened(_route(self.request), "route"),
            status=status,
            started_at=DatabaseNow() - timedelta(seconds=time.monotonic() - self.began),
        )
        given = [field for field in WebRequest._meta.concrete_fields if field.name != "finished_at"]
        rows: Any = WebRequest.objects.all()
        with _apart():
            # What `bulk_create` does, without the transaction that it opens around one statement.
            rows._insert([row], given, using=conf.DATABASE, on_conflict=OnConflict.IGNORE)  # noqa: SLF001


def _apart() -> AbstractContextManager[Any]:
    """Keep a failure out of a transaction that stands around the whole request, as in tests."""
    if connections[conf.DATABASE].in_atomic_block:
        return transaction.atomic(using=conf.DATABASE)  # type: ignore[no-any-return]  # a gap of the stubs
    return nullcontext()


def _route(request: HttpRequest) -> str:
    """Return the URLconf's pattern: the path itself may hold what nobody should read."""
    match = request.resolver_match
    return "" if match is None else match.route or ""


def _shortened(text: str | None, column: str) -> str:
    field: Any = WebRequest._meta.get_field(column)
    return (text or "")[: field.max_length]
