"""The settings of the project."""

from tests import settings
from tests.settings import *  # noqa: F403 - the servers of the run

INSTALLED_APPS = [*settings.INSTALLED_APPS, "tests.traced"]
MIDDLEWARE = ["tasks_app.middleware.RequestIDMiddleware", *settings.MIDDLEWARE]
ROOT_URLCONF = "tests.traced.urls"
