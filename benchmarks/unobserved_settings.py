"""Settings of the contestant that tells as little as can be."""

from benchmarks.settings import *  # noqa: F403 - settings extend settings

TASKS_APP = {"KEEP_LOG_LINES": 0, "METRICS_INTERVAL": 86_400}
