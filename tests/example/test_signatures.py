"""Webhook signatures: what the sender signed is accepted, anything else is not."""

import pytest

from example_project.dispatch.helpers.signatures import (
    BadSignature,
    headers,
    sign,
    verify,
)

NOW = 1_800_000_000
BODY = b'{"kind": "flight.prepaid"}'


def test_a_signature_is_the_hmac_of_id_time_and_body():
    """The scheme is fixed; `openssl dgst -sha256 -hmac secret` gives the same."""
    expected = "v1,ky0MqgHG7+yM4gRSeIieOTIV4WX+XadxPTO6DZnthFY="
    assert sign("secret", "event-1", 1_700_000_000, b"{}") == expected


def test_what_was_signed_is_accepted_and_gives_its_event_id():
    """A receiver learns which event it is, to drop those it has seen."""
    assert verify("secret", headers("secret", "event-1", NOW, BODY), BODY, NOW + 299) == "event-1"


@pytest.mark.parametrize(
    ("change", "body", "now", "reason"),
    [
        ({}, BODY + b" ", NOW, "signature"),
        ({"Webhook-Id": "event-2"}, BODY, NOW, "signature"),
        ({"Webhook-Timestamp": str(NOW + 1)}, BODY, NOW, "signature"),
        ({"Webhook-Signature": ""}, BODY, NOW, "signature"),
        ({"Webhook-Signature": "v1,é"}, BODY, NOW, "signature"),
        ({"Webhook-Timestamp": "soon"}, BODY, NOW, "missing"),
        ({"Webhook-Id": ""}, BODY, NOW, "missing"),
        ({}, BODY, NOW + 301, "far"),
        ({}, BODY, NOW - 301, "far"),
    ],
)
def test_a_changed_forged_or_old_message_is_refused(change, body, now, reason):
    """Neither body, id nor time can be changed without the secret, nor a message played back."""
    received = headers("secret", "event-1", NOW, BODY) | change
    with pytest.raises(BadSignature, match=reason):
        verify("secret", received, body, now)


def test_another_secret_is_refused():
    """Only who knows the secret can sign."""
    with pytest.raises(BadSignature):
        verify("secret", headers("guess", "event-1", NOW, BODY), BODY, NOW)
