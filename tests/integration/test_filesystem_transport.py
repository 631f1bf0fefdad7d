"""The embedded broker: whole messages, each taken once, and no file that stops anybody."""

from __future__ import annotations

import errno
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from kombu import Connection, Exchange, Queue
from kombu.asynchronous import Hub
from kombu.exceptions import ChannelError
from kombu.exceptions import ConnectionError as BrokerError

from tasks_app import filesystem, filesystem_wakeups
from tasks_app.filesystem import url
from tasks_app.filesystem_wakeups import WakeupPipe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
EVENTS = Exchange("events", type="fanout", durable=False)
SECONDS_TO_START = 30.0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Name a broker folder that does not exist yet, with a space in its name."""
    return tmp_path / "the broker"


@pytest.fixture
def connection(folder: Path) -> Iterator[Connection]:
    with Connection(url(folder)) as opened:
        yield opened


@pytest.fixture
def channel(connection: Connection) -> Any:
    return connection.channel()


def put(connection: Connection, queue: str, body: object, **options: Any) -> None:
    connection.Producer().publish(body, routing_key=queue, **options)


def take(channel: Any, queue: str) -> Any:
    message = channel.basic_get(queue, no_ack=True)
    return None if message is None else message.decode()


def take_all(channel: Any, queue: str) -> list[Any]:
    return list(iter(lambda: take(channel, queue), None))


def files(folder: Path, pattern: str = "*") -> list[str]:
    found = (path for path in folder.rglob(pattern) if path.is_file())
    return sorted(str(path.relative_to(folder)) for path in found)


def wait_until(fact: Callable[[], object], seconds: float = SECONDS_TO_START) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, "the fact did not come true in time"
        time.sleep(0.02)


@contextmanager
def python(*command: str, folder: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Run this Python on the test's own modules, and leave no process behind."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(HERE), *filter(None, sys.path)]),
        "EMBEDDED_FOLDER": str(folder),
    }
    with subprocess.Popen(
        [sys.executable, *command], env=environment, text=True, cwd=HERE, **options
    ) as process:
        try:
            yield process
            process.terminate()
            process.wait(2 * SECONDS_TO_START)
        finally:
            process.kill()


# One process


def test_the_url_alone_configures_it_and_folders_are_made(
    connection: Connection, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """No transport option, no prepared folder, no warning about a missing host."""
    with caplog.at_level(logging.WARNING):
        put(connection, "mail", {"hello": "wörld"})
        assert take(connection.channel(), "mail") == {"hello": "wörld"}
        assert connection.clone().as_uri().startswith("tasks-app://")
    assert folder.is_dir()
    assert not caplog.records


@pytest.mark.parametrize(
    "form", ["tasks-app://localhost/", "tasks-app://localhost//", "tasks-app://"]
)
def test_without_a_folder_in_the_url_it_is_below_the_current_one(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The root of the file system is never meant."""
    monkeypatch.chdir(tmp_path)
    with Connection(form) as opened:
        put(opened, "mail", 1)
        put(opened.clone(), "mail", 2)
    assert len(files(tmp_path / ".tasks_broker", "*.msg")) == 2
    assert not caplog.records


def test_messages_come_in_order_and_the_urgent_ones_first(
    connection: Connection, channel: Any
) -> None:
    """Higher priority first, as in the contract; else first in, first out."""
    for number in range(30):
        put(connection, "mail", number)
    put(connection, "mail", "urgent", priority=9)
    assert take_all(channel, "mail") == ["urgent", *range(30)]


def test_queues_whose_names_resemble_are_kept_apart(connection: Connection, channel: Any) -> None:
    """No dot, slash, space or case can make two queues one."""
    names = ["b", "a.b", "a", "a.", ".", "..", "../b", "a/b", "a b", "a%20b", "ü", "*", "b.msg"]
    for name in names:
        put(connection, name, name)
    assert {name: take_all(channel, name) for name in names} == {name: [name] for name in names}


def test_size_and_purge_agree_with_what_can_be_taken(connection: Connection, channel: Any) -> None:
    """The relay decides by the size how much to announce."""
    for number in range(3):
        put(connection, "mail", number)
    put(connection, "other", 0)
    assert channel.queue_declare("mail", passive=True).message_count == 3
    assert take(channel, "mail") == 0
    assert channel.queue_purge("mail") == 2
    assert channel.queue_declare("mail", passive=True).message_count == 0
    assert take(channel, "mail") is None
    assert take(channel, "other") == 0


