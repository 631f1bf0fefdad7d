"""Django settings of the beats: those of the other contestants, and django-celery-beat."""

from benchmarks.settings import *  # noqa: F403 - settings are inherited whole
from benchmarks.settings import INSTALLED_APPS

INSTALLED_APPS = [*INSTALLED_APPS, "django_celery_beat"]
