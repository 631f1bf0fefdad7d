"""Run a soak: `python -m tests.soak MINUTES`; see the package for what it does."""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import django

from tests.children import descendants

# A folder that was named beforehand is kept, and one made here if the run fails.
IS_KEPT = "TASKS_TEST_FILES" in os.environ
if not IS_KEPT:
    os.environ["TASKS_TEST_FILES"] = tempfile.mkdtemp(prefix="tasks-app-soak-")
FOLDER = Path(os.environ["TASKS_TEST_FILES"])
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.soak.settings"
django.setup()

from tests.soak import records, report  # noqa: E402 - Django is set up now
from tests.soak.run import Plan, Soak, tell  # noqa: E402
from tests.soak.stage import standing  # noqa: E402


def main() -> int:
    """Read the command line, run, report; return the exit code."""
    given = arguments().parse_args()
    plan = Plan(
        seconds=given.minutes * 60,
        seed=str(given.seed if given.seed is not None else random.randrange(1_000_000)),
        tasks=given.tasks,
        kills=given.kills,
        pace=given.pace,
        hurries=given.hurry,
    )
    tell(f"seed {plan.seed}, folder {FOLDER}")
    with standing(plan.seed) as stage:
        soak = Soak(stage, plan)
        soak.perform()
        facts = records.facts(FOLDER)
        found = report.document(soak, facts, records.violations(facts))
    if left := descendants(os.getpid()):
        found["violations"].append(f"processes were left behind: {left}")
    if given.report:
        given.report.write_text(json.dumps(found, indent=2, default=str) + "\n")
    tell(report.text(found))
    if found["violations"]:
        tell(f"FAILED; seed {plan.seed}, logs in {FOLDER}")
        return 1
    if not IS_KEPT:
        shutil.rmtree(FOLDER, ignore_errors=True)
    return 0


def arguments() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("minutes", type=float, help="how long faults last")
    parser.add_argument("--seed", type=int, help="of the dice; drawn when omitted")
    parser.add_argument("--tasks", type=int, help="end when so many outcomes are reached")
    parser.add_argument("--kills", type=int, help="end when so many kills are reached")
    parser.add_argument("--pace", type=float, default=1.0, help="faults per time, 1 by default")
    parser.add_argument(
        "--hurry", action="store_true", help="do not wait for the next announcement at the end"
    )
    parser.add_argument("--report", type=Path, help="write the results to this file, as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
