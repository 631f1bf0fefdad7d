"""A Celery project as it was before the app came: own Celery app, plain tasks, no word of outcomes.

Only its settings know the app: `tests/adopted/settings.py`.
"""

from tests.adopted.celery import app

__all__ = ["app"]
