"""Whoever can write to the broker can cost a line in a log; never a worker, never a row.

Every message here is taken by one worker, whose process has to be the same at the end.
"""

from __future__ import annotations

import base64
import bz2
import json
import lzma
import zlib
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db.models import F

from tasks_app.models import Outcome
from tests.conformance.scenarios.hostile import (
    ABSENT,
    BESIDE_THE_DATABASE,
    CANARY,
    envelope,
)
from tests.installation import PATIENCE, in_state
from tests.project import app
from tests.servers.session import chosen_broker
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = BESIDE_THE_DATABASE

#: How often an old message comes again; the embedded broker is for fewer.
REPLAYS = 100 if chosen_broker() == "embedded" else 1000


def nested(depth: int) -> str:
    """Return the JSON of an honest body but for one deep argument."""
    return f'[["{CANARY}", {"[" * depth}{"]" * depth}], {{}}, {{}}]'


def args(*values) -> str:
    """Return a body with these arguments."""
    return json.dumps([[CANARY, *values], {}, {}])


def canvas(**parts) -> str:
    """Return a body with this around the call."""
    return json.dumps([[CANARY], {}, parts])


def tag(kind, value) -> str:
    """Return a body in which kombu finds a typed value."""
    return args({"__type__": kind, "__value__": value})


