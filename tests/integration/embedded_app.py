"""A Celery app on the embedded broker, for workers started by the transport's tests."""

from __future__ import annotations

import os
from pathlib import Path

from celery import Celery

from tasks_app.filesystem import url

FOLDER = Path(os.environ["EMBEDDED_FOLDER"])

# The tests import it too, and go on with the project's own app.
app = Celery("embedded_app", broker=url(FOLDER / "broker"), set_as_current=False)


@app.task
def touch(name: str) -> None:
    """Leave a file that the test can see."""
    (FOLDER / name).touch()
