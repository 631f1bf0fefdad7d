"""One row of any model that the admin shows, with what a test does not care about filled in."""

from __future__ import annotations

from decimal import Decimal
from itertools import count
from typing import Any
from uuid import uuid4

from django.db import models
from django.utils import timezone
from django_celery_beat.models import IntervalSchedule, PeriodicTask

from tasks_app.models import Outcome
from tests.testapp import tasks

_numbers = count(1)

#: A value for a field of each kind, by Django's name of it; the first that fits wins.
VALUES = {
    models.UUIDField: uuid4,
    models.DateTimeField: timezone.now,
    models.DecimalField: lambda: Decimal(1),
    models.FloatField: lambda: 1.0,
    models.IntegerField: lambda: next(_numbers),
    models.JSONField: dict,
    models.CharField: lambda: f"t{next(_numbers)}",
    models.TextField: lambda: f"text {next(_numbers)}",
}


def make(model: type[models.Model]) -> Any:
    """Return a new row of a model."""
    if model is Outcome:
        return tasks.add.using(run_after=3600).enqueue(1, 2)
    if model is PeriodicTask:
        every = IntervalSchedule.objects.create(every=next(_numbers), period="days")
        name, known = f"schedule {next(_numbers)}", tasks.add.name
        return PeriodicTask.objects.create(name=name, task=known, args="[1, 2]", interval=every)
    return model._base_manager.create(
        **{field.name: value_of(field) for field in needed_fields(model)}
    )


def needed_fields(model: type[models.Model]) -> list[models.Field]:
    """Return the fields that have to be given."""
    return [
        field
        for field in model._meta.concrete_fields
        if not (field.null or field.has_default() or field.auto_created or is_filled(field))
    ]


def is_filled(field: models.Field) -> bool:
    """Tell whether the field or its database fills itself."""
    return getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)


def value_of(field: models.Field) -> Any:
    """Return some value that fits the field."""
    if field.is_relation:
        return make(field.related_model)
    if field.choices:
        return field.flatchoices[0][0]
    return next(value() for kind, value in VALUES.items() if isinstance(field, kind))
