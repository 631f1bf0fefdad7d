"""`run.py bench` from end to end, on servers and workers of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import skip_or_fail

ROOT = Path(__file__).parents[2]


def test_a_comparison_measures_who_is_there_and_names_who_is_not(tmp_path):
    """This project drains; a peer whose packages are missing fails, and so does the command."""
    skip_or_fail("postgres")
    skip_or_fail("redis")
    command = ["-m", "benchmarks.compare", "--quick", "--here", "--output", str(tmp_path)]
    run = subprocess.run(
        [sys.executable, *command, "--only", "drain", "--contestants", "own", "procrastinate"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    figures = {
        (each["measure"], each["contestant"]): each["values"]
        for each in json.loads((tmp_path / "figures.json").read_text())
    }
    assert run.returncode == 1, run.stderr
    assert "failed: drain_noops: Procrastinate, drain_writing: Procrastinate" in run.stderr
    assert {contestant for _measure, contestant in figures} == {"tasks_app, Redis"}
    for measure in ("drain, no-op", "drain, one row written", "CPU of workers per no-op"):
        assert figures[measure, "tasks_app, Redis"][0] > 0, run.stderr
    assert "not measured" in run.stdout