#: Parts other than an honest message's; each is refused before a row is looked at.
REFUSED = {
    "a body nested 150": {"body": nested(150)},
    "a body nested 500": {"body": nested(500)},
    "a body nested 950": {"body": nested(950)},
    "a body nested 5,000": {"body": nested(5_000)},
    "a body nested 50,000": {"body": nested(50_000)},
    "a mapping as body": {"body": json.dumps({"a": CANARY})},
    "a null as body": {"body": "null"},
    "a number as body": {"body": "1"},
    "a text as body": {"body": json.dumps(CANARY)},
    "a list of two as body": {"body": json.dumps([[CANARY], {}])},
    "a body that is no JSON": {"body": f"[[{CANARY}"},
    "a body that is no UTF-8": {"body": b'[["\xff\xfe' + CANARY.encode() + b'"], {}, {}]'},
    "a mapping as arguments": {"body": json.dumps([{"a": CANARY}, {}, {}])},
    "a list as keywords": {"body": json.dumps([[CANARY], [CANARY], {}])},
    "a number of 5,000 digits": {"body": f'[["{CANARY}", {"9" * 5_000}], {{}}, {{}}]'},
    "a typed value of no type": {"body": tag("no-such-type", CANARY)},
    "a typed value that is none": {"body": tag("datetime", CANARY)},
    "a typed number that is none": {"body": tag("uuid", {"hex": CANARY})},
    "a text as canvas": {"body": json.dumps([[CANARY], {}, CANARY])},
    "a text as callbacks": {"body": canvas(callbacks=CANARY)},
    "a callback that is none": {"body": canvas(callbacks=[{"task": {"x": CANARY}}])},
    "an errback that is none": {"body": canvas(errbacks=[CANARY])},
    "a chain that is none": {"body": canvas(chain={"a": CANARY})},
    "a chord that is none": {"body": canvas(chord=[CANARY])},
    "pickle": {"content_type": "application/x-python-serialize", "content_encoding": "binary"},
    "YAML": {"content_type": "application/x-yaml"},
    "msgpack": {"content_type": "application/x-msgpack", "content_encoding": "binary"},
    "plain bytes": {"content_type": "application/data", "content_encoding": "binary"},
    "an unknown encoding": {"content_encoding": "no-such-encoding"},
    "an unknown compression": {"headers": {"compression": "no-such"}},
    "a compressed body that is none": {"headers": {"compression": "zlib"}},
    "a mapping as compression": {"headers": {"compression": {"a": 1}}},
    "no headers": {"headers": {"task": ABSENT, "id": ABSENT}},
    "no task": {"headers": {"task": ABSENT}},
    "a mapping as task": {"headers": {"task": {"a": CANARY}}},
    "a task of two lines": {"headers": {"task": f"a\n{CANARY}"}},
    "no id": {"headers": {"id": ABSENT}},
    "a null as id": {"headers": {"id": None}},
    "a number as id": {"headers": {"id": 5}},
    "a mapping as id": {"headers": {"id": {"a": CANARY}}},
    "a list as id": {"headers": {"id": [CANARY]}},
    "an id of two lines": {"headers": {"id": f"1\n{CANARY}"}},
    "a very long id": {"headers": {"id": CANARY * 1000}},
    "texts as limits": {"headers": {"timelimit": [CANARY, CANARY]}},
    "one limit": {"headers": {"timelimit": [1]}},
    "a negative limit": {"headers": {"timelimit": [-1, None]}},
    "an eta that is none": {"headers": {"eta": CANARY}},
    "a mapping as eta": {"headers": {"eta": {"a": CANARY}}},
    "an expiry that is none": {"headers": {"expires": CANARY}},
    "a text as retries": {"headers": {"retries": CANARY}},
    "negative retries": {"headers": {"retries": -1}},
    "a mapping as root_id": {"headers": {"root_id": {"a": CANARY}}},
    "a list as parent_id": {"headers": {"parent_id": [CANARY]}},
    "a number as group": {"headers": {"group": 5}},
    "a text as group_index": {"headers": {"group_index": CANARY}},
    "a text as ignore_result": {"headers": {"ignore_result": CANARY}},
    "a mapping as shadow": {"headers": {"shadow": {"a": CANARY}}},
    "a shadow of two lines": {"headers": {"shadow": f"a\n{CANARY}"}},
    "texts as stamps": {"headers": {"stamped_headers": CANARY, "stamps": CANARY}},
    "a list as argsrepr": {"headers": {"argsrepr": [CANARY]}},
    "an unknown task": {"headers": {"task": "no.such.task"}},
    "celery.map": {
        "headers": {"task": "celery.map"},
        "body": json.dumps([[], {"task": tasks.record.s(), "it": [CANARY]}, {}]),
    },
    "celery.starmap": {
        "headers": {"task": "celery.starmap"},
        "body": json.dumps([[], {"task": tasks.record.s(), "it": [[CANARY]]}, {}]),
    },
    "celery.chunks": {
        "headers": {"task": "celery.chunks"},
        "body": json.dumps([[], {"task": tasks.record.s(), "it": [[CANARY]], "n": 1}, {}]),
    },
    "celery.group": {"headers": {"task": "celery.group"}},
    "celery.accumulate": {"headers": {"task": "celery.accumulate"}},
    "celery.backend_cleanup": {"headers": {"task": "celery.backend_cleanup"}},
    "celery.chord_unlock": {"headers": {"task": "celery.chord_unlock"}},
    "celery.map with another's seal": {
        "headers": {"task": "celery.map", "tasks_app_seal": "e30:1tNUZl:c2VhbA"},
    },
    "a callback of Celery's own": {
        "body": canvas(callbacks=[json.loads(json.dumps(tasks.record.map([CANARY])))]),
    },
}


@pytest.mark.parametrize("shape", REFUSED)
def test_a_message_of_another_shape_costs_one_line(shape, target):
    """It is dropped, counted and told once, without its contents; nothing runs."""
    before = target.lines()
    target.send(**REFUSED[shape])
    target.awaits_line(before)
    target.is_itself()
    assert target.lines() == before + 1
    assert not Outcome.objects.filter(args_json__contains=CANARY).exists()


#: 80 MiB of nothing, as few bytes; the limit is 64.
BOMBS = {
    "zlib": zlib.compress(bytes(80 * 2**20), 9),
    "bzip2": bz2.compress(bytes(80 * 2**20)),
    "lzma": lzma.compress(bytes(80 * 2**20), preset=0),
}


