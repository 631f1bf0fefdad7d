"""
Sync: what code declares becomes rows of django-celery-beat, as often as one likes.

One transaction, held against a second process by the row that upstream writes at each change. The
invariant: code owns an entry until somebody changes it in the admin; each field is compared with
what code declared last, and one that differs is left as it is and told. An entry that is gone from
code is switched off, and on again when it comes back, unless it was off before. Rows made by hand
are never written; each is given a `Timer`, which the scheduler needs.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from celery import current_app
from django.apps import apps
from django.conf import settings
from django.db import DatabaseError, connections, router, transaction
from django.db.models import F
from django.db.models.signals import post_migrate
from django.utils import timezone
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

from tasks_app.conf import conf
from tasks_app.declare import load_tasks
from tasks_app.exceptions import ConfigurationError
from tasks_app.models import Timer
from tasks_app.periodic.declaring import Declared, declared_by_name
from tasks_app.periodic.declaring import schedule_of as declared_schedule
from tasks_app.periodic.entries import KINDS, plain_json, schedule_of
from tasks_app.periodic.timetables import FIELDS

logger = logging.getLogger(__name__)

#: Tables of schedules, and their columns in the order of `entries.schedule_of`.
TABLES: Final[Mapping[str, tuple[Any, tuple[str, ...]]]] = {
    "interval": (IntervalSchedule, ("every", "period")),
    "crontab": (CrontabSchedule, (*FIELDS, "timezone")),
    "solar": (SolarSchedule, ("event", "latitude", "longitude")),
    "clocked": (ClockedSchedule, ("clocked_time",)),
}

#: Fields of a declaration that stand in the entry, and those that stand in its timer.
OF_ENTRY: Final = ("task", "schedule", "args", "kwargs", "enabled")
OF_TIMER: Final = ("missed", "missed_max", "overlap", "jitter_seconds")

#: Marks, among what was declared last, an entry that was switched off for being gone from code.
GONE: Final = "gone"

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What a sync did, by the names under which code knows the entries."""

    created: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    #: Fields that the admin has changed and that stay so, by entry.
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    disabled: list[str] = field(default_factory=list)


def connect() -> None:
    """Sync whenever the project is migrated; called once, when the app is ready."""
    post_migrate.connect(
        _after_migrations,
        sender=apps.get_app_config("tasks_app"),
        dispatch_uid="tasks_app.periodic.sync",
    )


def sync() -> Report:
    """
    Make rows of every declaration of this project; in one transaction of their database.

    Declarations are complete only once all task modules are imported, which is done first. A
    second sync finds nothing to do. Where the app's tables are in another database they are
    written in a transaction of their own that ends first: after a crash between the two the next
    sync finds timers without entries and makes them anew.

    Raises:
        ConfigurationError: two declarations have one name.
    """
    load_tasks()
    declared = declared_by_name()
    report = Report()
    with _alone():
        found = Timer.objects.exclude(code_name=None)
        timers = {timer.code_name: timer for timer in found if timer.code_name}
        entries = _entries([timer.entry_id for timer in timers.values()])
        for name, timer in timers.items():
            if name not in declared and timer.entry_id in entries:
                _switch_off(name, timer, entries[timer.entry_id], report)
        for name, declaration in declared.items():
            known = timers.get(name)
            entry = None if known is None else entries.get(known.entry_id)
            _write(name, declaration, known, entry, report)
        _give_timers()
    _tell(report)
    return report


def changed_by_hand(entry: PeriodicTask, timer: Timer) -> tuple[str, ...]:
    """Return the fields in which an entry differs from what code declared last; () if by hand."""
    declared = _declared_last(timer)
    if timer.code_name is None or GONE in declared:
        return ()
    now = _values_now(entry, timer)
    return tuple(name for name in declared if now.get(name) != declared[name])


