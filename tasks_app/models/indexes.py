"""Indexes that hold fewer rows than their table, where the database knows such."""

from typing import Any

from django.db import models


class SparseIndex(models.Index):
    """
    An index that leaves out the rows in which its first field is null.

    A row without a value then costs it nothing: no entry for any of the versions that a row goes
    through, and none to clean up. MariaDB has no partial indexes; there it holds all rows. As
    a `condition` of Django's own index that would be a warning (`models.W037`) at each migration.
    """

    def create_sql(self, model: Any, schema_editor: Any, using: str = "", **kwargs: Any) -> Any:
        """Return the statement that makes it."""
        if not schema_editor.connection.features.supports_partial_indexes:
            return super().create_sql(model, schema_editor, using, **kwargs)
        given = models.Q((f"{self.fields[0]}__isnull", False))
        partial = models.Index(fields=self.fields, name=self.name, condition=given)
        return partial.create_sql(model, schema_editor, using, **kwargs)
