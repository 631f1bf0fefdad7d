"""
What the console shows while it is walked through: a day at the dispatch desk, told in rows.

The rows are those that workers leave behind, with times before now, so that nothing has to run and
nothing is waited for. `build` writes what a picture may show. `add_for_tests` adds what people type
and log, to ask whether a page bears it, and calls for the acts to act upon.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count, cycle, islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.contrib.auth import get_user_model
from django.utils import timezone
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from example_project.dispatch.helpers import maps
from example_project.dispatch.models import Airport, Flight, Job, LedgerEntry
from tasks_app import stock
from tasks_app.models import (
    Attempt,
    BulkAction,
    Cause,
    Deploy,
    Heartbeat,
    Outcome,
    PausedQueue,
    Repeat,
    Slot,
    Stock,
    Subject,
    Timer,
    WebRequest,
)

#: The request that a dispatcher's click began; most of the story belongs to it.
REQUEST = "5f0c7d2e9b3a4e61a8d4c2b7f6e01934"

#: Who runs what: two workers of two processes each.
WORKERS = (
    "worker@hangar-1#4121/4130",
    "worker@hangar-1#4121/4131",
    "worker@hangar-2#977/983",
    "worker@hangar-2#977/984",
)

#: Among the arguments of one call, under a name that `REDACT` lists.
SECRET = "tok_canary_7070"

#: Pages of the console are asked for with these; see `tests.console.pages`.
Facts = dict[str, str]

LOST = "The worker was lost: its lease ran out."

TRACEBACK = """Traceback (most recent call last):
  File "/srv/desk/tasks_app/worker.py", line 214, in _call
    return helper(*args, **kwargs)
  File "/srv/desk/{file}", line {line}, in {function}
    answer = outgoing.call("GET", address)
  File "/srv/desk/example_project/dispatch/helpers/outgoing.py", line 48, in call
    raise Unreachable(str(error)) from error
{error_type}: {error}
"""

LOG = """2026-03-09 07:14:02 INFO dispatch: asking for {what}
2026-03-09 07:14:02 INFO dispatch: attempt {number}
2026-03-09 07:14:03 WARNING dispatch: it takes longer than usual"""


@dataclass(frozen=True)
class Kind:
    """One kind of failure: what raised where, and how often it happened today."""

    task_name: str
    queue: str
    error_type: str
    error: str
    place: str
    reason: str
    times: int

    @property
    def fingerprint(self) -> str:
        """Return what `outcomes.py` would have made of it."""
        was_raised = self.reason != "worker_lost"
        kind = (self.error_type, self.place) if was_raised else (self.reason, self.task_name)
        return hashlib.sha256("\n".join(kind).encode()).hexdigest()[:32]

    def traceback(self) -> str:
        module, _, function = self.place.rpartition(".")
        file = f"{module.replace('.', '/')}.py"
        error_type = self.error_type
        return TRACEBACK.format(
            file=file, line=31, function=function, error_type=error_type, error=self.error
        )


HELPERS = "example_project.dispatch.helpers"

TIMED_OUT = f"{HELPERS}.outgoing.Unreachable"

KINDS = (
    Kind(
        "dispatch.fetch_weather",
        "weather",
        TIMED_OUT,
        "GET /weather/EDDF: timed out after 1.0 s",
        f"{HELPERS}.weather.fetch_weather",
        "retries_exhausted",
        9,
    ),
    Kind(
        "dispatch.prepay_fuel",
        "payments",
        f"{HELPERS}.outgoing.Refused",
        "HTTP 402 from the provider: the card was declined",
        f"{HELPERS}.prepayment.prepay_fuel",
        "not_retryable",
        4,
    ),
    Kind(
        "dispatch.import_chunk",
        "celery",
        "UnicodeDecodeError",
        "'utf-8' codec can't decode byte 0xff in position 17: invalid start byte",
        f"{HELPERS}.airports_csv.import_chunk",
        "not_retryable",
        2,
    ),
    Kind(
        "dispatch.draw_map",
        "maps",
        "worker_lost",
        "The worker was lost 3 times during a run.",
        "",
        "worker_lost",
        1,
    ),
)

#: What a payment met twice before it went through.
SLOW_PAYMENT = replace(
    KINDS[1], error_type=TIMED_OUT, error="POST /payments/charges: timed out after 1.0 s"
)


@dataclass
class Story:
    """Rows on their way to the database, and what links them."""

    now: datetime
    outcomes: list[Outcome] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    causes: list[Cause] = field(default_factory=list)
    numbers: Iterator[int] = field(default_factory=lambda: count(1))
    workers: Iterator[str] = field(default_factory=lambda: cycle(WORKERS))

    def identified(self, moment: datetime) -> UUID:
        """Return an id of version 7 for a row made at a moment; its dice always fall the same."""
        milliseconds = int(moment.timestamp() * 1000) << 80
        dice = random.Random(next(self.numbers))
        chance = dice.getrandbits(12) << 64 | dice.getrandbits(62)
        return UUID(int=milliseconds | 0x7 << 76 | 0x2 << 62 | chance)

    def enqueued(self, task: str, queue: str, ago: timedelta, *args: Any, **fields: Any) -> Outcome:
        """Tell of a call that was made some time ago and waits."""
        moment = self.now - ago
        pk = self.identified(moment)
        kwargs = fields.pop("kwargs", {})
        parent: Outcome | None = fields.pop("parent", None)
        if parent is not None:
            fields |= {"parent_id": parent.pk, "root_id": parent.root_id}
            fields.setdefault("request_id", parent.request_id)
        row = Outcome(
            **{
                "id": pk,
                "task_name": f"dispatch.{task}",
                "queue": queue,
                "args_json": json.dumps(args),
                "kwargs_json": json.dumps(kwargs),
                "root_id": pk,
                "created_at": moment,
                "run_at": moment,
                "announce_at": moment,
                "announced": 1,
                "max_attempts": 8,
                **fields,
            }
        )
        self.outcomes.append(row)
        return row

    def run(self, row: Outcome, ended: str, wait: float, seconds: float, **fields: Any) -> datetime:
        """Tell of a run of a row that began some seconds after it was due; return its end."""
        row.attempt += ended not in {"snoozed", "released"}
        row.fence += 1
        began = row.run_at + timedelta(seconds=wait)
        finished = began + timedelta(seconds=seconds)
        row.started_at = row.started_at or began
        row.worker = fields.pop("worker", None) or next(self.workers)
        self.attempts.append(
            Attempt(
                **{
                    "outcome_id": row.pk,
                    "number": max(row.attempt, 1),
                    "fence": row.fence,
                    "state": ended,
                    "worker": row.worker,
                    "due_at": row.run_at,
                    "started_at": began,
                    "finished_at": finished,
                    **fields,
                }
            )
        )
        return finished

    def again(self, row: Outcome, ended: str, wait: float, seconds: float, **fields: Any) -> None:
        """Tell of a run after which the row came back, due some seconds later."""
        pause = fields.pop("pause", 2.0)
        finished = self.run(row, ended, wait, seconds, **fields)
        row.run_at = row.announce_at = finished + timedelta(seconds=pause)
        row.error = fields.get("error", "")
        row.crashes += ended == "lost"

    def retried(self, row: Outcome, kind: Kind, **fields: Any) -> None:
        """Tell of a run that failed in some way and after which the row came back."""
        told = {"error": kind.error, "error_type": kind.error_type, "traceback": kind.traceback()}
        self.again(row, "retried", 0.1, 1.0, **told, **fields)

    def succeeded(
        self, row: Outcome, wait: float = 0.02, seconds: float = 0.3, **fields: Any
    ) -> Outcome:
        """Tell that a row's last run went well."""
        log = fields.pop("log", "")
        finished = self.run(row, "succeeded", wait, seconds, log=log)
        return ended(row, "succeeded", finished, fields, finish_fence=row.fence, error="")

    def failed(self, row: Outcome, kind: Kind, wait: float = 0.02, seconds: float = 1.0) -> Outcome:
        """Tell that a row's last run failed in some way, and why."""
        lost = kind.reason == "worker_lost"
        finished = self.run(
            row,
            "lost" if lost else "failed",
            wait,
            seconds,
            error_type="" if lost else kind.error_type,
            error=kind.error,
            traceback="" if lost else kind.traceback(),
            sentry_event_id="" if lost else UUID(int=row.pk.int).hex,
            log=LOG.format(what=row.task_name, number=row.attempt),
        )
        row.crashes += lost
        self.causes.append(
            Cause(
                outcome_id=row.pk,
                fingerprint=kind.fingerprint,
                task_name=row.task_name,
                error_type=kind.error_type,
                place=kind.place,
                failed_at=finished,
            )
        )
        more = {"reason": kind.reason, "error": kind.error, "finish_fence": row.fence}
        return ended(row, "failed", finished, more)

    def running(self, row: Outcome, since: float, **fields: Any) -> Outcome:
        """Tell that a row has been running for some seconds."""
        row.attempt += 1
        row.fence += 1
        row.state = "running"
        row.worker = next(self.workers)
        row.claimed_at = self.now - timedelta(seconds=since)
        row.started_at = row.started_at or row.claimed_at
        row.lease_until = self.now + timedelta(seconds=40)
        return put(row, fields)

    def write(self) -> None:
        """Write all of it."""
        Outcome.objects.bulk_create(self.outcomes)
        Attempt.objects.bulk_create(sorted(self.attempts, key=lambda each: each.finished_at))
        Cause.objects.bulk_create(self.causes)


