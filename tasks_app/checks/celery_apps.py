"""Which Celery app: a second one would take the calls to another broker."""

import re
import sys
from importlib.machinery import PathFinder
from typing import Any

from celery import _state

from tasks_app.checks.messages import Messages, problem
from tasks_app.checks.project import celery_app, settings_module

#: Where projects keep their Celery app.
APP_MODULES = ("celery", "celery_app")


def check_single_app(**kwargs: Any) -> Messages:
    """
    E003: a second Celery app is current somewhere; `shared_task` may be bound to it.

    Remedy: `from .celery import app as celery_app` in the package of the settings module.
    """
    ours = celery_app()
    others = sorted(
        other.main
        for other in _state._get_active_apps()  # type: ignore[attr-defined]
        if other is not ours and other.set_as_current and other.main not in {None, "default"}
    )
    return [
        problem(
            "E003",
            f"There are two Celery apps, {ours.main!r} and {name!r}: `shared_task` and `.delay` "
            "use the one that is current in their thread, whatever its broker.",
            "Make yours before Django starts, in the package of the settings module: "
            + _import_line("celery"),
        )
        for name in others
    ]


def check_forgotten_app(**kwargs: Any) -> Messages:
    """
    E003: the project has an app of its own that nothing imports.

    Seen from the file's text; a `celery.py` that only imports this app's Celery is fine.

    Remedy: `from .celery import app as celery_app` in the package of the settings module.
    """
    package = settings_module().partition(".")[0]
    found = sys.modules.get(package)
    for name in APP_MODULES:
        module = f"{package}.{name}"
        if module not in sys.modules and _makes_an_app(module, getattr(found, "__path__", None)):
            return [
                problem(
                    "E003",
                    f"{module} makes a Celery app, but nothing imports it: this process enqueues "
                    "for another app than the one that its workers run.",
                    f"Add to {package}/__init__.py: {_import_line(name)}",
                )
            ]
    return []


def _import_line(name: str) -> str:
    return f"from .{name} import app as celery_app"


def _makes_an_app(module: str, path: Any) -> bool:
    spec = PathFinder.find_spec(module, path) if path else None
    get_source = getattr(spec and spec.loader, "get_source", None)
    source = get_source(module) if get_source else None
    return bool(re.search(r"^\w[^#\n]*=\s*(\w+\.)?Celery\(", source or "", re.MULTILINE))


CHECKS = (check_single_app, check_forgotten_app)