def _after_migrations(using: str, **kwargs: Any) -> None:
    # A flush sends the signal as well, without a plan: whoever empties the tables wants none.
    if "plan" not in kwargs or using != conf.DATABASE or not _has_tables():
        return
    try:
        sync()
    except (ImportError, ConfigurationError, DatabaseError) as error:
        # Whoever migrates may lack what workers have, or go back to tables that want columns;
        # beat syncs again when it starts.
        logger.warning("periodic jobs are not synced: %s: %s", type(error).__name__, error)


def _has_tables() -> bool:
    """Tell whether the tables of both apps are there; a project may migrate one app alone."""
    return all(
        model._meta.db_table in connections[using].introspection.table_names()
        for model, using in ((Timer, conf.DATABASE), (PeriodicTask, _beat_database()))
    )


def _beat_database() -> str:
    return router.db_for_write(PeriodicTask)


@contextmanager
def _alone() -> Iterator[None]:
    """Open the transactions, and wait until no other sync is in one."""
    using = _beat_database()
    row = PeriodicTasks(ident=1, last_update=timezone.now())
    PeriodicTasks.objects.using(using).bulk_create([row], ignore_conflicts=True)
    with ExitStack() as stack:
        stack.enter_context(transaction.atomic(using=using))
        if using != conf.DATABASE:
            stack.enter_context(transaction.atomic(using=conf.DATABASE))
        # A write first, to the same value: a lock on each database, and no scheduler reloads.
        PeriodicTasks.objects.using(using).filter(ident=1).update(last_update=F("last_update"))
        yield


def _entries(primary_keys: list[int]) -> dict[int, PeriodicTask]:
    found = PeriodicTask.objects.using(_beat_database()).select_related(*KINDS)
    return {entry.pk: entry for entry in found.filter(pk__in=primary_keys)}


def _write(
    name: str, declared: Declared, timer: Timer | None, entry: PeriodicTask | None, report: Report
) -> None:
    values = _values_declared(declared)
    if entry is None or timer is None:
        _make(name, values, timer, report)
        return
    before, now = _declared_last(timer), _values_now(entry, timer)
    if before.pop(GONE, False):
        # Switched off here, not by the admin.
        before["enabled"] = now["enabled"]
    kept = tuple(key for key in values if now[key] not in (before.get(key), values[key]))
    wanted = {key: now[key] if key in kept else values[key] for key in values}
    if kept:
        report.kept[name] = kept
    if wanted != now:
        report.changed.append(name)
        _write_entry(entry, now, wanted)
    _write_timer(timer, entry, wanted, values)


def _make(name: str, values: Values, lost: Timer | None, report: Report) -> None:
    """Make an entry and its timer; a row of that name made by hand becomes the entry."""
    using = _beat_database()
    if lost is not None:  # its entry was deleted
        lost.delete(using=conf.DATABASE)
    found = PeriodicTask.objects.using(using).select_related(*KINDS).filter(name=name).first()
    timer = Timer.objects.filter(entry_id=found.pk).first() if found else None
    if timer is not None and timer.code_name and GONE not in _declared_last(timer):
        msg = "periodic job %r is not made: the admin gave its name to the entry of %r"
        logger.warning(msg, name, timer.code_name)
        return
    if found is None:
        report.created.append(name)
        entry, now, wanted = PeriodicTask(name=name), {}, values
    else:
        report.changed.append(name)
        entry, now = found, _values_of(found)
        # Code owns its schedule from here on, but whoever paused it keeps it paused.
        wanted = {**values, "enabled": now["enabled"]}
    _write_entry(entry, now, wanted)
    timer = timer or Timer(entry_id=entry.pk)
    timer.code_name = name
    _write_timer(timer, entry, values, values)


def _switch_off(name: str, timer: Timer, entry: PeriodicTask, report: Report) -> None:
    declared = _declared_last(timer)
    if GONE in declared:
        return
    report.disabled.append(name)
    # What the admin had switched off stays off when the entry comes back.
    gone = {**declared, GONE: entry.enabled}
    if entry.enabled:
        entry.enabled = False
        entry.save(using=_beat_database())
    timer.declared_json = _text(gone)
    timer.save(using=conf.DATABASE, update_fields=["declared_json"])


