"""The app's own settings: `TASKS_APP` with known keys, usable values and times that fit."""

from collections.abc import Iterator
from typing import Any

from django.core.checks import CheckMessage
from django.db import connections

from tasks_app.checks.messages import Messages, problem
from tasks_app.checks.project import celery_conf
from tasks_app.conf import SETTINGS, conf, given_settings, read_setting
from tasks_app.exceptions import ConfigurationError
from tasks_app.suggestions import did_you_mean

#: Seconds. A lease is renewed at a third of its length; below this a hiccup ends it.
SHORTEST_LEASE = 1.0

#: Seconds that SQLite waits for a lock unless OPTIONS say otherwise.
SQLITE_PATIENCE = 5.0


def check_keys(**kwargs: Any) -> Messages:
    """
    E025: a key of `TASKS_APP` that nothing reads; a typo would otherwise go unnoticed.

    Remedy: rename or remove it; the nearest key is told.
    """
    try:
        given = given_settings()
    except ConfigurationError as error:
        return [problem("E026", str(error), 'Write it as a dict: TASKS_APP = {"LEASE": 45}')]
    return [
        problem(
            "E025",
            f"TASKS_APP has an unknown key {key!r}; nothing reads it, so the default holds.",
            f"Remove or rename it.{did_you_mean(str(key), SETTINGS)}",
        )
        for key in given
        if key not in SETTINGS
    ]


def check_values(**kwargs: Any) -> Messages:
    """
    E026: a value of `TASKS_APP` that its key cannot have.

    Remedy: a value as the table of settings describes it; the default is told.
    """
    if not _is_dict():
        return []
    return [
        problem(
            "E026",
            error,
            f"{SETTINGS[name].meaning} The default is TASKS_APP[{name!r}] = "
            f"{SETTINGS[name].default!r}",
        )
        for name in SETTINGS
        if (error := _error(name))
    ]


def check_database(**kwargs: Any) -> Messages:
    """
    E027: outcomes are to live in a database that Django does not know.

    Remedy: `TASKS_APP = {"DATABASE": "default"}`, or add the alias to `DATABASES`.
    """
    if _error("DATABASE") or conf.DATABASE in connections.settings:
        return []
    hint = did_you_mean(conf.DATABASE, connections.settings)
    return [
        problem(
            "E027",
            f"TASKS_APP['DATABASE'] is {conf.DATABASE!r}, which is not in DATABASES; nothing can "
            "be enqueued.",
            f'TASKS_APP = {{"DATABASE": "default"}}, or add the alias to DATABASES.{hint}',
        )
    ]


def check_times(**kwargs: Any) -> Messages:
    """
    W028: spans that each are fine but do not fit together.

    Remedy: the value that is told.
    """
    spans = ("LEASE", "RESCUE_INTERVAL", "RELAY_INTERVAL", "DATABASE")
    if any(_error(name) for name in spans):
        return []
    return [*_lease_faults(), *_limit_faults()]


def _lease_faults() -> Iterator[CheckMessage]:
    lease, rescue, relay = (
        span.total_seconds() for span in (conf.LEASE, conf.RESCUE_INTERVAL, conf.RELAY_INTERVAL)
    )
    if lease < SHORTEST_LEASE:
        yield problem(
            "W028",
            f"LEASE is {lease:g} s: a short pause of the database or of the worker ends it, and a "
            "run that goes well is rescued and repeated.",
            'TASKS_APP = {"LEASE": 45}, at least 1 s',
        )
    if rescue > lease:
        yield problem(
            "W028",
            f"RESCUE_INTERVAL ({rescue:g} s) is longer than LEASE ({lease:g} s): lost workers are "
            "found by the interval, so the short lease costs renewals and gains nothing.",
            f'TASKS_APP = {{"RESCUE_INTERVAL": {lease / 4:g}}}',
        )
    if relay > rescue:
        yield problem(
            "W028",
            f"RELAY_INTERVAL ({relay:g} s) is longer than RESCUE_INTERVAL ({rescue:g} s): the "
            "relay's loop runs the rescuer, which then comes late.",
            f'TASKS_APP = {{"RELAY_INTERVAL": {min(0.5, rescue):g}}}',
        )
    patience, left = _sqlite_patience(), lease * 2 / 3
    if patience > left:
        yield problem(
            "W028",
            f"SQLite may wait {patience:g} s for its lock, but a lease that is being renewed has "
            f"only {left:g} s left: a busy database ends leases.",
            f'TASKS_APP = {{"LEASE": {patience * 3:g}}}, or a smaller "timeout" in OPTIONS',
        )


def _limit_faults() -> Iterator[CheckMessage]:
    celery = celery_conf()
    soft, hard = celery.task_soft_time_limit, celery.task_time_limit
    if soft and hard and soft >= hard:
        yield problem(
            "W028",
            f"CELERY_TASK_SOFT_TIME_LIMIT ({soft:g} s) is not shorter than CELERY_TASK_TIME_LIMIT "
            f"({hard:g} s): helpers are killed before they are warned.",
            f"CELERY_TASK_SOFT_TIME_LIMIT = {hard * 0.9:g}",
        )


def _sqlite_patience() -> float:
    database = connections.settings.get(conf.DATABASE, {})
    if "sqlite" not in database.get("ENGINE", ""):
        return 0.0
    return float(database.get("OPTIONS", {}).get("timeout", SQLITE_PATIENCE))


def _is_dict() -> bool:
    try:
        given_settings()
    except ConfigurationError:
        return False
    return True


def _error(name: str) -> str:
    try:
        read_setting(name)
    except ConfigurationError as error:
        return str(error)
    return ""


CHECKS = (check_keys, check_values, check_database, check_times)
