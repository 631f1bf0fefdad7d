"""Cases run in processes of their own, once per pair (see `tests.pairs`).

A pytest run over everything leaves them to `test_every_pair`; naming one of their folders runs
it in this process, on the pair that the environment chooses.
"""

from __future__ import annotations

from pathlib import Path

import pytest

CASES = Path(__file__).parent / "cases"

#: The cases of a call's path, and those of a run.
CALLS, RUNS = CASES / "calls", CASES / "runs"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave the cases out unless their folder was named."""
    if collection_path not in {CALLS, RUNS}:
        return None
    name = f"cases/{collection_path.name}"
    return True if not any(name in argument for argument in config.args) else None
