"""Settings of the soak's processes: the test project's, with the soak's tasks and short times."""

from tests import settings
from tests.settings import *  # noqa: F403 - settings extend settings

INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.soak"]

#: Short, so that a run of minutes sees many rescues.
SHORT_TIMES = {
    "LEASE": 3,
    "RESCUE_INTERVAL": 1,
    "CANCEL_GRACE": 2,
    # More than by default: faults alone should hardly ever make an outcome pass for poison.
    "MAX_CRASHES": 5,
}

TASKS_APP = {**SHORT_TIMES, **settings.TASKS_APP}
