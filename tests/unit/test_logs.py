"""
Lines of the log: what they look like, which there are, and that nobody waits for a slow target.

Where processes begin and end, they are real ones, with the settings of a project that calls
`dict_config`.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from uuid import uuid4

import pytest

from tasks_app.exceptions import ConfigurationError
from tasks_app.integrations.json_logs import JsonFormatter
from tasks_app.logs import (
    ContextFilter,
    QueuedHandler,
    SamplingFilter,
    TextFormatter,
    config,
    dict_config,
)
from tests.processes import ROOT
from tests.waiting import wait_until

PATIENCE = 30

#: A terminal's command, a forged line, a change of direction, DEL and half a character.
HOSTILE = "a\x1b[31mb\n2026-01-01 INFO forged\u202e\x7f\ud800"


def line(text="text", level=logging.INFO, **fields):
    """Return a line as a handler gets it."""
    record = logging.LogRecord("tests", level, __file__, 1, text, (), None)
    record.__dict__.update(fields)
    return record


@pytest.mark.parametrize(
    "formatter", [TextFormatter(), JsonFormatter(), JsonFormatter(json_ensure_ascii=False)]
)
def test_no_line_acts_or_passes_for_another(formatter):
    """Control characters are written out; nothing begins a line but the line itself."""
    text = formatter.format(line(HOSTILE))
    assert not {*"\x1b\x7f\u202e"} & {*text}
    assert not [each for each in text.splitlines()[1:] if not each.startswith("    ")]
    assert "forged" in text


def test_a_traceback_cannot_pass_for_lines():
    """The text of an exception is somebody else's too."""
    record = line()
    with pytest.raises(ValueError, match="forged") as caught:
        raise ValueError(HOSTILE)
    record.exc_info = (caught.type, caught.value, caught.tb)
    first, *others = TextFormatter().format(record).splitlines()
    assert first.endswith("text")
    assert "Traceback" in others[0]
    assert all(each.startswith("    ") for each in others)


def test_json_brings_back_what_was_logged():
    """Escaping is JSON's own, so a reader gets the text; what is unknown is left out."""
    record = line(HOSTILE, order=7)
    ContextFilter().filter(record)
    read = json.loads(JsonFormatter().format(record))
    assert (read["message"], read["order"], read["level"]) == (HOSTILE, 7, "INFO")
    assert "outcome_id" not in read


def test_a_line_outside_of_everything_has_all_fields():
    """A format that names them never fails."""
    record = line()
    ContextFilter().filter(record)
    text = logging.Formatter("%(request_id)s %(outcome_id)s %(task)s %(attempt)s %(queue)s")
    assert text.format(record) == "- - - - -"


def test_a_line_that_names_its_call_keeps_what_it_says():
    """Such as a line about a child that a task enqueues."""
    record = line(queue="mail", data={"id": "1234", "name": "tests.add"})
    ContextFilter().filter(record)
    assert (record.queue, record.outcome_id, record.task) == ("mail", "1234", "tests.add")


def test_a_run_is_in_the_sample_or_out_of_it():
    """All its lines below WARNING share its fate; what is above passes, and what is no run's."""
    sample = SamplingFilter(0.5)
    ids = [str(uuid4()) for _ in range(400)]
    fates = [{sample.filter(line(outcome_id=each)) for _ in range(3)} for each in ids]
    assert all(len(fate) == 1 for fate in fates)
    assert 120 < sum(True in fate for fate in fates) < 280
    nothing = SamplingFilter(0)
    assert not nothing.filter(line(outcome_id=ids[0]))
    assert nothing.filter(line(outcome_id=ids[0], level=logging.WARNING))
    assert nothing.filter(line(outcome_id="-"))


def test_each_task_may_have_its_own_share():
    """`*` stands for all others, of which all are written where nothing is said."""
    sample = SamplingFilter({"tests.add": 0})
    assert not sample.filter(line(outcome_id="1", task="tests.add"))
    assert sample.filter(line(outcome_id="1", task="tests.other"))
    assert not SamplingFilter({"*": 0}).filter(line(outcome_id="1", task="tests.other"))


@pytest.fixture
def fifo(tmp_path):
    """A pipe that nobody reads."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


@pytest.fixture
def slow_logger():
    """A logger of its own."""
    logger = logging.getLogger("tests.slow")
    logger.propagate = False
    logger.setLevel(logging.INFO)
    yield logger
    logger.handlers.clear()


def test_nobody_waits_for_a_disk_that_hangs(fifo, slow_logger):
    """What finds no room is dropped, counted, and told when the disk is back."""
    handler = QueuedHandler(
        "logging.FileHandler", {"filename": str(fifo), "mode": "w"}, capacity=10
    )
    handler.setFormatter(logging.Formatter("%(message)s"))
    log = slow_logger
    log.addHandler(handler)
    began = time.monotonic()
    for number in range(2_000):
        log.info("line %d", number)
    assert time.monotonic() - began < PATIENCE / 2
    assert handler.dropped == 1_990
    read: list[str] = []
    reader = threading.Thread(target=collect, args=(fifo, read))
    reader.start()
    wait_until(lambda: any("dropped" in each for each in read), PATIENCE, lambda: repr(read))
    log.info("the last line")
    wait_until(lambda: "the last line" in read, PATIENCE, lambda: repr(read))
    assert read[:2] == ["line 0", "1990 lines of the log were dropped: its target is slow"]
    assert read[2:11] == [f"line {number}" for number in range(1, 10)]
    handler._target.close()
    reader.join()


def collect(path, read):
    with path.open() as lines:
        for each in lines:
            read.append(each.rstrip("\n"))


def test_a_process_that_ends_does_not_wait_for_ever(fifo):
    """Its last lines get a moment, and are lost with a disk that hangs."""
    program = f"""
