"""Bulk mail: one briefing for the station manager of each country, through real SMTP.

SMTP has no transaction with our database: a worker that dies between the server's "250" and our
note sends again. So the mail is at-least-once with a stable ``Message-ID``, by which a mailbox
files the copies as one; the note about it is replaced, not added.
"""

import re

from django.core.mail import EmailMessage
from django.template.loader import render_to_string
from django.utils import timezone

from example_project.dispatch.helpers import maps
from example_project.dispatch.models import Airport, Alternate, Briefing, StationManager
from tasks_app import current


def send_briefing(job_id: int, country: str) -> Briefing:
    """Send the station manager of one country the briefing of a job.

    Raises:
        OSError, smtplib.SMTPException: The server did not take it; try again.
    """
    manager = StationManager.objects.get(country=country)
    message_id = stable_message_id(current.idempotency_key or f"briefing:{job_id}:{country}")
    compose(manager, message_id).send()
    briefing, _ = Briefing.objects.update_or_create(
        job_id=job_id,
        manager=manager,
        defaults={"message_id": message_id, "sent_at": timezone.now()},
    )
    return briefing


def stable_message_id(key: str) -> str:
    """Return the same Message-ID for the same key, in characters that every mail server takes.

    >>> stable_message_id("briefing:7:DE")
    '<briefing.7.DE@dispatch.example>'
    """
    return f"<{re.sub(r'[^A-Za-z0-9-]', '.', key)}@dispatch.example>"


def compose(manager: StationManager, message_id: str) -> EmailMessage:
    """Write the briefing of a country, with its map when that is drawn."""
    airports = Airport.objects.filter(country=manager.country)
    count = airports.count()
    farthest = (
        Alternate.objects.filter(airport__country=manager.country, rank=1)
        .order_by("-distance_km")
        .first()
    )
    message = EmailMessage(
        subject=f"Briefing {manager.country}: {count} airport{'' if count == 1 else 's'}",
        body=render_to_string(
            "dispatch/briefing.txt",
            {
                "country": manager.country,
                "count": count,
                "airports": airports[:10],
                "farthest": farthest,
            },
        ),
        to=[manager.email],
        headers={"Message-ID": message_id},
    )
    path = maps.path_of(manager.country)
    if path.exists():
        message.attach(path.name, path.read_bytes(), "image/png")
    return message
