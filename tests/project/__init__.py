"""The Celery side of the test project: `celery -A tests.project worker`.

The project has no Celery app of its own, so that what most projects get is what is tested.
"""

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

from tasks_app.celery import app  # it reads the settings named above

__all__ = ["app"]
