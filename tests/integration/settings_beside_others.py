"""Settings of a project in which other packages pass their request ids to Celery's tasks, too."""

from django_guid.integrations import CeleryIntegration

from tests.settings import *  # noqa: F403 - all else is the same

DJANGO_GUID = {"INTEGRATIONS": [CeleryIntegration()]}
