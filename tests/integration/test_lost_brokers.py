"""A worker whose broker goes away again and again: it lives on, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import gc
import os
import weakref
from contextlib import closing
from pathlib import Path

import pytest
from kombu import Connection, Consumer, Exchange, Queue
from kombu.asynchronous import Hub

from tasks_app.redis_transport import GONE
from tasks_app.worker_steps import TOLERANT_TRANSPORTS
from tests.processes import launch
from tests.servers import Redis

#: An app of one task, with a step that meets a broker which leaves at the wrong moment, once.
APP = """
import django
django.setup()
from celery import Celery, bootsteps
from kombu.exceptions import OperationalError
from tasks_app import filesystem
from tasks_app.worker_steps import prepare

class Unlucky(bootsteps.StartStopStep):
    requires = ("celery.worker.consumer.connection:Connection",)
    is_done = False

    def start(self, parent):
        if not self.is_done:
            self.is_done = True
            raise OperationalError("Connection closed by server.")

app = Celery("unlucky", broker=filesystem.url({folder!r}), set_as_current=False)
app.conf.update(task_ignore_result=True)
prepare(app)
app.steps["consumer"].add(Unlucky)
"""


def sockets_to(port: int) -> list[str]:
    """Return this process' connections to a port, by their state."""
    found = []
    mine = {str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        if int(words[2].rpartition(":")[2], 16) == port and f"socket:[{words[9]}]" in mine:
            found.append(words[3])
    return found


def listening(connection, name):
    """Return a channel that listens as a worker's gossip does: by a queue that is its own."""
    channel = connection.channel()
    queue = Queue(name, Exchange("news", type="fanout"), auto_delete=True)
    Consumer(channel, [queue], accept=["json"]).consume()
    with contextlib.suppress(TimeoutError):
        connection.drain_events(timeout=0.01)
    return channel


def test_no_socket_outlives_a_connection_whose_redis_is_gone(redis_server):
    """Channels that cannot tell Redis goodbye close their sockets, each of them."""
    with closing(Redis().start()) as redis:
        transport = TOLERANT_TRANSPORTS["redis"]
        connection = Connection(redis.url, transport=transport)
        channels = [listening(connection, name) for name in ("one", "two", "three")]
        port = redis.port
        assert len(sockets_to(port)) > len(channels)
        redis.kill()
        connection.collect(socket_timeout=1)
        assert sockets_to(port) == []
        for channel in channels:
            channel.close()


def test_nothing_keeps_a_channel_that_lost_its_redis(redis_server):
    """Whoever closes a connection and forgets it has its memory back."""
    with closing(Redis().start()) as redis:
        connection = Connection(redis.url, transport=TOLERANT_TRANSPORTS["redis"])
        channels = [weakref.ref(listening(connection, name)) for name in ("one", "two")]
        redis.kill()
        connection.collect(socket_timeout=1)
        connection.release()
        del connection
        gc.collect()
        assert [channel() for channel in channels] == [None, None]


def test_an_event_loop_forgets_a_connection_that_is_closed(redis_server):
    """A worker that has lost its broker a hundred times keeps the channels of one connection."""
    others = {print}
    with closing(Hub()) as hub, closing(Redis().start()) as redis:
        hub.on_tick |= others
        with Connection(redis.url, transport=TOLERANT_TRANSPORTS["redis"]) as connection:
            connection.connect()
            connection.transport.register_with_event_loop(connection.connection, hub)
            assert hub.on_tick > others
            redis.kill()
            connection.collect(socket_timeout=1)
        assert hub.on_tick == others


def test_a_channel_tells_that_it_could_not_say_goodbye(redis_server):
    """Whoever closes one channel alone hears of it, and its sockets are gone all the same."""
    with closing(Redis().start()) as redis:
        with Connection(redis.url, transport=TOLERANT_TRANSPORTS["redis"]) as connection:
            channel = listening(connection, "one")
            redis.kill()
            with pytest.raises(GONE):
                channel.close()
            assert channel.closed
        assert sockets_to(redis.port) == []


def test_a_broker_that_leaves_while_a_worker_starts_is_waited_for(tmp_path):
    """Kombu's own error counts as a lost connection wherever it is met."""
    (tmp_path / "unlucky.py").write_text(APP.format(folder=str(tmp_path / "broker")))
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", ""), str(Path.cwd())])
    command = ["celery", "-A", "unlucky", "worker", "--pool", "solo", "-l", "INFO"]
    with launch(tmp_path, "worker", command, {"PYTHONPATH": path}) as worker:
        worker.wait_for_output(" ready.")
        assert "Trying to re-establish the connection" in worker.output
