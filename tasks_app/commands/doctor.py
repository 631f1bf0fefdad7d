"""`tasks doctor`: what every probe found, with a remedy; exit code 1 if one of them failed."""

import argparse
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from tasks_app.commands.records import as_json
from tasks_app.doctor import examine
from tasks_app.doctor.findings import Finding, Status
from tasks_app.printable import plain

HELP = "Look at all that needs a connection; exit code 1 if something is broken."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--json`."""
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Examine, write each finding as it is made, and fail if one failed."""
    findings = []
    for finding in examine():
        findings.append(finding)
        if not options["json"]:
            _write(command, finding)
    failed = [finding.name for finding in findings if finding.status is Status.FAIL]
    if options["json"]:
        records = [asdict(finding) for finding in findings]
        command.stdout.write(as_json({"ok": not failed, "findings": records}))
    if failed:
        raise CommandError(f"{len(failed)} of {len(findings)} probes failed: {', '.join(failed)}.")


def _write(command: BaseCommand, finding: Finding) -> None:
    paint = {
        Status.OK: command.style.SUCCESS,
        Status.WARN: command.style.WARNING,
        Status.FAIL: command.style.ERROR,
    }[finding.status]
    command.stdout.write(f"{paint(f'{finding.status:4}')}  {finding.name}: {plain(finding.found)}")
    if finding.remedy:
        command.stdout.write(f"      → {plain(finding.remedy)}")
