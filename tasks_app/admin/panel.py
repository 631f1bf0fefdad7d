"""
The Tasks panel: what happened to an object, on its own page in the project's admin.

The page's template stays the project's: the panel's own extends whichever the admin would have
used, and adds to its end.
"""

from typing import Any

from django.template.loader import select_template

from tasks_app.admin.rights import VIEW

#: Extends the template that its context names.
TEMPLATE = "admin/tasks_app/panel/change_form.html"


class TasksPanel:
    """
    Mixed into a `ModelAdmin`, before it: the newest outcomes about each object, on its page.

    For those who may view outcomes; for all others the page is as it was, and asks nothing more.
    One statement. A template that is no `ModelAdmin`'s says `{% tasks_panel original %}` itself.
    """

    def render_change_form(self, request: Any, context: Any, *args: Any, **kwargs: Any) -> Any:
        """Return the page of the admin that this is mixed into, with the panel."""
        response = super().render_change_form(request, context, *args, **kwargs)  # type: ignore[misc]  # a ModelAdmin's
        original = response.context_data.get("original")
        is_whole = not response.context_data.get("is_popup")
        if original is None or not is_whole or not request.user.has_perm(VIEW):
            return response
        names = response.template_name
        response.context_data["tasks_panel_extends"] = select_template(
            [names] if isinstance(names, str) else names
        )
        response.template_name = TEMPLATE
        return response