def put(row: Outcome, fields: Mapping[str, Any]) -> Outcome:
    for name, value in fields.items():
        setattr(row, name, value)
    return row


def ended(
    row: Outcome, state: str, moment: datetime, more: Mapping[str, Any], **fields: Any
) -> Outcome:
    return put(row, {**fields, **more, "state": state, "finished_at": moment})


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def build() -> Facts:
    """Write the whole scene and return what its pages are asked for with."""
    user = get_user_model().objects.create_superuser(
        "ada", "ada@dispatch.example", "ada", first_name="Ada", last_name="Okafor"
    )
    flights = make_desk()
    story = Story(timezone.now())
    facts = {
        "user": str(user.pk),
        "flight": str(flights[0].pk),
        "request": REQUEST,
        "fingerprint": KINDS[0].fingerprint,
    }
    tell_day(story)
    tell_failures(story)
    facts |= tell_request(story, user, flights)
    facts |= tell_waiting(story, user)
    facts |= write_schedules(story)
    story.write()
    write_processes(story.now)
    Job.objects.update(root_id=facts["root"], report_id=facts["report"], planned_at=story.now)
    facts |= write_surroundings(story, user, flights, facts)
    Stock.objects.get_or_create(pk=stock.ROW)
    stock.take()
    return facts


