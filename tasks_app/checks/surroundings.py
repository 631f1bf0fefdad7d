"""What stands around the app: middleware, databases, Sentry, Flower."""

import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import celery
from django.conf import settings
from django.db import connections
from django.urls import URLPattern, URLResolver, get_resolver

from tasks_app.checks.messages import Messages, listed, problem
from tasks_app.checks.project import database_alias
from tasks_app.integrations import ID_PACKAGES
from tasks_app.integrations.sentry import loading

MIDDLEWARE = "tasks_app.middleware.RequestIDMiddleware"

#: Environment variables by which Flower learns who may see it.
FLOWER_AUTH = ("FLOWER_BASIC_AUTH", "FLOWER_AUTH")

#: Since this version Celery closes psycopg's pools before it forks.
CLOSES_POOLS = (5, 6)


def check_middleware_order(**kwargs: Any) -> Messages:
    """
    W017: the request id is set twice, or after others have worked and logged without it.

    Remedy: `MIDDLEWARE = ["tasks_app.middleware.RequestIDMiddleware", …]`, once, as the first one;
    right behind the one of django-guid or django-structlog, whose id it adopts.
    """
    count = settings.MIDDLEWARE.count(MIDDLEWARE)
    if count > 1:
        text = f"{MIDDLEWARE} is there {count} times: the inner id replaces the outer one."
        return [problem("W017", text, "Keep the first one only.")]
    if not count:
        return []
    place = settings.MIDDLEWARE.index(MIDDLEWARE)
    early = [name for name in settings.MIDDLEWARE[:place] if not _gives_ids(name)]
    late = [name for name in settings.MIDDLEWARE[place:] if _gives_ids(name)]
    if late:
        text = f"{MIDDLEWARE} comes before {late[0]}, which gives each request another id."
        return [problem("W017", text, f'MIDDLEWARE = ["{late[0]}", "{MIDDLEWARE}", …]')]
    if early:
        return [
            problem(
                "W017",
                f"{MIDDLEWARE} comes after {early[0]}: what runs before it logs and answers "
                "without a request id.",
                f'MIDDLEWARE = ["{MIDDLEWARE}", …], as the first one',
            )
        ]
    return []


def _gives_ids(middleware: str) -> bool:
    return middleware.startswith(tuple(f"{package}." for package in ID_PACKAGES))


def check_middleware_missing(**kwargs: Any) -> Messages:
    """
    W017 (deploy): requests get no id, so what they cause cannot be found by it.

    Remedy: `MIDDLEWARE = ["tasks_app.middleware.RequestIDMiddleware", …]`, as the first one.
    """
    if MIDDLEWARE in settings.MIDDLEWARE:
        return []
    return [
        problem(
            "W017",
            "RequestIDMiddleware is not in MIDDLEWARE: each outcome gets a request id of its own, "
            "and nothing links a request to what it caused.",
            f'MIDDLEWARE = ["{MIDDLEWARE}", …], as the first one',
        )
    ]


def check_sentry(**kwargs: Any) -> Messages:
    """
    W016: a DSN is configured, but Sentry does not run.

    Remedy: the DSN as Sentry shows it, `https://key@host/project`. The log of the start says what
    is wrong with it.
    """
    sdk = sys.modules.get("sentry_sdk")
    if not loading.dsn() or (sdk is not None and sdk.is_initialized()):
        return []
    return [
        problem(
            "W016",
            "SENTRY_DSN is set, but Sentry is not initialised: no error reaches it.",
            "SENTRY_DSN as Sentry shows it: https://key@host/project",
        )
    ]


def check_result_addresses(**kwargs: Any) -> Messages:
    """
    W035: the addresses of django-celery-results are served, which ask nobody who they are.

    Remedy: remove `include("django_celery_results.urls")` from the URLconf; show a result in a view
    of your own that knows whose it is.
    """
    served = _addresses(get_resolver()) if getattr(settings, "ROOT_URLCONF", None) else ()
    if not any(_serves_results(each) for each in served):
        return []
    return [
        problem(
            "W035",
            "The URLconf includes django_celery_results.urls: whoever knows or guesses the id of a "
            "call reads its result, without logging in.",
            'Remove include("django_celery_results.urls"), and show results in a view of your own '
            "that checks request.user",
        )
    ]


