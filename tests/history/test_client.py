"""A client's log tells what it asked for and what it knows about the answer."""

from __future__ import annotations

import os
import subprocess
import sys
from uuid import uuid4

import pytest
from django.db import OperationalError

from tasks_app.exceptions import IdempotencyConflict
from tests.history import client
from tests.history.client import FAIL, INFO, NEVER, OK, ClientLog

SUICIDE = """
import os, signal, sys
from pathlib import Path
from tests.history.client import ClientLog
log = ClientLog(Path(sys.argv[1]))
with log.invoked("enqueue", key="k"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path):
    """The file of a log."""
    return tmp_path / "client.jsonl"


def test_a_call_tells_what_was_asked_and_answered(path):
    """Key and arguments, the outcome's id, and who did it between which times."""
    log, outcome_id = ClientLog(path), uuid4()
    with log.invoked("enqueue", key="k", arguments=[1]) as call:
        call.ok(outcome_id=outcome_id, created=True)
    with log.invoked("read", outcome_id=outcome_id) as call:
        call.ok(state="pending")
    enqueue, read = client.read([path])
    assert (enqueue.op, enqueue.key, enqueue.arguments) == ("enqueue", "k", [1])
    assert (enqueue.end, enqueue.outcome_id, enqueue.told) == (OK, outcome_id, {"created": True})
    assert (read.end, read.outcome_id, read.told) == (OK, outcome_id, {"state": "pending"})
    assert enqueue.process.split("/")[0] == str(os.getpid())
    assert enqueue.began <= enqueue.ended <= read.began <= read.ended


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (IdempotencyConflict("taken"), FAIL),
        (TypeError("does not fit"), FAIL),
        (OperationalError("gone away"), INFO),
        (TimeoutError("no answer"), INFO),
        (KeyboardInterrupt(), INFO),
    ],
    ids=repr,
)
def test_only_a_refusal_says_that_nothing_happened(path, error, end):
    """An answer that was lost leaves open whether the call was heard."""
    with pytest.raises(type(error)), ClientLog(path).invoked("enqueue"):
        raise error
    (call,) = client.read([path])
    assert call.end == end
    assert (call.ended == NEVER) == (end == INFO)
    assert type(error).__name__ in call.told["error"]


def test_a_client_that_was_killed_leaves_its_question(path):
    """What it asked for may have happened, or not."""
    subprocess.run([sys.executable, "-c", SUICIDE, path], check=False)
    (call,) = client.read([path])
    assert (call.op, call.key, call.end, call.ended) == ("enqueue", "k", INFO, NEVER)


def test_a_line_that_was_cut_off_spoils_no_other_one(path):
    """The next process goes on in the same file."""
    with ClientLog(path).invoked("first"):
        pass
    path.write_text(path.read_text()[:-10])
    with ClientLog(path).invoked("second"):
        pass
    assert [(call.op, call.end) for call in client.read([path])] == [
        ("first", INFO),
        ("second", OK),
    ]