def make_desk() -> list[Flight]:
    """Write a job with airports, flights, payments, bad lines and a map."""
    job = Job.objects.create(source="airports.csv", header="", chunks_left=0, request_id=REQUEST)
    places = {
        "EDDF": ("Frankfurt am Main", "DE", 50.0264, 8.54313),
        "EDDM": ("Munich", "DE", 48.3538, 11.7861),
        "EDDH": ("Hamburg Helmut Schmidt", "DE", 53.6304, 9.98823),
        "EGLL": ("London Heathrow", "GB", 51.4706, -0.46194),
    }
    Airport.objects.bulk_create(
        Airport(icao=icao, name=name, country=country, latitude=latitude, longitude=longitude)
        for icao, (name, country, latitude, longitude) in places.items()
    )
    maps.draw_map(job.pk, "DE")
    flights = Flight.objects.bulk_create(
        Flight(
            job=job,
            number=f"TA{number:04}",
            origin_id=origin,
            destination_id="EGLL",
            distance_km=655 + number,
            fuel_price=Decimal("2173.29") + number,
        )
        for number, origin in enumerate(("EDDF", "EDDM", "EDDH"), 1)
    )
    for flight in flights:
        key = f"prepay:{flight.pk}"
        LedgerEntry.objects.create(
            flight=flight, idempotency_key=key, charge=f"ch_{flight.pk}", amount=flight.fuel_price
        )
    job.problems.create(line=7, reason="latitude: not a number", text="EDXX,Nowhere,north,8")
    return list(flights)


#: What a task of the desk is called with, at a place and for a number.
ICAO, COUNTRIES = ("EDDF", "EDDM", "EDDH", "EGLL"), ("DE", "GB", "FR", "US", "TR")


def arguments_of(task: str, number: int) -> tuple[Any, ...]:
    """Return what the nth call of a task is given."""
    if task == "fetch_weather":
        return 1, ICAO[number % len(ICAO)]
    if task in {"draw_map", "send_briefing"}:
        return 1, COUNTRIES[number % len(COUNTRIES)]
    return (number,)


