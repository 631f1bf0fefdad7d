"""
Probes of the rows: is what should happen to them happening?

Rows are the truth about lag and loss, whatever broker and workers say about themselves. Only
pending and running rows are read, and of those only names and times.
"""

from datetime import timedelta
from typing import Any

from django.db.models import Count, Min

from tasks_app.clock import DatabaseNow
from tasks_app.conf import conf
from tasks_app.doctor.database import aware, database_now
from tasks_app.doctor.findings import Verdict, fail, ok, several, warn
from tasks_app.models import Outcome, PausedQueue
from tasks_app.options import declared
from tasks_app.outbox import in_flight, paused_queues
from tasks_app.states import State

#: Age of a due row that nobody announced.
NOTABLE_LAG, INTOLERABLE_LAG = timedelta(seconds=10), timedelta(seconds=60)

#: Announcements after which somebody should have claimed a row: more than eight minutes.
MANY = 5


def relay_lag() -> Verdict:
    """Look for the oldest row that is due and that no relay has announced."""
    awake = Outcome.objects.due().exclude(queue__in=paused_queues())
    queues = awake.values("queue").annotate(rows=Count("pk"), at=Min("announce_at"))
    due = list(queues.order_by("at"))
    held_up = [
        queue
        for queue in due
        if in_flight(queue["queue"], conf.MAX_IN_FLIGHT) >= conf.MAX_IN_FLIGHT
    ]
    late = [queue for queue in due if queue not in held_up]
    lag = database_now() - aware(late[0]["at"]) if late else timedelta(0)
    text = f"rows due: {sum(queue['rows'] for queue in late):,}, the oldest for {_text(lag)}"
    remedy = "Start a worker, or a relay alone: `manage.py tasks relay`."
    if lag > INTOLERABLE_LAG:
        return fail(f"{text}; no relay runs, or it cannot reach the broker", remedy)
    if lag > NOTABLE_LAG:
        return warn(text, remedy)
    if held_up:
        names = ", ".join(queue["queue"] for queue in held_up)
        return warn(
            f"{sum(queue['rows'] for queue in held_up):,} rows wait behind {conf.MAX_IN_FLIGHT:,} "
            f"unclaimed messages of the queues: {names}",
            "Start more workers for these queues.",
        )
    return ok(text if late else "no row is due")


def unclaimed() -> Verdict:
    """Look for rows that were announced again and again while nobody took them."""
    rows = Outcome.objects.filter(state=State.PENDING, announced__gte=MANY)
    rows = rows.exclude(queue__in=paused_queues())
    found = list(rows.values("task_name", "queue").annotate(rows=Count("pk")).order_by("-rows"))
    if not found:
        return ok("every announced row was claimed in time")
    text = several(
        f"{row['rows']:,} × {row['task_name']} in queue {row['queue']!r}" for row in found
    )
    queues = ",".join(sorted({row["queue"] for row in found}))
    return warn(
        f"announced {MANY} times or more and never claimed: {text}",
        f"Start a worker for them that knows the tasks: `manage.py tasks worker -Q {queues}`.",
    )


def resting_queues() -> Verdict:
    """Look for queues that somebody has paused."""
    found = list(PausedQueue.objects.order_by("paused_at"))
    if not found:
        return ok("no queue is paused")
    now = database_now()
    text = several(
        f"{row.name!r} for {_text(now - aware(row.paused_at))}"
        + (f" by {row.paused_by}" if row.paused_by else "")
        + (f" ({row.reason})" if row.reason else "")
        for row in found
    )
    return warn(
        f"paused, so that nothing of theirs runs: {text}",
        f"When they may work again: `manage.py tasks resume {found[0].name}`.",
    )


def dead_leases() -> Verdict:
    """Look for running rows whose worker is lost and that no rescuer took."""
    patience = 2 * conf.RESCUE_INTERVAL
    orphans = Outcome.objects.orphaned()
    overdue = orphans.filter(lease_until__lt=DatabaseNow() - patience)
    found = overdue.aggregate(rows=Count("pk"), at=Min("lease_until"))
    if found["rows"]:
        return fail(
            f"{found['rows']:,} running rows have lost their worker, the first of them "
            f"{_text(database_now() - aware(found['at']))} ago",
            "Start a worker, or a relay alone: either rescues them.",
        )
    fresh = orphans.count()
    return ok(f"{fresh} just ran out; the rescuer comes" if fresh else "every running row is held")


def unknown_tasks() -> Verdict:
    """Look for pending rows of tasks that are not declared here."""
    rows: Any = Outcome.objects.filter(state=State.PENDING).exclude(task_name__in=list(declared))
    found = list(rows.values("task_name").annotate(rows=Count("pk")).order_by("task_name"))
    if not found:
        return ok("every waiting row's task is declared here")
    text = several(f"{row['task_name']} ({row['rows']:,} rows)" for row in found)
    return warn(
        f"not declared here: {text}",
        f"They fail {_text(conf.UNREGISTERED_AFTER)} after they were due unless a worker knows "
        "them. Renamed? Give the task aliases=[…].",
    )


def _text(span: timedelta) -> str:
    return str(timedelta(seconds=int(span.total_seconds())))
