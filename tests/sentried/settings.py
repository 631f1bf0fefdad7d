"""The settings of the project."""

import os
from importlib import import_module

from tests.settings import *  # noqa: F403 - the servers of the run
from tests.settings import MIDDLEWARE as OTHERS

MIDDLEWARE = ["tasks_app.middleware.RequestIDMiddleware", *OTHERS]
ROOT_URLCONF = "tests.sentried.urls"

if own := os.environ.get("TASKS_TEST_OWN_SENTRY"):
    celery = import_module("sentry_sdk.integrations.celery")
    import_module("sentry_sdk").init(
        dsn=own,
        traces_sample_rate=1.0,
        integrations=[celery.CeleryIntegration(monitor_beat_tasks=True)],
    )
