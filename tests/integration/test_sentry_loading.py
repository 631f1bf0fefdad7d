"""When Sentry is loaded and initialised: by a DSN, by the project, or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import pytest

from tests.processes import ROOT
from tests.servers.ingest import Ingest

#: What each program ends with: its last word, and nothing that waits for threads.
EPILOGUE = "\nprint(told, flush=True)\nsys.stdout.flush()\nos._exit(0)\n"


def told_by(program: str, **variables: str) -> str:
    """Run a program in a process of its own; return what it left in `told`."""
    text = "import os, sys, django\n" + textwrap.dedent(program) + EPILOGUE
    environment = {name: value for name, value in os.environ.items() if name != "SENTRY_DSN"}
    settings = {"DJANGO_SETTINGS_MODULE": "tests.sentried.settings", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={**environment, **settings, **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_without_a_dsn_the_sdk_is_never_imported():
    """Not by Django's start, by the tasks, or by the Celery app."""
    program = """
    django.setup()
    from tests.project import app
    app.loader.import_default_modules()
    import tests.sentried.urls
    told = [name for name in sys.modules if name.startswith("sentry_sdk")]
    """
    assert told_by(program) == "[]"


@pytest.mark.parametrize("where", ["environment", "settings"])
def test_a_dsn_is_enough(where):
    """It may stand in the environment or in Django's settings."""
    program = """
    from django.conf import settings
    if "GIVEN" in os.environ:
        settings.SENTRY_DSN = os.environ["GIVEN"]
    django.setup()
    import sentry_sdk
    told = sentry_sdk.get_client().dsn
    """
    dsn = "http://key@127.0.0.1:9/1"
    name = {"environment": "SENTRY_DSN", "settings": "GIVEN"}[where]
    assert told_by(program, **{name: dsn}) == dsn


def test_a_dsn_that_is_none_stops_no_process():
    """The log says so, and so does a system check."""
    program = """
    import logging
    logging.basicConfig(stream=sys.stdout, format="%(message)s")
    django.setup()
    from django.core.checks import run_checks
    told = [m.id for m in run_checks(tags=["tasks_app"]) if m.id == "tasks_app.W016"]
    """
    said = told_by(program, SENTRY_DSN="nonsense")
    assert "SENTRY_DSN is no DSN" in said
    assert said.endswith("['tasks_app.W016']")


@pytest.mark.parametrize("moment", ["before", "after"])
def test_an_init_of_the_project_wins_whenever_it_comes(moment):
    """There is one client, and it is theirs."""
    program = f"""
    import sentry_sdk
    def init():
        sentry_sdk.init(dsn="http://theirs@127.0.0.1:9/2", release="theirs")
    if {moment == "before"}:
        init()
    django.setup()
    if {moment == "after"}:
        init()
    options = sentry_sdk.get_client().options
    told = options["release"], options["dsn"]
    """
    said = told_by(program, SENTRY_DSN="http://ours@127.0.0.1:9/1")
    assert said == "('theirs', 'http://theirs@127.0.0.1:9/2')"


def test_an_init_long_after_the_start_is_told_what_others_are():
    """The SDK was not there when Django started: importing it is noticed."""
    program = """
    django.setup()
    assert "sentry_sdk" not in sys.modules
    from importlib.util import find_spec
    find_spec("sentry_sdk")
    import sentry_sdk
    sentry_sdk.init(dsn=os.environ["TO"])
    from tasks_app import context
    with context.working_for("late-request", None):
        sentry_sdk.capture_message("late")
    sentry_sdk.flush(10)
    told = context.trace_headers(context.trace_context()).keys() >= {"sentry-trace"}
    """
    with Ingest() as ingest:
        assert told_by(program, TO=ingest.dsn()) == "True"
        assert ingest.wait_for("event", request_id="late-request").payload["message"] == "late"


def test_a_forked_child_has_a_transport_of_its_own():
    """What waits in its parent is sent once, and no connection is shared."""
    program = """
    django.setup()
    import sentry_sdk
    before = sentry_sdk.get_client().transport
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.write(writer, str(sentry_sdk.get_client().transport is before).encode())
        os._exit(0)
    told = os.read(reader, 10).decode(), sentry_sdk.get_client().transport is before
    """
    assert told_by(program, SENTRY_DSN="http://key@127.0.0.1:9/1") == "('False', True)"
