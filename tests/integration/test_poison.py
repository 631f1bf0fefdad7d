"""Malformed messages: dropped, counted, told without their contents."""

from __future__ import annotations

import bz2
import json
import lzma
import zlib
from types import SimpleNamespace

import pytest
from kombu import compression
from kombu.message import Message

from tasks_app import poison, shapes, signals

SECRET = "card 4111 1111 1111 1111"


class Channel:
    """The broker's side of a message, which hears of acknowledgements."""

    no_ack_consumers = None

    def __init__(self) -> None:
        self.acknowledged = []

    def basic_ack(self, tag, **options):
        self.acknowledged.append(tag)


def message(body=((), {}, {}), **headers):
    """Return a message as a consumer gets it."""
    return Message(
        body=json.dumps(body).encode(),
        content_type="application/json",
        content_encoding="utf-8",
        headers={"task": "shop.pack", "id": "1", **headers},
        delivery_tag="tag",
        channel=Channel(),
    )


@pytest.fixture
def dropped():
    """What the signal `dropped` has told."""
    told = []

    def tell(**values):
        told.append(values["why"])

    signals.dropped.connect(tell)
    yield told
    signals.dropped.disconnect(tell)


@pytest.mark.parametrize("error", poison.MALFORMED, ids=lambda kind: kind.__name__)
def test_what_cannot_be_handled_is_acknowledged_counted_and_told_once(error, dropped, caplog):
    """It does not come back, and what it held is in no log."""

    def handle(message):
        raise error("it is not signed" if error is poison.Refused else SECRET)

    given = message()
    poison.guarded(handle, (OSError,))(given)
    assert given.acknowledged
    assert len(dropped) == 1
    (record,) = caplog.records
    assert dropped[0] in record.getMessage()
    assert SECRET not in caplog.text


@pytest.mark.parametrize(
    "limits",
    ["ab", ["a", "b"], [1], {"a": 1}, 5, [float("nan"), 1], [-1, None], [1e300, 1], [True, None]],
)
def test_time_limits_that_are_none_never_reach_the_pool(limits, dropped):
    """The pool would fail on them where nobody catches it, or end a run at once."""
    reached = []
    poison.guarded(reached.append, ())(message(timelimit=limits))
    assert (reached, len(dropped)) == ([], 1)


@pytest.mark.parametrize("name", ["callbacks", "errbacks", "chain", "chord"])
def test_a_canvas_among_the_headers_is_refused(name, dropped):
    """Celery would read it there, where nobody asks for the seal of its own tasks."""
    reached = []
    planted = [{"task": "celery.map", "args": [], "kwargs": {}, "options": {}}]
    poison.guarded(reached.append, ())(message(**{name: planted}))
    assert (reached, len(dropped)) == ([], 1)


@pytest.mark.parametrize(
    "peal",
    [
        "2",
        {"id": "2"},
        [2],
        [{}],
        [{"id": None}],
        [{"id": "x" * 1000}],
        [{"id": "2", "task": "shop.unpack"}],
        [{"id": "2", "chain": []}],
        [{"id": "2", "timelimit": ["a", "b"]}],
        [{"id": "2", "tasks_app_peal": []}],
        [{"id": "2"}] * 16,
    ],
)
def test_a_peal_that_is_none_reaches_no_process(peal, dropped):
    """What rings for others names their ids, the same headers and no other task."""
    reached = []
    given = message(timelimit=[None, None], tasks_app_peal=peal)
    poison.guarded(reached.append, ())(given)
    assert (reached, len(dropped)) == ([], 1)


def test_a_peal_passes(dropped):
    """What a relay sends is handled."""
    reached = []
    given = message(timelimit=[None, None], tasks_app_peal=[{"id": "2"}] * 15)
    poison.guarded(reached.append, ())(given)
    assert (reached, dropped) == ([given], [])


@pytest.mark.parametrize("limits", [None, [None, None], (3, 2.5)])
def test_time_limits_pass(limits, dropped):
    """What Celery itself sends is handled."""
    reached = []
    given = message(timelimit=limits)
    poison.guarded(reached.append, ())(given)
    assert (reached, dropped) == ([given], [])