#: Task, queue, seconds of a wait and of a run; one call of each every so many minutes of the last
#: hour, and of the day before it.
TRAFFIC = (
    ("fetch_weather", "weather", 0.03, 0.21, 1.3, 13),
    ("deliver_webhook", "webhooks", 0.05, 0.12, 0.9, 11),
    ("send_briefing", "mail", 0.4, 0.75, 4.1, 37),
    ("draw_map", "maps", 1.9, 3.6, 5.3, 41),
    ("prepay_fuel", "payments", 0.02, 0.48, 1.9, 23),
)

#: A queue, and for how many minutes it has been paused.
PAUSED, PAUSED_FOR = "webhooks", 18


def tell_day(story: Story) -> None:
    """Tell of a day's calls that went well, a few of them on a second attempt."""
    for task, queue, wait, seconds, every, before in TRAFFIC:
        begin = PAUSED_FOR if queue == PAUSED else 6
        hour = (begin + each * every for each in range(int((60 - begin) / every)))
        day = (60 + each * before for each in range(int(23 * 60 / before)))
        for number, ago in enumerate((*hour, *day), 1):
            row = story.enqueued(task, queue, minutes(ago), *arguments_of(task, number))
            if number % 9 == 0:
                story.retried(row, KINDS[0])
            story.succeeded(row, wait, seconds * (1 + number % 7 / 4))


def tell_failures(story: Story) -> None:
    """Tell of failures of several kinds."""
    for kind in KINDS:
        task = kind.task_name.removeprefix("dispatch.")
        for number in range(kind.times):
            row = story.enqueued(
                task,
                kind.queue,
                minutes(25 + 47 * number),
                *arguments_of(task, number),
                max_attempts=3,
            )
            for _ in range(0 if kind.reason == "not_retryable" else 2):
                if kind.reason == "worker_lost":
                    story.again(row, "lost", 0.1, 20.0, error=LOST)
                else:
                    story.retried(row, kind)
            story.failed(row, kind)
    row = story.enqueued("send_letters", "mail", timedelta(hours=26), 1)
    reason, error = "unregistered", "No worker has known a task of this name for 1 day, 0:00:00."
    ended(row, "failed", story.now - timedelta(hours=2), {"reason": reason, "error": error})


def tell_request(story: Story, user: Any, flights: list[Flight]) -> Facts:
    """Tell of one request and what it caused: retries, a killed worker, a replay, progress."""
    ago = timedelta(seconds=200)
    root = story.enqueued("open_job", "celery", ago, 1, request_id=REQUEST, owner=user)
    story.succeeded(root, 0.02, 0.18, result_json="3")
    report = story.enqueued(
        "build_report",
        "celery",
        ago - timedelta(seconds=0.1),
        1,
        parent=root,
        progress_done=8,
        progress_total=11,
        progress_message="of the job's tasks are done",
    )
    story.again(report, "snoozed", 0.05, 0.03, pause=205)
    chunks = [
        story.succeeded(
            story.enqueued("import_chunk", "celery", ago - timedelta(seconds=1), 1, parent=root),
            0.1 * number,
            1.2 + number,
            result_json='{"airports": 500, "problems": 1}',
            log=LOG.format(what=f"chunk {number}", number=1),
        )
        for number in range(1, 4)
    ]
    plan = story.enqueued(
        "plan_job",
        "celery",
        ago - timedelta(seconds=6),
        1,
        parent=chunks[-1],
        idempotency_key="plan:1",
    )
    story.succeeded(plan, 0.02, 0.6, result_json='{"countries": 2, "flights": 3}')
    killed = story.enqueued("draw_map", "maps", ago - timedelta(seconds=8), 1, "DE", parent=plan)
    story.again(killed, "lost", 0.3, 45, error=LOST, pause=4.0, log=LOG.format(what="DE", number=1))
    story.succeeded(killed, 0.2, 3.1, result_json="3")
    paid = story.enqueued(
        "prepay_fuel",
        "payments",
        ago - timedelta(seconds=8),
        flights[0].pk,
        parent=plan,
        priority=7,
        idempotency_key=f"prepay:{flights[0].pk}",
    )
    for number in (1, 2):
        log = LOG.format(what="a charge", number=number)
        story.retried(paid, SLOW_PAYMENT, pause=3.0 * number, log=log)
    story.succeeded(paid, 0.05, 0.42, result_json='"ch_1"')
    refused = story.enqueued(
        "prepay_fuel",
        "payments",
        ago - timedelta(seconds=8),
        flights[1].pk,
        parent=plan,
        idempotency_key=f"prepay:{flights[1].pk}",
        max_attempts=12,
        kwargs={"card_token": SECRET},
    )
    story.failed(refused, KINDS[1], 0.1, 0.4)
    replay = story.enqueued(
        "prepay_fuel",
        "payments",
        timedelta(seconds=60),
        flights[1].pk,
        parent=plan,
        replay_of_id=refused.pk,
        owner=user,
    )
    story.succeeded(replay, 0.05, 0.4, result_json='"ch_2"')
    briefing = story.enqueued(
        "send_briefing", "mail", timedelta(seconds=30), 1, "DE", parent=killed, priority=6
    )
    story.running(
        briefing,
        28,
        worker=WORKERS[1],
        progress_done=62,
        progress_total=100,
        progress_message="62 of 100 letters",
    )
    return {
        "report": str(report.pk),
        "outcome": str(paid.pk),
        "killed": str(killed.pk),
        "refused": str(refused.pk),
        "running": str(briefing.pk),
        "root": str(root.pk),
    }


