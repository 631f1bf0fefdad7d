"""The processes of the harness: a real worker starts, is ready, pauses, and goes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.children import Child, alive
from tests.processes import start_worker
from tests.servers import Redis
from tests.waiting import wait_until


@pytest.mark.parametrize("pool", ["prefork", "threads", "solo"])
def test_a_worker_is_ready_and_ends_on_request(
    pool: str, tmp_path: Path, redis_server: Redis
) -> None:
    """A worker of each pool starts, says so, and leaves no process when asked to end."""
    environment = {
        "TASKS_TEST_BROKER": "redis",
        "TASKS_TEST_BROKER_URL": redis_server.url,
    }
    with start_worker(tmp_path, pool=pool, environment=environment) as worker:
        family = worker.family()
        assert worker.terminate() == 0
    assert worker.left_behind == []
    assert not any(map(alive, family))
    assert "ready." in worker.output


def test_a_killed_child_leaves_none_of_its_own(tmp_path: Path) -> None:
    """A kill takes the whole family, also below a shell."""
    child = Child("family", ["sh", "-c", "sleep 100 & sleep 100"], log=tmp_path / "log")
    wait_until(lambda: len(child.family()) == 3, 10, "both grandchildren")
    family = child.family()
    child.kill()
    assert not any(map(alive, family))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help exists on Linux only")
def test_no_child_outlives_a_killed_test_run(tmp_path: Path) -> None:
    """When the test process itself is killed, the kernel ends what it started."""
    code = (
        "from pathlib import Path\n"
        "from tests.children import Child\n"
        f"child = Child('orphan', ['sleep', '100'], log=Path({str(tmp_path / 'log')!r}))\n"
        "print(child.pid, flush=True)\n"
        "input()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    ) as parent:
        assert parent.stdout is not None
        orphan = int(parent.stdout.readline())
        assert alive(orphan)
        parent.send_signal(signal.SIGKILL)
    wait_until(lambda: not alive(orphan), 10, "the end of the orphan")


def test_a_wait_in_vain_says_what_was_awaited() -> None:
    """A missing fact becomes a message with the fact's name and the last value seen."""
    with pytest.raises(TimeoutError, match=r"the moon.*last seen: None"):
        wait_until(lambda: None, 0.1, "the moon")
