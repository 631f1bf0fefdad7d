"""
Status for the people who wait: what became of a call, told to those whom it concerns.

Whoever enqueues for a visitor answers with `accepted`, or shows a bar with `{% task_progress %}`.
The pages of `tasks_app.urls` tell an outcome's state to its owner, to bearers of a signed token and
to holders of a permission; to all others an outcome is as absent as one that never was.
"""

from tasks_app.status.answers import accepted, status_url
from tasks_app.status.tokens import status_token

__all__ = ["accepted", "status_token", "status_url"]