def tell_waiting(story: Story, user: Any) -> Facts:
    """Tell of what waits, runs, was cancelled and has expired."""
    retrying = story.enqueued("fetch_weather", "weather", minutes(2), 1, "EDDM", max_attempts=12)
    for number in (1, 2):
        story.retried(retrying, KINDS[0], pause=40.0 * number)
    for number in range(7):
        story.enqueued("draw_map", "maps", minutes(4 + number), 1, f"C{number}")
    for number in range(4):
        story.enqueued("deliver_webhook", PAUSED, minutes(PAUSED_FOR - 3 * number), number)
    later = story.now + timedelta(hours=5)
    tonight = story.enqueued(
        "build_report",
        "celery",
        minutes(90),
        1,
        run_at=later,
        announce_at=later,
        options_json='{"headers": {"periodic_task_name": "nightly report"}}',
    )
    unknown = story.enqueued("find_alternates", "celery", minutes(3), 4)
    story.running(
        unknown, 170, worker=WORKERS[2], progress_done=1204, progress_message="airports looked at"
    )
    stopping = story.enqueued("draw_map", "maps", minutes(1), 1, "US")
    asked = {"cancel_requested_at": story.now, "cancel_reason": "in the admin"}
    story.running(stopping, 50, worker=WORKERS[0], **asked)
    cancelled = story.enqueued("draw_map", "maps", minutes(12), 1, "FR", owner=user)
    why = {"cancel_requested_at": story.now - minutes(11), "cancel_reason": "wrong country"}
    ended(cancelled, "cancelled", story.now - minutes(11), why, fence=1)
    expired = story.enqueued("fetch_weather", "weather", minutes(40), 1, "EGLL")
    expires = {"expires_at": story.now - minutes(10)}
    ended(expired, "expired", story.now - minutes(10), expires, fence=1)
    bulk = story.enqueued("bulk", "celery", timedelta(seconds=9), task_name="tasks_app.bulk_action")
    story.running(bulk, 8, worker=WORKERS[3])
    return {
        "bulk_task": str(bulk.pk),
        "retrying": str(retrying.pk),
        "pending": str(tonight.pk),
        "cancelled": str(cancelled.pk),
        "expired": str(expired.pk),
    }


#: What became of the slots of the nightly report, the latest first; it takes minutes.
NIGHTS = ("fired", "fired", "made_up", "missed", "fired", "overlapped", "fired", "by_hand")

BERLIN = ZoneInfo("Europe/Berlin")


