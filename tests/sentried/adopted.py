"""The settings of `tests/adopted` beside another project's workers: only those announce rows."""

from tests.adopted.settings import *  # noqa: F403 - the adopted project
from tests.adopted.settings import TASKS_APP as ADOPTING

TASKS_APP = {**ADOPTING, "RELAY_IN_WORKER": False}
