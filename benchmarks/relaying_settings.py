"""Settings of a relay that no limit of unclaimed messages holds back: no worker claims any."""

from benchmarks.settings import *  # noqa: F403 - settings extend settings

TASKS_APP = {"MAX_IN_FLIGHT": 1_000_000}
CELERY_IMPORTS = ["benchmarks.with_outcomes"]