def write_schedules(story: Story) -> Facts:
    """Write periodic jobs with what became of their slots; return two of them."""
    zone = str(BERLIN)
    at_two, _ = CrontabSchedule.objects.get_or_create(minute="0", hour="2", timezone=zone)
    often, _ = IntervalSchedule.objects.get_or_create(every=13, period=IntervalSchedule.MINUTES)
    tonight = story.now.astimezone(BERLIN).replace(hour=2, minute=0, second=0, microsecond=0)
    if tonight <= story.now:
        tonight += timedelta(days=1)
    nightly = scheduled("nightly report", "build_report", tonight, crontab=at_two)
    for number, decision in enumerate(NIGHTS):
        write_night(story, nightly, tonight - timedelta(days=number + 1), decision)
    next_at = story.now + minutes(6)
    weather = scheduled("weather of all departures", "fetch_weather", next_at, interval=often)
    for number in range(10):
        row = story.enqueued("fetch_weather", "weather", minutes(7 + 13 * number), 1, "EDDF")
        slot(weather, row.created_at, "fired", story.succeeded(row, seconds=1 + number % 4))
    resting = scheduled("letters of thanks", "send_letters", None, crontab=at_two, enabled=False)
    Timer.objects.filter(pk=resting.pk).update(code_name=None)
    return {"schedule": str(nightly.pk), "resting": str(resting.pk)}


def write_night(story: Story, nightly: PeriodicTask, at: datetime, decision: str) -> None:
    """Write what became of one night."""
    if decision in {"missed", "overlapped"}:
        slot(nightly, at, decision, None)
        return
    late = timedelta(hours=3) if decision == "made_up" else timedelta(seconds=0.7)
    row = story.enqueued("build_report", "celery", story.now - at - late, 1)
    if decision == "made_up":
        story.failed(row, KINDS[0], seconds=70)
    else:
        story.succeeded(row, seconds=60 + 7 * at.day)
    slot(nightly, at, decision, row)


def scheduled(name: str, task: str, next_at: datetime | None, **fields: Any) -> PeriodicTask:
    """Write an entry that code declares, and its timer."""
    entry = PeriodicTask.objects.create(name=name, task=f"dispatch.{task}", args="[1]", **fields)
    values = {"name": name, "code_name": name, "overlap": "skip", "timetable_hash": "known"}
    defaults = {**values, "next_at": next_at, "due_at": next_at}
    Timer.objects.update_or_create(pk=entry.pk, defaults=defaults)
    return entry


def slot(entry: PeriodicTask, at: datetime, decision: str, outcome: Outcome | None) -> None:
    """Write a slot that was decided when its outcome was enqueued, or soon after its time."""
    Slot.objects.create(
        entry_id=entry.pk,
        name=entry.name,
        slot_at=at,
        decision=decision,
        outcome_id=outcome and outcome.pk,
        decided_at=outcome.created_at if outcome else at + timedelta(seconds=1),
        asked_by="ada" if decision == "by_hand" else "",
    )


def write_processes(now: datetime) -> None:
    """Write who lives, who does not any more, and which code they run."""
    queues = ["celery", "mail", "maps", "payments", "weather", "webhooks"]
    pool = {"pool": "prefork", "concurrency": 2, "queues": queues}
    seen: tuple[tuple[str, str, int, str, dict[str, Any]], ...] = (
        ("worker@hangar-1#4121/4121", "worker", 3, "2026.3.2", pool),
        ("worker@hangar-2#977/977", "worker", 7, "2026.3.2", pool),
        ("worker@hangar-3#812/812", "worker", 700, "2026.3.1", pool),
        ("relay@hangar-1/4090", "relay", 5, "2026.3.2", {}),
        ("beat@hangar-1/4088", "beat", 4, "2026.3.2", {}),
    )
    Heartbeat.objects.bulk_create(
        Heartbeat(
            name=name,
            kind=kind,
            seen_at=now - timedelta(seconds=seconds),
            started_at=now - timedelta(hours=0.6 if version == "2026.3.2" else 20),
            version=version,
            about_json=json.dumps({"memory": 96_000_000 + len(about) * 41_000_000, **about}),
        )
        for name, kind, seconds, version, about in seen
    )
    for version, ago in (("2026.3.1", 20), ("2026.3.2", 0.6)):
        Deploy.objects.create(version=version, first_seen_at=now - timedelta(hours=ago))


