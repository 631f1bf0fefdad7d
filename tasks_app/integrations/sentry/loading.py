"""
When Sentry is needed: with a DSN of the project, or as soon as anybody loads the SDK.

With a DSN and no `sentry_sdk.init` of the project's, this module calls it as Django starts: in web
processes, workers and beat. A project that calls it itself wins, before or after. Without either
the SDK is never imported: a finder of modules waits for its import instead, and costs nothing.
"""

import logging
import os
import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from celery import signals as celery_signals
from django.conf import settings

from tasks_app.integrations.sentry import slots

logger = logging.getLogger(__name__)

SDK = "sentry_sdk"

#: What connects itself to an SDK that is there, each by its function `connect`.
PARTS = ("forking", "scrubbing", "events", "tracing", "checkins")


def connect() -> None:
    """Start Sentry if there is a DSN, else be ready for who does; called when Django is ready."""
    celery_signals.beat_init.connect(slots.watch, dispatch_uid=slots.__name__)
    address = dsn()
    if not address and SDK not in sys.modules:
        if not any(isinstance(finder, Waiting) for finder in sys.meta_path):
            sys.meta_path.insert(0, Waiting())
        return
    teach()
    if address:
        start(address)


def dsn() -> str:
    """Return the project's DSN from its settings or the environment; "" if it has none."""
    return getattr(settings, "SENTRY_DSN", None) or os.environ.get("SENTRY_DSN", "")


def start(address: str) -> None:
    """Initialise Sentry, unless the project has done that; a DSN that is none stops no process."""
    sdk: Any = import_module(SDK)
    if sdk.is_initialized():
        return
    celery: Any = import_module(f"{SDK}.integrations.celery")
    # Schedules of tasks without outcomes are the SDK's; of the others we take its check-ins over.
    watching = celery.CeleryIntegration(monitor_beat_tasks=True)
    try:
        sdk.init(dsn=address, integrations=[watching])
    except sdk.utils.BadDsn as error:
        logger.error("Sentry does not run: SENTRY_DSN is no DSN (%s)", error)  # noqa: TRY400 - says it all


@cache
def teach() -> None:
    """Connect what this app tells Sentry, once per process."""
    for part in PARTS:
        import_module(f"{__package__}.{part}").connect()


class Waiting(MetaPathFinder):
    """Finds the SDK as the other finders do, and teaches it when its import is done."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != SDK:
            return None
        found = (finder.find_spec(name, path, target) for finder in self._others())
        spec = next(filter(None, found), None)
        if spec is not None and spec.loader is not None:
            self._teach_after(spec.loader)
        return spec

    def _others(self) -> list[Any]:
        return [finder for finder in sys.meta_path if finder is not self]

    def _teach_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def execute_and_teach(module: ModuleType) -> None:
            execute(module)
            teach()

        loader.exec_module = execute_and_teach
