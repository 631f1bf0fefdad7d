"""`tasks list` and `tasks show`: what an operator sees, and what nobody sees."""

from __future__ import annotations

import json

import pytest

from tasks_app import task
from tasks_app.models import Outcome
from tasks_app.selection import SelectionError, read_age
from tests.integration.command_line import ago, failed, rewritten, succeeded, tasks
from tests.testapp.tasks import add, total

pytestmark = pytest.mark.django_db

CANARY = "canary-4111-1111"


@task(redact=["card"], idempotency_key="pay:{order}:{card}")
def pay(order: int, card: str) -> dict[str, str]:
    """Take a secret."""
    raise NotImplementedError


def listed(*words: object) -> list[str]:
    """Return the ids of `tasks list --json`."""
    return [record["id"] for record in json.loads(tasks("list", "--json", *words).output)]


def test_a_table_has_one_line_per_outcome_newest_first():
    """The columns name id, state, task, queue and tries; a failure shows its reason and error."""
    given = add.apply_async((1, 2), task_id="01900000-0000-7000-8000-000000000001")
    older = failed(Outcome.objects.get(pk=given.id), "no\u00e4 luck")
    newer = total.enqueue([1])
    typed = tasks("list")
    lines = typed.output.splitlines()
    assert lines[0].split()[:5] == ["ID", "STATE", "TASK", "QUEUE", "TRIES"]
    assert lines[1].split()[:5] == [str(newer.pk), "pending", total.name, "celery", "0/1"]
    assert lines[2].split()[:5] == [str(older.pk), "failed", add.name, "celery", "1/1"]
    assert lines[2].endswith("not_retryable: no\u00e4 luck")
    assert (typed.code, typed.errors) == (0, "")


def test_a_lost_run_has_a_number_but_costs_no_try():
    """What ran twice because its worker was lost had two tries, not two of one."""
    rewritten(succeeded(add.enqueue(1, 2)), attempt=2, crashes=1, fence=4)
    assert tasks("list").output.splitlines()[1].split()[4] == "2/2"


def test_filters_hold_together():
    """State, task, queue, age and request id each narrow the list; one may be given twice."""
    old = rewritten(add.enqueue(1, 2), created_at=ago(hours=2), request_id="request-1")
    mail = add.using(queue="mail").enqueue(3, 4)
    done = succeeded(total.enqueue([1]), "1")
    for words, wanted in (
        ((), {old, mail, done}),
        (("--state", "pending"), {old, mail}),
        (("--state", "pending", "--state", "SUCCEEDED"), {old, mail, done}),
        (("--task", total.name), {done}),
        (("--queue", "mail"), {mail}),
        (("--older-than", "90m"), {old}),
        (("--newer-than", "1h30m"), {mail, done}),
        (("--request-id", "request-1"), {old}),
        (("--state", "pending", "--queue", "mail", "--newer-than", "1h"), {mail}),
        (("--state", "failed"), set()),
    ):
        assert set(listed(*words)) == {str(outcome.pk) for outcome in wanted}, words


def test_a_list_that_goes_on_says_so():
    """`--limit` shows the newest rows and tells that there are more."""
    add.enqueue_many([(n, n) for n in range(3)])
    typed = tasks("list", "--limit", 2)
    assert len(typed.output.splitlines()) == 3
    assert "more than 2" in typed.errors
    assert "more" not in tasks("list", "--limit", 3).errors


def test_an_unknown_state_names_the_nearest_one():
    """A misspelt state is an error that helps."""
    typed = tasks("list", "--state", "faild")
    assert typed.code
    assert "Did you mean 'failed'?" in typed.errors


def test_an_unknown_task_name_is_told_when_nothing_matches():
    """An empty list after a misspelt task name does not look like good news."""
    typed = tasks("list", "--task", "tests.testapp.helpers.ad")
    assert typed.code == 0
    assert "No outcome matches." in typed.errors
    assert "Did you mean 'tests.testapp.helpers.add" in typed.errors


@pytest.mark.parametrize("text", ["", "10", "m", "10x", "1h 30m", "-1m", "1.5h", "99999999w"])
def test_an_age_that_cannot_be_read_is_refused(text):
    """Ages are numbers with units, and nothing else."""
    with pytest.raises(SelectionError):
        read_age(text)
    assert tasks("list", f"--older-than={text}").code


