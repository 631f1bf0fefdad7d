"""Webhooks: telling subscribers what happened, signed, at least once, with a stable event id.

``announce`` writes one ``Delivery`` per subscriber in the caller's transaction; its body is fixed
there, so every attempt sends the same bytes. ``deliver`` sends one of them. A receiver that drops
event ids it has seen gets each event exactly once.
"""

import json
import time
from collections.abc import Mapping

from django.conf import settings
from django.utils import timezone

from example_project.dispatch.helpers import outgoing, signatures
from example_project.dispatch.models import Delivery, Subscriber

#: The demo's subscribers, and the one kind of event that each wants to hear of.
SUBSCRIBERS = {"fuel-desk": "flight.prepaid", "crew-room": "briefing.sent"}


def register_subscribers() -> None:
    """Create the demo's subscribers, or move them to where the receiver listens now."""
    for name, kind in SUBSCRIBERS.items():
        Subscriber.objects.update_or_create(
            name=name,
            defaults={
                "kind": kind,
                "url": f"{settings.DISPATCH['WEBHOOKS_URL']}/{name}",
                "secret": settings.DISPATCH["WEBHOOK_SECRET"],
            },
        )


def announce(job_id: int, kind: str, event_id: str, facts: Mapping[str, object]) -> list[int]:
    """Write down one delivery for each subscriber of an event; return their numbers.

    Announcing the same event again returns the same deliveries.
    """
    body = json.dumps({"kind": kind, "id": event_id, **facts}, sort_keys=True)
    return [
        Delivery.objects.get_or_create(
            subscriber=subscriber, event_id=event_id, defaults={"job_id": job_id, "body": body}
        )[0].pk
        for subscriber in Subscriber.objects.filter(kind=kind)
    ]


def deliver(delivery_id: int) -> int:
    """Send one delivery and note that it arrived; return the receiver's status.

    Raises:
        Unreachable, Refused: It is not known to have arrived; send it again.
    """
    delivery = Delivery.objects.select_related("subscriber").get(pk=delivery_id)
    body = delivery.body.encode()
    subscriber = delivery.subscriber
    answer = outgoing.call(
        "POST",
        subscriber.url,
        body=body,
        headers={
            "Content-Type": "application/json",
            **signatures.headers(subscriber.secret, delivery.event_id, int(time.time()), body),
        },
    )
    if not answer.is_good:
        raise outgoing.Refused(f"HTTP {answer.status} from {subscriber.name}")
    Delivery.objects.filter(pk=delivery_id).update(delivered_at=timezone.now())
    return answer.status
