"""Settings of the dispatch desk; what differs between machines comes from the environment.

Without ``DATABASE_URL`` the data is a SQLite file in the folder ``DISPATCH_DATA``; without
``BROKER_URL`` there is no ``CELERY_*`` line at all, so that tasks_app gives its embedded default.
The same code runs on PostgreSQL or MariaDB with Redis or RabbitMQ by setting those two.
"""

import os
from pathlib import Path
from typing import Any

import dj_database_url

DATA_DIR = Path(os.environ.get("DISPATCH_DATA", ".demo")).resolve()
#: The embedded broker lies here when the database is no file.
BASE_DIR = DATA_DIR
DATA_DIR.mkdir(parents=True, exist_ok=True)

#: Seconds. A visitor who kills a worker wants to see it rescued while still looking.
LEASE = float(os.environ.get("DISPATCH_LEASE", "45"))

SECRET_KEY = os.environ.get("DISPATCH_SECRET_KEY", "only-for-the-example-on-this-machine")
DEBUG = os.environ.get("DISPATCH_DEBUG") == "1"
ALLOWED_HOSTS = ["127.0.0.1", "localhost", "[::1]", "testserver"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django_celery_beat",
    "django_celery_results",
    "example_project.dispatch",
    "tasks_app",
]

MIDDLEWARE = [
    "tasks_app.middleware.RequestIDMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "example_project.urls"
WSGI_APPLICATION = "example_project.wsgi.application"
ASGI_APPLICATION = "example_project.asgi.application"

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


def database(url: str) -> dict[str, Any]:
    """Turn a database URL into Django's dictionary, with the options that several processes need.

    Args:
        url: Any URL that dj-database-url reads, e.g. ``postgresql://user@host/name``.
    """
    configuration: dict[str, Any] = dict(dj_database_url.parse(url))
    options = configuration.setdefault("OPTIONS", {})
    if configuration["ENGINE"].endswith("sqlite3"):
        # Readers go on beside one writer (WAL), and writers queue up instead of failing at once
        # when a transaction that began with a read wants to write (IMMEDIATE), but no longer than
        # a lease that is being renewed lasts. NORMAL survives the death of any process, not a
        # power cut.
        options |= {
            "timeout": min(30.0, LEASE / 2),
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
        }
    if configuration["ENGINE"].endswith("mysql"):
        options |= {"charset": "utf8mb4"}
    return configuration


DATABASES = {
    "default": database(
        os.environ.get("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'dispatch.sqlite3'}"
    ),
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if os.environ.get("BROKER_URL"):
    CELERY_BROKER_URL = os.environ["BROKER_URL"]

# As the Procfile starts them: on one machine, each at its own port.
ADMIN_URL = os.environ.get("DISPATCH_ADMIN_URL", "http://127.0.0.1:8000/admin/")
FLOWER_URL = os.environ.get("DISPATCH_FLOWER_URL", "http://127.0.0.1:5555/")

TASKS_APP: dict[str, Any] = {
    "ADMIN_URL": ADMIN_URL,
    "FLOWER_URL": FLOWER_URL,
    "LEASE": LEASE,
    "RESCUE_INTERVAL": float(os.environ.get("DISPATCH_RESCUE_INTERVAL", "10")),
    # What waits at the broker has its order already; all other rows are still taken by priority.
    "MAX_IN_FLIGHT": 40,
    "MAX_CRASHES": int(os.environ.get("DISPATCH_MAX_CRASHES", "3")),
}

LANGUAGE_CODE = "en-gb"
TIME_ZONE = "UTC"
USE_TZ = True
STATIC_URL = "static/"

EMAIL_HOST = os.environ.get("DISPATCH_SMTP_HOST", "127.0.0.1")
EMAIL_PORT = int(os.environ.get("DISPATCH_SMTP_PORT", "1025"))
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = "desk@dispatch.example"

_SERVICES = os.environ.get("DISPATCH_SERVICES_URL", "http://127.0.0.1:8025")
DISPATCH: dict[str, Any] = {
    "MAPS_DIR": DATA_DIR / "maps",
    "WEATHER_URL": os.environ.get("DISPATCH_WEATHER_URL", f"{_SERVICES}/weather"),
    "PAYMENTS_URL": os.environ.get("DISPATCH_PAYMENTS_URL", f"{_SERVICES}/payments"),
    "WEBHOOKS_URL": os.environ.get("DISPATCH_WEBHOOKS_URL", f"{_SERVICES}/webhooks"),
    "WEBHOOK_SECRET": os.environ.get("DISPATCH_WEBHOOK_SECRET", "only-for-the-example"),
    "FLOWER_URL": FLOWER_URL,
    "FLIGHTS": 500,
    #: Seconds that one call to a service may take.
    "TIMEOUT": 1.0,
}

LOG_LEVEL = os.environ.get("DISPATCH_LOG_LEVEL", "INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "%(levelname)s %(name)s: %(message)s"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    # Django adds a handler of its own under DEBUG; naming its logger here leaves one line each.
    "loggers": {name: {"level": LOG_LEVEL} for name in ("django", "django.server")},
}
