"""Whoever can write to the broker cannot command a worker; a process of the project can."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from uuid import uuid4

import pytest
from kombu import Consumer, Exchange, Queue, pools
from kombu.pidbox import Mailbox

from tests.conformance.scenarios.hostile import CANARY
from tests.installation import PATIENCE, SETTINGS
from tests.processes import launch, start_worker
from tests.project import app
from tests.servers.session import chosen_broker, chosen_database, session
from tests.testapp import tasks
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(
    chosen_database() != "sqlite", reason="the database has no part in it"
)

#: Celery's name for the exchange of events.
EVENTS = Exchange("celeryev", type="fanout" if chosen_broker() == "redis" else "topic")


@pytest.fixture
def node(target):
    """The name by which the worker is commanded, over connections of now."""
    # The pool's may date from before a restart of the broker, by another scenario.
    pools.reset()
    app._after_fork()
    return f"{target.queue}@{socket.gethostname()}"


def forge(command, arguments=None, **options):
    """Send a command as anybody can who has kombu and the broker's address."""
    with app.connection_for_write() as connection:
        mailbox = Mailbox("celery", type="fanout", accept=["json"], serializer="json")
        return mailbox(connection)._broadcast(command, arguments, **options)


def publish(body, *, exchange=None, **options):
    """Send bytes to where commands, or events, are listened for."""
    options = {"content_type": "application/json", "content_encoding": "utf-8", **options}
    exchange = exchange or app.control.mailbox.exchange
    with app.connection_for_write() as connection, connection.Producer() as producer:
        producer.publish(body, exchange=exchange, serializer=None, declare=[exchange], **options)


#: Commands that change a worker or tell what is nobody's business.
CLOSED = {
    "shutdown": {},
    "pool_grow": {"n": 1},
    "pool_shrink": {"n": 1},
    "pool_restart": {"reload": True},
    "autoscale": {"max": 1, "min": 1},
    "add_consumer": {"queue": CANARY},
    "cancel_consumer": {"queue": CANARY},
    "rate_limit": {"task_name": tasks.add.name, "rate_limit": "1/h"},
    "time_limit": {"task_name": tasks.add.name, "hard": 1},
    "revoke": {"task_id": CANARY, "terminate": True, "signal": "KILL"},
    "revoke_by_stamped_headers": {"headers": {"a": CANARY}},
    "terminate": {"task_id": CANARY, "signal": "KILL"},
    "disable_events": {},
    "election": {"id": CANARY, "topic": "task", "action": {"task": tasks.add.name}},
    "hello": {"from_node": "a@b", "revoked": {CANARY: 1}},
    "conf": {},
    "report": {},
    "memdump": {},
    "objgraph": {},
}


@pytest.mark.parametrize("command", CLOSED)
def test_a_forged_command_is_refused_with_one_line(command, target):
    """It has no effect, is counted and told by its name; its arguments are in no log."""
    before = target.lines()
    forge(command, CLOSED[command])
    target.awaits_line(before)
    target.is_itself()
    assert f"the remote control command {command} is refused: it is not signed" in (
        target.process.output
    )
    assert target.lines() == before + 1


def test_who_waits_for_an_answer_is_told_why(target, node):
    """A colleague whose process lacks the key learns what is wrong."""
    (answer,) = forge("conf", destination=[node], reply=True, timeout=PATIENCE)
    assert "it is not signed" in answer[node]["error"]
    target.is_itself()


@pytest.mark.parametrize(
    "command", ["ping", "stats", "active", "registered", "active_queues", "scheduled", "reserved"]
)
def test_who_only_looks_needs_no_key(command, target, node):
    """Monitors that know nothing of the project see its workers."""
    (answer,) = forge(command, destination=[node], reply=True, timeout=PATIENCE)
    assert "refused" not in str(answer[node])
    target.is_itself()


