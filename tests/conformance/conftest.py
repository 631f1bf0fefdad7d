"""Scenarios run in a process of their own, once per pair (see `tests.pairs`).

A pytest run over everything leaves them to `test_every_pair`; naming their folder runs them in
this process, on the pair that the environment chooses.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pairs import SCENARIOS


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the scenarios out unless they were named."""
    if collection_path != SCENARIOS:
        return None
    return True if not any("scenarios" in argument for argument in config.args) else None