def test_a_message_taken_and_not_acknowledged_comes_back_on_close(
    connection: Connection, channel: Any
) -> None:
    """A worker that stops in order gives back what it had prefetched."""
    put(connection, "mail", "again")
    assert channel.basic_get("mail", no_ack=False).decode() == "again"
    assert take(connection.channel(), "mail") is None
    channel.close()
    assert take(connection.channel(), "mail") == "again"


def test_direct_topic_and_fanout_exchanges_route(connection: Connection, channel: Any) -> None:
    """Celery's queues, events and remote control use one each."""
    direct, topic = Exchange("direct"), Exchange("topic", type="topic")
    for queue in (
        Queue("d", direct, routing_key="key"),
        Queue("t", topic, routing_key="worker.#"),
        Queue("f1", EVENTS),
        Queue("f2", EVENTS),
    ):
        queue(channel).declare()
    with Connection(connection.as_uri(include_password=True)) as publisher:
        producer = publisher.Producer()
        for exchange, key in ((direct, "key"), (topic, "worker.online"), (EVENTS, "")):
            for routing_key in (key, "nobody.listens"):
                producer.publish(
                    exchange.name, exchange=exchange, routing_key=routing_key, declare=[exchange]
                )
    taken = {name: len(take_all(channel, name)) for name in ("d", "t", "f1", "f2")}
    assert taken == {"d": 1, "t": 1, "f1": 2, "f2": 2}


# Waking


def rung(hub: Hub) -> bool:
    """Tell whether a loop that waits would turn now."""
    return bool(select.select(list(hub.readers), [], [], 0)[0])


@pytest.fixture
def hub() -> Iterator[Hub]:
    """Make a worker's loop."""
    made = Hub()
    yield made
    made.close()


def test_a_message_turns_the_loop_of_a_worker_at_once(
    connection: Connection, folder: Path, hub: Hub
) -> None:
    """It need not wait for the next look, which comes in an hour here."""
    taken: list[object] = []
    with Connection(url(folder), transport_options={"polling_interval": 3600}) as worker:
        worker.register_with_event_loop(hub)
        consumer = worker.Consumer(
            [Queue("mail")], callbacks=[lambda body, message: taken.append(body)], no_ack=True
        )
        with consumer:
            for number in range(3):
                assert not rung(hub)
                put(connection, "mail", number)
                put(connection, "mail", number)
                assert rung(hub)
                hub.run_once()
        assert list((folder / "wakeups").iterdir()) != []
    assert taken == [0, 0, 1, 1, 2, 2]
    assert list((folder / "wakeups").iterdir()) == []


