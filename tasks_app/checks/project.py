"""
What checks may look at: the Celery app, its configuration, the settings module, loaded tasks.

Reading here never imports a module of the project and never connects to anything.
"""

import sys
from importlib.machinery import PathFinder
from importlib.util import find_spec
from typing import Any

from celery.app.utils import detect_settings  # type: ignore[attr-defined]
from django.apps import apps
from django.conf import settings

from tasks_app import celery as celery_side
from tasks_app.conf import read_setting
from tasks_app.declare import OutcomeTask
from tasks_app.exceptions import ConfigurationError

#: Submodules of installed apps in which tasks are looked for.
TASK_MODULES = ("tasks", "helpers")


def celery_app() -> Any:
    """Return the Celery app that this process enqueues for."""
    return celery_side.app


def celery_conf() -> Any:
    """
    Return Celery's configuration; an empty one where Celery cannot read it.

    `celery_settings.check_readable` tells about that case; the other checks then stay silent.
    """
    return detect_settings({}) if configuration_error() else celery_app().conf


def configuration_error() -> str:
    """Return why Celery cannot read its configuration; empty where it can."""
    try:
        celery_app().conf.broker_url  # noqa: B018 - the first access reads the settings
    except Exception as error:  # noqa: BLE001 - whatever the project's configuration raises
        return f"{type(error).__name__}: {error}"
    return ""


def is_namespaced() -> bool:
    """Tell whether Celery is configured by Django settings that begin with `CELERY_`."""
    app = celery_app()
    return (
        app._config_source == "django.conf:settings"  # noqa: SLF001 - there is no public reader
        and (app.namespace or "").rstrip("_") == "CELERY"
    )


def database_alias() -> str:
    """Return the alias of the outcomes' database; empty where the setting is unusable."""
    try:
        return str(read_setting("DATABASE"))
    except ConfigurationError:
        return ""


def settings_module() -> str:
    """Return the dotted name of Django's settings module; empty where there is none."""
    return getattr(settings, "SETTINGS_MODULE", None) or ""


def is_debug() -> bool:
    """Tell whether the project is in development: by its settings module, too."""
    # Test runners switch DEBUG off, and `manage.py test` runs the checks after that.
    written = getattr(sys.modules.get(settings_module()), "DEBUG", False)
    return bool(settings.DEBUG or written)


def loaded_tasks() -> dict[str, Any]:
    """Return the registered tasks by name, without Celery's own."""
    app = celery_app()
    if configuration_error() or not (app.finalized or app.autofinalize):
        return {}
    return {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}


def plain_tasks() -> dict[str, Any]:
    """Return the loaded tasks that bypass this app: they have no outcomes."""
    return {n: task for n, task in loaded_tasks().items() if not isinstance(task, OutcomeTask)}


def outcome_tasks() -> dict[str, Any]:
    """Return the loaded tasks whose calls have outcomes."""
    return {n: task for n, task in loaded_tasks().items() if isinstance(task, OutcomeTask)}


def is_missing(module: str) -> bool:
    """Tell whether a module surely does not exist; looks at the import path, imports nothing."""
    if module in sys.modules:
        return False
    parent, _, _ = module.rpartition(".")
    if not parent:
        return find_spec(module) is None
    if parent not in sys.modules:
        return is_missing(parent)
    path = getattr(sys.modules[parent], "__path__", None)
    return path is None or PathFinder.find_spec(module, path) is None


def is_fully_loaded() -> bool:
    """Tell whether every module in which Celery looks for tasks is loaded already."""
    conf = celery_conf()
    modules = {
        f"{config.name}.{name}" for config in apps.get_app_configs() for name in TASK_MODULES
    }
    modules.update(conf.imports or (), conf.include or ())
    return all(module in sys.modules or is_missing(module) for module in modules)