def test_a_lost_connection_is_no_malformed_message(dropped):
    """The consumer has to reconnect: its errors pass, also those that look like a value's."""

    class Lost(ValueError):
        pass

    def handle(message):
        raise Lost

    given = message()
    with pytest.raises(Lost):
        poison.guarded(handle, (Lost,))(given)
    assert (given.acknowledged, dropped) == (False, [])


def test_a_missing_id_is_no_lost_connection(dropped):
    """Kombu takes a KeyError for one, and would reconnect for ever."""
    reached = []
    given = message(id=None)
    poison.guarded(reached.append, (KeyError,))(given)
    assert (reached, given.acknowledged) == ([], True)
    assert dropped == ["it is malformed (id)"]


@pytest.mark.parametrize("depth", [shapes.MAX_DEPTH - 1, shapes.MAX_DEPTH])
def test_depth_is_bounded_where_it_is_measured(depth, dropped):
    """The limit is met exactly: a list at that depth passes, one level more is dropped."""
    value = []
    for _ in range(depth - 2):
        value = [value]
    poison.guarded(lambda message: None, ())(message(body=([value], {}, {})))
    assert len(dropped) == (depth == shapes.MAX_DEPTH)


@pytest.mark.parametrize("codec", ["zlib", "bz2", "idna", "unicode_escape", "rot13"])
def test_no_codec_but_those_of_serializers_touches_a_body(codec, dropped):
    """Some of Python's inflate what they read, or need the square of its length."""
    given = message()
    given.content_type, given.content_encoding = "application/data", codec
    given.body = zlib.compress(b"x")
    poison.guarded(lambda message: None, ())(given)
    assert dropped == ["it is malformed (the content type)"]
    assert given._decoded_cache is None


@pytest.fixture
def bounded():
    """Decompression as workers have it."""
    before = {**compression._encoders}, {**compression._decoders}, {**compression._aliases}
    poison.bound_decompression(None)
    yield
    compression._encoders, compression._decoders, compression._aliases = before


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("kind", [zlib, bz2, lzma], ids=lambda kind: kind.__name__)
def test_a_compressed_body_inflates_as_far_as_the_limit(kind, monkeypatch):
    """A few kilobytes cannot take the machine's memory; honest bodies are read as ever."""
    monkeypatch.setattr(poison, "MAX_INFLATED", 1000)
    assert compression.decompress(kind.compress(b"x" * 999), kind.__name__.replace("bz2", "bzip2"))
    with pytest.raises(shapes.Malformed):
        compression.decompress(kind.compress(b"x" * 1001), kind.__name__.replace("bz2", "bzip2"))


@pytest.mark.parametrize("named", [None, "other"])
def test_a_decompressor_that_cannot_stop_serves_only_who_chose_it(named, bounded):
    """Others' libraries are off, unless the project's own messages need them."""
    compression.register(bytes, bytes, "application/other", aliases=["other"])
    poison.bound_decompression(named)
    if named:
        assert compression.decompress(b"x", "other") == b"x"
    else:
        with pytest.raises(shapes.Malformed):
            compression.decompress(b"x", "other")


EVENT = {"type": "worker-heartbeat", "hostname": "w@x", "clock": 1, "timestamp": 1.0, "pid": 1}

EVENTS = {
    "a list": [EVENT],
    "no host": {**EVENT, "hostname": None},
    "a mapping as type": {**EVENT, "type": {}},
    "a clock that no text can hold": {**EVENT, "clock": 10**4000},
    "a text as clock": {**EVENT, "clock": "1"},
    "no time": {**EVENT, "timestamp": float("nan")},
    "a deep one": {**EVENT, "x": json.loads("[" * 500 + "]" * 500)},
}


@pytest.mark.parametrize("event", EVENTS)
def test_a_malformed_event_reaches_no_worker(event, dropped):
    """Workers listen to each other; what one of them could not say is dropped."""
    reached = []
    gossip = SimpleNamespace(on_message=lambda prepare, message: reached.append(message))
    poison.guard_gossip(gossip)
    gossip.on_message(None, message(body=EVENTS[event]))
    assert (reached, len(dropped)) == ([], 1)
    gossip.on_message(None, message(body=EVENT))
    assert len(reached) == 1


def test_nobody_is_elected():
    """Who wins one of Celery's elections runs whatever the event says."""
    gossip = SimpleNamespace(on_message=None, event_handlers={"worker.elect": print})
    poison.guard_gossip(gossip)
    assert gossip.event_handlers == {}