@pytest.mark.parametrize("compression", BOMBS)
def test_a_body_that_inflates_is_read_no_further_than_the_limit(compression, target):
    """The worker's memory is no measure of how far a small message unfolds."""
    before = target.lines()
    target.send(headers={"compression": compression}, body=BOMBS[compression])
    target.awaits_line(before)
    assert "it is malformed (the compressed body)" in target.last_line()
    target.is_itself()


@pytest.mark.parametrize("content_type", ["application/data", "application/json"])
def test_no_codec_inflates_a_body(content_type, target):
    """Python's codecs include compression, which is refused before a byte is read."""
    before = target.lines()
    target.send(content_type=content_type, content_encoding="zlib", body=BOMBS["zlib"])
    target.awaits_line(before)
    assert "it is malformed (the content" in target.last_line()
    target.is_itself()


#: What a broker's own store may hold where kombu expects its messages.
RAW = {
    "nothing": b"",
    "null": b"null",
    "a number": b"1",
    "a list": b"[1]",
    "no JSON": b"not json",
    "no UTF-8": b"\xff\xfe",
    "a number of 5,000 digits": b"9" * 5_000,
    "a deep list": b"[" * 100_000,
    "a typed value": b'{"__type__": "no-such-type", "__value__": 1}',
    "a mapping": b'{"body": 1}',
}


@pytest.mark.parametrize("shape", RAW)
def test_what_is_no_message_costs_one_line(shape, target):
    """Bytes that no client library would send are dropped, and the worker goes on."""
    before = target.lines()
    target.send_raw(RAW[shape])
    target.awaits_line(before)
    target.is_itself()
    assert target.lines() == before + 1


def properties(**parts):
    """Return an envelope's properties with some parts other than an honest one's."""
    return {"properties": {**envelope("any")["properties"], **parts}}


ENVELOPES = {
    "a text as headers": {"headers": CANARY},
    "a list as headers": {"headers": [CANARY]},
    "a null as headers": {"headers": None},
    "no properties": {"properties": None},
    "a text as properties": {"properties": CANARY},
    "no delivery tag": properties(delivery_tag=None),
    "a mapping as delivery tag": properties(delivery_tag={"a": CANARY}),
    "a list as delivery info": properties(delivery_info=[CANARY]),
    "a mapping as routing key": properties(delivery_info={"exchange": "", "routing_key": {}}),
    "an unknown body encoding": properties(body_encoding=CANARY),
    "a mapping as body encoding": properties(body_encoding={"a": CANARY}),
    "a text as priority": properties(priority=CANARY),
    "a mapping as reply_to": properties(reply_to={"a": CANARY}),
    "an empty body": {"body": ""},
    "a list as body": {"body": [CANARY]},
    "a body that is no base64": {"body": f"!{CANARY}"},
    "a deep header": {"headers": {"a": json.loads("[" * 400 + "]" * 400)}},
    "a mapping as content type": {"content-type": {"a": CANARY}},
    "a list as content encoding": {"content-encoding": [CANARY]},
    "no content type": {"content-type": None},
    "limits that are no numbers": {
        "headers": {**envelope("any")["headers"], "timelimit": [float("nan"), float("inf")]}
    },
}


@pytest.mark.skipif(chosen_broker() == "rabbitmq", reason="AMQP has an envelope of its own")
@pytest.mark.parametrize("shape", ENVELOPES)
def test_an_envelope_of_another_shape_costs_one_line(shape, target):
    """What kombu keeps about a message is checked as its contents are."""
    before = target.lines()
    target.send_raw(json.dumps(envelope(target.queue, **ENVELOPES[shape])).encode())
    target.awaits_line(before)
    target.is_itself()
    assert target.lines() == before + 1


