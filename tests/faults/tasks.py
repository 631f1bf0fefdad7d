"""Tasks that are hit by faults: each gets into one kind of trouble, and takes effect."""

from __future__ import annotations

import ctypes
import os
import resource
import time
import urllib.request
from typing import Any

from django.db import connection
from django.db.models import F

from tasks_app import RetryPolicy, current, task
from tests import trail
from tests.testapp import helpers
from tests.testapp.models import Account, Effect
from tests.waiting import wait_until

#: Attempts enough for a fault that lasts some seconds, soon after one another.
PATIENT = RetryPolicy(max_attempts=30, initial=0.3, factor=1, jitter=False)

#: Bytes of address space that a helper keeps to itself before it runs out of them.
ROOM = 48 * 1024 * 1024

#: Seconds that two helpers wait for each other.
PATIENCE = 30

record_late = task(helpers.record_late, name="faults.record_late")
record_late_patiently = task(
    helpers.record_late, name="faults.record_late_patiently", retry=PATIENT
)
fail_late = task(helpers.need_gate, name="faults.fail_late", retry=PATIENT)
record_patiently = task(helpers.record, name="faults.record_patiently", retry=PATIENT)


@task(atomic=False)
def wait_outside(key: str) -> None:
    """Stay in the body until the gate opens, and never speak to the database."""
    trail.leave(key)
    trail.wait_at_gate(key)


@task(atomic=False)
def pay(key: str, provider: str) -> None:
    """Call a provider, as the world outside the database is called: with a key."""
    trail.leave(key)
    request = urllib.request.Request(provider, current.idempotency_key.encode())  # type: ignore[union-attr]
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        answer.read()


@task
def deposit(key: str) -> None:
    """Add one to a balance; who holds that row keeps the others waiting."""
    trail.leave(key)
    Account.objects.filter(name=key).update(balance=F("balance") + 1)
    Effect.objects.create(key=key)


@task
def deposit_impatiently(key: str) -> None:
    """Take effect, and then wait a second at most for a row that somebody holds."""
    trail.leave(key)
    Effect.objects.create(key=key)
    account = Account.objects.filter(name=key)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL lock_timeout = '1s'")
        else:
            cursor.execute(f"SELECT 1 FROM {Account._meta.db_table} FOR UPDATE WAIT 1")
    account.update(balance=F("balance") + 1)


@task
def cross(key: str, first: str, second: str, *, isolation: str, writes_first: bool) -> None:
    """Read two balances and, when another helper has read them too, write the second one."""
    # Both have to be claimed before either reads: SQLite lets nobody commit beside a reader.
    meet(f"{key}-claimed", first)
    if isolation:
        with connection.cursor() as cursor:
            cursor.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
    accounts = Account.objects.filter(name__in=[first, second])
    trail.leave(key, read=[account.balance for account in accounts])
    if writes_first:
        Account.objects.filter(name=first).update(balance=F("balance") + 1)
    meet(f"{key}-read", first)
    Account.objects.filter(name=second).update(balance=F("balance") + 1)
    Effect.objects.create(key=key, note=first)


def meet(place: str, name: str) -> None:
    """Wait until two of different names have been at a place."""
    trail.leave(place, name=name)
    wait_until(
        lambda: len({line["name"] for line in trail.left(place)}) == 2, PATIENCE, "the other one"
    )


@task
def hold_the_gil(key: str, seconds: int) -> None:
    """Sit in C code, in the first run, that lets no other thread of the process run."""
    # Before the first write: on SQLite a helper that has written keeps every other writer out.
    trail.leave(key)
    runs = len(trail.left(key))
    if runs == 1:
        ctypes.PyDLL(None).sleep(seconds)
    Effect.objects.create(key=key, note=f"run {runs}")


@task
def run_out_of_memory(key: str) -> None:
    """Take effect and then want more memory than this process may have."""
    helpers.record(key)
    pages = int(open("/proc/self/statm").read().split()[0])  # noqa: PTH123, SIM115
    taken = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, resource.RLIM_INFINITY))
    hoard = []
    while True:
        hoard.append(bytearray(64 * 1024))


@task
def leave_the_process(key: str) -> None:
    """End the process in the first run, without a word to anybody; take effect in the next."""
    trail.leave(key)
    Effect.objects.create(key=key)
    if len(trail.left(key)) == 1:
        os._exit(3)


@task
def tell_the_time() -> float:
    """Return what this process takes for the time, in seconds since the epoch."""
    return time.time()


@task
def receive(key: str, value: Any) -> Any:
    """Return what arrived, and say what it looked like."""
    trail.leave(key, looks=repr(value), is_a=type(value).__name__)
    return value


@task
def produce(kind: str) -> Any:
    """Take effect and return what hardly fits a row, or not at all."""
    Effect.objects.create(key=f"f61 {kind}")
    return RESULTS[kind]()


def endless() -> list[Any]:
    """Return a list that holds itself."""
    loop: list[Any] = []
    loop.append(loop)
    return loop


#: What a helper may return that is no JSON of a moderate size, and how it is made.
RESULTS = {
    "an object": object,
    "a generator": lambda: (number for number in range(3)),
    "a lazy query": Effect.objects.all,
    "a set": lambda: {1, 2},
    "bytes": lambda: b"\x00\xff",
    "ten megabytes": lambda: "x" * 10_000_000,
    "NaN": lambda: float("nan"),
    "infinity": lambda: [float("-inf")],
    "a number of 5,000 digits": lambda: 10**5_000,
    "NUL": lambda: "a\0b",
    "a lone surrogate": lambda: {"text": "\ud800"},
    "a list that holds itself": endless,
    "a key that is no text": lambda: {1: 2},
}
