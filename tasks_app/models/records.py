"""What every table has in common: which database it lives in."""

from typing import TypeVar

from django.db import models

from tasks_app.conf import conf

Record = TypeVar("Record", bound=models.Model)


class RecordManager(models.Manager[Record]):
    """Reads and writes the database named by `TASKS_APP["DATABASE"]`."""

    def get_queryset(self) -> models.QuerySet[Record]:
        return super().get_queryset().using(conf.DATABASE)
