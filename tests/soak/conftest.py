"""Either the soak is collected, or everything else: they never run together."""

from __future__ import annotations

from pathlib import Path

import pytest

SOAK = Path(__file__).with_name("test_soak.py")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect what the option `--soak` does not ask for."""
    is_soak = config.getoption("soak") is not None
    wanted = [item for item in items if (item.path == SOAK) == is_soak]
    config.hook.pytest_deselected(items=[item for item in items if item not in wanted])
    items[:] = wanted
