"""
What Sentry's SDK sends, whichever part of an event a secret got into.

The SDK is the real one with its own serializer; only its transport is the test's. How it behaves in
a worker is seen in `test_redaction`.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import sentry_sdk
from sentry_sdk.transport import Transport

from tasks_app.integrations.sentry import scrubbing
from tests import by_hand
from tests.integration.command_line import claimed
from tests.testapp.tasks import charge

CARD = "canary-card-4242"


class Sent(Transport):
    """Keeps what would be sent."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Any] = []

    def capture_envelope(self, envelope: Any) -> None:
        self.events += [item.payload.json for item in envelope.items if item.payload.json]


@pytest.fixture
def sent() -> Iterator[list[Any]]:
    """The events of a client that was initialised after the app, and in its own way."""
    transport = Sent()
    client = sentry_sdk.Client(
        dsn="http://key@127.0.0.1:9/1", transport=transport, default_integrations=False
    )
    with sentry_sdk.isolation_scope(), sentry_sdk.new_scope() as scope:
        scope.set_client(client)
        yield transport.events
    vars(scrubbing._here).clear()


class Opaque:
    """An object that only its `repr` tells of."""

    def __repr__(self) -> str:
        return f"<Opaque {CARD}>"


class Hostile(dict):
    """A mapping that cannot be read twice."""

    def items(self) -> Any:
        raise RuntimeError("no")


EVENTS: dict[str, Any] = {
    "a variable": {"extra": {"card_token": CARD}},
    "a name of the project": {"contexts": {"call": {"deep": [{"password": CARD}]}}},
    "a body": {"request": {"data": {"form": {"card_token": CARD}}}},
    "a tag": {"tags": {"token": CARD}},
}

TEXTS: dict[str, Any] = {
    "a message": {"message": f"paid with {CARD}"},
    "a breadcrumb": {
        "breadcrumbs": {"values": [{"message": CARD, "data": {"url": f"/?t={CARD}"}}]}
    },
    "a log entry": {"logentry": {"message": "paid %s", "params": [CARD], "formatted": CARD}},
    "a span": {"spans": [{"description": f"GET /?t={CARD}", "data": {"http.query": CARD}}]},
    "an object": {"extra": {"it": Opaque()}},
    "a key": {"extra": {CARD: 1}},
    "far below": {"extra": {"a": [[[{"b": (CARD, {"c": [CARD]})}]]]}},
    "a fingerprint": {"fingerprint": ["pay", CARD]},
    "a transaction": {"type": "transaction", "transaction": f"/pay/{CARD}"},
}


@pytest.mark.parametrize("place", EVENTS)
def test_what_is_named_is_masked_in_every_event(sent, place):
    """Inside a task or not, at any depth, by the names that tasks and `REDACT` know."""
    sentry_sdk.capture_event({**EVENTS[place], "level": "error"})
    assert "canary" not in str(sent)
    assert sent[0]["level"] == "error"


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("place", TEXTS)
def test_a_running_calls_values_are_masked_in_every_text(sent, place):
    """Also in threads that the helper started."""

    def helper(order_id: int, card_token: str, mood: str, details: Any = None) -> None:
        capture = lambda: sentry_sdk.capture_event({**TEXTS[place]}, scope=scope)  # noqa: E731
        thread = threading.Thread(target=capture)
        thread.start()
        thread.join()
        capture()

    scope = sentry_sdk.get_current_scope()
    by_hand.run(claimed(charge.enqueue(1, card_token=CARD, mood="pay")), helper)
    assert sent
    assert "canary" not in str(sent)


@pytest.mark.django_db(transaction=True)
def test_frames_of_the_app_have_no_variables_and_those_of_the_project_keep_theirs(sent):
    """What the app holds are whole calls; what the project holds is what one looks for."""

    def helper(order_id: int, card_token: str, mood: str, details: Any = None) -> None:
        total = order_id + 1
        raise LookupError(f"no luck with {total}")

    with pytest.raises(LookupError, match="no luck") as caught:
        by_hand.run(claimed(charge.enqueue(41, card_token=CARD, mood="pay")), helper)
    sentry_sdk.capture_exception(caught.value)
    frames = sent[0]["exception"]["values"][-1]["stacktrace"]["frames"]
    ours = [frame for frame in frames if frame["module"].startswith("tasks_app.")]
    assert ours
    assert not [frame for frame in ours if "vars" in frame]
    assert frames[-1]["vars"]["total"] == "42"
    assert frames[-1]["vars"]["card_token"] == "***"
    assert "canary" not in str(sent)


def test_an_event_that_cannot_be_searched_loses_all_but_its_outline(sent):
    """Nothing passes because something went wrong."""
    sentry_sdk.capture_event({"message": CARD, "extra": Hostile(a=CARD), "level": "error"})
    assert "canary" not in str(sent)
    assert sent[0]["level"] == "error"
