"""A short soak in the ordinary run, so that the long one does not rot."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.pairs import ROOT, Pair

#: Seconds after which the smoke hangs.
TIMEOUT = 240


def test_a_few_faults_break_no_promise(tmp_path):
    """Kills and lost messages on the default pair cost time, and nothing else."""
    report = tmp_path / "report.json"
    options = ["0.2", "--seed=1", "--kills=6", "--hurry", f"--report={report}"]
    run = subprocess.run(
        [sys.executable, "-m", "tests.soak", *options],
        cwd=ROOT,
        env=Pair("sqlite", "embedded").environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    found = json.loads(report.read_text())
    assert found["tasks"] > 30
    assert sum(found["faults"].values()) >= 6
