"""
The demo as its reader starts it: it ends with right totals, refuses nonsense, and stops cleanly.

The table is a small one; the whole of 28,298 airports is the demo's own `--once`.
"""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from example_project.dispatch.helpers import airports_csv

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

ROOT = Path(__file__).resolve().parents[2]
#: Seconds that the demo may take for a small table on a busy machine.
PATIENCE = 150


@pytest.fixture
def table(tmp_path):
    """The first 1,200 airports, with two bad lines among them."""
    lines = airports_csv.bundled().splitlines(keepends=True)[:1201]
    path = tmp_path / "small.csv"
    path.write_bytes(b"".join([*lines[:600], b"no airport\n", *lines[600:], b"nor this\n"]))
    return path


def start(tmp_path, *arguments):
    environment = {name: value for name, value in os.environ.items() if name != "BROKER_URL"}
    return subprocess.Popen(
        [sys.executable, "-m", "example_project.demo", *arguments],
        cwd=ROOT,
        env={**environment, "DISPATCH_DATA": str(tmp_path / "demo"), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(demo):
    """Wait for the end of a demo and return its exit code and what it said."""
    try:
        said, _ = demo.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        demo.terminate()
        pytest.fail(f"The demo did not end:\n{demo.communicate()[0]}")
    return demo.returncode, said


def processes_of(folder):
    """Return the ids of all processes whose environment names the folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if str(folder).encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return sorted(set(found) - {os.getpid()})


@pytest.mark.parametrize("also", [[], ["--kill"]], ids=["undisturbed", "under fire"])
def test_one_job_ends_with_the_same_totals_whether_or_not_workers_die(tmp_path, table, also):
    """Every effect is there once, nothing is open, and no process is left."""
    code, said = finish(start(tmp_path, "--once", "--input", str(table), *also))
    assert code == 0, said
    totals = dict(re.findall(r"^ *(\S.*?) {2,}(\d+)", said, re.MULTILINE))
    assert totals["airports imported"] == "1200"
    assert totals["bad lines reported"] == "2"
    assert totals["alternates"] == "3600"
    assert totals["ledger entries"] == totals["flights"] != "0"
    assert int(totals["provider calls"]) >= int(totals["ledger entries"])
    assert totals["mails in the mailbox"] == totals["briefings"]
    assert totals["outcomes pending"] == totals["outcomes running"] == "0"
    assert "Everything adds up." in said
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(("number", "has_input"), [(signal.SIGINT, False), (signal.SIGTERM, True)])
def test_a_demo_that_is_stopped_leaves_no_process(tmp_path, table, number, has_input):
    """Ctrl+C and SIGTERM in the middle of a job, which a new demo starts unasked, end all of it."""
    demo = start(tmp_path, "--port", "0", *(["--input", str(table)] if has_input else []))
    lines = iter(demo.stdout.readline, "")
    assert any("started job" in line for line in lines)
    demo.send_signal(number)
    code, said = finish(demo)
    assert code == 0, said
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"Roses are red\n", "missing: country, icao"), (None, "cannot be read"), (b"", "missing")],
)
def test_an_input_that_is_no_table_is_refused_with_the_reason(tmp_path, content, reason):
    """Nonsense ends the demo with 1 and a sentence, not with a traceback."""
    path = tmp_path / "input.csv"
    if content is not None:
        path.write_bytes(content)
    code, said = finish(start(tmp_path, "--once", "--input", str(path)))
    assert code == 1
    assert reason in said
    assert "Traceback" not in said
    assert processes_of(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--database", "nonsense://x"], "--database cannot be read"),
        (["--database", "postgres://nobody@127.0.0.1:9/x"], "The database cannot be used"),
        (["--broker", "amqp://me:secret@127.0.0.1:9//"], "The broker amqp://me:**@127.0.0.1:9//"),
        (["--broker", "hello://x"], "No such transport: hello"),
        (["--port", "99999"], "Port 99999 cannot be used"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_at_once(tmp_path, arguments, reason):
    """A wrong option ends the demo with 1 and a sentence that shows no password."""
    code, said = finish(start(tmp_path, "--once", *arguments))
    assert code == 1
    assert reason in said
    assert "Traceback" not in said
    assert "secret" not in said


def test_two_demos_do_not_share_a_folder(tmp_path):
    """The second one says who is there, and how to go elsewhere."""
    first = start(tmp_path, "--port", "0")
    try:
        deadline = time.monotonic() + PATIENCE
        while not (tmp_path / "demo" / "services.json").exists():
            assert time.monotonic() < deadline, "the first demo did not come up"
            time.sleep(0.05)
        code, said = finish(start(tmp_path, "--port", "0"))
    finally:
        first.terminate()
        finish(first)
    assert (code, "Another demo works in" in said) == (1, True)
