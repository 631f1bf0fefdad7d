"""The helpers that talk to outside services, against the demo's real ones on loopback."""

import threading
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime

import pytest

from example_project.demo.services import Mischief
from example_project.dispatch.helpers import outgoing, prepayment, weather, webhooks
from example_project.dispatch.models import Delivery, LedgerEntry, WeatherReport
from example_project.journal import Journal
from tasks_app import Retry
from tests.example.factories import make_airport, make_flight, make_job

pytestmark = pytest.mark.django_db


def test_the_weather_is_noted_once_however_often_it_is_asked(world):
    """Asking again replaces the row."""
    job, airport = make_job(), make_airport("EDDF", 50.0, 8.5)
    first, second = (weather.fetch_weather(job.pk, airport.pk) for _ in range(2))
    assert first == second
    assert [row.temperature_c for row in WeatherReport.objects.all()] == [first]


def test_a_rate_limit_comes_back_when_the_service_says(world):
    """429 with Retry-After becomes a retry after that time."""
    world.mischief.coming = ["limit"]
    with pytest.raises(Retry) as caught:
        weather.fetch_weather(make_job().pk, "EDDF")
    assert caught.value.after in (1.0, timedelta(seconds=1))


def test_an_error_of_the_service_is_a_failure_to_retry(world):
    """500 is neither a result nor a crash of its own kind."""
    world.mischief.coming = ["error"]
    with pytest.raises(outgoing.Refused, match="HTTP 500"):
        weather.fetch_weather(make_job().pk, "EDDF")


def test_a_service_that_hangs_is_given_up(world, desk_settings):
    """No call waits longer than it may."""
    desk_settings.DISPATCH["TIMEOUT"] = 0.05
    world.mischief.coming = ["hang"]
    with pytest.raises(outgoing.Unreachable, match="timed out"):
        weather.fetch_weather(make_job().pk, "EDDF")


def test_a_service_that_is_not_there_is_unreachable(desk_settings):
    """The error names what was called."""
    with pytest.raises(outgoing.Unreachable, match=r"GET http://127.0.0.1:9/weather/EDDF"):
        weather.fetch_weather(make_job().pk, "EDDF")


@pytest.mark.parametrize(
    ("value", "low", "high"),
    [
        ("7", 7, 7),
        ("nonsense", 5, 5),
        ("", 5, 5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0, 0),
    ],
)
def test_retry_after_is_read_as_seconds(value, low, high):
    """Seconds are understood; what is neither they nor a date gives the default."""
    message = Message()
    message["Retry-After"] = value
    assert low <= outgoing.Answer(429, message, b"").retry_after(default=5) <= high


def test_retry_after_is_read_as_a_date():
    """A date is as far away as it is when the header is read."""
    message = Message()
    message["Retry-After"] = format_datetime(datetime.now(UTC) + timedelta(minutes=10))
    assert 500 <= outgoing.Answer(429, message, b"").retry_after(default=5) <= 600


def test_a_flight_is_charged_and_booked(world):
    """The ledger has the provider's charge and the key under which it was made."""
    flight = make_flight()
    entry = prepayment.prepay_fuel(flight.pk)
    (call,) = Journal(world_folder(world) / "payments.jsonl")
    assert (entry.charge, entry.idempotency_key) == (call["id"], call["key"])
    assert entry.amount == flight.fuel_price


def test_a_charge_whose_answer_was_lost_is_not_made_twice(world):
    """The second call has the same key and gets the same charge; one row is booked."""
    world.mischief.coming = ["error after"]
    flight = make_flight()
    with pytest.raises(outgoing.Refused):
        prepayment.prepay_fuel(flight.pk)
    assert LedgerEntry.objects.count() == 0
    prepayment.prepay_fuel(flight.pk)
    calls = list(Journal(world_folder(world) / "payments.jsonl"))
    assert [call["is_new"] for call in calls] == [True, False]
    assert len({(call["key"], call["id"]) for call in calls}) == 1
    assert LedgerEntry.objects.count() == 1


def test_an_event_is_announced_once_and_delivered_signed(world):
    """Announcing again finds the same delivery; the receiver accepts its signature."""
    webhooks.register_subscribers()
    job = make_job()
    announce = ("flight.prepaid", "prepay:1", {"flight": "TA0001"})
    first, second = (webhooks.announce(job.pk, *announce) for _ in range(2))
    assert first == second
    assert [webhooks.deliver(delivery) for delivery in first] == [204]
    (heard,) = Journal(world_folder(world) / "webhooks.jsonl")
    assert (heard["subscriber"], heard["id"]) == ("fuel-desk", "prepay:1")
    assert Delivery.objects.get().delivered_at is not None


def test_a_delivery_that_was_not_confirmed_stays_due(world):
    """Only a 2xx answer counts as delivered."""
    webhooks.register_subscribers()
    (delivery,) = webhooks.announce(make_job().pk, "flight.prepaid", "prepay:1", {})
    world.mischief.coming = ["error after"]
    with pytest.raises(outgoing.Refused, match="HTTP 500 from fuel-desk"):
        webhooks.deliver(delivery)
    assert Delivery.objects.get().delivered_at is None


def test_a_delivery_with_another_secret_is_refused(world):
    """The receiver takes nothing that was not signed with its secret."""
    world.secret = "another"
    webhooks.register_subscribers()
    (delivery,) = webhooks.announce(make_job().pk, "flight.prepaid", "prepay:1", {})
    with pytest.raises(outgoing.Refused, match="HTTP 401"):
        webhooks.deliver(delivery)


def test_faults_come_back_with_the_same_seed():
    """A run can be repeated, and every caller gets through in the end."""
    one, two, other = Mischief(1), Mischief(1), Mischief(2)
    calls = [("weather", f"A{number % 50}") for number in range(1000)]
    chosen = [one.choose(*call) for call in calls]
    assert chosen == [two.choose(*call) for call in calls]
    assert chosen != [other.choose(*call) for call in calls]
    assert set(chosen) == {None, "error", "hang", "limit"}


def test_a_journal_shows_whole_lines_to_readers(tmp_path):
    """Several threads append, and no line is torn."""
    journal = Journal(tmp_path / "journal.jsonl")
    threads = [
        threading.Thread(target=lambda n=n: [journal.append({"n": n}) for _ in range(50)])
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(entry["n"] for entry in journal) == sorted(list(range(8)) * 50)


def world_folder(world):
    return world.provider._journal._path.parent
