"""Pages of a table that nobody counts."""

from typing import Any

from django.core.paginator import Paginator
from django.utils.functional import cached_property

#: The deepest page: every page before it is read to get there.
LAST_PAGE = 10_000


class LookAheadPaginator(Paginator):  # type: ignore[type-arg]
    """Tells whether there is another page by looking one row ahead instead of counting."""

    page_number = 1

    @cached_property
    def ids(self) -> list[Any]:
        """Return the ids of this page's rows, and of one more if there is any."""
        start = (self.page_number - 1) * self.per_page
        rows: Any = self.object_list
        return list(rows.values_list("pk", flat=True)[start : start + self.per_page + 1])

    @cached_property
    def count(self) -> int:
        """Rows up to the end of this page, and one more if there is any."""
        return (self.page_number - 1) * self.per_page + len(self.ids)