def write_surroundings(
    story: Story, user: Any, flights: list[Flight], facts: Mapping[str, str]
) -> Facts:
    """Write what stands beside outcomes: the request, a paused queue, bulk actions and so on."""
    began = story.now - timedelta(seconds=200.1)
    WebRequest.objects.create(
        request_id=REQUEST,
        method="POST",
        route="start",
        status=302,
        started_at=began,
        finished_at=began + timedelta(seconds=0.14),
    )
    PausedQueue.objects.create(
        name=PAUSED,
        paused_at=story.now - minutes(PAUSED_FOR),
        paused_by="ada",
        reason="the crew room moves house",
    )
    Repeat.objects.create(
        outcome_id=facts["outcome"],
        asked_at=story.now - timedelta(seconds=90),
        request_id=REQUEST,
        owner_pk=str(user.pk),
    )
    Subject.objects.bulk_create(
        Subject(outcome_id=facts[name], model="dispatch.flight", object_pk=str(flights[0].pk))
        for name in ("outcome", "refused", "retrying", "pending")
    )
    failed = sorted(str(cause.outcome_id) for cause in story.causes)
    common = {
        "user_pk": str(user.pk),
        "username": "ada",
        "selection_json": '{"states": ["failed"], "tasks": ["dispatch.fetch_weather"]}',
        "last_id": failed[-1],
        "created_at": story.now - minutes(2),
    }
    refusals = [[failed[0], "Its task is not registered in this process."]]
    finished = BulkAction.objects.create(
        action="replay",
        total=9,
        done=8,
        refused=1,
        cursor=failed[-1],
        refusals_json=json.dumps(refusals),
        outcome_id=facts["root"],
        finished_at=story.now - minutes(1),
        **common,
    )
    under_way = BulkAction.objects.create(
        action="cancel",
        total=400,
        done=120,
        cursor=failed[0],
        outcome_id=facts["bulk_task"],
        **common,
    )
    return {"bulk": str(finished.pk), "bulk_under_way": str(under_way.pk)}


#: Right to left, wide, joined and combining letters, marks that turn a line around, markup, and
#: a word that no line can hold.
STRANGE = (
    "خطأ في قاعدة البيانات: انتهت المهلة",
    "שגיאה: החיבור נותק באמצע",
    "空港の天気を取得できませんでした。時間切れです",
    "👩🏽‍✈️ could not land 🛬 at İstanbul, Zürich and São Tomé",
    "abc\u202efdp.exe turned around\u202c and e\u0301\u0302\u0303 piled up",
    "<script>alert(1)</script> <img src=x onerror=alert(1)> & \"'",
    "no_line_can_hold_this_" * 12,
)


def add_for_tests() -> Facts:
    """Write outcomes that no picture is to show."""
    story = Story(timezone.now(), numbers=count(100_000))
    facts = tell_strange_texts(story) | tell_acted_upon(story)
    story.write()
    return facts


def tell_strange_texts(story: Story) -> Facts:
    """Tell of outcomes whose texts are as people and programs make them; return one of them."""
    facts = {}
    for number, text in enumerate(STRANGE):
        kind = Kind("dispatch.draw_map", "maps", "ValueError", text, text[:250], "discarded", 1)
        row = story.enqueued(
            "draw_map",
            "maps" if number else "очередь-для-карт",
            timedelta(seconds=20 + number),
            1,
            text,
            kwargs={"note": text},
            idempotency_key=text[:200],
            request_id=REQUEST,
            progress_done=number,
            progress_total=len(STRANGE),
            progress_message=text[:255],
        )
        story.failed(row, kind, 0.1, 1)
        story.attempts[-1].log = "\n".join(islice(cycle((text, LOG)), 20))
        facts["strange"] = str(row.pk)
    return facts


#: A queue of which a bulk act takes everything, and how much there is.
PRACTICE, PRACTISED = "practice", 3


def tell_acted_upon(story: Story) -> Facts:
    """Tell of calls that nobody but the tests of the acts looks at."""
    later = story.now + timedelta(hours=1)
    waiting = {
        name: story.enqueued(
            "fetch_weather",
            "weather",
            timedelta(hours=23),
            1,
            "EDDH",
            run_at=later,
            announce_at=later,
        )
        for name in ("due", "unwanted", "discarded", "moved", "ticked")
    }
    done = story.enqueued("fetch_weather", "weather", timedelta(hours=23), 1, "EDDH")
    story.succeeded(done)
    for number in range(PRACTISED):
        arguments = arguments_of("fetch_weather", number)
        row = story.enqueued("fetch_weather", PRACTICE, timedelta(hours=23), *arguments)
        story.failed(row, KINDS[0])
    stoppable = story.enqueued("draw_map", "maps", timedelta(hours=23), 1, "GB")
    story.running(stoppable, 600)
    rows = {**waiting, "replayed": done, "stoppable": stoppable}
    return {name: str(row.pk) for name, row in rows.items()}
