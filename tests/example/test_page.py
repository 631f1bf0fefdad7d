"""The desk's page: it shows what there is, starts the work, and refuses what is no table."""

import json
import re
from datetime import timedelta

import pytest
from celery import exceptions as celery_exceptions
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone
from django_celery_beat.models import PeriodicTask

from example_project.dispatch.helpers import maps, report
from example_project.dispatch.jobs import start_job
from example_project.dispatch.models import Chunk, Job, LedgerEntry
from example_project.journal import Journal
from tasks_app.models import Outcome, Slot, Timer
from tasks_app.periodic import slots
from tasks_app.periodic.sync import sync
from tests import by_hand
from tests.example.factories import make_airport, make_flight, make_job
from tests.integration.command_line import ago, claimed

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
    assert json.loads(client.get("/state.json").content)["states"]["pending"] == 2


def test_a_job_is_found_by_the_request_that_started_it(admin_client):
    """The page leads to the outcomes of that request in the admin, all of them or by state."""
    table = SimpleUploadedFile("one.csv", b"icao,name,country,lat,lon\nEDDF,Frankfurt,DE,50,8\n")
    started = admin_client.post("/start", {"input": table}, headers={"X-Request-ID": "visitor-1"})
    assert started.headers["X-Request-ID"] == "visitor-1"
    page = admin_client.get("/").content.decode()
    outcomes = reverse("admin:tasks_app_outcome_changelist")
    assert f'href="{outcomes}"' in page
    for address, found in [("?request_id=visitor-1", 2), ("?request_id=visitor-1&state=failed", 0)]:
        assert f'href="{outcomes}{address.replace("&", "&amp;")}"' in page
        listed = admin_client.get(outcomes + address).context["cl"].result_list
        assert len(listed) == found


def start(client, **headers):
    """Start a job over one airport."""
    table = SimpleUploadedFile("one.csv", b"icao,name,country,lat,lon\nEDDF,Frankfurt,DE,50,8\n")
    return client.post("/start", {"input": table}, headers=headers)


def test_a_program_is_told_where_to_follow_the_job(client):
    """It gets an address and a token for it; a file that is no table, the reason."""
    answer = start(client, accept="application/json")
    assert answer.status_code == 202
    token = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert client.get(answer.headers["Location"], headers=token).json()["state"] == "pending"
    assert client.get(answer.headers["Location"]).status_code == 404
    poem = SimpleUploadedFile("poem.txt", b"Roses are red\n")
    refused = client.post("/start", {"input": poem}, headers={"accept": "application/json"})
    assert (refused.status_code, "missing: country" in refused.json()["error"]) == (400, True)


def test_a_job_that_no_request_started_is_whole(desk_settings):
    """What waits for it is one of its outcomes, whoever began it."""
    job = start_job(b"icao,name,country,lat,lon\nEDDF,Frankfurt,DE,50,8\n", "one.csv")
    assert set(report.outcomes(job).values_list("pk", flat=True)) == {job.root_id, job.report_id}


def test_the_bar_tells_how_far_a_job_is(client):
    """By the outcome that waits for all others; whoever sees the page has the key to it."""
    start(client)
    job = Job.objects.get()
    waiting = claimed(Outcome.objects.get(pk=job.report_id))
    with pytest.raises(celery_exceptions.Retry):
        by_hand.run(waiting)
    page = client.get("/").content.decode()
    assert "in progress · 0 done · importing airports" in page
    (address,) = re.findall(r'data-task-status="([^"]+)"', page)
    (token,) = re.findall(r'data-task-token="([^"]+)"', page)
    Job.objects.update(planned_at=timezone.now())
    Outcome.objects.filter(pk=job.root_id).update(state="succeeded", finished_at=timezone.now())
    headers = {"Authorization": f"Bearer {token}"}
    assert client.get(address, headers=headers).json()["attempt"] == 0
    Outcome.objects.update(run_at=ago(seconds=1))
    by_hand.run(claimed(waiting))
    assert client.get(address, headers=headers).json()["text"] == "done"


def test_a_job_is_stopped_by_the_button_at_its_bar(client):
    """Cancelling the report cancels all that is still to be done."""
    start(client)
    page = client.get("/").content.decode()
    (address,) = re.findall(r'action="(/tasks/[^"]+)"', page)
    (token,) = re.findall(r'data-task-token="([^"]+)"', page)
    form = {"token": token, "next": "/"}
    answer = client.post(address, form, headers={"accept": "text/html"})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    stop = Outcome.objects.get(task_name="dispatch.stop_job")
    by_hand.run(claimed(stop))
    job = Job.objects.get()
    assert set(report.by_state(job)) == {"cancelled"}
    assert "stopped after" in client.get("/").content.decode()


def test_a_file_that_is_no_table_starts_nothing(client):
    """The reader learns which columns are missing."""
    table = SimpleUploadedFile("poem.txt", b"Roses are red\n")
    page = client.post("/start", {"input": table}, follow=True).content.decode()
    assert "missing: country, icao, lat, lon, name" in page
    assert not Job.objects.exists()


def test_the_page_tells_of_the_report_on_a_schedule(client):
    """How many of its slots were fired, missed and made up; before any, that there is none."""
    sync()
    assert client.get("/state.json").json()["shift"]["slots"]["fired"] == 0
    timer = Timer.objects.get(code_name="shift report")
    now = timezone.now()
    for number, decision in enumerate(("fired", "fired", "missed", "made_up")):
        slot_at = now - timedelta(minutes=number)
        Slot.objects.create(entry_id=timer.pk, slot_at=slot_at, decision=decision)
    Slot.objects.create(entry_id=timer.pk + 1, slot_at=now, decision="fired")
    shift = client.get("/state.json").json()["shift"]
    assert shift["slots"] == {"fired": 2, "missed": 1, "made up": 1}
    assert reverse("admin:tasks_app_schedule", args=[timer.pk]) in client.get("/").content.decode()


def test_the_report_on_a_schedule_names_its_slot_and_is_no_part_of_a_job(client):
    """It tells what the latest job has done; what a job has caused is counted without it."""
    sync()
    job = make_job(source="table.csv")
    entry = PeriodicTask.objects.get(name="shift report")
    slot = slots.run_now(entry, "somebody")
    outcome = Outcome.objects.get(pk=slot.outcome_id)
    told = by_hand.answer(outcome)
    assert told == {"slot": slot.slot_at.isoformat(), "job": job.pk, "totals": report.totals(job)}
    assert report.by_state(job) == {}
