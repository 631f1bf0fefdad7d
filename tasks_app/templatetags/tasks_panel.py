"""The Tasks panel for templates of a project's own: `{% load tasks_panel %}`."""

from typing import Any

from django import template

from tasks_app.admin.rights import VIEW
from tasks_app.admin.subject import panel_context

register = template.Library()


@register.inclusion_tag("admin/tasks_app/panel/panel.html", takes_context=True)
def tasks_panel(context: Any, original: Any) -> dict[str, Any]:
    """Show the newest outcomes about a saved object to those who may view outcomes."""
    request = context["request"]
    if original is None or original.pk is None or not request.user.has_perm(VIEW):
        return {}
    match = request.resolver_match
    return panel_context(original, match.namespace if match else "admin")
