"""
The page of the queues: what waits, what runs, and whether a queue is paused.

Depths are counted anew up to a bound; what would need to read more (deeper queues, the oldest due
outcome, the rate) is taken from the stock, with the time of its counting. What is read does not
grow with the table.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import Count
from django.http import HttpResponseBadRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils import timezone

from tasks_app import declare, outbox, queues
from tasks_app.admin.pages import Page
from tasks_app.admin.texts import NOTHING, span
from tasks_app.broker import known_queues
from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.exceptions import InvalidArgument
from tasks_app.failures import one_line
from tasks_app.models import Outcome, PausedQueue, Stock
from tasks_app.options import declared
from tasks_app.states import State
from tasks_app.stock import ROW, Counts
from tasks_app.transience import pessimistic

PAUSE = "tasks_app.pause_queue"

#: Waiting outcomes of a queue that are counted anew for each look at the page.
COUNTED = 1_000

#: Queues on the page: the paused ones, then the deepest.
SHOWN = 100


@dataclass(frozen=True, slots=True)
class Counted:
    """What was counted last for the metrics, and when; nothing before somebody has."""

    now: datetime
    taken_at: datetime | None
    counts: Counts

    @classmethod
    def last(cls) -> "Counted":
        row = Stock.objects.filter(pk=ROW).annotate(now=DatabaseNow()).first()
        if row is None or row.taken_at is None:
            return cls(timezone.now(), None, {})
        return cls(row.now, row.taken_at, json.loads(row.recent_json))

    def of(self, kind: str) -> dict[str, float]:
        return self.counts.get(kind, {})


@dataclass(frozen=True, slots=True)
class Row:
    """What the page shows of one queue."""

    name: str
    waiting: int
    waiting_text: str
    oldest_due: str
    rate: str
    running: int
    pause: PausedQueue | None


class QueuesPage(Page):
    """Every queue that is known or used, and the buttons that pause and resume it."""

    name = "queues"
    route = "queues/"
    title = "Queues"
    template = "admin/tasks_app/queues.html"

    def context(self, **named: Any) -> dict[str, Any]:
        counted = Counted.last()
        rows = sorted(_rows(counted), key=lambda row: (row.pause is None, -row.waiting))
        shown, left_out = rows[:SHOWN], len(rows[SHOWN:])
        return {
            # By name: depths change while somebody aims at a button.
            "rows": sorted(shown, key=lambda row: (row.pause is None, row.name)),
            "left_out": left_out,
            "counted_age": counted.taken_at and span(counted.now - counted.taken_at),
            "may_pause": self.request.user.has_perm(PAUSE),
        }

    def post(self, **named: Any) -> HttpResponseBase:
        """Pause or resume the queue that the form names."""
        if not self.request.user.has_perm(PAUSE):
            raise PermissionDenied
        form = self.request.POST
        acts = {"pause": self._pause, "resume": self._resume}
        name, act = form.get("queue", ""), acts.get(form.get("act", ""))
        if act is None:
            return HttpResponseBadRequest("Neither pause nor resume.", content_type="text/plain")
        try:
            # The entry in the history is there if and only if the act is.
            with pessimistic(), transaction.atomic(using=conf.DATABASE):
                done, told = act(name)
        except InvalidArgument as error:
            done, told = False, str(error)
        messages.add_message(self.request, messages.SUCCESS if done else messages.ERROR, told)
        return HttpResponseRedirect(self.request.path)

    def _pause(self, name: str) -> tuple[bool, str]:
        reason = self.request.POST.get("reason", "")
        if not queues.pause(name, by=self.request.user.get_username(), reason=reason):
            return False, f"The queue {name} was not paused: it is paused already."
        self._log(name, f"Paused. {one_line(reason)}".strip())
        return True, f"The queue {name} is paused. What runs already goes on."

    def _resume(self, name: str) -> tuple[bool, str]:
        if not queues.resume(name, by=self.request.user.get_username()):
            return False, f"The queue {name} was not resumed: it is not paused."
        self._log(name, "Resumed.")
        return True, f"The queue {name} works again."

    def _log(self, name: str, told: str) -> None:
        self.model_admin.log_change(self.request, PausedQueue(name=name), told)


def _rows(counted: Counted) -> Iterator[Row]:
    paused = {row.name: row for row in PausedQueue.objects.all()}
    running = _running()
    names = {*_known(counted), *paused, *running}
    waiting = outbox.depths(names, COUNTED)
    ended = counted.of("ended_lately")
    for name in names:
        yield Row(
            name,
            waiting.get(name, 0),
            _waiting_text(waiting.get(name, 0), counted.of("depth").get(name, 0)),
            _age(counted, counted.of("oldest_due_at").get(name)),
            NOTHING if counted.taken_at is None else f"{ended.get(name, 0):,}",
            running.get(name, 0),
            paused.get(name),
        )


def _known(counted: Counted) -> Iterable[str]:
    """Return the queues that are declared here, and those where something waits."""
    declare.load_tasks()
    waiting = outbox.waiting_queues() if counted.taken_at is None else counted.of("depth")
    return {*known_queues(declared), *waiting}


def _running() -> dict[str, int]:
    rows = Outcome.objects.filter(state=State.RUNNING).values_list("queue")
    return dict(rows.annotate(count=Count("pk")))


def _waiting_text(waiting: int, before: float) -> str:
    if waiting < COUNTED:
        return f"{waiting:,}"
    return f"about {before:,.0f}" if before > COUNTED else f"{COUNTED:,} or more"


def _age(counted: Counted, since: float | None) -> str:
    if since is None:
        return NOTHING
    return span(max(counted.now - datetime.fromtimestamp(since, UTC), timedelta(0)))