def check_pools(**kwargs: Any) -> Messages:
    """
    W023: a pool of connections that a prefork worker's children inherit.

    The relay keeps a connection in the worker's main process, which forks a new child whenever
    one dies. For other databases Celery closes the pools, since 5.6.

    Remedy: remove `"pool"` from `OPTIONS` for workers, or start them with `--pool threads`.
    """
    aliases = [
        alias
        for alias, database in connections.settings.items()
        if database.get("OPTIONS", {}).get("pool")
        and (alias == database_alias() or celery.VERSION[:2] < CLOSES_POOLS)
    ]
    if not aliases:
        return []
    return [
        problem(
            "W023",
            f"DATABASES of {listed(aliases)} use a psycopg pool: it is opened in the worker's main "
            "process, and the children that it forks share its sockets without its threads.",
            'Remove "pool" from OPTIONS for workers (each process keeps one connection anyway), or '
            "start them with --pool threads",
        )
    ]


def check_sqlite(**kwargs: Any) -> Messages:
    """
    W014 (deploy): SQLite as it comes lets readers and writers block each other.

    Remedy: `"OPTIONS": {"timeout": 20, "transaction_mode": "IMMEDIATE", "init_command": "PRAGMA
    journal_mode=WAL;"}`.
    """
    database = connections.settings.get(database_alias(), {})
    if "sqlite" not in database.get("ENGINE", ""):
        return []
    options = database.get("OPTIONS", {})
    start = str(options.get("init_command", "")).replace(" ", "").lower()
    if "journal_mode=wal" in start and str(options.get("transaction_mode")).upper() == "IMMEDIATE":
        return []
    return [
        problem(
            "W014",
            "Outcomes live in SQLite without write-ahead log and immediate transactions: several "
            "workers block each other and fail with 'database is locked'.",
            f'DATABASES["{database_alias()}"]["OPTIONS"] = {{"timeout": 20, '
            '"transaction_mode": "IMMEDIATE", "init_command": "PRAGMA journal_mode=WAL;"}',
        )
    ]


def check_flower(**kwargs: Any) -> Messages:
    """
    W018 (deploy): Flower asks nobody for a password, or shows its API without one.

    Remedy: `FLOWER_BASIC_AUTH="operator:<password>"` in the environment of Flower, without
    `FLOWER_UNAUTHENTICATED_API`.
    """
    if find_spec("flower") is None:
        return []
    if os.environ.get("FLOWER_UNAUTHENTICATED_API", "").lower() in {"1", "true", "yes", "on"}:
        return [
            problem(
                "W018",
                "FLOWER_UNAUTHENTICATED_API is on: whoever reaches Flower reads its API, and any "
                "website does that is open in a browser there; unless read-only, they command too.",
                "unset FLOWER_UNAUTHENTICATED_API",
            )
        ]
    if any(os.environ.get(name) for name in FLOWER_AUTH):
        return []
    return [
        problem(
            "W018",
            "Flower is installed and this environment names nobody who may see it: it then listens "
            "on loopback only, where all users of the machine, and all that a proxy there lets "
            "through, see its pages.",
            'FLOWER_BASIC_AUTH="operator:<password>" in the environment of Flower',
        )
    ]


def _addresses(resolver: URLResolver) -> Iterator[URLPattern]:
    for each in resolver.url_patterns:
        if isinstance(each, URLResolver):
            yield from _addresses(each)
        else:
            yield each


def _serves_results(pattern: URLPattern) -> bool:
    """Tell whether the package's view stands there as it is; one that is wrapped asks something."""
    view = pattern.callback
    return view.__module__ == "django_celery_results.views" and not hasattr(view, "__wrapped__")


CHECKS = (check_middleware_order, check_sentry, check_pools, check_result_addresses)
DEPLOY_CHECKS = (check_middleware_missing, check_sqlite, check_flower)
