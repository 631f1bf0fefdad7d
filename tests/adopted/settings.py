"""The settings of the project: the app, `TASKS_APP` and the result backend are new."""

from tasks_app import filesystem
from tests.servers.session import broker_url, files
from tests.settings import *  # noqa: F403 - the servers of the run
from tests.settings import INSTALLED_APPS as OTHER_APPS

INSTALLED_APPS = [*OTHER_APPS, "tests.adopted"]  # tasks_app is among them
TASKS_APP = {"ADOPT": True, "RELAY_INTERVAL": 0.1}

# Its own, since it has its own Celery app.
CELERY_BROKER_URL = broker_url() or filesystem.url(files() / "adopted")
CELERY_RESULT_BACKEND = "tasks_app.results:OutcomeBackend"
CELERY_TASK_DEFAULT_QUEUE = "adopted"
