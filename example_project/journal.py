"""A file of JSON lines: what an outside service saw, kept by that service alone.

The demo's mail server, payment provider and webhook receiver write one journal each. Nothing in
the database knows of them, so comparing the two shows whether an effect was lost or doubled.
One process appends; any other may read at any time and sees whole lines only.
"""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Journal:
    """Append and read the JSON lines of one file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def append(self, entry: dict[str, Any]) -> None:
        """Add one line; safe from several threads of one process."""
        line = json.dumps(entry, ensure_ascii=False) + "\n"
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open(encoding="utf-8") as file:
            for line in file:
                if line.endswith("\n"):
                    yield json.loads(line)
