"""Django settings of the test project, for the tests and for the workers that they start.

The test database has the same name as the ordinary one: a worker in another process then opens
the very database that the tests write to.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from tasks_app.logs import dict_config
from tests.servers.session import broker_url, chosen_database, database_url, files

#: Where the embedded broker keeps its files when the database is a server.
BASE_DIR = files()
SECRET_KEY = "only-for-tests"
DEBUG = False
ALLOWED_HOSTS = ["*"]
USE_TZ = True
TIME_ZONE = "UTC"
ROOT_URLCONF = "tests.urls"
STATIC_URL = "static/"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.admin",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django_celery_results",
    "django_celery_beat",
    # Where their middleware is absent they only keep ids, which every attempt has to set.
    "django_guid",
    "django_structlog",
    "tasks_app",
    "tests.testapp",
    "example_project.dispatch",
]

MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]


def sqlite() -> dict[str, Any]:
    """Return a database in one file of the run's folder, with Django's own defaults."""
    path = urlsplit(database_url()).path
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": path, "TEST": {"NAME": path}}


def server(engine: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return a database on the run's server."""
    address = urlsplit(database_url())
    name = "tasks_app_tests"
    return {
        "ENGINE": f"django.db.backends.{engine}",
        "HOST": address.hostname,
        "PORT": address.port,
        "USER": address.username,
        "NAME": name,
        "OPTIONS": options,
        "TEST": {"NAME": name},
    }


match chosen_database():
    case "sqlite":
        default = sqlite()
    case "postgres":
        default = server("postgresql", {})
    case "mariadb":
        default = server("mysql", {"charset": "utf8mb4"})

DATABASES = {"default": default}

# The embedded default is what a project without any broker setting gets: so set none, and accept
# that a site in production may not rely on it.
SILENCED_SYSTEM_CHECKS = ["tasks_app.E004"]
if url := broker_url():
    CELERY_BROKER_URL = url
else:
    SILENCED_SYSTEM_CHECKS = ["tasks_app.E004"]

#: Seconds that a worker which is asked to end gives its helpers; the default is a test's patience.
CELERY_WORKER_SOFT_SHUTDOWN_TIMEOUT = 3

#: Options of Sentry, as JSON, for a worker whose events a test receives.
if sentry := os.environ.get("TASKS_TEST_SENTRY"):
    import_module("sentry_sdk").init(**json.loads(sentry))

#: Arguments of `dict_config`, as JSON, for a process whose log a test reads.
if logging := os.environ.get("TASKS_TEST_LOGGING"):
    LOGGING = dict_config(**json.loads(logging))
#: Where a worker sends its spans, as JSON, for one whose traces a test receives.
if receiver := os.environ.get("TASKS_TEST_OTLP"):
    import_module("tests.tracing").set_up(receiver)

#: Settings of the app that one test run or one worker changes, as JSON. Without a version each
#: worker would start a Python to ask for one.
TASKS_APP: dict[str, Any] = {
    "VERSION": "tests",
    **json.loads(os.environ.get("TASKS_TEST_SETTINGS", "{}")),
}
