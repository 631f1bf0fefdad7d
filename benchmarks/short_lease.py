"""Settings of the contestant that loses workers: its lease is as long as Redis' visibility."""

from benchmarks.losses import VISIBLE
from benchmarks.settings import *  # noqa: F403 - settings extend settings

TASKS_APP = {"LEASE": VISIBLE, "RESCUE_INTERVAL": 1}
