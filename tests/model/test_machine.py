"""Whatever happens to an installation, in whatever order, keeps every rule."""

from __future__ import annotations

import pytest

from tests.history import log
from tests.model.machine import explore

pytestmark = pytest.mark.django_db(transaction=True)


def test_no_history_breaks_a_rule():
    """Acts of callers, relays, workers and rescuers, and their faults, in random order."""
    with log.installed():
        explore()
