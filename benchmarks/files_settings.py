"""The same with this project, whose embedded broker is then as it would be without a setting."""

import os
from pathlib import Path

from benchmarks.sqlite_settings import *  # noqa: F403 - settings extend settings
from benchmarks.sqlite_settings import INSTALLED_APPS

INSTALLED_APPS += ["tasks_app"]
# Where it is anyway; `DEBUG = False` asks for a name.
CELERY_BROKER_URL = (
    f"tasks-app://localhost/{Path(os.environ['BENCHMARK_DATABASE']).parent}/.tasks_broker"
)
