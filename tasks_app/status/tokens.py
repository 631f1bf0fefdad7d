"""
Tokens: what a visitor without an account shows in order to see one outcome.

Signed with the project's `SECRET_KEY` (and its fallbacks) under a salt of their own, bound to one
outcome and to what they open, and worthless after their time. They are kept nowhere, so they cannot
be called back one by one.
"""

import time
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from django.core.signing import BadSignature, Signer

from tasks_app.conf import conf
from tasks_app.durations import as_timedelta
from tasks_app.models import Outcome
from tasks_app.redaction import STATUS_TOKEN

SALT = "tasks_app.status"


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token opens."""

    may_see: bool = False
    may_cancel: bool = False
    may_read_result: bool = False


NOTHING = Grant()


def status_token(
    outcome: Outcome | UUID,
    *,
    may_cancel: bool = False,
    may_read_result: bool = False,
    max_age: float | timedelta | None = None,
) -> str:
    """
    Return a token whose bearer may see an outcome's status; asks no database.

    Args:
        outcome: The outcome or its id.
        may_cancel: Whether the bearer may cancel it, too.
        may_read_result: Whether the bearer is shown what the helper returned.
        max_age: Seconds or timedelta that it is good for; `STATUS_TOKEN_AGE` where None.
    """
    age = conf.STATUS_TOKEN_AGE if max_age is None else as_timedelta(max_age, "max_age")
    facts = [str(_id(outcome)), int(time.time() + age.total_seconds()), may_cancel, may_read_result]
    return f"{STATUS_TOKEN}{_signer().sign_object(facts)}"


def read_token(token: str, outcome_id: UUID) -> Grant:
    """Return what a token opens of an outcome: nothing if it is forged, another's or too old."""
    try:
        facts = _signer().unsign_object(token.removeprefix(STATUS_TOKEN))
    except BadSignature:
        return NOTHING
    about, until, may_cancel, may_read_result = facts
    if about != str(outcome_id) or time.time() >= until:
        return NOTHING
    return Grant(True, may_cancel, may_read_result)  # noqa: FBT003


def _id(outcome: Outcome | UUID) -> UUID:
    return outcome if isinstance(outcome, UUID) else outcome.id


def _signer() -> Signer:
    # A point, which no address has to escape, so that one pattern finds tokens in every text.
    return Signer(salt=SALT, sep=".")