def test_an_outcome_is_found_by_its_first_digits():
    """A prefix of eight digits or more is enough while only one id begins so."""
    outcome = add.enqueue(1, 2)
    for called in (
        outcome.pk,
        outcome.pk.hex,
        outcome.pk.hex[:8],
        str(outcome.pk).upper(),
        str(outcome.pk)[:30],
    ):
        assert str(outcome.pk) in tasks("show", called).output


def test_an_ambiguous_id_is_told_with_examples():
    """Two ids that begin alike are never taken for one another."""
    first = add.using().enqueue(1, 2)
    second = Outcome.objects.get(pk=first.pk)
    second.pk = type(first.pk)(first.pk.hex[:28] + "0000")
    second.save(force_insert=True)
    typed = tasks("show", first.pk.hex[:28])
    assert typed.code == 1
    assert "ambiguous: 2 outcomes" in typed.errors
    assert str(second.pk) in typed.errors


@pytest.mark.parametrize("text", ["zzz", "1234567", "0" * 33, "first one"])
def test_what_cannot_be_an_id_is_refused(text):
    """The complaint says what an id looks like."""
    typed = tasks("show", text)
    assert typed.code == 1
    assert "no outcome id" in typed.errors


def test_an_unknown_id_is_told():
    """A well-formed id of no outcome is its own error."""
    unknown = "01900000-0000-7000-8000-000000000000"
    typed = tasks("show", unknown)
    assert (typed.code, typed.errors) == (1, f"There is no outcome {unknown}.\n")


def test_show_tells_an_outcome_with_its_attempts():
    """State, error and every attempt with its traceback are there."""
    outcome = failed(add.enqueue(1, 2), "no luck", "Traceback\n  line 1\nValueError: no luck")
    output = tasks("show", outcome.pk).output
    for part in ("failed", "not_retryable", "no luck", "attempt 1", "  line 1", "worker@test"):
        assert part in output
    record = json.loads(tasks("show", outcome.pk, "--json").output)
    assert record["state"] == "failed"
    assert record["attempts"][0]["error_type"] == "builtins.ValueError"


def test_arguments_and_results_are_hidden_unless_asked_for():
    """Without `--arguments` only their number and names are told."""
    outcome = succeeded(add.enqueue(4711, b=4712), "9423")
    for words in ((), ("--json",)):
        output = tasks("show", outcome.pk, *words).output
        assert not any(value in output for value in ("4711", "4712", "9423"))
    record = json.loads(tasks("show", outcome.pk, "--json").output)
    assert (record["args"], record["kwargs"], record["result"]) == (["***"], {"b": "***"}, "***")
    record = json.loads(tasks("show", outcome.pk, "--json", "--arguments").output)
    assert (record["args"], record["kwargs"], record["result"]) == ([4711], {"b": 4712}, 9423)


def test_a_redacted_value_is_never_shown():
    """Neither list nor show prints it, not even inside the key, the result or the progress."""
    result = json.dumps({"echo": f"took {CANARY}", "card": CANARY, "order": 7})
    outcome = succeeded(pay.enqueue(7, CANARY), result)
    rewritten(outcome, progress_done=1, progress_message=f"charging {CANARY}")
    failed(pay.enqueue(8, card=CANARY))
    for words in (("list",), ("list", "--json"), ("show", outcome.pk, "--arguments")):
        typed = tasks(*words)
        assert typed.code == 0
        assert CANARY not in typed.output + typed.errors
    record = json.loads(tasks("show", outcome.pk, "--arguments", "--json").output)
    assert CANARY not in json.dumps(record)
    assert record["args"] == [7, "***"]
    assert record["result"] == {"echo": "took ***", "card": "***", "order": 7}
    assert record["idempotency_key"].startswith("sha256:")
    assert record["progress"] == "1 charging ***"


def test_the_arguments_of_an_unknown_task_stay_masked():
    """Nobody here knows which of them are secret."""
    outcome = rewritten(add.enqueue(CANARY, 1), task_name="gone.away")
    typed = tasks("show", outcome.pk, "--arguments")
    assert typed.code == 0
    assert CANARY not in typed.output
