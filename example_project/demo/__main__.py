"""``python -m example_project.demo``: the whole desk with one command.

Plain, it starts a job unless there was one, keeps its data and runs until Ctrl+C. With ``--once``
it starts clean, runs one job to its end, compares all totals and exits 0 or 1; with ``--kill`` it
does so while workers die.
"""

import argparse
import hashlib
import importlib
import os
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import dj_database_url
import django

from example_project.demo.killer import Killer
from example_project.demo.supervisor import (
    DemoError,
    Interrupted,
    Supervisor,
    claim_folder,
    claim_port,
)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="run.py demo",
        description="A flight-dispatch desk: web, worker, beat and Flower. It keeps its data and "
        "runs until Ctrl+C.",
        epilog="The data is in .demo, or in the folder that DISPATCH_DATA names.",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="start clean, run one job to its end, compare all totals, exit 0 or 1",
    )
    parser.add_argument("--kill", action="store_true", help="SIGKILL workers every few seconds")
    parser.add_argument("--input", type=Path, metavar="FILE", help="CSV file of airports")
    parser.add_argument("--broker", metavar="URL", help="Redis or RabbitMQ; default: none needed")
    parser.add_argument("--database", metavar="URL", help="PostgreSQL or MariaDB; default: SQLite")
    parser.add_argument("--seed", type=int, default=0, help="decides flights, faults and kills")
    parser.add_argument("--port", type=int, metavar="N", help="port of the page (default: 8000)")
    parser.add_argument(
        "--flower-port", type=int, default=0, metavar="N", help="port of Flower (default: any free)"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Run the demo and return its exit code."""
    options = parse()
    supervisor = Supervisor(data_folder(options), options.seed)
    supervisor.listen_for_signals()
    code = 1
    try:
        with claim_folder(supervisor.data), closing(supervisor):
            code = run(supervisor, options)
    except DemoError as error:
        print(f"\n{'━' * 72}\n{error}\n{'━' * 72}", file=sys.stderr)
    except Interrupted:
        code = 130 if options.once else 0
    if options.once:
        dispose(supervisor.data, code)
    return code


def run(supervisor: Supervisor, options: argparse.Namespace) -> int:
    """Open the desk; run one job to its end, or stay until stopped.

    Raises:
        DemoError: Something that it needs is missing or has ended.
        Interrupted: Somebody stopped it.
    """
    table = read_input(options.input)
    # --once takes any free port, so that it never stands in the way of anything.
    wanted = (0 if options.once else 8000) if options.port is None else options.port
    port = claim_port(wanted, "--port")
    flower_port = claim_port(options.flower_port, "--flower-port")
    configure(options, supervisor, port, flower_port)
    django.setup()
    # Not at the top: the desk needs Django set up, and that needs what was just configured.
    desk = importlib.import_module("example_project.demo.desk")
    if options.broker:
        desk.reach_broker(options.broker)
    desk.prepare(clean=options.once and bool(options.database))
    worker = desk.open_desk(supervisor, port, flower_port)
    source = options.input.name if options.input else "airportsdata"
    wants_job = options.once or options.input or desk.is_new()
    job = desk.begin(table, source, options.seed) if wants_job else None
    begun = time.monotonic()
    killer = Killer(worker, options.seed)
    if options.kill:
        killer.start()
    try:
        if options.once:
            desk.follow(supervisor)
        else:
            desk.stay(supervisor)
    finally:
        killer.stop()
    seconds = time.monotonic() - begun
    supervisor.close()
    return int(desk.sum_up(job, table, supervisor.data, killer.kills, seconds))


def read_input(path: Path | None) -> bytes | None:
    """Read the input file, if there is one.

    Raises:
        DemoError: It cannot be read.
    """
    try:
        return path.read_bytes() if path else None
    except OSError as error:
        raise DemoError(f"The input cannot be read: {error}") from error


def data_folder(options: argparse.Namespace) -> Path:
    """Return the folder for everything that the demo writes; a new one for ``--once``.

    Every database has a folder of its own, since the journals in it belong to its rows.
    """
    folder = Path(os.environ.get("DISPATCH_DATA", ".demo")).resolve()
    if options.database:
        folder /= f"database-{hashlib.sha256(options.database.encode()).hexdigest()[:8]}"
    folder.mkdir(parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="once-", dir=folder)) if options.once else folder


def dispose(data: Path, code: int) -> None:
    """Remove the data of a run that went well; leave the others for whoever looks into them."""
    if code == 0:
        shutil.rmtree(data, ignore_errors=True)
    else:
        print(f"The data of this run is in {data}", file=sys.stderr)


def check_database_url(url: str) -> None:
    """Refuse what dj-database-url cannot read.

    Raises:
        DemoError: It is no database URL.
    """
    try:
        dj_database_url.parse(url)
    except ValueError as error:
        raise DemoError(f"--database cannot be read: {error}") from error


def configure(
    options: argparse.Namespace, supervisor: Supervisor, port: int, flower_port: int
) -> None:
    """Start the services and put everything that the settings read into the environment."""
    if options.database:
        check_database_url(options.database)
    for name, value in (("BROKER_URL", options.broker), ("DATABASE_URL", options.database)):
        os.environ.pop(name, None)
        if value:
            os.environ[name] = value
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "DISPATCH_DATA": str(supervisor.data),
        "DISPATCH_WEBHOOK_SECRET": secrets.token_hex(16),
        "DISPATCH_ADMIN_URL": f"http://127.0.0.1:{port}/admin/",
        "DISPATCH_FLOWER_URL": f"http://127.0.0.1:{flower_port}/",
        # Some hundred retries are part of the show; the page and the admin tell of them better.
        "DISPATCH_LOG_LEVEL": os.environ.get("DISPATCH_LOG_LEVEL", "ERROR"),
        "DISPATCH_LEASE": "8",
        "DISPATCH_RESCUE_INTERVAL": "2",
        # Who kills on purpose, often and at random, must not call the victim's task a killer.
        "DISPATCH_MAX_CRASHES": "30" if options.kill else "3",
    }
    ports = supervisor.run_services()
    os.environ["DISPATCH_SMTP_PORT"] = str(ports["smtp"])
    os.environ["DISPATCH_SERVICES_URL"] = f"http://127.0.0.1:{ports['http']}"


if __name__ == "__main__":
    sys.exit(main())
