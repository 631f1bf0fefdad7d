"""
`tasks relay`: a relay alone, until SIGTERM or SIGINT; with `--once`, all that is due and no more.

The relay runs in a thread, so that a signal's handler never waits for a lock that the code it
interrupted holds. The first signal lets the look in progress end; the second one ends the process.
"""

import argparse
import os
import signal
import socket
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connections

from tasks_app.celery import app
from tasks_app.logs import levels
from tasks_app.pulse import Pulse
from tasks_app.relay import Relay
from tasks_app.trouble import missing_tables

HELP = "Announce due outcomes, without a worker."

#: Seconds of a look after which the relay hangs.
LONGEST_TURN = 30.0

SIGNALS = (signal.SIGTERM, signal.SIGINT)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add `--once`."""
    parser.add_argument(
        "--once", action="store_true", help="announce all that is due, then exit; 1 if refused"
    )


def run(command: BaseCommand, options: Mapping[str, Any]) -> None:
    """Run a relay in this process."""
    _refuse_missing_tables()
    # A relay that does not know a task would give its outcomes up one day.
    app.loader.import_default_modules()
    relay = Relay(app)
    levels.watch()
    if options["once"]:
        _run_once(command, relay)
    else:
        command.check()
        _run_until_signal(command, relay)


def _refuse_missing_tables() -> None:
    """Complain about missing tables at once; for a database that is away, the relay waits."""
    try:
        missing = missing_tables()
    except DatabaseError:
        return
    if missing:
        raise CommandError(missing)


def _run_once(command: BaseCommand, relay: Relay) -> None:
    relay.housekeeper.run_if_due()
    announced = expired = given_up = unanswered = 0
    try:
        while not unanswered:
            counts = relay.run_once()
            announced += counts.announced
            expired += counts.expired
            given_up += counts.given_up
            unanswered = counts.unanswered
            if not counts.found:
                break
    finally:
        relay.publisher.close()
    command.stdout.write(f"{announced:,} announced, {expired:,} expired, {given_up:,} given up.")
    if unanswered:
        raise CommandError(f"The broker does not answer; {unanswered:,} or more stay due.")


def _run_until_signal(command: BaseCommand, relay: Relay) -> None:
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def stop(number: int, frame: Any) -> None:
        for known in SIGNALS:
            signal.signal(known, signal.SIG_DFL)
        relay.stop()

    for number in SIGNALS:
        signal.signal(number, stop)
    pulse = Pulse(
        f"relay@{socket.gethostname()}/{os.getpid()}",
        "relay",
        lambda: time.monotonic() - relay.turned_at < LONGEST_TURN,
    )
    command.stdout.write("The relay runs; Ctrl+C or SIGTERM stops it.")
    command.stdout.flush()
    try:
        pulse.start()
        with ThreadPoolExecutor(1, "tasks_app-relay") as pool:
            pool.submit(_run_and_disconnect, relay).result()
    finally:
        pulse.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    command.stdout.write("The relay has stopped.")


def _run_and_disconnect(relay: Relay) -> None:
    try:
        relay.run()
    finally:
        connections.close_all()
