"""The embedded broker's worker outlives its children, whichever of them is killed and when."""

import os
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery
from kombu import Connection, Queue
from kombu.asynchronous import Hub

from tasks_app import filesystem
from tests.processes import ROOT, launch
from tests.waiting import wait_until

APP = """
from celery import Celery
from tasks_app import filesystem
app = Celery("killed", broker=filesystem.url({folder!r}), set_as_current=False)
app.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)
@app.task(name="touch")
def touch(path):
    open(path, "w").close()
"""

#: A pool whose child has told of its end, and which is then to serve a new connection.
POOL = """
import django
django.setup()
from celery.concurrency.asynpool import AsynPool
from kombu.asynchronous import Hub, set_event_loop
from tasks_app.worker_steps import watch_again
hub = Hub()
set_event_loop(hub)
pool = AsynPool(1, threads=False)
child = pool._pool[0]
pool._track_child_process(child, hub)
pool._untrack_child_process(child, hub)
watch_again(pool)
pool._track_child_process(child, hub)
print("watched", child._sentinel_poll in hub.readers, flush=True)
child.terminate()
"""

#: Seconds after which a fact that does not come true is a failure.
PATIENCE = 30


def children_of(pid):
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_connection_leaves_the_loop_that_it_joined(tmp_path):
    """Messages come with the turns of an event loop, and none is looked for after closing."""
    received = []
    with closing(Hub()) as hub, Connection(filesystem.url(tmp_path)) as connection:
        queue = Queue("q")
        connection.register_with_event_loop(hub)
        with connection.Consumer([queue], callbacks=[lambda body, message: received.append(body)]):
            connection.Producer().publish({"n": 1}, routing_key="q", declare=[queue])
            turns = hub.create_loop()
            wait_until(lambda: (next(turns), received)[1], PATIENCE, "the message")
        connection.close()
        assert received == [{"n": 1}]
        assert not hub.on_tick


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_whose_idle_children_are_killed_goes_on(tmp_path):
    """
    No child holds a lock that the others need.

    Killing both children in turn hits the one that waits for work, wherever that is.
    """
    (tmp_path / "killed_app.py").write_text(APP.format(folder=str(tmp_path / "broker")))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    worker = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "killed_app", "worker", "-c2", "-lERROR"],
        env=environment,
        cwd=tmp_path,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deliver_some(tmp_path, "first")  # Celery gives up when a child dies before it is ready
        for kill in range(6):
            children = wait_until(
                lambda: len(found := children_of(worker.pid)) == 2 and found,
                PATIENCE,
                "two children",
            )
            os.kill(children[kill % 2], signal.SIGKILL)
            wait_until(
                lambda dead=children[kill % 2]: dead not in children_of(worker.pid),
                PATIENCE,
                "the end of the killed child",
            )
            wait_until(lambda: len(children_of(worker.pid)) == 2, PATIENCE, "its successor")
            deliver_some(tmp_path, f"after kill {kill}")
        assert worker.poll() is None
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()


def test_a_reconnect_beside_an_ended_child_does_not_end_the_worker(tmp_path):
    """A child that has ended and is not buried yet is watched again, not stumbled over."""
    (tmp_path / "watching_pool.py").write_text(POOL)
    path = {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])}
    with launch(tmp_path, "pool", ["watching_pool"], path) as process:
        process.wait_for_output("watched ", PATIENCE)
        assert "watched True" in process.output


def deliver_some(folder, name):
    """Send three messages; one may go down with the child that it was given to, not all."""
    paths = [folder / f"{name}, {number}" for number in range(3)]
    with Connection(filesystem.url(folder / "broker")) as connection:
        sender = Celery("sender", broker=connection.as_uri(), set_as_current=False)
        for path in paths:
            sender.send_task("touch", [str(path)], connection=connection, ignore_result=True)
    wait_until(lambda: any(path.exists() for path in paths), PATIENCE, "one file of a task")
