"""Celery's settings: names that nothing reads, values that surprise."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from celery.app import defaults
from celery.signals import setup_logging
from django.apps import apps
from django.conf import settings
from django.core import mail

from tasks_app.checks.messages import Messages, listed, problem
from tasks_app.checks.project import celery_conf, configuration_error, is_namespaced
from tasks_app.suggestions import did_you_mean

#: Celery's own table of names before and since 4.0; its stubs leave it out.
NEW_NAMES: dict[str, str] = defaults._TO_NEW_KEY  # type: ignore[attr-defined]  # noqa: SLF001

KNOWN = frozenset(f"CELERY_{key.upper()}" for key in defaults.SETTING_KEYS)

#: Settings that other packages read under Celery's prefix.
OTHERS = ("CELERY_EMAIL", "CELERY_REDBEAT_", "CELERY_ONCE", "CELERY_SINGLETON_", "CELERY_DB_REUSE_")

#: Beginnings of the names that Celery had before 4.0.
OLD_PREFIXES = ("CELERY_", "CELERYD_", "CELERYBEAT_", "BROKER_")

DATABASE_RESULTS = ("django-db", "django_celery_results.backends")
#: By name, and by the beginning of a path.
DATABASE_SCHEDULERS = ("django", "tasks_app"), ("django_celery_beat.", "tasks_app.periodic.")

#: Serializers whose messages run code, or may, by name and by content type.
UNSAFE = frozenset({"pickle", "application/x-python-serialize", "yaml", "application/x-yaml"})

UTC_NAMES = frozenset({"UTC", "Etc/UTC", "Etc/UCT", "UCT", "Etc/Universal", "Zulu"})


def check_readable(**kwargs: Any) -> Messages:
    """
    E029: Celery cannot read its configuration at all.

    Remedy: `app.config_from_object("django.conf:settings", namespace="CELERY")`.
    """
    error = configuration_error()
    if not error:
        return []
    return [
        problem(
            "E029",
            f"Celery cannot read its settings: {error}",
            'app.config_from_object("django.conf:settings", namespace="CELERY")',
        )
    ]


def check_result_app(**kwargs: Any) -> Messages:
    """
    E001: results go to tables of an app that is not installed.

    Remedy: `INSTALLED_APPS += ["django_celery_results"]`, or remove `CELERY_RESULT_BACKEND`.
    """
    backend = str(celery_conf().result_backend or "")
    is_ours = backend == DATABASE_RESULTS[0] or backend.startswith(DATABASE_RESULTS[1])
    if not is_ours or "Cache" in backend or apps.is_installed("django_celery_results"):
        return []
    return [
        problem(
            "E001",
            f"The result backend {backend!r} writes to tables of django_celery_results, which is "
            "not installed: every result fails to be stored.",
            'INSTALLED_APPS += ["django_celery_results"], or remove CELERY_RESULT_BACKEND: '
            "outcomes hold results by themselves",
        )
    ]


def check_scheduler_app(**kwargs: Any) -> Messages:
    """
    E002: beat reads its schedule from tables of an app that is not installed.

    Remedy: `INSTALLED_APPS += ["django_celery_beat"]`.
    """
    scheduler = str(celery_conf().beat_scheduler or "")
    names, paths = DATABASE_SCHEDULERS
    is_database = scheduler in names or scheduler.startswith(paths)
    if not is_database or apps.is_installed("django_celery_beat"):
        return []
    return [
        problem(
            "E002",
            f"The beat scheduler {scheduler!r} reads tables of django_celery_beat, which is not "
            "installed: beat does not start.",
            'INSTALLED_APPS += ["django_celery_beat"]',
        )
    ]


def check_names(**kwargs: Any) -> Messages:
    """
    W006: a setting with Celery's prefix that neither Celery nor a known package reads.

    Remedy: rename or remove it; the nearest name is told.
    """
    return [
        problem(
            "W006",
            f"{name} is no setting of Celery: it has no effect.",
            f"Rename or remove it.{did_you_mean(name, KNOWN)}"
            if _is_near(name)
            else "Remove it, or, if another package reads it: SILENCED_SYSTEM_CHECKS = "
            '["tasks_app.W006"]',
        )
        for name in _given_names()
        if name.startswith("CELERY_")
        and name not in KNOWN
        and name not in NEW_NAMES
        and not name.startswith(OTHERS)
    ]


def check_old_names(**kwargs: Any) -> Messages:
    """
    W007: a setting under the name that it had before Celery 4.

    Remedy: the new name, which is told.
    """
    messages = []
    for name in _given_names():
        new = f"CELERY_{NEW_NAMES.get(name, name).upper()}"
        if name in NEW_NAMES and name not in KNOWN and not hasattr(settings, new):
            text = f"{name} is the name that a setting had before Celery 4: it has no effect."
            messages.append(problem("W007", text, f"{new} = … instead of {name}"))
    return messages


def check_events(**kwargs: Any) -> Messages:
    """
    W012: Flower is installed, but workers neither send task events nor can be asked for them.

    Remedy: `CELERY_WORKER_ENABLE_REMOTE_CONTROL = True`, by which Flower asks, or
    `CELERY_WORKER_SEND_TASK_EVENTS = True`.
    """
    if configuration_error() or find_spec("flower") is None:
        return []
    celery = celery_conf()
    if celery.worker_send_task_events or celery.worker_enable_remote_control:
        return []
    return [
        problem(
            "W012",
            "Flower is installed, but workers send no task events and cannot be asked for them: "
            "its pages and every metric made from events stay empty.",
            "CELERY_WORKER_ENABLE_REMOTE_CONTROL = True",
        )
    ]


def check_eager(**kwargs: Any) -> Messages:
    """
    W013: calls run in the caller, outside a test run.

    Remedy: `CELERY_TASK_ALWAYS_EAGER = False`.
    """
    # Django's and pytest's test runners put an outbox there.
    if not celery_conf().task_always_eager or hasattr(mail, "outbox"):
        return []
    return [
        problem(
            "W013",
            "CELERY_TASK_ALWAYS_EAGER is on outside a test run: calls run in the caller's process "
            "and transaction, no worker does anything.",
            "CELERY_TASK_ALWAYS_EAGER = False",
        )
    ]


def check_logging(**kwargs: Any) -> Messages:
    """
    W015: workers replace the logging that `LOGGING` describes.

    Remedy: `CELERY_WORKER_HIJACK_ROOT_LOGGER = False`.
    """
    if (
        not celery_conf().worker_hijack_root_logger
        or not settings.LOGGING
        or setup_logging.receivers
    ):
        return []
    return [
        problem(
            "W015",
            "Workers replace the root logger's handlers: LOGGING holds in the web process only, "
            "and request ids are missing from the workers' lines.",
            "CELERY_WORKER_HIJACK_ROOT_LOGGER = False",
        )
    ]


def check_content(**kwargs: Any) -> Messages:
    """
    W019: whoever can write to the broker can run code in the workers.

    Remedy: `CELERY_ACCEPT_CONTENT = ["json"]`.
    """
    conf = celery_conf()
    accepted = {*(conf.accept_content or ()), *(conf.result_accept_content or ())}
    unsafe = (accepted | {conf.task_serializer, conf.result_serializer}) & UNSAFE
    if not unsafe:
        return []
    return [
        problem(
            "W019",
            f"Celery accepts {listed(unsafe)}: whoever can write to the broker or the result store "
            "can run code in the workers. Outcomes need JSON only.",
            'CELERY_ACCEPT_CONTENT = ["json"]',
        )
    ]


def check_zone(**kwargs: Any) -> Messages:
    """
    W021: schedules and pages tell the time in different zones.

    Remedy: `CELERY_TIMEZONE = TIME_ZONE`.
    """
    zone = str(celery_conf().timezone or "UTC")
    if zone == settings.TIME_ZONE or {zone, settings.TIME_ZONE} <= UTC_NAMES:
        return []
    return [
        problem(
            "W021",
            f"Celery's time zone is {zone}, Django's {settings.TIME_ZONE}: a crontab of 08:00 does "
            "not run when the pages show 08:00.",
            "CELERY_TIMEZONE = TIME_ZONE",
        )
    ]


def check_expiry(**kwargs: Any) -> Messages:
    """
    W022: results of plain tasks are kept for ever.

    Whether outcomes are pruned cannot be seen from settings (cron, a timer, a beat row): that
    is for the doctor.

    Remedy: `CELERY_RESULT_EXPIRES = 86400`.
    """
    conf = celery_conf()
    if conf.result_expires or not str(conf.result_backend or "").startswith(DATABASE_RESULTS):
        return []
    return [
        problem(
            "W022",
            "CELERY_RESULT_EXPIRES is off: the tables of django_celery_results only ever grow.",
            "CELERY_RESULT_EXPIRES = 86400",
        )
    ]


def _given_names() -> Iterator[str]:
    if not is_namespaced():
        return
    for name in dir(settings):
        if name.startswith(OLD_PREFIXES) and settings.is_overridden(name):
            yield name


def _is_near(name: str) -> bool:
    return "Did you mean" in did_you_mean(name, KNOWN)


CHECKS = (
    check_readable,
    check_result_app,
    check_scheduler_app,
    check_names,
    check_old_names,
    check_events,
    check_eager,
    check_logging,
    check_content,
    check_zone,
    check_expiry,
)