import logging
from tasks_app.logs import QueuedHandler
log = logging.getLogger()
options = {{"filename": {str(fifo)!r}, "mode": "w"}}
log.addHandler(QueuedHandler("logging.FileHandler", options, patience=0.5))
log.warning("lost")
"""
    assert run(program) == ""


def test_lines_that_wait_at_the_end_are_written():
    """A program may end right after its last line."""
    program = (
        SET_UP
        + """
for number in range(3_000):
    logging.getLogger("tests").info("line %d", number)
"""
    )
    read = [json.loads(each)["message"] for each in run(program).splitlines()]
    assert read == [f"line {number}" for number in range(3_000)]


def test_lines_that_wait_at_the_end_find_their_file_open(tmp_path):
    """`logging` closes the newest handlers first at the end, the target among them."""
    path = tmp_path / "log"
    program = f"""
import logging
from tasks_app.logs import QueuedHandler
options = {{"filename": {str(path)!r}, "mode": "w"}}
logging.getLogger().addHandler(QueuedHandler("logging.FileHandler", options))
logging.getLogger().setLevel("INFO")
for number in range(3_000):
    logging.info("line %d", number)
"""
    assert run(program) == ""
    assert path.read_text().count("line") == 3_000


def test_a_fork_writes_its_own_lines_and_no_others():
    """The queue and its thread are the process' own, whatever the parent was doing."""
    program = (
        SET_UP
        + """
import os, warnings
from tasks_app.logs import queues
warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of threads
log = logging.getLogger("tests")
for round in range(8):
    for number in range(50):
        log.info("parent %d", os.getpid())
    child = os.fork()
    if not child:
        log.info("child")
        queues.flush()
        os._exit(0)
    os.waitpid(child, 0)
"""
    )
    read = [json.loads(each) for each in run(program).splitlines()]
    parents = [each for each in read if each["message"] == f"parent {each['process']}"]
    children = [each for each in read if each["message"] == "child"]
    assert (len(parents), len({each["process"] for each in parents})) == (400, 1)
    assert (len(children), len({each["process"] for each in children})) == (8, 8)


def test_a_target_that_cannot_be_opened_costs_no_line(tmp_path):
    """The lines go to standard error, and say why."""
    program = f"""
import logging
from tasks_app.logs import QueuedHandler
handler = QueuedHandler("logging.FileHandler", {{"filename": {str(tmp_path)!r}}})
logging.getLogger().addHandler(handler)
logging.getLogger().warning("kept")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    first, second = done.stderr.splitlines()
    assert "cannot be opened" in first
    assert second == "kept"


def test_processes_share_a_rotated_file_and_lose_nothing(tmp_path):
    """Each line is in one of the files, whole, whoever rotated them."""
    arguments = {
        "file": str(tmp_path / "log"),
        "file_bytes": 20_000,
        "old_files": 200,
        "capacity": 0,
    }
    program = (
        SET_UP.replace("debug=False", f"debug=False, **{arguments!r}")
        + """
for number in range(150):
    logging.getLogger("tests").info("line %d", number)
"""
    )
    writers = [subprocess.Popen([sys.executable, "-c", program], cwd=ROOT) for _ in range(3)]
    assert [writer.wait(PATIENCE) for writer in writers] == [0] * 3
    files = [path for path in tmp_path.glob("log*") if "lock" not in path.name]
    lines = [json.loads(each) for path in files for each in path.read_text().splitlines()]
    assert len(files) > 3
    assert len({(each["process"], each["message"]) for each in lines}) == len(lines) == 450


def test_development_has_text_and_production_has_json():
    """As far as python-json-logger is there."""
    assert dict_config(debug=True)["handlers"]["lines"]["formatter"] == "text"
    assert dict_config(debug=False)["handlers"]["lines"]["formatter"] == "json"


def test_a_missing_package_is_named(monkeypatch):
    """By the extra that brings it; text needs none."""
    monkeypatch.setattr(config, "find_spec", lambda name: None)
    assert dict_config(debug=False)["handlers"]["lines"]["formatter"] == "text"
    with pytest.raises(ConfigurationError, match=r"tasks_app\[json-logs\]"):
        dict_config(debug=True, json=True)
    with pytest.raises(ConfigurationError, match=r"tasks_app\[log-files\]"):
        dict_config(debug=True, file="log")


def test_a_settings_module_may_import_it():
    """Neither models nor settings are read before they are there."""
    program = """
import sys
from tasks_app.logs import dict_config
dict_config(debug=False)
assert "tasks_app.models" not in sys.modules
"""
    assert run(program, DJANGO_SETTINGS_MODULE="none.such") == ""


SET_UP = """
import logging, logging.config
from django.conf import settings
from tasks_app.logs import dict_config
settings.configure()
logging.config.dictConfig(dict_config(debug=False))
"""


def run(program, **environment):
    """Run a program and return what it wrote to standard output."""
    return subprocess.run(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        timeout=PATIENCE,
        env={**os.environ, **environment},
    ).stdout


@pytest.mark.parametrize("name", ["celery.app.trace", "celery.worker.strategy"])
def test_celery_tells_nothing_twice_unless_it_is_asked_to(name):
    """Our own lines tell of each run's end; warnings and errors of Celery's stay."""
    assert dict_config(debug=True)["loggers"][name] == {"level": "WARNING"}
    asked = dict_config(debug=True, levels={name: "INFO"})
    assert asked["loggers"][name] == {"level": "INFO"}
