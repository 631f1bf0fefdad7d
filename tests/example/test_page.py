"""The desk's page: it shows what there is, starts the work, and refuses what is no table."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from example_project.dispatch.helpers import maps
from example_project.dispatch.models import Chunk, Job, LedgerEntry
from example_project.journal import Journal
from tests.example.factories import make_airport, make_flight, make_job

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.urls("example_project.urls"),
    pytest.mark.usefixtures("desk_settings"),
]


def test_an_empty_desk_says_how_to_begin(client):
    """Before the first job the page and its live state are there."""
    assert "Start the work here" in client.get("/").content.decode()
    assert client.get("/state.json").json()["job"] is None


def test_the_page_shows_what_the_live_state_says(client):
    """Maps, mails, payments and bad lines appear in both."""
    job = make_job(source="table.csv")
    flight = make_flight(job)
    LedgerEntry.objects.create(
        flight=flight, idempotency_key="k", charge="ch_1", amount=flight.fuel_price
    )
    job.problems.create(line=7, reason="lat is <b>north</b>", text="…")
    maps.draw_map(job.pk, "DE")
    state = client.get("/state.json").json()
    page = client.get("/").content.decode()
    assert state["ledger"][0]["route"] == "EDDF–EGLL"
    assert state["totals"]["euro paid"] == "2,173.29"
    assert [drawn["country"] for drawn in state["maps"]] == ["DE"]
    assert "€ 2,173.29" in page
    assert "lat is &lt;b&gt;north" in page
    picture = client.get(state["maps"][0]["url"])
    assert b"".join(picture.streaming_content).startswith(b"\x89PNG")


def test_a_letter_of_the_mailbox_can_be_read(client, tmp_path):
    """The mailbox shows each letter once, and its text."""
    (tmp_path / "mailbox").mkdir()
    (tmp_path / "mailbox" / "1.eml").write_bytes(b"Subject: Hello\n\nGood morning")
    for is_new in (True, False):
        Journal(tmp_path / "mail.jsonl").append(
            {"message_id": "1", "to": "you", "subject": "Hello", "file": "1.eml", "filed": is_new}
        )
    make_job()
    assert [mail["subject"] for mail in client.get("/state.json").json()["mails"]] == ["Hello"]
    assert "Good morning" in client.get("/mails/0").content.decode()
    assert client.get("/mails/1").status_code == 404


def test_a_map_that_was_not_drawn_is_not_found(client):
    """No path leaves the folder of maps."""
    make_airport("EDDF", 50.0, 8.5)
    assert client.get("/maps/DE.png").status_code == 404
    assert client.get("/maps/..%2Fmail.png").status_code == 404


def test_the_button_starts_a_job_over_the_uploaded_table(client):
    """What the page starts is stored at once, and shown."""
    table = SimpleUploadedFile("two.csv", b"icao,name,country,lat,lon\nEDDF,Frankfurt,DE,50,8\n")
    page = client.post("/start", {"input": table}, follow=True).content.decode()
    assert "Started job" in page
    assert Job.objects.get().source == "two.csv"
    assert Chunk.objects.count() == 1
    assert json.loads(client.get("/state.json").content)["states"]["pending"] == 1


def test_a_job_is_found_by_the_request_that_started_it(admin_client):
    """The page leads to the outcomes of that request in the admin, all of them or by state."""
    table = SimpleUploadedFile("one.csv", b"icao,name,country,lat,lon\nEDDF,Frankfurt,DE,50,8\n")
    started = admin_client.post("/start", {"input": table}, headers={"X-Request-ID": "visitor-1"})
    assert started.headers["X-Request-ID"] == "visitor-1"
    page = admin_client.get("/").content.decode()
    outcomes = reverse("admin:tasks_app_outcome_changelist")
    assert f'href="{outcomes}"' in page
    for address, found in [("?request_id=visitor-1", 1), ("?request_id=visitor-1&state=failed", 0)]:
        assert f'href="{outcomes}{address.replace("&", "&amp;")}"' in page
        listed = admin_client.get(outcomes + address).context["cl"].result_list
        assert len(listed) == found


def test_a_file_that_is_no_table_starts_nothing(client):
    """The reader learns which columns are missing."""
    table = SimpleUploadedFile("poem.txt", b"Roses are red\n")
    page = client.post("/start", {"input": table}, follow=True).content.decode()
    assert "missing: country, icao, lat, lon, name" in page
    assert not Job.objects.exists()