@pytest.mark.parametrize(
    "options",
    [
        {"arguments": {"taskinfoitems": ["app"]}, "command": "registered"},
        {"pattern": "(a+)+$", "matcher": "pcre", "command": "ping"},
    ],
    ids=["attributes of tasks", "an endless pattern"],
)
def test_a_look_that_would_do_more_needs_the_key(options, target):
    """What is open is open with harmless arguments only."""
    before = target.lines()
    forge(**options)
    target.awaits_line(before)
    assert target.lines() == before + 1
    target.is_itself()


PING = {"method": "ping", "arguments": {}, "destination": None}

MALFORMED = {
    "nothing": "",
    "null": "null",
    "a list": json.dumps([CANARY]),
    "a text": json.dumps(CANARY),
    "no JSON": f"{{{CANARY}",
    "a deep command": "[" * 950 + "]" * 950,
    "a very deep command": "[" * 50_000,
    "no method": json.dumps({"arguments": {"a": CANARY}}),
    "a mapping as method": json.dumps({"method": {"a": CANARY}}),
    "a method of two lines": json.dumps({"method": f"ping\n{CANARY}"}),
    "a text as arguments": json.dumps({**PING, "arguments": CANARY}),
    "deep arguments": json.dumps(PING).replace("{}", f'{{"x": {"[" * 400}{"]" * 400}}}'),
    "a text as destination": json.dumps({**PING, "destination": CANARY}),
    "a mapping as pattern": json.dumps({**PING, "pattern": {"a": CANARY}, "matcher": "glob"}),
    "a text as reply_to": json.dumps({**PING, "reply_to": CANARY}),
    "an answer to elsewhere": json.dumps(
        {**PING, "reply_to": {"exchange": "celery", "routing_key": CANARY}}
    ),
    "a list as ticket": json.dumps({**PING, "ticket": [CANARY]}),
    "a number of 5,000 digits": "9" * 5_000,
    "an unknown command": json.dumps({"method": "no_such_command"}),
    "a seal that is none": json.dumps({**PING, "tasks_app_seal": {"a": CANARY}}),
    "somebody's seal": json.dumps({**PING, "tasks_app_seal": f"e30:1tNUZl:{CANARY}"}),
}


@pytest.mark.parametrize("shape", MALFORMED)
def test_a_malformed_command_costs_one_line(shape, target):
    """It is dropped, counted and told once, and the next command is heard."""
    before = target.lines()
    publish(MALFORMED[shape].encode())
    target.awaits_line(before)
    target.is_itself()
    assert target.lines() == before + 1


@pytest.mark.parametrize(
    "options",
    [
        {"headers": {"clock": "9"}},
        {"headers": {"clock": -1}},
        {"content_type": "application/x-python-serialize"},
        {"content_type": "application/data", "content_encoding": "zlib"},
        {"headers": {"compression": "zlib"}},
    ],
    ids=repr,
)
def test_a_command_with_a_false_envelope_costs_one_line(options, target):
    """What says how to read a command is believed no more than the command."""
    before = target.lines()
    publish(json.dumps(PING).encode(), **options)
    target.awaits_line(before)
    target.is_itself()
    assert target.lines() == before + 1


@pytest.mark.skipif(chosen_broker() != "redis", reason="only Redis publishes bytes")
@pytest.mark.parametrize(
    "raw", [b"1", b"null", b"[1]", b"{", b"\xff", b"[" * 50_000, b'{"body": 1}'], ids=range(7)
)
@pytest.mark.parametrize("name", ["celery.pidbox", "celeryev/worker.heartbeat"])
def test_what_redis_publishes_to_a_worker_may_be_anything(raw, name, target):
    """Bytes that kombu did not write end no worker, and are in no log."""
    before = target.lines()
    with session.server("redis").client() as client:
        assert client.publish(f"/0.{name}", raw)
    target.awaits_line(before)
    target.is_itself()


