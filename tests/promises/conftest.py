"""What the tests of the promises share."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.testapp.models import Effect


@pytest.fixture
def key() -> str:
    """A name that belongs to one test: for its effects, its trail and its queue."""
    return uuid4().hex


@pytest.fixture
def effects(key: str) -> Callable[[], list[str]]:
    """Notes of the test's committed effects, the first one first."""
    rows = Effect.objects.filter(key=key).order_by("pk").values_list("note", flat=True)
    return lambda: list(rows.all())
