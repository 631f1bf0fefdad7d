"""Subjects: which objects of the project an outcome is about."""

from django.db import models

from tasks_app.models.outcome import Outcome
from tasks_app.models.records import RecordManager


class Subject(models.Model):
    """An object that an outcome is about; written with the outcome, in the same transaction."""

    outcome = models.ForeignKey(
        Outcome, on_delete=models.CASCADE, related_name="subjects", db_constraint=False
    )
    #: `app_label.modelname` in lower case.
    model = models.CharField(max_length=201)
    #: The object's primary key, as text.
    object_pk = models.CharField(max_length=255)

    objects = RecordManager()

    class Meta:
        default_permissions = ()
        # The newest first: ids of outcomes are no times where a canvas chose them.
        indexes = (models.Index(fields=["model", "object_pk", "id"], name="tasks_subject_object"),)

    def __str__(self) -> str:
        return f"{self.outcome_id} is about {self.model} {self.object_pk}"
