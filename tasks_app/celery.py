"""
The Celery app: the project's own where there is one, else one that needs no settings.

`celery -A tasks_app worker` finds `app` here. The defaults below lie under the project's
`CELERY_*` settings; whatever the project says, wins. Importing this module needs
`DJANGO_SETTINGS_MODULE` and touches no model.
"""

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from celery import Celery, _state
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from tasks_app import control, filesystem, sealed_tasks
from tasks_app.conf import conf
from tasks_app.exceptions import ConfigurationError

#: Environment variables that name a broker, as hosting platforms set them.
BROKER_VARIABLES = ("CELERY_BROKER_URL", "BROKER_URL", "REDIS_URL", "RABBITMQ_URL")

#: Name of the app that is made where the project has none.
MADE = "tasks_app"

OUTCOME_TASK = "tasks_app.declare:OutcomeTask"
ADOPTED_TASK = "tasks_app.declare:AdoptedTask"

#: Beat's scheduler where django-celery-beat is installed.
SCHEDULER = "tasks_app.periodic.scheduler:Scheduler"


def defaults() -> dict[str, Any]:
    """Return the settings that hold where the project says nothing."""
    broker = getattr(settings, "CELERY_BROKER_URL", None) or next(
        (os.environ[name] for name in BROKER_VARIABLES if os.environ.get(name)), None
    )
    found: dict[str, Any] = {
        "broker_url": broker or filesystem.url(broker_folder()),
        "broker_connection_retry_on_startup": True,
        "broker_heartbeat": 10,
        "result_backend": "tasks_app.results:OutcomeBackend",
        "task_send_sent_event": False,
        "worker_prefetch_multiplier": 1,
        "worker_hijack_root_logger": False,
        "worker_soft_shutdown_timeout": 10,
        "worker_enable_soft_shutdown_on_idle": False,
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "enable_utc": True,
        "timezone": getattr(settings, "TIME_ZONE", "UTC"),
        "broker_transport_options": transport_options(broker),
    }
    if "django_celery_beat" in settings.INSTALLED_APPS:
        found["beat_scheduler"] = SCHEDULER
    # Celery looks into added defaults before the project's own settings, not after them.
    return {
        name: value
        for name, value in found.items()
        if not hasattr(settings, f"CELERY_{name.upper()}")
    }


def transport_options(broker: str | None) -> dict[str, Any]:
    """Return the options that bound every wait of a broker's transport."""
    if broker is not None and broker.startswith(("redis:", "rediss:")):
        # Without them a half-open connection wedges a worker for good.
        return {"socket_timeout": 5, "socket_connect_timeout": 5, "socket_keepalive": True}
    return {}


def broker_folder() -> Path:
    """Return the embedded broker's folder: beside the SQLite database, else in the project."""
    base = getattr(settings, "BASE_DIR", None) or Path.cwd()
    database = settings.DATABASES.get(conf.DATABASE, {})
    if database.get("ENGINE", "").endswith("sqlite3") and Path(str(database["NAME"])).is_absolute():
        base = Path(str(database["NAME"])).parent
    return Path(base) / filesystem.DEFAULT_FOLDER


def find_app() -> Celery:
    """
    Return the project's Celery app, or make the default one.

    Raises:
        ConfigurationError: there are no Django settings to read.
    """
    try:
        _ = settings.INSTALLED_APPS
    except ImproperlyConfigured as error:
        msg = "Set DJANGO_SETTINGS_MODULE, e.g. DJANGO_SETTINGS_MODULE=mysite.settings."
        raise ConfigurationError(msg) from error
    own = _project_app()
    return _make_app() if own is None else own


def _project_app() -> Celery | None:
    """Return an app that the project built itself; Celery's own fallback does not count."""
    state: Any = _state  # its stub leaves out what is private
    candidates: list[Celery | None] = [
        state._tls.current_app,
        state.default_app,
        *state._get_active_apps(),
    ]
    for candidate in candidates:
        if candidate is not None and candidate.main not in {"default", None}:
            return candidate
    return None


def _make_app() -> Celery:
    made = Celery(MADE, task_cls=ADOPTED_TASK if conf.ADOPT else None)
    made.config_from_object("django.conf:settings", namespace="CELERY")
    made.add_defaults(defaults)
    made.autodiscover_tasks()
    made.autodiscover_tasks(related_name="helpers")
    return made


app = find_app()
if conf.ADOPT:
    app.task_cls = ADOPTED_TASK
control.equip(app)
sealed_tasks.connect()
# Threads other than this one look for the default app.
app.set_default()
# Celery's command loads its plugins, Flower among them, before it looks for the app.
if "flower" in sys.modules:
    import_module("tasks_app.integrations.flower")