def test_the_loop_turns_once_more_after_messages_were_found(
    connection: Connection, folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What hands them to the pool's processes may have had its turn before the look."""
    events: list[object] = []
    poll = hub.poller.poll

    def at_once(_seconds: float) -> object:
        events.append(poll(0))
        return events[-1]

    monkeypatch.setattr(hub.poller, "poll", at_once)
    put(connection, "mail", "news")
    with Connection(url(folder)) as worker:
        worker.register_with_event_loop(hub)
        with worker.Consumer([Queue("mail")], callbacks=[lambda *_: None], no_ack=True):
            hub.run_once()
            hub.run_once()
    assert [bool(each) for each in events] == [True, False]


def test_a_full_pipe_holds_nobody_up(folder: Path) -> None:
    """A paused worker's pipe is full some day."""
    folder.mkdir()
    listening = WakeupPipe(folder / "wakeups", folder)
    (pipe,) = (folder / "wakeups").iterdir()
    filler = os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
    with suppress(BlockingIOError):
        while True:
            os.write(filler, b"!" * 4096)
    os.close(filler)
    filesystem_wakeups.wake(folder / "wakeups")
    assert select.select([listening], [], [], 0)[0]
    listening.close()


SLEEPER = """
import os, time
from pathlib import Path
from tasks_app.filesystem_wakeups import WakeupPipe
folder = Path(os.environ["EMBEDDED_FOLDER"])
listening = WakeupPipe(folder / "wakeups", folder)
print("listening", flush=True)
time.sleep(600)
"""


def test_the_pipe_of_a_killed_worker_is_removed_by_whoever_wakes(tmp_path: Path) -> None:
    """Else publishers would have ever more to ring."""
    with python("-c", SLEEPER, folder=tmp_path, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        filesystem_wakeups.wake(tmp_path / "wakeups")
        assert len(list((tmp_path / "wakeups").iterdir())) == 1
        process.send_signal(signal.SIGKILL)
        process.wait()
    filesystem_wakeups.wake(tmp_path / "wakeups")
    assert list((tmp_path / "wakeups").iterdir()) == []


def test_a_folder_without_pipes_is_looked_at_every_now_and_then(
    connection: Connection, folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some file systems know none; what else the loop does turns it too."""
    monkeypatch.setattr(os, "mkfifo", refuse)
    taken: list[object] = []
    with Connection(url(folder)) as worker:
        worker.register_with_event_loop(hub)
        queue = Queue("mail")
        with worker.Consumer([queue], callbacks=[lambda body, _: taken.append(body)], no_ack=True):
            put(connection, "mail", "news")
            hub.run_once()
    assert taken == ["news"]


def refuse(*_: object) -> None:
    raise OSError(errno.EOPNOTSUPP, "no pipes here")


# Bad files

WHOLE: dict[str, Any] = {
    "body": "InRha2UgbWUi",
    "content-type": "application/json",
    "content-encoding": "utf-8",
    "headers": {},
    "properties": {"delivery_tag": "1", "delivery_info": {}, "body_encoding": "base64"},
}


def variant(**changes: Any) -> bytes:
    return json.dumps(WHOLE | changes).encode()


def variant_properties(**changes: Any) -> bytes:
    return variant(properties=WHOLE["properties"] | changes)


GARBAGE = {
    "empty": b"",
    "half-written": variant()[:40],
    "not text": b"\xff\xfe\x00",
    "not JSON": b"hello",
    "null": b"null",
    "a number": b"7",
    "a text": b'"hello"',
    "a list": b"[]",
    "an empty object": b"{}",
    "deeply nested": b"[" * 100_000,
    "a huge integer": b"9" * 10_000,
    "an unknown type": b'{"__type__": "spell", "__value__": 1}',
    "no body": variant(body=None),
    "body is a table": variant(body={}),
    "body is empty": variant(body=""),
    "body decodes to nothing": variant(body="?"),
    "body is not base64": variant(body="A"),
    "unknown body encoding": variant_properties(body_encoding="rot13"),
    "headers are a text": variant(headers="task"),
    "headers are a list": variant(headers=[1]),
    "no content type": variant(**{"content-type": None}),
    "content type is a list": variant(**{"content-type": []}),
    "properties are a list": variant(properties=[]),
    "delivery tag is a list": variant_properties(delivery_tag=[]),
    "delivery info is a text": variant_properties(delivery_info="celery"),
}


@pytest.mark.parametrize("content", GARBAGE.values(), ids=GARBAGE)
def test_a_file_that_is_no_message_is_quarantined_once_with_one_warning(
    content: bytes,
    connection: Connection,
    channel: Any,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whoever wrote it, it stops nobody; it is kept for whoever wants to know."""
    put(connection, "mail", "good")
    (folder / "queues" / "mail.queue" / "0-garbage.msg").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        assert take_all(channel, "mail") == ["good"]
    (kept,) = files(folder / "quarantine")
    assert (folder / "quarantine" / kept).read_bytes() == content
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "0-garbage.msg" in record.getMessage()
    assert kept in record.getMessage()


def test_the_whole_message_that_the_garbage_derives_from_is_taken(
    channel: Any, folder: Path
) -> None:
    """Else the table above would prove nothing."""
    channel.queue_declare("mail")
    (folder / "queues" / "mail.queue" / "0-whole.msg").write_bytes(variant())
    assert take(channel, "mail") == "take me"


def test_a_folder_in_a_messages_place_is_quarantined(
    connection: Connection, channel: Any, folder: Path
) -> None:
    """Not even that is read twice."""
    put(connection, "mail", "good")
    (folder / "queues" / "mail.queue" / "0.msg").mkdir()
    assert take_all(channel, "mail") == ["good"]
    assert len(list((folder / "quarantine").iterdir())) == 1


def test_a_damaged_binding_is_quarantined(
    connection: Connection, channel: Any, folder: Path
) -> None:
    """The exchange goes on with its other bindings."""
    Queue("f", EVENTS)(channel).declare()
    for number, content in enumerate([b"", b"{", b"[1]", b"7"]):
        (folder / "exchanges" / "events.exchange" / f"{number}.json").write_bytes(content)
    put(connection, "", "news", exchange=EVENTS)
    assert take_all(channel, "f") == ["news"]
    assert len(files(folder / "quarantine")) == 4


def test_the_folder_may_vanish_while_in_use(
    connection: Connection, channel: Any, folder: Path
) -> None:
    """Somebody tidies up; the next message makes the folder again."""
    put(connection, "mail", "lost")
    folder.rename(folder.with_name("elsewhere"))
    assert take(channel, "mail") is None
    put(connection, "mail", "found")
    assert take_all(channel, "mail") == ["found"]


def test_an_unusable_folder_is_a_connection_error(tmp_path: Path) -> None:
    """Celery then retries the connection as it does with any broker."""
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match="Cannot use the broker folder"):
        Connection(url(tmp_path / "file")).transport.establish_connection()


def test_what_killed_processes_left_half_done_is_cleared_on_connect(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But never what is being written this minute."""
    (folder / "tmp").mkdir(parents=True)
    (folder / "tmp" / "left").touch()
    Connection(url(folder)).connect()
    assert files(folder) == ["tmp/left"]
    monkeypatch.setattr(filesystem, "_STALE_SECONDS", -1.0)
    Connection(url(folder)).connect()
    assert files(folder) == []


def test_a_full_disk_is_a_channel_error_and_leaves_nothing_behind(
    folder: Path, channel: Any
) -> None:
    """No empty message for a worker to find, no temporary file."""
    script = """
import os, resource
from kombu import Connection
from kombu.exceptions import ChannelError
from pathlib import Path
from tasks_app.filesystem import url
with Connection(url(Path(os.environ["EMBEDDED_FOLDER"]) / "the broker")) as connection:
    connection.connect()
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
    try:
        connection.Producer().publish("x" * 1000, routing_key="mail")
    except ChannelError as error:
        print(error)
"""
    with python("-c", script, folder=folder.parent, stdout=subprocess.PIPE) as process:
        assert process.communicate()[0].startswith("Cannot write to queue 'mail': ")
    assert files(folder) == []
    assert take(channel, "mail") is None


def test_a_queue_name_too_long_for_a_file_is_a_channel_error(
    connection: Connection, channel: Any
) -> None:
    """An error that publishers and consumers already know."""
    with pytest.raises(ChannelError):
        put(connection, "x" * 300, 1)
    with pytest.raises(ChannelError):
        channel.queue_declare("x" * 300)


# Several processes

PUBLISHER = """
import os, sys
from kombu import Connection
from pathlib import Path
from tasks_app.filesystem import url
name = sys.argv[1]
with Connection(url(Path(os.environ["EMBEDDED_FOLDER"]) / "the broker")) as connection:
    producer = connection.Producer()
    for number in range(100):
        producer.publish([name, number, "x" * 50_000], routing_key="mail")
"""

CONSUMER = """
import os
from kombu import Connection
from pathlib import Path
from tasks_app.filesystem import url
with Connection(url(Path(os.environ["EMBEDDED_FOLDER"]) / "the broker")) as connection:
    channel = connection.channel()
    while True:
        message = channel.basic_get("mail", no_ack=True)
        if message:
            name, number, padding = message.decode()
            if name == "stop":
                break
            assert len(padding) == 50_000
            print(name, number, flush=True)
"""


def test_many_publishers_and_consumers_share_each_message_once(
    connection: Connection, folder: Path
) -> None:
    """No message is read in part, read twice, or lost while nobody is killed."""
    with ExitStack() as running:

        def start(*command: str, **options: Any) -> subprocess.Popen[str]:
            return running.enter_context(python("-c", *command, folder=folder.parent, **options))

        consumers = [start(CONSUMER, stdout=subprocess.PIPE) for _ in range(3)]
        publishers = [start(PUBLISHER, name) for name in "ab"]
        assert [process.wait(SECONDS_TO_START) for process in publishers] == [0, 0]
        for _ in consumers:
            put(connection, "mail", ["stop", 0, ""])
        lines = [line for process in consumers for line in process.communicate()[0].splitlines()]
        assert [process.returncode for process in consumers] == [0, 0, 0]
    expected = Counter(f"{name} {number}" for name in "ab" for number in range(100))
    assert Counter(lines) == expected
    assert files(folder) == []


LISTENER = """
import os, time
from kombu import Connection, Exchange, Queue
from pathlib import Path
from tasks_app.filesystem import url
connection = Connection(url(Path(os.environ["EMBEDDED_FOLDER"]) / "the broker"))
events = Exchange("events", type="fanout", durable=False)
Queue("listener", events, durable=False, auto_delete=True)(connection.channel()).declare()
print("listening", flush=True)
time.sleep(600)
"""


def test_an_auto_delete_queue_dies_with_its_process_even_by_kill_9(
    connection: Connection, channel: Any, folder: Path
) -> None:
    """Else each killed monitor would be sent every event for ever."""
    Queue("durable", EVENTS)(channel).declare()
    with python("-c", LISTENER, folder=folder.parent, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        put(connection, "", "one", exchange=EVENTS)
        assert len(files(folder, "*.msg")) == 2
        process.send_signal(signal.SIGKILL)
        process.wait()
    put(connection, "", "two", exchange=EVENTS)
    assert take_all(channel, "durable") == ["one", "two"]
    assert not (folder / "queues" / "listener.queue").exists()
    assert len(files(folder, "*.json")) == 1


def test_an_auto_delete_queue_can_be_declared_again_after_its_death(
    connection: Connection, folder: Path
) -> None:
    """A restarted worker has the same control queue as the killed one."""
    queue = Queue("control", EVENTS, durable=False, auto_delete=True)
    for _ in range(3):
        with Connection(url(folder)) as listener:
            channel = listener.channel()
            queue(channel).declare()
            put(connection, "", "news", exchange=EVENTS)
            assert take_all(channel, "control") == ["news"]
    put(connection, "", "nobody listens", exchange=EVENTS)
    assert files(folder) == []


def test_a_deleted_queue_leaves_no_file(connection: Connection, folder: Path) -> None:
    """Neither messages nor bindings nor the lock."""
    channel = connection.channel()
    bound = Queue("control", EVENTS, durable=False, auto_delete=True)(channel)
    bound.declare()
    put(connection, "", "news", exchange=EVENTS)
    bound.delete()
    assert files(folder) == []


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_lives_through_garbage_and_answers_remote_control(
    pool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real Celery worker: tasks run, inspect answers, bad files stop nothing."""
    monkeypatch.setenv("EMBEDDED_FOLDER", str(tmp_path))
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.delitem(sys.modules, "embedded_app", raising=False)
    from embedded_app import app, touch  # noqa: PLC0415 - needs the folder in its environment

    queue = tmp_path / "broker" / "queues" / "celery.queue"
    queue.mkdir(parents=True)
    for number, content in enumerate(GARBAGE.values()):
        (queue / f"0-{number}.msg").write_bytes(content)
    log = (tmp_path / "log").open("w+")
    options = ("--pool", pool, "--concurrency", "1", "--loglevel", "INFO")
    command = ("-m", "celery", "-A", "embedded_app", "worker", *options)
    with log, python(*command, folder=tmp_path, stdout=log, stderr=log) as worker:
        touch.delay("before")
        wait_until((tmp_path / "before").exists)
        for content in GARBAGE.values():
            (queue / "0.msg").write_bytes(content)
            wait_until(lambda: not (queue / "0.msg").exists())
        for _ in range(2):  # the second request reuses the reply queue of the first
            assert app.control.ping(timeout=5, limit=1)
        touch.delay("after")
        wait_until((tmp_path / "after").exists)
        assert worker.poll() is None
        app.close()
    said = (tmp_path / "log").read_text()
    assert "No hostname was supplied" not in said
    assert "Traceback" not in said
    assert said.count("unreadable message") == 2 * len(GARBAGE)
    assert len(files(tmp_path / "broker" / "quarantine")) == 2 * len(GARBAGE)