EVENT = {"type": "worker-heartbeat", "hostname": "a@b", "clock": 1, "timestamp": 1.0, "pid": 1}


@pytest.mark.skipif(chosen_broker() == "embedded", reason="its workers do not gossip")
@pytest.mark.parametrize(
    "event",
    [
        [EVENT],
        {},
        {**EVENT, "clock": 10**4000},
        {**EVENT, "clock": "x"},
        {**EVENT, "hostname": {"a": CANARY}},
        {**EVENT, "type": None},
        {**EVENT, "timestamp": "now"},
        {**EVENT, "freq": {"a": CANARY}},
        {"type": "worker-elect", "id": "1"},
    ],
    ids=range(9),
)
def test_a_malformed_event_costs_one_line(event, target):
    """Workers listen to each other's events; a false one neither ends nor deafens them."""
    before = target.lines()
    publish(json.dumps(event).encode(), exchange=EVENTS, routing_key="worker.heartbeat")
    target.awaits_line(before)
    target.is_itself()


def test_the_projects_own_commands_are_obeyed(target, node):
    """`app.control` and `app.control.inspect` work as they always have."""
    (answer,) = app.control.pool_grow(1, destination=[node], reply=True, timeout=PATIENCE)
    refused = {"pool_grow": target.process.output.count("command pool_grow is refused: it is not")}
    assert "refused" not in str(answer), refused
    assert app.control.inspect([node], timeout=PATIENCE).conf()[node]
    target.is_itself()


def test_a_recorded_command_works_once(target, node):
    """A signed command that somebody has listened to is refused when it comes again, or altered."""
    recorded = overhear(lambda: app.control.heartbeat(destination=[node]))
    for replay, why in [
        (recorded, "it was received before"),
        (recorded.replace(b"heartbeat", b"shutdown"), "its signature is another message's"),
    ]:
        before = target.lines()
        publish(replay)
        target.awaits_line(before)
        target.is_itself()
        assert why in target.last_line()


def overhear(send):
    """Return the bytes of a command that is sent meanwhile, as everybody there hears them."""
    heard = []
    queue = Queue(uuid4().hex, app.control.mailbox.exchange, auto_delete=True, durable=False)
    with app.connection_for_read() as connection:
        consumer = Consumer(connection, [queue], no_ack=True, accept=["json"])
        consumer.on_message = lambda message: heard.append(message.body)
        with consumer:
            # Redis is asked for what it publishes when somebody first waits for it.
            with suppress(TimeoutError):
                connection.drain_events(timeout=0.5)
            send()
            while not heard:
                connection.drain_events(timeout=PATIENCE)
    body = heard[0]
    return body if isinstance(body, bytes) else body.encode()


def test_the_command_line_ends_a_worker(installation, tmp_path):
    """`celery control shutdown` in the project's environment is obeyed, in any order of imports."""
    name = f"ended-{uuid4().hex}"
    with installation.start_worker(name, queues=[name]) as process:
        destination = f"{name}@{socket.gethostname()}"
        words = ("celery", "-A", "tests.project", "control", "-d", destination, "shutdown")
        with launch(tmp_path, f"control-{name}", words, None) as command:
            command.process.wait(PATIENCE)
        wait_until(lambda: not process.running, PATIENCE, process.tail)
        assert process.process.returncode == 0, process.tail()


def test_a_site_may_take_unsigned_commands(tmp_path):
    """`UNSIGNED_CONTROL` is for sites whose commands come from elsewhere."""
    name = f"open-{uuid4().hex}"
    environment = {"TASKS_TEST_SETTINGS": json.dumps({**SETTINGS, "UNSIGNED_CONTROL": True})}
    with start_worker(tmp_path, name=name, queues=[name], environment=environment) as process:
        forge("shutdown", destination=[f"{name}@{socket.gethostname()}"])
        wait_until(lambda: not process.running, PATIENCE, process.tail)
        assert process.process.returncode == 0, process.tail()
