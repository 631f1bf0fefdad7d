"""
What the worker's main process learns about a run: a child that died, a hard time limit.

Celery tells its request object, in the main process. The outcome is ended here at once; if the
database cannot be reached now, the rescuer does it when the lease runs out.
"""

import logging
from typing import Any

from billiard.exceptions import Terminated, WorkerLostError
from celery.worker.request import Request
from django.db import DatabaseError, connections

from tasks_app import rescue, turns
from tasks_app.conf import conf
from tasks_app.forks import database_section
from tasks_app.models import outcome_uuid
from tasks_app.shapes import PEAL

logger = logging.getLogger(__name__)


class OutcomeRequest(Request):
    """
    Celery's request, which also ends the outcome of a run that cannot end itself.

    A message may ring for further outcomes: see `turns.py`. Here they are rung for one by one
    where somebody counts or hears of each message.
    """

    def __init__(self, message: Any, **options: Any) -> None:
        super().__init__(message, **options)
        self._rest = self.request_dict.get(PEAL) or []
        if self._rest and self._is_counted():
            del self.request_dict[PEAL]
            self._hand_back_rest()

    def _is_counted(self) -> bool:
        return bool(
            _tells_of_tasks(self.eventer)
            or self.task.rate_limit
            or turns.this_worker.counts_messages
        )

    def _hand_back_rest(self) -> None:
        with database_section(conf.DATABASE, keep=True):
            turns.hand_back(self._rest)
        self._rest = []

    def on_failure(
        self,
        exc_info: Any,
        send_failed_event: bool = True,  # noqa: FBT001, FBT002 - Celery's signature
        return_ok: bool = False,  # noqa: FBT001, FBT002 - Celery's signature
    ) -> Any:
        error = getattr(exc_info.exception, "exc", exc_info.exception)
        if isinstance(error, Terminated | WorkerLostError | SystemExit):
            self._take_back(str(error), is_time_limit=False)
        try:
            with rescue.telling_celery():
                return super().on_failure(exc_info, send_failed_event, return_ok)
        except DatabaseError as unreachable:
            logger.warning("Outcome %s ended and Celery was not told: %s", self.id, unreachable)
            return None
        finally:
            # Celery asked the result backend. Kept, the connection would be dead by the next time.
            connections[conf.DATABASE].close()

    def on_timeout(self, soft: bool, timeout: float) -> Any:  # noqa: FBT001 - Celery's signature
        if not soft:
            error = f"The hard time limit of {timeout:g} s was exceeded."
            self._take_back(error, is_time_limit=True)
        with rescue.telling_celery():
            return super().on_timeout(soft, timeout)

    def _take_back(self, error: str, *, is_time_limit: bool) -> None:
        pid: Any = self.worker_pid  # a number, which Celery's stub takes for a text
        ids = [outcome_uuid(each) for each in (self.id, *(own["id"] for own in self._rest))]
        try:
            with database_section(conf.DATABASE, keep=False):
                # One of them at most runs there, or none.
                for outcome_id in filter(None, ids):
                    if rescue.take_back(outcome_id, pid, error, is_time_limit=is_time_limit):
                        break
            self._hand_back_rest()
        except DatabaseError:
            logger.warning("Outcome %s is left to the rescuer", self.id, exc_info=True)


def _tells_of_tasks(eventer: Any) -> bool:
    """Tell whether a worker's dispatcher sends events about tasks: no group means all groups."""
    is_on = eventer is not None and eventer.enabled
    return bool(is_on and (not eventer.groups or "task" in eventer.groups))
