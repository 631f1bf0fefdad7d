"""
Enqueueing from wherever a project's code runs: no place needs an `on_commit`.

What workers make of it, from transactions, savepoints, coroutines and helpers, is in the
conformance scenarios; here it is the row and whom it says it belongs to.
"""

from __future__ import annotations

import pytest
from asgiref.sync import async_to_sync
from django.core.management import CommandError, call_command
from django.db import connections, transaction
from django.db.models.signals import post_save
from django.http import HttpResponse
from django.test import AsyncClient, Client
from django.urls import path
from django.views import View

from tasks_app import current
from tasks_app.models import Outcome
from tests import by_hand
from tests.integration.command_line import claimed
from tests.testapp.models import Effect
from tests.testapp.tasks import add, record

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.urls(__name__),
    pytest.mark.usefixtures("stack"),
]

REQUEST_ID = "request-of-this-test"


def view(request):
    """Write and enqueue, then fail on request."""
    Effect.objects.create(note="view")
    add.enqueue(1, 2)
    if "fail" in request.GET:
        raise ValueError("after enqueueing")
    return HttpResponse()


async def async_view(request):
    """Enqueue without blocking the loop."""
    outcome = await add.aenqueue(1, 2)
    return HttpResponse(str(outcome.pk))


class AsyncClassView(View):
    """The same as a class, with a call of its own options."""

    async def get(self, request):
        """Enqueue."""
        outcome = await add.using(queue="other").aenqueue(1, b=2)
        return HttpResponse(str(outcome.pk))


urlpatterns = [
    path("view", view),
    path("async", async_view),
    path("async-class", AsyncClassView.as_view()),
]


@pytest.fixture
def stack(settings):
    """The middleware, first in the stack."""
    settings.MIDDLEWARE = ["tasks_app.middleware.RequestIDMiddleware", *settings.MIDDLEWARE]


@pytest.fixture
def client():
    """A client that gets the response 500 instead of a view's exception."""
    return Client(raise_request_exception=False, headers={"X-Request-ID": REQUEST_ID})


@pytest.fixture
def atomic_requests(monkeypatch):
    """Each request is a transaction."""
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", value=True)


def test_a_view_enqueues_at_once(client):
    """Without a transaction the row is there as soon as the call returns."""
    assert client.get("/view?fail=1").status_code == 500
    assert Outcome.objects.get().request_id == REQUEST_ID


@pytest.mark.usefixtures("atomic_requests")
def test_an_atomic_request_commits_its_rows(client):
    """What the view enqueued is part of the request's transaction and names the request."""
    assert client.get("/view").status_code == 200
    assert Outcome.objects.get().request_id == REQUEST_ID
    assert Effect.objects.count() == 1


@pytest.mark.usefixtures("atomic_requests")
def test_an_atomic_request_that_fails_leaves_no_row(client):
    """The row goes with everything else that the view wrote."""
    assert client.get("/view?fail=1").status_code == 500
    assert not Outcome.objects.exists()
    assert not Effect.objects.exists()


@pytest.mark.parametrize("address", ["/async", "/async-class"])
def test_an_async_view_enqueues(address):
    """The row is there when the response is, and names the request."""
    get = async_to_sync(AsyncClient().get)
    response = get(address, headers={"X-Request-ID": REQUEST_ID})
    outcome = Outcome.objects.get(pk=response.content.decode())
    assert outcome.request_id == response.headers["X-Request-ID"] == REQUEST_ID


def test_a_management_command_enqueues():
    """A command has no request: its row gets an id of its own."""
    call_command("enqueue_one")
    outcome = Outcome.objects.get()
    assert outcome.request_id
    assert outcome.owner is None


def test_a_management_command_that_fails_leaves_no_row():
    """Its transaction is like any other."""
    with pytest.raises(CommandError, match="after enqueueing"):
        call_command("enqueue_one", "--fail")
    assert not Outcome.objects.exists()


def test_a_helper_enqueues_children():
    """A child names its parent, the root of the tree and the request that began it."""

    def enqueue_children(key, note=""):
        add.enqueue(1, 2)
        add.enqueue_many([(3, 4)])
        add.delay(5, 6)
        assert current.outcome_id == parent.pk

    parent = record.enqueue("key")
    by_hand.run(claimed(parent), enqueue_children)
    children = Outcome.objects.filter(parent_id=parent.pk)
    assert children.count() == 3
    assert set(children.values_list("root_id", "request_id")) == {(parent.pk, parent.request_id)}


def test_a_signal_receiver_enqueues_in_its_senders_transaction():
    """What a receiver enqueues goes with the row that it was told of."""

    def enqueue(**kwargs):
        add.enqueue(1, 2)

    post_save.connect(enqueue, sender=Effect)
    try:
        with transaction.atomic():
            Effect.objects.create()
            transaction.set_rollback(True)
        assert not Outcome.objects.exists()
        Effect.objects.create()
    finally:
        post_save.disconnect(enqueue, sender=Effect)
    assert Outcome.objects.count() == 1


def test_a_hook_behind_the_commit_may_enqueue_too():
    """Code that had to wait for the commit goes on working."""
    with transaction.atomic():
        transaction.on_commit(lambda: add.enqueue(1, 2))
        assert not Outcome.objects.exists()
    assert Outcome.objects.count() == 1


def test_threads_enqueue_each_in_a_transaction_of_their_own():
    """A thread's row does not wait for, or go with, the transaction that another thread has."""
    with transaction.atomic():
        outcome = by_hand.elsewhere(lambda: add.enqueue(1, 2))
        transaction.set_rollback(True)
    assert Outcome.objects.get() == outcome
