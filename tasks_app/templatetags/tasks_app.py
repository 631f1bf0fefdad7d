"""
Template tags for any page: `{% load tasks_app %}{% task_progress outcome %}`.

A bar is drawn as the outcome stands, and is a picture of that moment to whoever has no JavaScript.
Whom a page shows it is the page's decision; the script asks `tasks_app.urls`, which makes its own.
"""

from typing import Any

from django import template
from django.template.context import RenderContext

from tasks_app.models import Outcome
from tasks_app.status.answers import links_of
from tasks_app.status.documents import secrets_of, summary, version

register = template.Library()

#: Where a rendering keeps that its page has script and style.
MEDIA = "tasks_app.progress"


@register.inclusion_tag("tasks_app/progress.html", takes_context=True)
def task_progress(
    context: Any,
    outcome: Outcome,
    *,
    label: str = "Progress",
    cancel: bool = False,
    token: str = "",
) -> dict[str, Any]:
    """
    Show how far an outcome is, and keep showing it until it is final.

    Args:
        context: The page's.
        outcome: The outcome, shown as it was read.
        label: What is being done, in the words of those who wait.
        cancel: Offer a button that cancels it, to those who may.
        token: What `status_token` returned, for visitors without an account.

    Raises:
        ConfigurationError: the project does not include `tasks_app.urls`.
    """
    request = context.get("request")
    return {
        "outcome": outcome,
        "label": label,
        "links": links_of(outcome.id),
        "version": version(outcome),
        "token": token,
        "offers_cancel": cancel and not outcome.is_final,
        "next": request.get_full_path() if request is not None else "",
        "csrf_token": context.get("csrf_token"),
        "needs_media": _is_first(context.render_context),
        **summary(outcome, secrets_of(outcome)),
    }


@register.inclusion_tag("tasks_app/progress_media.html", takes_context=True)
def task_progress_media(context: Any) -> dict[str, Any]:
    """Link script and style where the page wants them, or for bars that come to it later."""
    return {"needs_media": _is_first(context.render_context)}


def _is_first(rendering: RenderContext) -> bool:
    """Tell, once for a rendering, that its page has neither script nor style yet."""
    # The lowest of its dicts is the one that all included templates share.
    shared: dict[str, Any] = rendering.dicts[0]  # type: ignore[assignment]  # a dict in fact
    return not shared.setdefault(MEDIA, False) and not shared.update({MEDIA: True})
