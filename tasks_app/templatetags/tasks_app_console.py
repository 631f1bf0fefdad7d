"""Template tags of the console's own pages."""

from typing import Any

from django import template
from django.urls import reverse

from tasks_app.admin.console import PAGES
from tasks_app.admin.rights import VIEW

register = template.Library()


@register.inclusion_tag("admin/tasks_app/console/navigation.html", takes_context=True)
def console_navigation(context: Any, current: str = "") -> dict[str, Any]:
    """Show links to the console's pages that the user may open; `current` names this one."""
    request = context["request"]
    site = getattr(request, "current_app", None) or "admin"
    shown = [page for page in PAGES if page.is_in_navigation]
    links = [
        (page.title, reverse(f"admin:tasks_app_{page.name}", current_app=site), page.name)
        for page in shown
        if request.user.has_perm(page.permission)
    ]
    if request.user.has_perm(VIEW):
        outcomes = reverse("admin:tasks_app_outcome_changelist", current_app=site)
        links.insert(
            1 if links and links[0][2] == "dashboard" else 0, ("Outcomes", outcomes, "outcomes")
        )
    return {"links": links, "current": current}
