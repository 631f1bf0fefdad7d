"""
Where people find an outcome, its page in the admin and its task in Flower, and a worker there.

They are made for a browser that stands somewhere else, in Flower or in a mail, so the settings tell
what no process can know: host, port and the prefix of a proxy. Only ids and names of nodes go into
an address.
"""

import re
from typing import Any
from urllib.parse import quote, urlsplit

from django.urls import reverse

from tasks_app.conf import EVENT_ID, conf


def admin_page(outcome_id: Any) -> str:
    """
    Return the address of an outcome's page in the admin.

    Without `ADMIN_URL` it is a path as the project's URLconf has it; where `ADMIN_URL` is a host
    alone, that path on this host.

    Raises:
        NoReverseMatch: the URLconf has no admin, and `ADMIN_URL` does not tell where it is.
    """
    admin = (conf.ADMIN_URL or "").rstrip("/")
    if not urlsplit(admin).path:
        return f"{admin}{reverse('admin:tasks_app_outcome_change', args=[outcome_id])}"
    return f"{admin}/tasks_app/outcome/{outcome_id}/change/"


def flower_page(outcome_id: Any) -> str | None:
    """Return the address of an outcome's task in Flower, or None where no Flower is known."""
    flower = conf.FLOWER_URL
    return None if flower is None else f"{flower.rstrip('/')}/task/{outcome_id}"


def flower_worker(node: str) -> str | None:
    """Return the address of a worker in Flower, or None where no Flower is known."""
    flower = conf.FLOWER_URL
    return None if flower is None else f"{flower.rstrip('/')}/worker/{quote(node, safe='@')}"


def sentry_page(event_id: str) -> str | None:
    """Return the address of an error's event in Sentry; None where no Sentry or no event is."""
    address = conf.SENTRY_EVENT_URL
    if address is None or not re.fullmatch("[0-9a-f]{32}", event_id):
        return None
    return str(address.replace(EVENT_ID, event_id))
