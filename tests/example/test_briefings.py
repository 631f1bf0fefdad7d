"""Briefings: one letter per station manager, recognisable when it comes twice."""

import asyncio

import pytest
from aiosmtpd.smtp import Envelope
from django.core import mail

from example_project.demo.services import Mailbox
from example_project.dispatch.helpers import briefings, maps, planning
from example_project.dispatch.models import Briefing
from example_project.journal import Journal
from tests.example.conftest import Faults
from tests.example.factories import make_airport, make_job

pytestmark = pytest.mark.django_db


@pytest.fixture
def job(desk_settings):
    make_airport("EDDF", 50.0, 8.5, city="Frankfurt")
    planning.appoint_managers(["DE"])
    return make_job()


def test_a_briefing_carries_the_map_and_a_stable_message_id(job):
    """A second sending is the same letter, and is noted once."""
    maps.draw_map(job.pk, "DE")
    for _ in range(2):
        briefings.send_briefing(job.pk, "DE")
    first, second = mail.outbox
    assert first.extra_headers["Message-ID"] == second.extra_headers["Message-ID"]
    assert (first.to, first.subject) == (["station.de@dispatch.example"], "Briefing DE: 1 airport")
    assert "EDDF  Airport EDDF, Frankfurt" in first.body
    assert [name for name, _, _ in first.attachments] == ["DE.png"]
    assert Briefing.objects.count() == 1


def test_a_briefing_without_a_map_is_sent_all_the_same(job):
    """On a machine that did not draw the map, the text still goes out."""
    briefings.send_briefing(job.pk, "DE")
    assert mail.outbox[0].attachments == []


def test_the_mailbox_files_copies_of_a_letter_once(job, tmp_path):
    """At-least-once mail becomes one letter by its Message-ID; a busy server is told apart."""
    briefings.send_briefing(job.pk, "DE")
    faults = Faults()
    mailbox = Mailbox(tmp_path, faults)
    envelope = Envelope()
    envelope.content = mail.outbox[0].message().as_bytes()
    faults.coming = ["busy"]
    answers = [asyncio.run(mailbox.handle_DATA(None, None, envelope))[:3] for _ in range(3)]
    assert answers == ["451", "250", "250"]
    assert [entry["filed"] for entry in Journal(tmp_path / "mail.jsonl")] == [True, False]
    assert len(list((tmp_path / "mailbox").iterdir())) == 1