#: Honest in shape: a row is written or looked for, and what comes of it is the message's affair.
TOLERATED = {
    "an id that is no UUID": {"headers": {"id": "../../etc/passwd"}},
    "an argument too many": {"body": args(*range(9))},
    "a decimal": {"body": tag("decimal", "1.5")},
    "bytes": {"body": tag("bytes", base64.b64encode(b"x").decode())},
    "a UUID": {"body": tag("uuid", {"hex": uuid4().hex})},
    "30 MB": {"body": json.dumps([["x" * 30_000_000], {}, {}])},
    "a root that is no UUID": {"headers": {"root_id": "root", "parent_id": "parent"}},
    "a callback that nobody knows": {"body": canvas(callbacks=[{"task": "no.such.task"}])},
    "an errback that cannot be sent": {
        "body": json.dumps(
            [[1], {}, {"errbacks": [{"task": "no.such.task", "options": {"countdown": "x"}}]}]
        ),
        "headers": {"task": tasks.discard.name},
    },
    "a group that does not exist": {"headers": {"group": "no-such-group", "group_index": 7}},
}


@pytest.mark.parametrize("shape", TOLERATED)
def test_a_hollow_message_leaves_the_worker_working(shape, target):
    """A child that cannot use it goes on as its main process does, and so does the rescuer."""
    body = TOLERATED[shape].get("body", args()).replace(CANARY, "hollow")
    target.send(**{**TOLERATED[shape], "body": body})
    target.works()


def test_an_errback_that_cannot_be_sent_does_not_keep_an_outcome_alive(key, target):
    """Its failure is written all the same; else it would be rescued for ever, before all others."""
    errback = {"task": tasks.record.name, "options": {"countdown": "soon"}}
    body = json.dumps([[key], {}, {"errbacks": [errback]}])
    sent = target.send(body=body, headers={"task": tasks.discard.name})
    wait_until(
        lambda: Outcome.objects.filter(pk=sent, state="failed").exists(),
        PATIENCE,
        lambda: f"the failure; {Outcome.objects.filter(pk=sent).values()}",
    )
    target.works()


def test_a_forged_canvas_runs_nothing(key, effects, target):
    """What follows an outcome stands in its row; what a doorbell brings is no part of it."""
    forged = [tasks.record.si(key, note) for note in ("callback", "chain")]
    outcome = tasks.record.using(queue=target.queue, run_after=3600).enqueue(key, "real")
    # Due, and not announced: the forged message is the one that finds it.
    Outcome.objects.filter(pk=outcome.pk).update(run_at=F("run_at") - timedelta(hours=2))
    app.send_task(
        tasks.record.name,
        task_id=str(outcome.pk),
        queue=target.queue,
        link=forged[0].set(queue=target.queue),
        chain=[forged[1].set(queue=target.queue)],
    )
    in_state(outcome, "succeeded")
    target.works()
    assert effects() == ["real"]
    assert not Outcome.objects.filter(parent_id=outcome.pk).exists()


def test_replays_of_a_doorbell_do_nothing(key, effects, target):
    """A thousand old messages for a final outcome are counted, and that is all."""
    outcome = tasks.record.using(queue=target.queue).enqueue(key)
    in_state(outcome, "succeeded")
    expected = target.lines() + REPLAYS
    with app.connection_for_write() as connection, connection.Producer() as producer:
        options = {"task_id": str(outcome.pk), "queue": target.queue, "producer": producer}
        for _ in range(REPLAYS):
            app.send_task(tasks.record.name, **options)
    wait_until(lambda: target.lines() >= expected, 3 * PATIENCE, "a line for each replay")
    target.works()
    assert target.lines() == expected
    assert effects() == [""]
    assert outcome.attempts.count() == 1


def test_the_projects_own_use_of_built_in_tasks_is_obeyed(key, effects, target):
    """`map`, `starmap` and `chunks` that a process of the project sends run as ever."""
    here = {"queue": target.queue}
    tasks.record.map([key]).apply_async(**here)
    tasks.record.chunks([[key, "chunks"]], 1).apply_async(**here)
    first = tasks.record.si(key, "first").set(**here)
    follower = tasks.record.starmap([[key, "starmap"]]).set(immutable=True, **here)
    (first | follower).apply_async()
    wait_until(lambda: len(effects()) == 4, PATIENCE, lambda: f"four effects; {effects()}")
    assert sorted(effects()) == ["", "chunks", "first", "starmap"]
    target.works()
