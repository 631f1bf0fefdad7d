"""Django settings of the contestants that use Django; addresses come from the environment."""

import os
from urllib.parse import urlsplit

_address = urlsplit(os.environ["BENCHMARK_DATABASE"])

SECRET_KEY = "benchmark"
USE_TZ = True
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django_celery_results",
    "tasks_app",
]
DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "HOST": _address.hostname,
        "PORT": _address.port,
        "USER": _address.username,
        "NAME": _address.path.removeprefix("/"),
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CELERY_BROKER_URL = os.environ["BENCHMARK_BROKER"]
