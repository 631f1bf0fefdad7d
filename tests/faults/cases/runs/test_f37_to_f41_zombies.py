"""Runs that are silent for longer than their lease, and go on when somebody else has finished."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from django.db import connection

from tests.faults import tasks as faults
from tests.faults.cases.runs.damage import (
    RESCUED,
    TIMES,
    Trapped,
    go_on,
    without_sqlite,
)
from tests.installation import PATIENCE
from tests.testapp import tasks
from tests.testapp.models import Account
from tests.waiting import wait_until

#: Seconds in C code after which a run has lost its lease and its successor is over.
SILENCE = TIMES["LEASE"] + TIMES["RESCUE_INTERVAL"] + 3


def wait_for_its_end(outcome, trapped):
    """Wait until a zombie's worker has dropped its run: the second word on one outcome."""
    wait_until(
        lambda: f"[{outcome.pk}] ignored" in trapped.process.output,
        PATIENCE,
        lambda: f"the zombie's end\n{trapped.tail()}",
    )


@pytest.mark.parametrize("place", ["run.before_helper", "run.after_helper"])
def test_f37_a_zombie_writes_nothing(place, case, trapped):
    """Its commit meets a row that has gone on: zero rows, so all its writes are rolled back."""
    if place == "run.after_helper":
        without_sqlite("a helper that has written keeps every other writer out until it ends")
    trapped.arm(place)
    outcome = trapped.using(tasks.record).enqueue(case.key)
    zombie = trapped.caught(place)
    with case.recovers(within=RESCUED):
        finished_at = case.settled(outcome).finished_at
    go_on(zombie)
    wait_for_its_end(outcome, trapped)
    outcome.refresh()
    assert (outcome.state, outcome.crashes, outcome.finish_fence) == ("succeeded", 1, 3)
    assert outcome.finished_at == finished_at
    assert case.ends(outcome) == ["lost", "succeeded"]
    assert case.effects() == [""]


@contextmanager
def provider():
    """Serve a provider that notes the key of every call; yields its address and its notes."""
    keys = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            keys.append(self.rfile.read(int(self.headers["Content-Length"])).decode())
            self.send_response(204)
            self.end_headers()

        def log_message(self, *args):
            """Write nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", keys
        server.shutdown()
        thread.join()


def test_f38_a_zombie_calls_a_provider_with_the_same_key(case, trapped):
    """The second call carries the first one's key, and belongs to a run with a higher fence."""
    with provider() as (address, keys):
        trapped.arm("run.after_helper")
        outcome = trapped.using(faults.pay).enqueue(case.key, address)
        zombie = trapped.caught("run.after_helper")
        case.settled(outcome)
        go_on(zombie)
        wait_for_its_end(outcome, trapped)
    outcome.refresh()
    assert keys == [str(outcome.pk)] * 2
    first, second = outcome.attempts.order_by("fence")
    assert (first.state, second.state, outcome.state) == ("lost", "succeeded", "succeeded")
    assert first.fence < second.fence == outcome.finish_fence


@contextmanager
def a_limit_for_idle_transactions(seconds):
    """Let the database end sessions that hold a transaction and say nothing."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            name = connection.ops.quote_name(connection.settings_dict["NAME"])
            limit = f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '{{}}s'"
        else:
            limit = "SET GLOBAL idle_transaction_timeout = {}"
        cursor.execute(limit.format(seconds))
        try:
            yield
        finally:
            cursor.execute(limit.format(0))


def test_f39_what_a_zombie_has_locked_is_free_again(case, installation):
    """With the database's own limit for idle transactions nobody waits for a zombie."""
    without_sqlite("its one write lock is freed by the end of its holder alone")
    Account.objects.create(name=case.key)
    holder = Trapped(installation, TIMES)
    with a_limit_for_idle_transactions(2), holder.start() as holder.process:
        holder.arm("run.after_helper")
        outcome = holder.using(faults.deposit).enqueue(case.key)
        zombie = holder.caught("run.after_helper")
        other = holder.using(faults.deposit).enqueue(case.key)
        with case.recovers(within=RESCUED):
            case.settled(other)
            case.settled(outcome)
        go_on(zombie)
        wait_for_its_end(outcome, holder)
        assert holder.works()
    outcome.refresh()
    assert (outcome.state, other.state) == ("succeeded", "succeeded")
    assert case.ends(outcome) == ["lost", "succeeded"]
    assert Account.objects.get(name=case.key).balance == 2
    assert case.effects() == ["", ""]


def test_f39_a_zombie_holds_up_nobody_else(case, trapped):
    """Whoever needs other rows goes on, limit or not."""
    without_sqlite("its one write lock is freed by the end of its holder alone")
    Account.objects.create(name=case.key)
    trapped.arm("run.after_helper")
    outcome = trapped.using(faults.deposit).enqueue(case.key)
    zombie = trapped.caught("run.after_helper")
    assert trapped.works()
    go_on(zombie)
    assert case.settled(outcome).state == "succeeded"
    assert Account.objects.get(name=case.key).balance == 1


def test_f41_a_run_without_the_gil_is_a_zombie(case, trapped):
    """C code that lets no other thread run renews no lease: the run is taken away and undone."""
    outcome = trapped.using(faults.hold_the_gil).enqueue(case.key, SILENCE)
    with case.recovers(within=RESCUED):
        case.settled(outcome)
    wait_for_its_end(outcome, trapped)
    outcome.refresh()
    assert (outcome.state, outcome.crashes) == ("succeeded", 1)
    assert case.ends(outcome) == ["lost", "succeeded"]
    assert case.effects() == ["run 2"]