def _values_declared(declared: Declared) -> Values:
    # `key` names a zone of the database; Celery's makeshift for the host's local time has none.
    zone = getattr(current_app.timezone, "key", "UTC")
    return {
        "task": str(declared.task.name),
        "schedule": declared_schedule(declared, zone),
        "args": json.loads(declared.args_json),
        "kwargs": json.loads(declared.kwargs_json),
        "enabled": declared.is_enabled,
        "missed": str(declared.missed.missed),
        "missed_max": declared.missed.max,
        "overlap": str(declared.overlap),
        "jitter_seconds": declared.jitter,
    }


def _values_now(entry: PeriodicTask, timer: Timer) -> Values:
    return {**_values_of(entry), **{name: getattr(timer, name) for name in OF_TIMER}}


def _values_of(entry: PeriodicTask) -> Values:
    try:
        schedule = schedule_of(entry)
    except ConfigurationError:
        schedule = {}
    return {
        "task": entry.task,
        "schedule": schedule,
        "args": plain_json(entry.args, []),
        "kwargs": plain_json(entry.kwargs, {}),
        "enabled": entry.enabled,
    }


def _declared_last(timer: Timer) -> Values:
    return json.loads(timer.declared_json) if timer.declared_json else {}


def _write_entry(entry: PeriodicTask, now: Values, wanted: Values) -> None:
    """Save an entry where it differs; its signals tell the schedulers."""
    if now and all(now[name] == wanted[name] for name in OF_ENTRY):
        return
    entry.task, entry.enabled = wanted["task"], wanted["enabled"]
    entry.args, entry.kwargs = json.dumps(wanted["args"]), json.dumps(wanted["kwargs"])
    if now.get("schedule") != wanted["schedule"]:
        _set_schedule(entry, wanted["schedule"])
    entry.save(using=_beat_database())


def _set_schedule(entry: PeriodicTask, schedule: Values) -> None:
    ((kind, values),) = schedule.items()
    for other in KINDS:
        setattr(entry, other, None)
    setattr(entry, kind, _schedule_row(kind, values))
    # Upstream lets no clock fire twice.
    entry.one_off = kind == "clocked"


def _schedule_row(kind: str, values: Any) -> Any:
    """Return a schedule that says so, of the ones that are there, or a new one."""
    table, columns = TABLES[kind]
    values = [_moment(values)] if kind == "clocked" else values
    fields = dict(zip(columns, values, strict=True))
    rows = table.objects.using(_beat_database())
    return rows.filter(**fields).order_by("pk").first() or rows.create(**fields)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if settings.USE_TZ else timezone.make_naive(moment)


def _write_timer(timer: Timer, entry: PeriodicTask, wanted: Values, declared: Values) -> None:
    values = {name: wanted[name] for name in OF_TIMER}
    values |= {"declared_json": _text(declared), "name": entry.name, "code_name": timer.code_name}
    if timer._state.adding:
        Timer.objects.create(entry_id=entry.pk, **values)
    elif any(getattr(timer, name) != value for name, value in values.items()):
        Timer.objects.filter(entry_id=entry.pk).update(**values)


def _text(declared: Values) -> str:
    return json.dumps(declared, sort_keys=True)


def _give_timers() -> None:
    """Give a timer to each row that was made by hand since the last sync."""
    known = set(Timer.objects.values_list("entry_id", flat=True))
    rows = PeriodicTask.objects.using(_beat_database()).values_list("pk", "name")
    missing = [Timer(entry_id=pk, name=name) for pk, name in rows if pk not in known]
    if missing:
        Timer.objects.bulk_create(missing, ignore_conflicts=True, batch_size=500)


def _tell(report: Report) -> None:
    for name in report.created:
        logger.info("periodic job %r was made from code", name)
    for name in report.changed:
        logger.info("periodic job %r was changed as code says", name)
    for name in report.disabled:
        logger.warning("periodic job %r is gone from code and was switched off", name)
    for name, fields in report.kept.items():
        logger.info("periodic job %r keeps what the admin changed: %s", name, ", ".join(fields))
