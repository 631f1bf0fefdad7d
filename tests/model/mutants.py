"""
How soon the machine finds each mutant, as a table.

    python -m tests.model.mutants                      on SQLite
    python -m tests.model.mutants mariadb -k cursor    on another database; options for pytest

Steps are acts of the installation: in all until the first rule was broken, in the history that
broke it, and in the shortest history that does.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.pairs import Pair
from tests.servers.session import DATABASES

TEST = Path(__file__).parent / "test_mutants.py"

HEAD = f"{'mutant':24}{'steps':>8}{'examples':>10}{'original':>10}{'shortest':>10}   broken rule\n"


def main(words: Sequence[str]) -> int:
    """Let the machine find the mutants and shorten their stories; return pytest's exit code."""
    chosen = [word for word in words if word in DATABASES]
    options = [word for word in words if word not in DATABASES]
    with tempfile.NamedTemporaryFile("r", prefix="stories-") as stories:
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", str(TEST), *options],
            env={
                **Pair(*chosen or ["sqlite"], "embedded").environment(),
                "TASKS_MODEL_STORIES": stories.name,
            },
            cwd=TEST.parents[2],
            check=False,
        )
        sys.stdout.write(HEAD + stories.read())
    return run.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
