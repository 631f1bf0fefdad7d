"""The demo's child processes: they finish when asked, and never stay behind."""

import os
import socket
import sys
from pathlib import Path

import pytest

from example_project.demo.programs import Program, children_of, stop
from example_project.demo.supervisor import DemoError, Supervisor, claim_port
from tests.waiting import wait_until

#: Seconds after which a fact that does not come true is a failure.
PATIENCE = 20


def exists(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def make(tmp_path, code):
    return Program("child", [sys.executable, "-u", "-c", code], os.environ, tmp_path, 36)


PARENT = """
import signal, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
{handler}
print("ready", flush=True)
time.sleep(600)
"""


def test_a_program_is_asked_before_it_is_killed(tmp_path, capsys):
    """TERM goes to the parent alone; what it says before it ends is still shown."""
    polite = "signal.signal(signal.SIGTERM, lambda *_: (child.kill(), print('bye'), sys.exit(0)))"
    program = make(tmp_path, PARENT.format(handler=polite))
    program.start()
    wait_until(
        lambda: "ready" in "".join(program._last_lines), PATIENCE, "the program's first line"
    )
    stop([program], grace=PATIENCE)
    assert program.exit_code() == 0
    assert "bye" in capsys.readouterr().out


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_a_program_that_will_not_stop_is_killed_with_its_children(tmp_path):
    """After the grace nothing of its group is left."""
    stubborn = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    program = make(tmp_path, PARENT.format(handler=stubborn))
    program.start()
    (child,) = wait_until(lambda: children_of(program.pid), PATIENCE, "the program's child")
    wait_until(
        lambda: "ready" in "".join(program._last_lines), PATIENCE, "the program's first line"
    )
    stop([program], grace=0.1)
    assert program.exit_code() == -9
    wait_until(lambda: not exists(child), PATIENCE, "the child's end")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_children_of_a_program_that_died_are_swept_away(tmp_path):
    """A parent that ends and leaves its children does not make them survivors."""
    program = make(tmp_path, PARENT.format(handler="print(child.pid, flush=True); sys.exit(3)"))
    program.start()
    wait_until(lambda: program.exit_code() == 3, PATIENCE, "the program's own end")
    child = int(wait_until(lambda: program._last_lines, PATIENCE, "its child's pid")[0])
    assert exists(child)
    stop([program], grace=0.1)
    wait_until(lambda: not exists(child), PATIENCE, "the child's end")


def test_an_early_death_is_told_with_the_last_lines(tmp_path):
    """The reader learns which program ended, how, and what it said."""
    supervisor = Supervisor(tmp_path, seed=0)
    try:
        supervisor.run("web", 36, "timeit", "-n1", "-r1", "raise SystemExit('no port for me')")
        wait_until(
            lambda: supervisor._programs["web"].exit_code() is not None, PATIENCE, "the end of web"
        )
        with pytest.raises(DemoError, match=r"(?s)web ended .*exit code 1.*no port for me"):
            supervisor.watch()
    finally:
        supervisor.close()


def test_a_killed_program_is_started_again(tmp_path):
    """A death by signal is bad luck, so the next one takes its place."""
    supervisor = Supervisor(tmp_path, seed=0)
    try:
        program = supervisor.run(
            "worker", 36, "timeit", "-n1", "-r1", "import time; time.sleep(600)"
        )
        first = program.pid
        program.kill_group()
        wait_until(lambda: program.exit_code() is not None, PATIENCE, "the program's end")
        supervisor.watch()
        assert program.pid != first
        assert program.exit_code() is None
    finally:
        supervisor.close()


def test_a_port_in_use_is_named_with_the_way_out():
    """The message says which port, and which option chooses another."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DemoError, match=rf"Port {port} cannot be used.*--port N"):
            claim_port(port, "--port")


def test_any_free_port_can_be_claimed():
    """Zero means any."""
    assert claim_port(0, "--port") > 0
