"""Signatures of webhooks: HMAC-SHA256 over event id, timestamp and body.

The timestamp is signed too, so an old message cannot be played back for ever; the id lets a
receiver drop what it has seen. Sender and receiver share this file and one secret.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping

ID, TIMESTAMP, SIGNATURE = "Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"
#: Seconds by which the clocks of sender and receiver may differ.
TOLERANCE = 300


class BadSignature(ValueError):
    """The message does not come from who it claims, or is too old."""


def sign(secret: str, event_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of one message, e.g. ``v1,K5oZ…=``."""
    message = f"{event_id}.{timestamp}.".encode() + body
    digest = hmac.new(secret.encode(), message, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


def headers(secret: str, event_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers that prove where a message comes from."""
    return {
        ID: event_id,
        TIMESTAMP: str(timestamp),
        SIGNATURE: sign(secret, event_id, timestamp, body),
    }


def verify(secret: str, received: Mapping[str, str], body: bytes, now: float) -> str:
    """Check a message and return its event id.

    Raises:
        BadSignature: A header is missing, the clock differs too much, or the signature is wrong.
    """
    event_id, timestamp = received.get(ID) or "", received.get(TIMESTAMP) or ""
    if not (event_id and timestamp.isascii() and timestamp.isdigit()):
        raise BadSignature("id or timestamp is missing")
    if abs(now - int(timestamp)) > TOLERANCE:
        raise BadSignature("the timestamp is too far from now")
    expected = sign(secret, event_id, int(timestamp), body)
    if not hmac.compare_digest(expected.encode(), (received.get(SIGNATURE) or "").encode()):
        raise BadSignature("the signature does not fit")
    return event_id
