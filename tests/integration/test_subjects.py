"""Which objects a call is about is told by its declaration or its caller, and kept with it."""

from __future__ import annotations

from uuid import uuid4

import pytest
from django.contrib.auth import get_user_model
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tasks_app import context, task
from tasks_app.exceptions import ConfigurationError, InvalidArgument
from tasks_app.models import Outcome, Subject
from tasks_app.options import declared
from tasks_app.prune import prune
from tests.integration.command_line import ago, rewritten, succeeded
from tests.testapp import tasks
from tests.testapp.models import Account

pytestmark = pytest.mark.django_db


def bill(account_id: int | None, note: str = "") -> None:
    """Stand for a helper that works on an account."""


@pytest.fixture
def declaring():
    """Declare the helper as a task, for one test."""
    made = []

    def declare(about):
        made.append(task(bill, name=f"tests.bill.{uuid4().hex}", about=about))
        return made[-1]

    yield declare
    for each in made:
        del declared[each.name]
        each.app.tasks.unregister(each.name)


def subjects(outcome_id):
    rows = Subject.objects.filter(outcome_id=outcome_id).order_by("pk")
    return list(rows.values_list("model", "object_pk"))


def verbs(act):
    """Return the first words of what an act sends inside a transaction."""
    with transaction.atomic(), CaptureQueriesContext(connection) as captured:
        act()
    return [query["sql"].split(maxsplit=1)[0] for query in captured.captured_queries]


ACCOUNT = ("testapp.account", "7")

DECLARATIONS = {
    "template": "testapp.account:{account_id}",
    "other case": "testapp.Account:{account_id}",
    "object": lambda account_id, note="": Account(pk=account_id),
    "text": lambda account_id, note="": f"testapp.account:{account_id}",
    "list": lambda account_id, note="": [None, Account(pk=account_id), "testapp.account:7"],
}


@pytest.mark.parametrize("form", DECLARATIONS)
def test_a_declaration_says_what_each_call_is_about(declaring, form):
    """However the call is made, and with whichever spelling of the key."""
    made = declaring(DECLARATIONS[form])
    ids = [
        made.enqueue(7).id,
        made.enqueue("007").id if form == "template" else made.enqueue(7).id,
        made.delay(account_id=7).id,
        made.apply_async((7,)).id,
        *made.enqueue_many([(7,), {"account_id": 7}]),
    ]
    assert [subjects(each) for each in ids] == [[ACCOUNT]] * 6


def test_a_caller_says_it_better(declaring):
    """What one call says replaces what the declaration says; any task can be told."""
    account, user = Account.objects.create(name="a"), get_user_model().objects.create_user("u")
    expected = [("testapp.account", str(account.pk)), ("auth.user", str(user.pk))]
    made = declaring("testapp.account:{account_id}")
    assert subjects(made.using(about=[account, f"auth.user:{user.pk}"]).enqueue(7).id) == expected
    assert subjects(tasks.add.using(about=account).enqueue(1, 2).id) == expected[:1]
    assert subjects(made.using(about=[]).enqueue(7).id) == []


def test_a_call_about_nothing_costs_no_statement_and_one_about_something_one(declaring):
    """However many objects and calls there are."""
    many = [f"testapp.account:{number}" for number in range(50)]
    assert verbs(lambda: tasks.add.enqueue(1, 2)) == ["INSERT"]
    assert verbs(lambda: declaring("testapp.account:{account_id}").enqueue(None)) == ["INSERT"]
    assert verbs(lambda: tasks.add.using(about=many).enqueue(1, 2)) == ["INSERT"] * 2
    about = tasks.add.using(about=many[:2])
    bulk = "COPY" if connection.vendor == "postgresql" else "INSERT"
    assert verbs(lambda: about.enqueue_many([(n, 1) for n in range(20)])) == [bulk, "INSERT"]
    assert Subject.objects.count() == 50 + 40


def test_it_is_rolled_back_with_its_outcome(declaring):
    """Both are in the caller's transaction."""
    made = declaring("testapp.account:{account_id}")
    with transaction.atomic():
        made.enqueue(7)
        transaction.set_rollback(True)
    assert not Outcome.objects.exists()
    assert not Subject.objects.exists()


def test_a_key_that_leads_to_an_existing_outcome_adds_nothing(declaring):
    """The outcome is about what it was about."""
    made = declaring("testapp.account:{account_id}").using(idempotency_key="one")
    outcome = made.enqueue(7)
    assert made.enqueue(7) == outcome
    assert made.enqueue_many([(7,)]) == [outcome.id]
    assert subjects(outcome.id) == [ACCOUNT]


def test_a_replay_is_about_the_same_and_a_child_is_not(declaring):
    """What the caller said is kept, too."""
    outcome = succeeded(declaring(None).using(about="testapp.account:7").enqueue(1))
    assert subjects(outcome.replay().id) == [ACCOUNT]
    with context.working_for(None, context.Lineage.of(outcome)):
        assert subjects(tasks.add.enqueue(1, 2).id) == []


def test_it_is_pruned_with_its_outcome(declaring):
    """Nothing is left of either."""
    outcome = succeeded(declaring("testapp.account:{account_id}").enqueue(7))
    kept = tasks.add.using(about="testapp.account:8").enqueue(1, 2)
    rewritten(outcome, finished_at=ago(days=400))
    list(prune())
    assert [row.outcome_id for row in Subject.objects.all()] == [kept.id]


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ("testapp.acount:7", "Did you mean 'testapp.account'?"),
        ("testap.account:7", "There is no model"),
        ("testapp.account:seven", "is no primary key"),
        ("account 7", "pass an object"),
        (7, "pass an object"),
        ([["testapp.account:7"]], "pass an object"),
        (Account(), "is not saved"),
        ("dispatch.airport:" + "x" * 256, "primary key"),
        ("dispatch.airport:\0", "primary key"),
        ("dispatch.airport:\ud800", "primary key"),
        ([f"testapp.account:{number}" for number in range(101)], "100 objects"),
    ],
)
def test_what_names_no_object_is_refused_at_the_call(about, told):
    """Before anything is written."""
    using = tasks.add.using(about=about)
    with pytest.raises(InvalidArgument, match=told.replace("?", r"\?")):
        using.enqueue(1, 2)
    with pytest.raises(InvalidArgument):
        using.enqueue_many([(1, 2)])
    assert not Outcome.objects.exists()


@pytest.mark.parametrize(
    ("about", "told"),
    [
        ("account:{account_id}", "pass a text"),
        (7, "pass a text"),
        ("testapp.account:{acount_id}", "Did you mean 'account_id'"),
        ("testapp.account:{account_id", "no format string"),
    ],
)
def test_what_cannot_name_an_object_is_refused_at_the_declaration(about, told):
    """The nearest parameter is named."""
    with pytest.raises(ConfigurationError, match=told):
        task(bill, name="tests.refused", about=about)
    assert "tests.refused" not in declared


def test_a_part_that_an_argument_does_not_have_is_told(declaring):
    """As with idempotency keys."""
    with pytest.raises(ConfigurationError, match="what no argument has"):
        declaring("testapp.account:{note.pk}").enqueue(7, "x")
