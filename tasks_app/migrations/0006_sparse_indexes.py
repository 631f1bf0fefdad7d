"""
Find replays by an index, and leave outcomes without a group out of theirs.

Writers go on meanwhile: PostgreSQL makes and drops the indexes concurrently, so that this is no
transaction.
"""

from typing import Any

from django.db import migrations, models

from tasks_app.models.indexes import SparseIndex


class Concurrently:
    """An index operation that keeps no writer out."""

    atomic = False

    def database_forwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        super().database_forwards(app_label, unlocked(editor), before, after)  # type: ignore[misc]

    def database_backwards(self, app_label: str, editor: Any, before: Any, after: Any) -> None:
        super().database_backwards(app_label, unlocked(editor), before, after)  # type: ignore[misc]


class Unlocked:
    """PostgreSQL's schema editor, but that it adds and removes indexes concurrently."""

    def __init__(self, editor: Any) -> None:
        self.connection = editor.connection
        self.editor = editor

    def add_index(self, model: Any, index: models.Index) -> None:
        self.editor.add_index(model, index, concurrently=True)

    def remove_index(self, model: Any, index: models.Index) -> None:
        self.editor.remove_index(model, index, concurrently=True)


def unlocked(editor: Any) -> Any:
    return Unlocked(editor) if editor.connection.vendor == "postgresql" else editor


class AddIndex(Concurrently, migrations.AddIndex):
    pass


class RemoveIndex(Concurrently, migrations.RemoveIndex):
    pass


class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("tasks_app", "0005_periodic"),
    ]

    operations = [
        AddIndex(
            model_name="outcome",
            index=SparseIndex(fields=["replay_of"], name="tasks_outcome_replays"),
        ),
        AddIndex(
            model_name="outcome",
            index=SparseIndex(fields=["group_id"], name="tasks_outcome_members"),
        ),
        RemoveIndex(
            model_name="outcome",
            name="tasks_outcome_group",
        ),
    ]
